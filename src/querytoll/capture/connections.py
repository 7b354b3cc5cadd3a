"""Checkouts and transactions of pooled connections, told from pool events and from the dialect's commit and rollback.

SQLAlchemy's own `begin`, `commit` and `rollback` events would do, but one listener for any of them switches every
statement of the engine to SQLAlchemy's general event path, at ten times the price of what is done here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from querytoll.capture import orm, pools
from querytoll.capture.failure import annotate, code_of
from querytoll.capture.pools import SEAT as _SEAT
from querytoll.capture.pools import TAP as _TAP
from querytoll.capture.pools import PoolState, Seat, seat_of
from querytoll.capture.pools import faults as faults
from querytoll.capture.scope import Scope, current
from querytoll.capture.stays import Hold, Holder, Link, Tap
from querytoll.model import Outcome

LONG_WAIT_SECONDS: Final = 0.02
"""Waits above it are told with the holders of the pool's connections."""

first_checkout: Final[list[Callable[[Any], None]]] = []
"""Called with a connection of each pool that is seen for the first time."""


def link_of(connection: Any, moment: float) -> Link | None:
    """Return the link of a proxied connection, made now if it was checked out unseen; None for a detached one."""
    record = connection._connection_record
    if record is None:
        return None
    info = record.record_info
    seat: Seat | None = info.get(_SEAT)
    if seat is None:
        seat = info[_SEAT] = Seat(None)
    if seat.link is None:
        seat.link = Link(Hold(moment, moment))
    return seat.link


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


def _watch_endings(dialect: Any) -> None:
    """Time COMMIT and ROLLBACK on one dialect; its own methods still do the work."""
    for name, outcome in _ENDINGS:
        setattr(dialect, name, _timed(getattr(dialect, name), outcome, _OPEN))
    for name, outcome, over in _PHASES:
        setattr(dialect, name, _timed_phase(getattr(dialect, name), outcome, over))


def _timed(
    original: Callable[[Any], None],
    outcome: Outcome,
    over: Collection[Outcome],
    now: Callable[[], float] = time.perf_counter,
) -> Callable[[Any], None]:
    def end(connection: Any) -> None:
        try:
            seat: Seat | None = connection._connection_record.record_info.get(_SEAT)
        except AttributeError:  # it is detached, or the driver's own
            seat = None
        link = seat.link if seat is not None else None
        span = link.span if link is not None else None
        if link is None or span is None:
            return original(connection)
        started = now()
        done = False
        try:
            original(connection)
            done = True
        finally:
            if outcome != "prepared":
                link.span = None
            span.ended = ended = now()
            span.ending = ended - started
            if span.outcome in over:
                # A COMMIT that fails (a deferred constraint) rolls back.
                span.outcome = outcome if done else "rolled back"

    return end


def _timed_phase(original: Callable[..., None], outcome: Outcome, over: Collection[Outcome]) -> Callable[..., None]:
    def end(connection: Any, *args: Any, **options: Any) -> None:
        if options.get("recover"):
            return original(connection, *args, **options)
        return _timed(lambda _: original(connection, *args, **options), outcome, over)(connection.connection)

    return end


_OPEN: Final[frozenset[Outcome]] = frozenset(("open",))
_ENDINGS: Final[tuple[tuple[str, Outcome], ...]] = (("do_commit", "committed"), ("do_rollback", "rolled back"))
# A prepared transaction outlives its connection: only a second phase changes what becomes of it.
_PHASES: Final[tuple[tuple[str, Outcome, frozenset[Outcome]], ...]] = (
    ("do_prepare_twophase", "prepared", _OPEN),
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
        state = _state(record._ConnectionRecord__pool, record)
        seat_of(state, record).new = True
        if state.meters:
            pools.opened(state, record)
    except Exception as fault:
        faults.caught("capture", fault)


def on_checkout(dbapi_connection: Any, record: Any, proxy: Any, now: Callable[[], float] = time.perf_counter) -> None:
    """Pool event: a connection is handed out, which the pool's `connect` notes, except the first."""
    try:
        seat: Seat | None = record.record_info.get(_SEAT)
        if seat is None or seat.state is None:
            pool = proxy._pool
            seat = seat_of(_state(pool, record), record)
        seat.given = True
        if seat.unseen:
            seat.unseen = False
            scope = current.get()
            state = seat.state
            assert state is not None
            if scope is not None and (not scope.windows or state.own):
                scope = None
            _note_checkout(proxy, record, seat, state, scope, None, now())
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
    waiting, returned = state.waiting, state.returned

    def connect() -> Any:
        scope = current.get()
        if scope is not None and (state.own or not scope.windows):
            scope = None
        if state.disposed_of:
            state.revived()
        if scope is None and not state.meters:
            return original()
        asked = now()
        waiting.append(asked)
        if state.instant:
            state.asked()
        proxy = error = None
        try:
            proxy = original()
        finally:
            if proxy is None:
                error = sys.exception()
            got = now()
            # Before others find that nobody waits.
            others = tuple(returned) if returned else ()
            waiting.pop()
            try:
                if proxy is None:
                    _note_failure(state, scope, error, asked, got, others)
                else:
                    record = proxy._connection_record
                    seat: Seat | None = record.record_info.get(_SEAT)
                    if seat is not None and seat.given:
                        _note_checkout(proxy, record, seat, state, scope, asked, got, others)
            except Exception as fault:
                faults.caught("capture", fault)
            if returned and not waiting:
                returned.clear()
            error = None  # its traceback holds this frame
        return proxy

    return connect


def _note_checkout(
    proxy: Any,
    record: Any,
    seat: Seat,
    state: PoolState,
    scope: Scope | None,
    asked: float | None,
    got: float,
    returned: tuple[Hold, ...] = (),
) -> None:
    """Note who has a connection since when.

    Args:
        scope: of windows that see it; None where there are none.
        asked: the moment that it was asked for; None where nobody looked then.
        returned: stays that ended while somebody waited.
    """
    seat.given = False
    if not state.met:
        state.met = True
        for hook in first_checkout:
            hook(proxy.dbapi_connection)
    metered = bool(state.meters)
    if not seat.out and (metered or scope is not None):  # if it is out, it is given to two at a time: StaticPool
        pools.checked_out(state, seat, record, got)
        if asked is not None and metered:
            state.waited(seat, asked)
    if scope is None:
        return
    link = seat.link
    if link is None:
        window = scope.windows[0]
        hold = Hold(got if asked is None else asked, got, state.tap or state.learn(), window)
        hold.stack = window.capture.sites.stack(3, "checkout")
        link = seat.link = Link(hold)
        if got - hold.asked > LONG_WAIT_SECONDS and not seat.new:
            hold.others = _holders(state, hold, returned)
    seat.new = False
    _tell(state, scope, link.hold)


def _note_failure(
    state: PoolState,
    scope: Scope | None,
    error: BaseException | None,
    asked: float,
    ended: float,
    returned: tuple[Hold, ...],
) -> None:
    """Note a checkout that got no connection."""
    if state.meters:
        state.failed(error, ended - asked, [hold.holder for hold in state.holds()])
    if scope is None or error is None:
        return
    hold = Hold(asked, ended, state.tap or state.learn(), scope.windows[0])
    hold.back = ended
    hold.error = code_of(error)
    hold.relation = orm.loading_now()
    if ended - asked > LONG_WAIT_SECONDS:
        hold.others = _holders(state, hold, returned)
    hold.stack = scope.windows[0].capture.sites.stack(3)
    annotate(error, hold.relation, hold.stack[0] if hold.stack else None)
    _tell(state, scope, hold)


def _holders(state: PoolState, hold: Hold, returned: tuple[Hold, ...]) -> tuple[Holder, ...]:
    """Return who held the pool's connections during a wait."""
    ended = [each for each in returned if each.back is None or each.back >= hold.asked]
    others = (each.holder for each in (*state.holds(), *ended) if each is not hold)
    return tuple(dict.fromkeys(holder for holder in others if holder is not None))


def _tell(state: PoolState, scope: Scope, hold: Hold) -> None:
    for window in scope.windows:
        if scope.plain or window.sees(state.dialect):
            window.checked_out(hold)


def on_checkin(dbapi_connection: Any, record: Any, now: Callable[[], float] = time.perf_counter) -> None:
    """Pool event: the connection is back, or detached from its pool, whatever its transaction did."""
    try:
        seat: Seat | None = record.record_info.get(_SEAT)
        if seat is None:
            return
        seat.given = seat.new = False
        link, state = seat.link, seat.state
        if link is None and not seat.out:
            return
        moment = now()
        if link is not None:
            seat.link = None
            hold, span = link.hold, link.span
            hold.back = moment
            if state is not None and state.waiting and hold.holder is not None:
                state.returned.append(hold)
            if span is not None and span.ended is None:
                span.ended = moment
                if span.outcome == "open":
                    span.outcome = "rolled back"
        if seat.out and state is not None:
            pools.returned(state, seat, record, moment)
    except Exception as fault:
        faults.caught("capture", fault)


def on_close(dbapi_connection: Any, record: Any) -> None:
    """Pool event: the connection is closed, or detached from its pool."""
    try:
        seat: Seat | None = record.record_info.get(_SEAT)
        if seat is not None and seat.state is not None:
            pools.closed(seat.state, seat, record)
    except Exception as fault:
        faults.caught("capture", fault)
