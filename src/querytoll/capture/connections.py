"""Checkouts and transactions of pooled connections, told from pool events and from the dialect's commit and rollback.

SQLAlchemy's own `begin`, `commit` and `rollback` events would do, but one listener for any of them switches every
statement of the engine to SQLAlchemy's general event path, at ten times the price of what is done here.
"""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol
from weakref import WeakSet

from querytoll.capture import orm
from querytoll.capture.failure import annotate, code_of
from querytoll.capture.scope import Scope, current
from querytoll.errors import Faults
from querytoll.model import Outcome, Site

_LINK: Final = "querytoll"
_NEW: Final = "querytoll.new"
_TAP: Final = "_querytoll"

LONG_WAIT_SECONDS: Final = 0.02
"""Waits above it are told with the holders of the pool's connections."""

first_checkout: Final[list[Callable[[Any], None]]] = []
"""Called with a connection of each pool that is seen for the first time."""

faults: Final = Faults()
"""Where exceptions of pool events end: they belong to no window."""


class _Clock:
    """Keeps the clock where freezegun does not find it."""

    now = staticmethod(time.perf_counter)


class Tap:
    """What is known of an engine: kept on its dialect, which all connections of the engine share."""

    __slots__ = ("is_async", "name", "own")

    def __init__(self, name: str, *, is_async: bool, own: bool = False) -> None:
        self.name = name
        self.is_async = is_async
        self.own = own


class Span:
    """A transaction while it runs; moments in seconds of the monotonic clock."""

    __slots__ = ("autocommit", "began", "ended", "ending", "outcome", "stack", "tap")

    def __init__(self, tap: Tap, began: float, stack: tuple[Site, ...], *, autocommit: bool) -> None:
        self.tap = tap
        self.began = began
        self.ended: float | None = None
        self.ending = 0.0
        self.outcome: Outcome = "autocommit" if autocommit else "open"
        self.autocommit = autocommit
        self.stack = stack


class Holder(Protocol):
    """Who holds a connection: the window of a request."""

    name: str


class Hold:
    """A connection's stay with whoever checked it out; moments as in `Span`."""

    __slots__ = ("__weakref__", "asked", "back", "error", "got", "holder", "others", "relation", "stack", "tap")

    def __init__(self, asked: float, got: float, tap: Tap | None = None, holder: Holder | None = None) -> None:
        self.asked = asked
        self.got = got
        self.back: float | None = None
        self.tap = tap
        self.stack: tuple[Site, ...] = ()
        self.holder = holder
        self.error: str | None = None
        self.relation: str | None = None
        self.others: tuple[Holder, ...] = ()


class Link:
    """A checked-out connection's hold and its open transaction; lives in the pool's record of the connection."""

    __slots__ = ("hold", "span", "timed")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.timed = False
        self.span: Span | None = None


def link_of(connection: Any, moment: float) -> Link | None:
    """Return the link of a proxied connection, made now if it was checked out unseen; None for a detached one."""
    record = connection._connection_record
    if record is None:
        return None
    info = record.record_info
    if _LINK in info:
        return info[_LINK]  # type: ignore[no-any-return]
    link = info[_LINK] = Link(Hold(moment, moment))
    return link


def tap_of(context: Any) -> Tap:
    """Return what is known of the engine of an execution context, learning it at first sight."""
    dialect = context.dialect
    try:
        return dialect._querytoll  # type: ignore[no-any-return]
    except AttributeError:
        tap = dialect._querytoll = Tap(engine_name(context.engine), is_async=dialect.is_async)
        _watch_endings(dialect)
        return tap


def disown_dialect(dialect: Any) -> None:
    """Mark an engine's dialect as one of ours: never profiled."""
    setattr(dialect, _TAP, Tap("querytoll", is_async=dialect.is_async, own=True))


def engine_name(engine: Any) -> str:
    """Return the name that the application gave the engine, else `driver://host/database`; never credentials."""
    if engine.logging_name:
        return str(engine.logging_name)
    url = engine.url
    return f"{url.drivername}://{url.host or ''}/{url.database or ''}"


def _watch_endings(dialect: Any, now: Callable[[], float] = time.perf_counter) -> None:
    """Time COMMIT and ROLLBACK on one dialect; its own methods still do the work."""

    def timed(
        original: Callable[..., None], outcome: Outcome, over: Collection[Outcome], of: Callable[[Any], Any]
    ) -> Callable[..., None]:
        def end(connection: Any, *args: Any, **options: Any) -> None:
            record = getattr(of(connection), "record_info", None)
            link: Link | None = record.get(_LINK) if record else None
            span = link.span if link is not None else None
            if link is None or span is None or options.get("recover"):
                return original(connection, *args, **options)
            started = now()
            done = False
            try:
                original(connection, *args, **options)
                done = True
            finally:
                if outcome != "prepared":
                    link.span = None
                span.ended = now()
                span.ending = span.ended - started
                if span.outcome in over:
                    # A COMMIT that fails (a deferred constraint) rolls back.
                    span.outcome = outcome if done else "rolled back"

        return end

    for name, outcome, over in _ENDINGS:
        of = operator.attrgetter("connection") if name.endswith("twophase") else _itself
        setattr(dialect, name, timed(getattr(dialect, name), outcome, over, of))


def _itself(connection: Any) -> Any:
    return connection


# A prepared transaction outlives its connection: only a second phase changes what becomes of it.
_ENDINGS: Final[tuple[tuple[str, Outcome, frozenset[Outcome]], ...]] = (
    ("do_commit", "committed", frozenset(("open",))),
    ("do_rollback", "rolled back", frozenset(("open",))),
    ("do_prepare_twophase", "prepared", frozenset(("open",))),
    ("do_commit_twophase", "committed", frozenset(("open", "prepared"))),
    ("do_rollback_twophase", "rolled back", frozenset(("open", "prepared"))),
)


def on_connect(dbapi_connection: Any, record: Any) -> None:
    """Pool event: note a new connection, so that making it is not taken for waiting for one."""
    if record.record_info is not None:
        record.record_info[_NEW] = True


def on_do_connect(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
    """Dialect event: the first connection of a pool is being made; others may soon wait for it."""
    try:
        _watch_pool(record._ConnectionRecord__pool, None)
    except Exception as fault:
        faults.caught("capture", fault)


def on_checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
    """Pool event: a connection is handed out."""
    try:
        pool = proxy._pool
        _watch_pool(pool, dbapi_connection)
        scope = current.get()
        tap: Tap | None = pool._dialect.__dict__.get(_TAP)
        if scope is None or not scope.windows or proxy.record_info is None or (tap is not None and tap.own):
            return
        if _LINK not in proxy.record_info:
            now = _Clock.now()
            hold = Hold(now, now, tap, scope.windows[0])
            hold.stack = scope.windows[0].capture.sites.stack(3, "checkout")
            proxy.record_info[_LINK] = Link(hold)
            pool._querytoll_held.add(hold)
        _tell(pool, scope, proxy.record_info[_LINK].hold)
    except Exception as fault:
        faults.caught("capture", fault)


def _watch_pool(pool: Any, dbapi_connection: Any) -> None:
    """Time the checkouts of a pool from the moment they are asked for, which no event tells."""
    if "_querytoll_held" not in pool.__dict__:
        for hook in first_checkout:
            hook(dbapi_connection)
        pool._querytoll_held = WeakSet()
        pool.connect = _timed_connect(pool)


def _timed_connect(pool: Any, now: Callable[[], float] = time.perf_counter) -> Callable[[], Any]:
    # Somebody else may have replaced it before us.
    original: Callable[[], Any] = pool.__dict__.get("connect") or type(pool).connect.__get__(pool)

    def connect() -> Any:
        scope = current.get()
        tap: Tap | None = pool._dialect.__dict__.get(_TAP)
        if scope is None or not scope.windows or (tap is not None and tap.own):
            return original()
        asked = now()
        proxy = error = None
        try:
            proxy = original()
        finally:
            if proxy is None:
                error = sys.exception()
            try:
                if proxy is not None:
                    _note_wait(pool, proxy.record_info, asked)
                elif error is not None:
                    _note_failure(pool, scope, Hold(asked, now(), tap, scope.windows[0]), error)
            except Exception as fault:
                faults.caught("capture", fault)
            error = None  # its traceback holds this frame
        return proxy

    return connect


def _note_wait(pool: Any, info: dict[str, Any] | None, asked: float) -> None:
    """Complete what `on_checkout` noted by the moment the connection was asked for."""
    link: Link | None = info.get(_LINK) if info is not None else None
    if info is None or link is None or link.timed:
        return  # a connection that was out already: StaticPool and SingletonThreadPool share it
    link.timed = True
    link.hold.asked = asked
    if not info.pop(_NEW, False):
        link.hold.others = _holders(pool, link.hold)


def _note_failure(pool: Any, scope: Scope, hold: Hold, error: BaseException) -> None:
    hold.back = hold.got
    hold.error = code_of(error)
    hold.relation = orm.loading_now()
    hold.others = _holders(pool, hold)
    hold.stack = scope.windows[0].capture.sites.stack(3)
    annotate(error, hold.relation, hold.stack[0] if hold.stack else None)
    _tell(pool, scope, hold)


def _holders(pool: Any, hold: Hold) -> tuple[Holder, ...]:
    """Return who held the pool's connections during a wait that was long enough to tell.

    Not their holds: each would keep those that it waited for itself, and so on for as long as the pool is short.
    """
    if hold.got - hold.asked <= LONG_WAIT_SECONDS:
        return ()
    # The set itself cannot be walked while other threads add to it.
    held = [other for known in tuple(pool._querytoll_held.data) if (other := known()) is not None]
    others = [other for other in held if other is not hold and (other.back is None or other.back >= hold.asked)]
    return tuple([other.holder for other in others if other.holder is not None])


def _tell(pool: Any, scope: Scope, hold: Hold) -> None:
    for window in scope.windows:
        if window.sees(pool._dialect):
            window.checked_out(hold)


def on_checkin(dbapi_connection: Any, record: Any) -> None:
    """Pool event: the connection is back, or detached from its pool, whatever its transaction did."""
    try:
        link: Link | None = record.record_info.pop(_LINK, None)
        if link is not None:
            link.hold.back = _Clock.now()
            if link.span is not None and link.span.ended is None:
                link.span.ended = link.hold.back
                if link.span.outcome == "open":
                    link.span.outcome = "rolled back"
    except Exception as fault:
        faults.caught("capture", fault)
