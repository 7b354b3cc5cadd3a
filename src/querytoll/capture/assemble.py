"""A closed window to a frozen trace."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from querytoll.capture.calls import PLAIN, Call, Rare, Row
from querytoll.capture.ledger import Ledger, busy_so_far, ended_at
from querytoll.capture.reads import Returned
from querytoll.capture.recorded import Function, Odd, Recorded, new, phase_of
from querytoll.capture.stalls import Interval, overlap
from querytoll.capture.stays import Span
from querytoll.capture.stream import Stream
from querytoll.capture.window import Window
from querytoll.fingerprint import shape
from querytoll.model import Checkout, Ignore, Loaded, Phase, Site, Statement, Trace, Transaction, Unread


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
        return phase_of(stack, self.dependencies)


def assemble(window: Window, request: Request | None = None, *, max_sql_length: int = 20_000) -> Trace:
    """Return the trace of a closed window, and let go of what the window held."""
    request = request or Request()
    rows, stalls, start = window.rows, window.stalls(), window.started
    statements: Sequence[Statement] = ()
    transactions: tuple[Transaction, ...] = ()
    connections: tuple[Checkout, ...] = ()
    seconds = 0.0
    if rows or window.holds:
        ledger, holds = Ledger(), window.holds
        window.rows, window.holds = [], []
        recorded = _recorded(rows, window, ledger, request, stalls, max_sql_length)
        statements = recorded if len(recorded) else ()
        transactions, connections = ledger.transactions(window), ledger.connections(rows, holds, window)
        seconds = ledger.database_seconds(rows, window)
    loads, unread = _watched(window, rows, statements, request) if window.reads is not None else ((), ())
    return new(
        Trace,
        (
            os.urandom(16).hex(),
            window.kind,
            window.name,
            window.began,
            window.ended - start,
            statements,
            transactions,
            connections,
            request.method,
            request.route,
            request.path,
            request.status,
            len(rows) - len(statements),
            window.dropped,
            seconds,
            tuple([(max(0.0, since - start), until - start) for since, until in stalls]) if stalls else (),
            request.endpoint,
            loads,
            unread,
        ),
    )


def _recorded(
    rows: list[Row], window: Window, ledger: Ledger, request: Request, stalls: list[Interval], max_sql_length: int
) -> Recorded:
    """Return the statements, transaction control excepted; the loop runs for every statement of every request."""
    recorded = Recorded(request.dependencies, max_sql_length)
    calls, starts, seconds = recorded.calls, recorded.started, recorded.elapsed
    counts, values = recorded.counts, recorded.binds
    start, response_began, plain = window.started, request.response_began, PLAIN
    runs = recorded.runs
    last: Call | None = None
    before: Span | None = None
    ignored: tuple[Ignore, ...] = ()
    window_of = 0
    ordinal: int | None = None
    reached, busy, mark = float("-inf"), 0.0, 0
    control = waits = False
    for call, started, ended, count, binds, rare, span, ignores, serial in rows:
        if call is not last or span is not before or serial != window_of or ignores is not ignored:
            if last is not None and not control:
                runs.append((last, len(calls) - mark, ordinal, ignored, window_of))
            if call is not last and last is not None:
                recorded.uniform = False
            mark = len(calls)
            last, before, ignored, window_of = call, span, ignores, serial
            control = _is_control(call)
            ordinal = ledger.pass_by(span, control)
            if call.many or ignores or call.load == "eager":
                recorded.plain = False
                recorded.ignored = recorded.ignored or ignores != ()
            if call.blocking:
                recorded.blocking = True
            waits = stalls != [] and call.tap.is_async
        if rare is not plain or waits or (started >= response_began and not call.detached):
            ended, count, odd = _odd(call, started, ended, count, rare, span, window, request, stalls)
            if odd is not None and not control:
                recorded.odd[len(calls)] = odd
        elapsed = ended - started
        if started >= reached:
            busy += elapsed
            reached = ended
        else:
            ledger.overlapping = True
        if not control:
            calls.append(call)
            starts.append(started - start)
            seconds.append(elapsed)
            counts.append(count)
            values.append(binds)
    if last is not None and not control:
        runs.append((last, len(calls) - mark, ordinal, ignored, window_of))
    for _, size, number, _, _ in runs:
        if number is not None:
            ledger.counts[number] += size
    ledger.busy, ledger.reached = busy, reached
    return recorded


def _is_control(call: Call) -> bool:
    try:
        return call.shape.control
    except AttributeError:
        return call.read().control


def _odd(
    call: Call,
    started: float,
    ended: float,
    count: int,
    rare: Rare,
    span: Span | None,
    window: Window,
    request: Request,
    stalls: list[Interval],
) -> tuple[float, int, Odd | None]:
    """Return when a statement ended, its rows, and what most statements have not."""
    stalled, error = 0.0, rare.error
    if rare.stream is not None:
        ended, stalled = _streamed(rare.stream, span, ended, window)
        count, error = rare.stream.rows, rare.stream.error or error
    if call.tap.is_async:
        stalled = max(stalled, overlap(started, ended, stalls))
    usual = phase_of(call.stack, request.dependencies, detached=call.detached)
    phase = usual if call.detached else request.phase(started, call.stack)
    noted = Odd(phase, stalled, rare.stream is not None, error, rare.entities or None, rare.size or None)
    return ended, count, noted if noted != Odd(usual) else None


def _streamed(stream: Stream, span: Span | None, ended: float, window: Window) -> tuple[float, float]:
    """Return when a streamed result ended, and the seconds until then in which its reader did something else."""
    until = ended_at(stream, span, ended, window)
    return until, max(0.0, until - ended - stream.fetching)


def _watched(
    window: Window, rows: list[Row], statements: Sequence[Statement], request: Request
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
