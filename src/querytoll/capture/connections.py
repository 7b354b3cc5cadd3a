"""Checkouts and transactions of pooled connections, told from pool events and from the dialect's commit and rollback.

SQLAlchemy's own `begin`, `commit` and `rollback` events would do, but one listener for any of them switches every
statement of the engine to SQLAlchemy's general event path, at ten times the price of what is done here.
"""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from querytoll.capture import orm, pools
from querytoll.capture.failure import annotate, code_of
from querytoll.capture.pools import TAP as _TAP
from querytoll.capture.pools import Holder, PoolState, Seat
from querytoll.capture.pools import faults as faults
from querytoll.capture.scope import Scope, current
from querytoll.capture.stays import Held, Hold, Link, Tap
from querytoll.model import Outcome

LINK: Final = "querytoll"
"""Key of a record's link."""
_NEW: Final = "querytoll.new"

LONG_WAIT_SECONDS: Final = 0.02
"""Waits above it are told with the holders of the pool's connections."""

first_checkout: Final[list[Callable[[Any], None]]] = []
"""Called with a connection of each pool that is seen for the first time."""


class _Clock:
    """Keeps the clock where freezegun does not find it."""

    now = staticmethod(time.perf_counter)


def _info_of(connection: Any) -> dict[str, Any] | None:
    """Return what the pool's record of a connection carries; SQLAlchemy's own property costs four times more."""
    record = getattr(connection, "_connection_record", None)
    return None if record is None else record.record_info


def link_of(connection: Any, moment: float) -> Link | None:
    """Return the link of a proxied connection, made now if it was checked out unseen; None for a detached one."""
    record = connection._connection_record
    if record is None:
        return None
    info = record.record_info
    if LINK in info:
        return info[LINK]  # type: ignore[no-any-return]
    link = info[LINK] = Link(Hold(moment, moment))
    return link


def tap_of(context: Any) -> Tap:
    """Return what is known of the engine of an execution context, learning it at first sight."""
    try:
        return context.dialect._querytoll  # type: ignore[no-any-return]
    except AttributeError:
        return _learn(context.engine, context.dialect)


def _learn(engine: Any, dialect: Any) -> Tap:
    tap = Tap(engine_name(engine), is_async=dialect.is_async)
    setattr(dialect, _TAP, tap)
    _watch_endings(dialect)
    return tap


def disown_dialect(dialect: Any) -> None:
    """Mark an engine's dialect as one of ours: never profiled."""
    setattr(dialect, _TAP, Tap("querytoll", is_async=dialect.is_async, own=True))
    pools.choose()


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
            info = _info_of(of(connection))
            link: Link | None = info.get(LINK) if info else None
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


def on_do_connect(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
    """Dialect event: a connection is being made; if it is the pool's first, others may soon wait for it."""
    try:
        state = _state(record._ConnectionRecord__pool, record)
        if state.meters:
            pools.opening(state, record)
    except Exception as fault:
        faults.caught("capture", fault)


def on_connect(dbapi_connection: Any, record: Any) -> None:
    """Pool event: note a new connection, so that making it is not taken for waiting for one."""
    try:
        if record.record_info is not None:
            record.record_info[_NEW] = True
        state = _state(record._ConnectionRecord__pool, record)
        if state.meters:
            pools.opened(state, record)
    except Exception as fault:
        faults.caught("capture", fault)


def on_checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
    """Pool event: a connection is handed out."""
    try:
        pool = proxy._pool
        state = pool.__dict__.get(pools.POOL) or _state(pool, record)
        if not state.met:
            state.met = True
            for hook in first_checkout:
                hook(dbapi_connection)
        if state.meters:
            pools.checked_out(state, record)
        scope = current.get()
        tap: Tap | None = pool._dialect.__dict__.get(_TAP)
        if scope is None or not scope.windows or (tap is not None and tap.own):
            return
        info = record.record_info
        if LINK not in info:
            now = _Clock.now()
            hold = Hold(now, now, tap, scope.windows[0])
            hold.stack = scope.windows[0].capture.sites.stack(3, "checkout")
            info[LINK] = Link(hold)
            pool._querytoll_held.out.add(hold)
        _tell(pool, scope, info[LINK].hold)
    except Exception as fault:
        faults.caught("capture", fault)


def watch_engine(engine: Any) -> None:
    """Know the pool of an engine before its first connection."""
    if pools.state_of(engine.pool) is None:
        tap: Tap = engine.dialect.__dict__.get(_TAP) or _learn(engine, engine.dialect)
        _watch_pool(engine.pool, tap)


def _state(pool: Any, record: Any) -> PoolState:
    """Return the numbers of a pool; where there were none, this record's connection was asked for unseen."""
    state = pools.state_of(pool)
    if state is None:
        state = _watch_pool(pool, pool._dialect.__dict__.get(_TAP) or _tap_on_stack(pool))
        pools.expect(state, record)
    return state


def _watch_pool(pool: Any, tap: Tap | None) -> PoolState:
    """Time the checkouts of a pool from the moment they are asked for, which no event tells."""
    name = tap.name if tap is not None else f"{pool._dialect.name}+{pool._dialect.driver}"
    pool.__dict__.setdefault("_querytoll_held", Held())
    state, first = pools.watch(pool, name)
    if first:
        pool.connect = _timed_connect(pool, state, pools.original_of(pool, "connect"))
    return state


def _tap_on_stack(pool: Any) -> Tap | None:
    """Learn the engine that is asking its pool for a connection: nothing else leads from a pool to its engine."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "raw_connection":
            engine: Any = frame.f_locals.get("self")
            asked: Any = getattr(engine, "pool", None)
            if asked is pool:
                return _learn(engine, pool._dialect)
    return None


def _timed_connect(
    pool: Any, state: PoolState, original: Callable[[], Any], now: Callable[[], float] = time.perf_counter
) -> Callable[[], Any]:
    def connect() -> Any:
        tap: Tap | None = pool._dialect.__dict__.get(_TAP)
        scope = current.get()
        if scope is not None and (not scope.windows or (tap is not None and tap.own)):
            scope = None
        if state.disposed_of:
            state.revived()
        metered = bool(state.meters)
        if scope is None and not metered:
            return original()
        asked = now()
        held: Held = pool._querytoll_held
        held.asking.append(asked)
        proxy = error = None
        if metered:
            state.asked()
        try:
            proxy = original()
        finally:
            if proxy is None:
                error = sys.exception()
            try:
                if metered and proxy is not None:
                    state.answered(proxy._connection_record, asked)
                elif metered:
                    state.failed(error, now() - asked, [hold.holder for hold in list(_held(pool).out)])
                if scope is not None and proxy is not None:
                    _note_wait(pool, _info_of(proxy), asked)
                elif scope is not None and error is not None:
                    _note_failure(pool, scope, Hold(asked, now(), tap, scope.windows[0]), error)
            except Exception as fault:
                faults.caught("capture", fault)
            held.got()
            error = None  # its traceback holds this frame
        return proxy

    return connect


def _note_wait(pool: Any, info: dict[str, Any] | None, asked: float) -> None:
    """Complete what `on_checkout` noted by the moment the connection was asked for."""
    link: Link | None = info.get(LINK) if info is not None else None
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
    """Return who held the pool's connections during a wait that was long enough to tell."""
    if hold.got - hold.asked <= LONG_WAIT_SECONDS:
        return ()
    others = (other for other in _held(pool).since(hold.asked) if other is not hold)
    return tuple(dict.fromkeys(other.holder for other in others if other.holder is not None))


def _held(pool: Any) -> Held:
    held: Held = pool._querytoll_held
    return held


def _tell(pool: Any, scope: Scope, hold: Hold) -> None:
    for window in scope.windows:
        if window.sees(pool._dialect):
            window.checked_out(hold)


def on_checkin(dbapi_connection: Any, record: Any) -> None:
    """Pool event: the connection is back, or detached from its pool, whatever its transaction did."""
    try:
        link: Link | None = record.record_info.pop(LINK, None)
        if link is not None:
            link.hold.back = _Clock.now()
            if link.hold.holder is not None:
                record._ConnectionRecord__pool._querytoll_held.put_back(link.hold)
            if link.span is not None and link.span.ended is None:
                link.span.ended = link.hold.back
                if link.span.outcome == "open":
                    link.span.outcome = "rolled back"
        seat: Seat | None = record.record_info.get(pools.SEAT)
        if seat is not None:
            pools.returned(seat, record)
    except Exception as fault:
        faults.caught("capture", fault)


def on_close(dbapi_connection: Any, record: Any) -> None:
    """Pool event: the connection is closed, or detached from its pool."""
    try:
        seat: Seat | None = record.record_info.get(pools.SEAT)
        if seat is not None:
            pools.closed(seat, record)
    except Exception as fault:
        faults.caught("capture", fault)
