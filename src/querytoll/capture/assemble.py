"""A closed window to a frozen trace."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from querytoll.capture.calls import PLAIN, Call, Row
from querytoll.capture.ledger import Ledger, busy_so_far, ended_at, new
from querytoll.capture.orm import relation
from querytoll.capture.reads import Returned
from querytoll.capture.stalls import Interval, overlap
from querytoll.capture.stays import Hold
from querytoll.capture.stream import Stream
from querytoll.capture.window import Window
from querytoll.fingerprint import shape
from querytoll.model import Ignore, Load, Loaded, Phase, Shape, Site, Statement, Trace, Unread

Function = tuple[str, str]
"""File and qualified name."""
_Part = tuple[
    str, Shape, bool, tuple[Site, ...], str | None, Load | None, int | None, Phase, str, bool, bool,
    tuple[Ignore, ...], int, bool,
]  # fmt: skip
"""What the statements of a call have in common: text, shape, many, stack, relation, load, transaction, phase before the
response began, engine, blocking, detached, ignores, window, and whether they wait for an event loop."""


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
    """Return the statements, transaction control excepted; the loop runs for every statement of every request."""
    statements: list[Statement] = []
    parts: dict[int, _Part] = {}
    start, response_began, plain = window.started, request.response_began, PLAIN
    last: Call | None = None
    ordinal: int | None = None
    reached, busy, mark = float("-inf"), 0.0, 0
    for call, started, ended, count, binds, rare in rows:
        if call is not last:
            last = call
            if ordinal is not None:
                ledger.counts[ordinal] += len(statements) - mark
            mark = len(statements)
            if call.hold is not ledger.hold:
                ledger.turn(call.hold, busy)
            part = parts.get(id(call))
            if part is None:
                part = parts[id(call)] = _part(call, ledger, request, max_sql_length)
            text, what, many, stack, name, load, ordinal, before, engine, blocking, detached, ignores, serial, waits = (
                part
            )
        streamed, stalled = False, 0.0
        error = entities = size = None
        if rare is not plain:
            stream, error, some, most = rare
            entities, size = some or None, most or None
            if stream is not None:
                streamed = True
                ended, stalled = _streamed(stream, call.hold, ended, window)
                count, error = stream.rows, stream.error or error
        elapsed = ended - started
        if started >= reached:
            busy += elapsed
            reached = ended
        else:
            ledger.overlapping = True
        if what.control:
            continue
        if stalls and waits:
            stalled = max(stalled, overlap(started, ended, stalls))
        digest, digests, values = binds
        statements.append(
            new(
                Statement,
                (
                    text,
                    what,
                    started - start,
                    elapsed,
                    stalled,
                    count if count >= 0 else None,
                    many,
                    streamed,
                    stack,
                    name,
                    load,
                    digest,
                    ordinal,
                    before if started < response_began or detached else request.phase(started, stack),
                    error,
                    engine,
                    blocking,
                    detached,
                    ignores,
                    serial,
                    digests,
                    values,
                    entities,
                    size,
                ),
            )
        )
    if ordinal is not None:
        ledger.counts[ordinal] += len(statements) - mark
    ledger.turn(None, busy)
    ledger.busy, ledger.reached = busy, reached
    return statements


def _part(call: Call, ledger: Ledger, request: Request, max_sql_length: int) -> _Part:
    """Return what a call's statements have in common."""
    what = shape(call.sql)
    ordinal = None
    if what.control:
        ledger.note(call.span)
    elif call.span is not None:
        ordinal = ledger.ordinal(call.span)
    name = relation(call.subject)
    return (
        call.sql if len(call.sql) <= max_sql_length else call.sql[:max_sql_length],
        what,
        call.many,
        call.stack,
        name,
        call.subject[1] if call.subject is not None and name is not None else None,
        ordinal,
        "background" if call.detached else request.phase(float("-inf"), call.stack),
        call.tap.name,
        call.blocking,
        call.detached,
        call.ignores,
        call.window,
        call.tap.is_async,
    )


def _streamed(stream: Stream, hold: Hold | None, ended: float, window: Window) -> tuple[float, float]:
    """Return when a streamed result ended, and the seconds until then in which its reader did something else."""
    until = ended_at(stream, hold, ended, window)
    return until, max(0.0, until - ended - stream.fetching)


def _watched(
    window: Window, rows: list[Row], statements: list[Statement], request: Request
) -> tuple[tuple[Loaded, ...], tuple[Unread, ...]]:
    assert window.reads is not None
    kept = (row for row in rows if not shape(row[0].sql).control)
    try:
        return window.reads.facts(zip(kept, statements, strict=True), request.returned)
    except Exception as fault:
        window.capture.faults.caught("capture", fault)
        return (), ()
    finally:
        window.reads.forget()


def so_far(window: Window) -> tuple[int, float]:
    """Return the number of statements and the database time of a window that is still open."""
    count = sum(not shape(row[0].sql).control for row in window.rows)
    return count + window.dropped, busy_so_far(window)
