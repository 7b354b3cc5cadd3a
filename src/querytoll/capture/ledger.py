"""Who had a connection, how long, and when it was busy: told while the statements of a window go by."""

from __future__ import annotations

from collections.abc import Iterable

from querytoll.capture.calls import Row
from querytoll.capture.recorded import new
from querytoll.capture.stalls import Interval
from querytoll.capture.stays import Hold, Span
from querytoll.capture.stream import Stream
from querytoll.capture.window import Window
from querytoll.model import Checkout, Transaction


class Ledger:
    """The connections and transactions of one window.

    Attributes:
        hold: of the statement that is looked at.
        span: its transaction.
        counts: statements by ordinal of their transaction.
        busy: seconds in which statements ran; when it is settled, commits and rollbacks too.
        reached: when the last of them ended.
        overlapping: two statements ran at once; sums do not do.
    """

    __slots__ = (
        "_began",
        "_holds",
        "_numbered",
        "_numbers",
        "_seconds",
        "_spans",
        "_window",
        "busy",
        "counts",
        "hold",
        "overlapping",
        "reached",
    )

    def __init__(self, window: Window) -> None:
        self._window = window
        self._holds: dict[int, Hold] = {}
        self._seconds: dict[int, float] = {}
        self._began = 0.0
        self._spans: dict[int, Span] = {}
        self._numbered: list[Span] = []
        self._numbers: dict[int, int] = {}
        self.hold: Hold | None = None
        self.counts: list[int] = []
        self.busy = 0.0
        self.reached = 0.0
        self.overlapping = False
        for hold in window.holds:
            self._holds[id(hold)] = hold

    def turn(self, hold: Hold | None, busy: float) -> None:
        """The next statement has another connection than the last one; so long were all before it."""
        if self.hold is not None:
            key = id(self.hold)
            self._seconds[key] = self._seconds.get(key, 0.0) + busy - self._began
        self.hold = hold
        self._began = busy
        if hold is not None:
            self._holds[id(hold)] = hold

    def note(self, span: Span | None) -> None:
        """Note a transaction without a statement of the application's: its end takes the database's time."""
        if span is not None:
            self._spans[id(span)] = span

    def ordinal(self, span: Span) -> int | None:
        """Return the transaction's number in the order of the transactions; None for autocommit."""
        key = id(span)
        self._spans[key] = span
        if span.autocommit:
            return None
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbered)
            self._numbered.append(span)
            self.counts.append(0)
        return number

    def settle(self, rows: list[Row]) -> None:
        """Add the ends of transactions, and take unions for sums where statements overlap."""
        spans = list(self._spans.values())
        if self.overlapping:
            self._seconds = _busy_by_hold(rows, self._window)
        if not self.overlapping and len(spans) == 1 and self._is_last(spans[0]):
            self.busy += spans[0].ending
        elif self.overlapping or spans:
            self.busy = _union([*intervals(rows, self._window), *endings(spans)])

    def _is_last(self, span: Span) -> bool:
        """Tell whether a transaction ended after all statements: those of no transaction may follow it."""
        return span.ended is None or span.ended - span.ending >= self.reached

    def transactions(self) -> tuple[Transaction, ...]:
        """Return them in the order of their first statements."""
        found = []
        for number, span in enumerate(self._numbered):
            found.append(_transaction(span, self.counts[number], self._window))
        return tuple(found)

    def connections(self) -> tuple[Checkout, ...]:
        """Return them in the order in which they were handed out."""
        found = []
        for hold in sorted(self._holds.values(), key=_got) if len(self._holds) > 1 else self._holds.values():
            found.append(_checkout(hold, self._seconds.get(id(hold), 0.0), self._window))
        return tuple(found)


def ended_at(stream: Stream, hold: Hold | None, ended: float, window: Window) -> float:
    """Return when a streamed statement ended: with its result, else its connection's stay, else the window."""
    back = hold.back if hold is not None else None
    return stream.ended or back or window.ended or ended


def busy_so_far(window: Window) -> float:
    """Return the seconds in which statements, commits and rollbacks ran."""
    spans = {id(row[0].span): row[0].span for row in window.rows if row[0].span is not None}
    return _union([*intervals(window.rows, window), *endings(spans.values())])


def intervals(rows: Iterable[Row], window: Window) -> list[Interval]:
    """Return when statements ran."""
    return [_interval(row, window) for row in rows]


def endings(spans: Iterable[Span]) -> list[Interval]:
    """Return when the transactions' commits and rollbacks ran."""
    return [(span.ended - span.ending, span.ended) for span in spans if span.ended is not None]


def _interval(row: Row, window: Window) -> Interval:
    call, started, ended, *_, rare = row
    return started, ended if rare.stream is None else ended_at(rare.stream, call.hold, ended, window)


def _busy_by_hold(rows: list[Row], window: Window) -> dict[int, float]:
    found: dict[int, list[Interval]] = {}
    for row in rows:
        found.setdefault(id(row[0].hold), []).append(_interval(row, window))
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


def _got(hold: Hold) -> float:
    return hold.got


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
