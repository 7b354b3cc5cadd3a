"""A closed window to a frozen trace."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from querytoll.capture.ledger import Ledger, busy_so_far, ended_at, new
from querytoll.capture.orm import relation
from querytoll.capture.reads import Returned
from querytoll.capture.stalls import Interval, overlap
from querytoll.capture.stays import Hold, Span
from querytoll.capture.stream import Stream
from querytoll.capture.window import Row, Window
from querytoll.fingerprint import shape
from querytoll.model import Load, Loaded, Phase, Site, Statement, Trace, Unread

Function = tuple[str, str]
"""File and qualified name."""


@dataclass(slots=True)
class Request:
    """What the middleware knows of the request behind a window; moments of the monotonic clock.

    Args:
        response_began: its first message was sent.
        response_ended: its last byte was sent.
        dependencies: functions that ran before the endpoint, for it.
        endpoint: the function that answered, known where statements have no line of their own.
        returned: how the answer was made of objects, where that is known.
    """

    method: str | None = None
    route: str | None = None
    path: str | None = None
    status: int | None = None
    response_began: float = float("inf")
    response_ended: float = float("inf")
    dependencies: Collection[Function] = ()
    endpoint: Site | None = None
    returned: Returned | None = None

    def phase(self, moment: float, stack: tuple[Site, ...]) -> Phase:
        """Tell in which part of the request a statement started."""
        if moment >= self.response_ended:
            return "background"
        if moment >= self.response_began:
            return "response"
        if self.dependencies:
            for site in stack:
                if (site.file, site.function) in self.dependencies:
                    return "dependency"
        return "endpoint"


def assemble(window: Window, request: Request | None = None, *, max_sql_length: int = 20_000) -> Trace:
    """Return the trace of a closed window, and let go of what the window held."""
    request = request or Request()
    rows, stalls, start = window.rows, window.stalls(), window.started
    statements: list[Statement] = []
    ledger = None
    if rows or window.holds:
        ledger = Ledger(window)
        window.rows, window.holds = [], []
        statements = _statements(rows, window, ledger, request, stalls, max_sql_length)
        ledger.settle(rows)
    loads, unread = _watched(window, rows, statements, request) if window.reads is not None else ((), ())
    return new(
        Trace,
        (
            os.urandom(16).hex(),
            window.kind,
            window.name,
            window.began,
            window.ended - start,
            tuple(statements),
            ledger.transactions() if ledger is not None else (),
            ledger.connections() if ledger is not None else (),
            request.method,
            request.route,
            request.path,
            request.status,
            len(rows) - len(statements),
            window.dropped,
            ledger.busy if ledger is not None else 0.0,
            tuple([(max(0.0, since - start), until - start) for since, until in stalls]) if stalls else (),
            request.endpoint,
            loads,
            unread,
        ),
    )


def _statements(
    rows: list[Row], window: Window, ledger: Ledger, request: Request, stalls: list[Interval], max_sql_length: int
) -> list[Statement]:
    """Return the statements, transaction control excepted; the loop runs for every statement of every request.

    What seldom changes from one to the next is looked up when it does.
    """
    statements: list[Statement] = []
    relations: dict[object, str | None] = {}
    start, response_began = window.started, request.response_began
    last_sql: str | None = None
    last_stack: tuple[Site, ...] | None = None
    last_span: Span | None = None
    ordinal: int | None = None
    before: Phase = "endpoint"
    reached, busy = float("-inf"), 0.0
    for (
        sql, started, ended, count, entities, size, many, stream, stack, subject, binds, span, hold, error, tap,
        blocking, detached, ignores, serial,
    ) in rows:  # fmt: skip
        stalled = 0.0
        if stream is not None:
            ended, stalled = _streamed(stream, hold, ended, window)
            count, error = stream.rows, stream.error or error
        if hold is not ledger.hold:
            ledger.turn(hold, busy)
        if started >= reached:
            busy += ended - started
            reached = ended
        else:
            ledger.overlapping = True
        if sql is not last_sql:
            last_sql = sql
            what = shape(sql)
            text = sql if len(sql) <= max_sql_length else sql[:max_sql_length]
        if what.control:
            ledger.note(span)
            continue
        if span is not last_span:
            last_span = span
            ordinal = ledger.ordinal(span) if span is not None else None
        if ordinal is not None:
            ledger.counts[ordinal] += 1
        if stalls and tap.is_async:
            stalled = max(stalled, overlap(started, ended, stalls))
        name: str | None = None
        load: Load | None = None
        if subject is not None:
            if subject not in relations:
                relations[subject] = relation(subject)
            name = relations[subject]
            if name is not None:
                load = subject[1]
        if detached:
            phase: Phase = "background"
        elif started >= response_began:
            phase = request.phase(started, stack)
        else:
            if stack is not last_stack:
                last_stack = stack
                before = request.phase(started, stack)
            phase = before
        digest, digests, values = binds
        statements.append(
            new(
                Statement,
                (
                    text,
                    what,
                    started - start,
                    ended - started,
                    stalled,
                    count if count >= 0 else None,
                    many,
                    stream is not None,
                    stack,
                    name,
                    load,
                    digest,
                    ordinal,
                    phase,
                    error,
                    tap.name,
                    blocking,
                    detached,
                    ignores,
                    serial,
                    digests,
                    values,
                    entities or None,
                    size or None,
                ),
            )
        )
    ledger.turn(None, busy)
    ledger.busy, ledger.reached = busy, reached
    return statements


def _streamed(stream: Stream, hold: Hold | None, ended: float, window: Window) -> tuple[float, float]:
    """Return when a streamed result ended, and the seconds until then in which its reader did something else."""
    until = ended_at(stream, hold, ended, window)
    return until, max(0.0, until - ended - stream.fetching)


def _watched(
    window: Window, rows: list[Row], statements: list[Statement], request: Request
) -> tuple[tuple[Loaded, ...], tuple[Unread, ...]]:
    assert window.reads is not None
    kept = (row for row in rows if not shape(row[0]).control)
    try:
        return window.reads.facts(zip(kept, statements, strict=True), request.returned)
    except Exception as fault:
        window.capture.faults.caught("capture", fault)
        return (), ()
    finally:
        window.reads.forget()


def so_far(window: Window) -> tuple[int, float]:
    """Return the number of statements and the database time of a window that is still open."""
    entries = window.entries
    count = sum(not shape(entry.sql).control for entry in entries)
    return count + window.dropped, busy_so_far(entries, window)
