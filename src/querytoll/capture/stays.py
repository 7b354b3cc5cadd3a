"""Connections and transactions while they last; moments in seconds of the monotonic clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from querytoll.model import Outcome, Site

if TYPE_CHECKING:
    from querytoll.capture.calls import Call

MAX_CALLS: Final = 2_000
"""Calls that are remembered of an engine."""
MAX_TEXT: Final = 4_000
"""Characters of a text that is."""


class Holder(Protocol):
    """Who holds a connection: the window of a request, which learns its name at its end."""

    kind: Any
    name: str
    closed: bool


class Tap:
    """What is known of an engine: kept on its dialect, which all connections of the engine share.

    Attributes:
        calls: what is sent to it, by the text and the ids of its stack and of what it loads; a call keeps its stack.
    """

    __slots__ = ("calls", "is_async", "name", "own")

    def __init__(self, name: str, *, is_async: bool, own: bool = False) -> None:
        self.name = name
        self.is_async = is_async
        self.own = own
        self.calls: dict[tuple[str, *tuple[int, ...]], Call] = {}

    def remember(self, key: tuple[str, *tuple[int, ...]], call: Call) -> None:
        """Keep a call for the next time."""
        if len(self.calls) >= MAX_CALLS:
            self.calls.clear()
        self.calls[key] = call


class Span:
    """A transaction while it runs, on a connection's stay; moments in seconds of the monotonic clock."""

    __slots__ = ("autocommit", "began", "ended", "ending", "hold", "outcome", "stack", "tap")

    def __init__(self, tap: Tap, began: float, stack: tuple[Site, ...], hold: Hold, *, autocommit: bool) -> None:
        self.tap = tap
        self.began = began
        self.ended: float | None = None
        self.ending = 0.0
        self.outcome: Outcome = "autocommit" if autocommit else "open"
        self.autocommit = autocommit
        self.stack = stack
        self.hold = hold


class Hold:
    """A connection's stay with whoever checked it out; moments as in `Span`."""

    __slots__ = ("asked", "back", "error", "got", "holder", "others", "relation", "stack", "tap")

    def __init__(self, asked: float, got: float, tap: Tap | None = None, holder: Holder | None = None) -> None:
        self.asked = asked
        self.got = got
        self.back: float | None = None
        self.tap = tap
        self.stack: tuple[Site, ...] = ()
        self.holder = holder
        self.error: str | None = None
        self.relation: str | None = None
        # Not their holds: those of a pool that is always short would hold each other, back to the first.
        self.others: tuple[Holder, ...] = ()


class Link:
    """A checked-out connection's hold and its open transaction; lives in the connection's seat."""

    __slots__ = ("hold", "span")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.span: Span | None = None
