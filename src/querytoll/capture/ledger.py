"""Who had a connection, how long, and when it was busy: told while the statements of a window go by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from querytoll.capture.calls import SPAN, Row
from querytoll.capture.recorded import new
from querytoll.capture.stalls import Interval
from querytoll.capture.stays import Hold, Span
from querytoll.capture.stream import Stream
from querytoll.capture.window import Window
from querytoll.model import Checkout, Transaction


class Ledger:
    """The connections and transactions of one window, told while its statements go by.

    Attributes:
        holds: of the statements, by id; of statements without one, None itself.
        spans: transactions, by id.
        numbers: those that have a statement of the application's, in the order of their first; autocommit excepted.
        counts: their statements.
        busy: seconds in which statements ran.
        reached: when the last of them ended.
        overlapping: two statements ran at once; sums do not do.
    """

    __slots__ = ("_number", "_span", "busy", "counts", "holds", "numbers", "overlapping", "reached", "spans")

    def __init__(self) -> None:
        self.holds: dict[int, Any] = {}
        self.spans: dict[int, Span] = {}
        self.numbers: dict[int, int] = {}
        self.counts: list[int] = []
        self.busy = 0.0
        self.reached = 0.0
        self.overlapping = False
        self._span: Span | None = None
        self._number: int | None = None

    def pass_by(self, span: Span | None, control: bool) -> int | None:
        """Note a statement's connection and transaction; the number of this, None for autocommit and control."""
        if span is None:
            self.holds[id(None)] = None
            return None
        if span is self._span and not control:
            return self._number  # as of the one before, most often
        key, hold = id(span), span.hold
        self.holds[id(hold)] = hold
        self.spans[key] = span
        if control or span.autocommit:
            return None
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.counts)
            self.counts.append(0)
        self._span, self._number = span, number
        return number

    def database_seconds(self, rows: list[Row], window: Window) -> float:
        """Return the seconds in which statements, commits and rollbacks ran; a union where sums do not do."""
        spans = self.spans.values()
        if not self.overlapping and len(spans) < 2:
            for span in spans:
                # A statement of no transaction may follow the last one's end.
                if span.ended is not None and span.ended - span.ending < self.reached:
                    break
                return self.busy + span.ending
            else:
                return self.busy
        return _union([*intervals(rows, window), *endings(spans)])

    # Loops, because each comprehension costs as much again as what is done here for one connection.

    def transactions(self, window: Window) -> tuple[Transaction, ...]:
        """Return them in the order of their first statements."""
        found = []
        for key, number in self.numbers.items():
            found.append(_transaction(self.spans[key], self.counts[number], window))
        return tuple(found)

    def connections(self, rows: list[Row], checked_out: list[Hold], window: Window) -> tuple[Checkout, ...]:
        """Return them in the order in which they were handed out."""
        holds = self.holds
        if len(holds) == 1 and not self.overlapping:
            seconds = dict.fromkeys(holds, self.busy)
        else:
            seconds = _busy_by_hold(rows, window)
        for hold in checked_out:
            holds[id(hold)] = hold
        holds.pop(id(None), None)
        found = []
        for key in sorted(holds, key=lambda key: holds[key].got) if len(holds) > 1 else holds:
            found.append(_checkout(holds[key], seconds.get(key, 0.0), window))
        return tuple(found)


def ended_at(stream: Stream, span: Span | None, ended: float, window: Window) -> float:
    """Return when a streamed statement ended: with its result, else its connection's stay, else the window."""
    back = span.hold.back if span is not None else None
    return stream.ended or back or window.ended or ended


def busy_so_far(window: Window) -> float:
    """Return the seconds in which statements, commits and rollbacks ran."""
    spans = {id(row[SPAN]): row[SPAN] for row in window.rows if row[SPAN] is not None}
    return _union([*intervals(window.rows, window), *endings(spans.values())])


def intervals(rows: Iterable[Row], window: Window) -> list[Interval]:
    """Return when statements ran."""
    return [_interval(row, window) for row in rows]


def endings(spans: Iterable[Span]) -> list[Interval]:
    """Return when the transactions' commits and rollbacks ran."""
    return [(span.ended - span.ending, span.ended) for span in spans if span.ended is not None]


def _interval(row: Row, window: Window) -> Interval:
    _, started, ended, _, _, rare, span, *_ = row
    return started, ended if rare.stream is None else ended_at(rare.stream, span, ended, window)


def _busy_by_hold(rows: list[Row], window: Window) -> dict[int, float]:
    found: dict[int, list[Interval]] = {}
    for row in rows:
        span = row[SPAN]
        hold = None if span is None else span.hold
        found.setdefault(id(hold), []).append(_interval(row, window))
    return {key: _union(busy) for key, busy in found.items()}


def _union(busy: list[Interval]) -> float:
    """Return the length of the union, so that overlapping statements count once."""
    busy.sort()
    total, reached = 0.0, float("-inf")
    for start, end in busy:
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def _transaction(span: Span, count: int, window: Window) -> Transaction:
    began = span.began if span.began > window.started else window.started
    ended = span.ended if span.ended is not None and span.ended < window.ended else window.ended
    stack = span.stack
    return new(
        Transaction,
        (
            span.tap.name,
            began - window.started,
            ended - began,
            span.ending,
            span.outcome,
            count,
            stack[0] if stack else None,
        ),
    )


def _checkout(hold: Hold, busy: float, window: Window) -> Checkout:
    start, stack = window.started, hold.stack
    asked = hold.asked if hold.asked > start else start
    got = hold.got if hold.got > start else start
    back = hold.back if hold.back is not None and hold.back < window.ended else window.ended
    return new(
        Checkout,
        (
            hold.tap.name if hold.tap is not None else "",
            asked - start,
            got - asked,
            back - got if back > got else 0.0,
            busy,
            stack[0] if stack else None,
            hold.error,
            hold.relation,
            _holders(hold) if hold.others else (),
        ),
    )


def _holders(hold: Hold) -> tuple[str, ...]:
    return tuple(sorted({holder.name or "a request" for holder in hold.others}))
