"""The one pass from rows to the trace, against slow definitions of what it computes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from querytoll.callsite import CallSites
from querytoll.capture import Capture, Window
from querytoll.capture.assemble import Request, assemble, so_far
from querytoll.capture.binds import NONE
from querytoll.capture.calls import PLAIN, Call, Rare, Row
from querytoll.capture.stays import Hold, Span, Tap
from querytoll.capture.stream import Stream
from querytoll.fingerprint import shape
from querytoll.model import Site

TAP: Final = Tap("tested", is_async=False)
ASYNC: Final = Tap("tested too", is_async=True)
HERE: Final = Site("/app/orders.py", 7, "show")
SESSION: Final = Site("/app/session.py", 3, "get_session")
STACKS: Final = ((), (HERE,), (SESSION, HERE))
TEXTS: Final = ("SELECT 1", "SELECT 2", "SAVEPOINT one", "UPDATE orders SET n = 1")
END: Final = 100
CAPTURE: Final = Capture(CallSites(Path(__file__).parent))


class Entry:
    """A row by the names of its parts, those of its call among them."""

    def __init__(self, row: Row) -> None:
        self.row = row
        call, self.started, self.ended, self.rows, _, rare, self.span, _, _ = row
        self.sql, self.stack, self.tap = call.sql, call.stack, call.tap
        self.detached = call.detached
        self.hold = None if self.span is None else self.span.hold
        self.stream = rare.stream


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, list[Entry]]:
    """A closed window and its entries; moments are whole seconds, which can be counted."""
    window = Window(CAPTURE, "request", "GET /")
    window.started, window.ended, window.closed = float(draw(st.integers(0, 3))), float(END), True
    holds = [_hold(draw) for _ in range(draw(st.integers(0, 3)))]
    spans = [_span(draw, holds) for _ in range(draw(st.integers(0, 4)) if holds else 0)]
    calls = [_call(draw) for _ in range(draw(st.integers(1, 5)))]
    entries = [_entry(draw, window, calls, [*spans, None]) for _ in range(draw(st.integers(0, 8)))]
    entries.sort(key=lambda entry: entry.ended)
    for span in spans:
        _end(draw, span, [entry.ended for entry in entries if entry.span is span])
    window.holds = [hold for hold in holds if draw(st.booleans())]
    window.rows = [entry.row for entry in entries]
    return window, entries


def _hold(draw: st.DrawFn) -> Hold:
    asked = draw(st.integers(0, 20))
    hold = Hold(float(asked), float(asked + draw(st.integers(0, 5))), TAP)
    hold.back = draw(st.none() | st.integers(60, END + 10).map(float))
    return hold


def _span(draw: st.DrawFn, holds: list[Hold]) -> Span:
    began, hold = float(draw(st.integers(0, 30))), draw(st.sampled_from(holds))
    return Span(TAP, began, (HERE,), hold, autocommit=draw(st.booleans()))


def _end(draw: st.DrawFn, span: Span, statements: list[float]) -> None:
    """Let a transaction end some time after its statements, before or after those of others; or not at all."""
    if draw(st.booleans()):
        span.ending = float(draw(st.integers(0, 5)))
        span.ended = max(statements, default=span.began) + draw(st.integers(0, 20)) + span.ending
        span.outcome = "committed"


def _call(draw: st.DrawFn) -> Call:
    return Call(
        draw(st.sampled_from(TEXTS)),
        draw(st.sampled_from(STACKS)),
        draw(st.sampled_from((TAP, ASYNC))),
        detached=draw(st.integers(0, 5)) == 0,
    )


def _entry(draw: st.DrawFn, window: Window, calls: list[Call], spans: list[Span | None]) -> Entry:
    started = window.started + draw(st.integers(0, 30))
    ended = started + draw(st.integers(0, 8))
    stream = _stream(draw, ended) if draw(st.integers(0, 3)) == 0 else None
    rare = PLAIN if stream is None else Rare(stream)
    call, span = draw(st.sampled_from(calls)), draw(st.sampled_from(spans))
    return Entry((call, started, ended, draw(st.integers(-1, 3)), NONE, rare, span, (), 1))


def _stream(draw: st.DrawFn, opened: float) -> Stream:
    stream = Stream()
    stream.rows = draw(st.integers(0, 5))
    if draw(st.booleans()):
        stream.ended = opened + draw(st.integers(0, 10))
        stream.fetching = float(draw(st.integers(0, int(stream.ended - opened))))
    return stream


# The definitions


def until(entry: Entry) -> float:
    """A streamed statement ends with its result, else with its connection's stay, else with the window."""
    if entry.stream is None:
        return entry.ended
    back = entry.hold.back if entry.hold is not None else None
    ends = (entry.stream.ended, back, float(END))
    return next(moment for moment in ends if moment is not None)


def covered(intervals: Iterable[tuple[float, float]]) -> int:
    """The seconds that lie in any of the intervals, counted one by one."""
    return len({second for start, end in intervals for second in range(int(start), int(end))})


def running(entries: Iterable[Entry]) -> list[tuple[float, float]]:
    return [(entry.started, until(entry)) for entry in entries]


def commits(entries: Iterable[Entry]) -> list[tuple[float, float]]:
    spans = [entry.span for entry in entries if entry.span is not None]
    return [(span.ended - span.ending, span.ended) for span in spans if span.ended is not None]


def is_control(entry: Entry) -> bool:
    return entry.sql.startswith("SAVEPOINT")


def transactions(entries: list[Entry]) -> list[Span]:
    """Those with a statement of the application's, in the order of their first."""
    found: list[Span] = []
    for entry in entries:
        if entry.span is not None and not entry.span.autocommit and not is_control(entry) and entry.span not in found:
            found.append(entry.span)
    return found


def phase(entry: Entry, request: Request) -> str:
    if entry.detached or entry.started >= request.response_ended:
        return "background"
    if entry.started >= request.response_began:
        return "response"
    return "dependency" if SESSION in entry.stack else "endpoint"


@settings(deadline=None)
@given(windows())
def test_the_time_of_the_database_is_counted_once_however_statements_overlap(seen: tuple[Window, list[Entry]]) -> None:
    """With commits and rollbacks, streams to their ends, and what belongs to no transaction."""
    window, entries = seen
    before = so_far(window)
    trace = assemble(window)
    assert trace.database_seconds == covered([*running(entries), *commits(entries)])
    assert before == (len(trace.statements), trace.database_seconds)


@settings(deadline=None)
@given(windows())
def test_a_connection_is_busy_while_its_own_statements_run(seen: tuple[Window, list[Entry]]) -> None:
    window, entries = seen
    known = {id(hold): hold for hold in [*window.holds, *(each.hold for each in entries if each.hold is not None)]}
    holds, start = sorted(known.values(), key=lambda hold: hold.got), window.started
    trace = assemble(window)
    of = [[entry for entry in entries if entry.hold is hold] for hold in holds]
    assert sorted((c.began, c.wait, c.hold, c.busy) for c in trace.connections) == sorted(
        (
            max(hold.asked, start) - start,
            max(hold.got, start) - max(hold.asked, start),
            min(hold.back or END, END) - max(hold.got, start),
            covered(running(mine)),
        )
        for hold, mine in zip(holds, of, strict=True)
    )
    got = [checkout.began + checkout.wait for checkout in trace.connections]
    assert got == sorted(got), "in the order in which they were handed out"


@settings(deadline=None)
@given(windows())
def test_statements_are_counted_with_their_transactions(seen: tuple[Window, list[Entry]]) -> None:
    """In the order of the first statements; autocommit is none, and control is no statement."""
    window, entries = seen
    spans, start = transactions(entries), window.started
    trace = assemble(window)
    kept = [entry for entry in entries if not is_control(entry)]
    assert [(t.statements, t.outcome, t.ending, t.began, t.elapsed) for t in trace.transactions] == [
        (
            sum(entry.span is span for entry in kept),
            span.outcome,
            span.ending,
            max(span.began, start) - start,
            min(span.ended or END, END) - max(span.began, start),
        )
        for span in spans
    ]
    assert [statement.transaction for statement in trace.statements] == [
        spans.index(entry.span) if entry.span in spans else None for entry in kept
    ]
    assert trace.controls == len(entries) - len(kept)


@settings(deadline=None)
@given(windows(), st.integers(0, 40), st.integers(0, 10))
def test_a_statement_is_what_was_recorded_of_it(seen: tuple[Window, list[Entry]], began: int, length: int) -> None:
    window, entries = seen
    request = Request(
        response_began=float(began),
        response_ended=float(began + length),
        dependencies={(SESSION.file, SESSION.function)},
    )
    trace = assemble(window, request)
    kept = [entry for entry in entries if not is_control(entry)]
    assert [(s.sql, s.shape.text, s.started, s.elapsed, s.stack, s.phase, s.engine) for s in trace.statements] == [
        (
            entry.sql,
            shape(entry.sql).text,
            entry.started - window.started,
            until(entry) - entry.started,
            entry.stack,
            phase(entry, request),
            entry.tap.name,
        )
        for entry in kept
    ]
    assert [(s.rows, s.stall) for s in trace.statements] == [
        (entry.rows if entry.rows >= 0 else None, 0)
        if entry.stream is None
        else (entry.stream.rows, until(entry) - entry.ended - entry.stream.fetching)
        for entry in kept
    ]
