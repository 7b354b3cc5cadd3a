"""Pool events to the numbers of each pool, for the whole process: inside and outside of requests.

Numbers are lengths of sets and lists, which threads may change at once without a lock.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.pool import AssertionPool, QueuePool, StaticPool

from querytoll.capture.stays import Hold, Holder, Link, Tap
from querytoll.errors import Faults, Part

TAP: Final = "_querytoll"
"""Attribute of a dialect: what is known of its engine."""
MAX_NAMELESS: Final = 1_000
"""Holders whose names are waited for."""
MAX_ASKED: Final = 8
"""Of them, those that are looked at when a connection is checked out."""
MAX_RETURNED: Final = 100
"""Connections that were given back during a wait: of more, the latest are told."""
POOL: Final = "_querytoll_pool"
"""Attribute of a pool: its numbers."""
SEAT: Final = "querytoll.seat"
"""Key of a record's place in its pool."""
SHORT_SECONDS: Final = 0.0005
"""Waits below it are told when the connection is back, together with its use."""
_TIMED_OUT: Final = "3o7r"
"""SQLAlchemy's code of the error that a pool raises when its timeout is over."""

on_fault: Final[list[Callable[[Part], None]]] = []
"""Told of each of the faults below."""


def _tell_fault(part: Part) -> None:
    for tell in on_fault:
        tell(part)


faults: Final = Faults(_tell_fault)
"""Where exceptions of pool events end: they belong to no window."""


class _Clock:
    """Keeps the clock where freezegun does not find it."""

    now = staticmethod(time.perf_counter)


class PoolMeter(Protocol):
    """Takes what pools do, on the thread of whoever uses them: it must be quick.

    Never called from a finalizer, so that it may take locks.

    Attributes:
        instant: it wants every change at once, and does not ask for the numbers when it needs them.
    """

    instant: bool

    def opened(self, pool: PoolState) -> None:
        """Know a pool from now on."""

    def connected(self, pool: PoolState, seconds: float) -> None:
        """Take the time of opening a connection."""

    def waited(self, pool: PoolState, wait: float) -> None:
        """Take the time that a checkout waited for the pool, pings and the opening of connections left out."""

    def returned(self, pool: PoolState, wait: float | None, use: float) -> None:
        """Take the time between a checkout and its end, and its wait where that was too short to be told before."""

    def timed_out(self, pool: PoolState, wait: float) -> None:
        """Take a checkout that got no connection in time."""

    def blocked(self, pool: PoolState, holder: Holder) -> None:
        """Take who held one of the connections when a checkout timed out, once its name is known."""

    def changed(self, pool: PoolState) -> None:
        """Know that the numbers of the pool are others now."""

    def closed(self, pool: PoolState) -> None:
        """Forget a pool."""


class PoolState:
    """The numbers of one pool.

    Args:
        pool: SQLAlchemy's.
        name: of its engine.

    Attributes:
        tap: what is known of its engine; None until that is seen.
        open: ids of the records that have a connection.
        used: seats that are taken, by the ids of their records.
        waiting: one entry per checkout that has not got its connection yet.
        returned: stays that ended meanwhile. A request that is over is forgotten before the one that waited for its
            connection runs, where that takes the loop a few turns.
        meters: who wants to know.
        instant: one of them wants every change at once.
        own: it is the profiler's own.
        disposed_of: it is out of use unless somebody asks it again.
        met: a connection of it was checked out.
    """

    def __init__(self, pool: Any, name: str) -> None:
        self.name = name
        self.open: set[int] = set()
        self.used: dict[int, Seat] = {}
        self.waiting: list[float] = []
        self.returned: deque[Hold] = deque(maxlen=MAX_RETURNED)
        self.meters: tuple[PoolMeter, ...] = ()
        self.instant = False
        self.own = False
        self.met = False
        self.disposed_of = False
        self.dialect = pool._dialect
        self.tap: Tap | None = None
        self._limit = _limit(pool)
        self._alive = weakref.ref(pool, lambda _: _late.append(self._end))

    @property
    def gone(self) -> bool:
        """The pool is no more, with what it held."""
        return self._alive() is None

    @property
    def idle(self) -> int:
        """Open connections that nobody uses."""
        return len(self.open.difference(self.used))

    @property
    def limit(self) -> int | None:
        """Connections that it may open; None: any number."""
        return len(self.used) if self.disposed_of and self._limit is not None else self._limit

    def choose(self) -> None:
        """Find out who wants to know of this pool; nobody needs one that is disposed of and empty."""
        tap = self.learn()
        self.own = tap is not None and tap.own
        wanted = () if self.own or (self.disposed_of and not self.used) else _wanted(id(self.dialect))
        before, self.meters = self.meters, tuple(dict.fromkeys(wanted))
        self.instant = any(meter.instant for meter in self.meters)
        try:
            for meter in self.meters:
                if meter not in before:
                    meter.opened(self)
            for meter in before:
                if meter not in self.meters:
                    meter.closed(self)
        except Exception as fault:
            faults.caught("capture", fault)

    def learn(self) -> Tap | None:
        """Find out what is known of its engine by now."""
        self.tap = self.dialect.__dict__.get(TAP)
        return self.tap

    def holds(self) -> list[Hold]:
        """Return who has a connection; copies, for other threads check out meanwhile."""
        links = [seat.link for seat in list(self.used.values())]
        return [link.hold for link in links if link is not None]

    def asked(self) -> None:
        """Somebody wants a connection, and waits."""
        if len(self.used) >= len(self.open):
            try:
                self.changed()
            except Exception as fault:
                faults.caught("capture", fault)

    def waited(self, seat: Seat, asked: float) -> None:
        """Whoever asked has a connection: it waited until that was there, to be pinged or to be opened."""
        moment = seat.found if seat.found > asked else seat.got
        wait = (seat.began if asked < seat.began < moment else moment) - asked
        if wait < SHORT_SECONDS and not self.instant:
            seat.wait = wait
            return
        for meter in self.meters:
            meter.waited(self, wait)

    def failed(self, error: BaseException | None, wait: float, holders: Iterable[Holder | None]) -> None:
        """Whoever asked got an error, while these held connections."""
        if isinstance(error, CheckoutTimeout) and error.code == _TIMED_OUT:
            for meter in self.meters:
                meter.timed_out(self, wait)
            _nameless.extend((self, holder) for holder in holders if holder is not None)
        self.changed()

    def disposed(self) -> None:
        """Idle connections were closed, and the pool is out of use unless somebody asks it again."""
        self.disposed_of = True
        self.settled()

    def revived(self) -> None:
        """Somebody asks again."""
        self.disposed_of = False
        self.choose()

    def settled(self) -> None:
        """Connections went; of a pool that is disposed of, perhaps the last."""
        if self.disposed_of and not self.used:
            self.choose()
        else:
            self.changed()

    def changed(self) -> None:
        """The numbers are others now."""
        for meter in self.meters:
            meter.changed(self)

    def _end(self) -> None:
        """Let everybody forget a pool that is gone."""
        _states.discard(self)
        for meter in self.meters:
            meter.closed(self)
        self.meters = ()


class Seat:
    """A record's place in its pool; moments in seconds of the monotonic clock.

    Attributes:
        state: of the pool; None where the pool is not watched.
        opening: the opening of its connection began, and goes on.
        began: the same of one that is open.
        found: the pool gave the record, to be pinged before it is checked out.
        got: the last checkout.
        wait: that nobody was told of yet.
        given: it was checked out, which its pool's `connect` has not noted yet.
        unseen: it was asked for before its pool was watched: nobody else will note it.
        new: its connection was opened for whoever asks.
        out: it is checked out.
        proxy: reference to whom it was given to; where that is gone, a finalizer gives it back.
        link: whom a window sees in it.
    """

    __slots__ = (
        "began",
        "found",
        "given",
        "got",
        "link",
        "new",
        "opening",
        "out",
        "proxy",
        "state",
        "unseen",
        "wait",
    )

    def __init__(self, state: PoolState | None) -> None:
        self.state = state
        self.opening: float | None = None
        self.began = 0.0
        self.found = 0.0
        self.got = 0.0
        self.wait: float | None = None
        self.given = False
        self.unseen = False
        self.new = False
        self.out = False
        self.proxy: Callable[[], object] | None = None
        self.link: Link | None = None


_late: Final[deque[Callable[[], None]]] = deque()
"""What happened while a finalizer ran, perhaps in the middle of a meter's work, under its lock."""
_nameless: Final[deque[tuple[PoolState, Holder]]] = deque(maxlen=MAX_NAMELESS)
_states: Final[set[PoolState]] = set()
_wishes: Final[dict[int, tuple[Sequence[PoolMeter], frozenset[int] | None]]] = {}


def meter(owner: object, meters: Iterable[PoolMeter], only: frozenset[int] | None = None) -> None:
    """Tell meters what pools do until the owner is gone, or `unmeter` is called.

    Args:
        owner: who asks; a meter of several owners is told once.
        meters: whom to tell.
        only: ids of the dialects of the engines to tell of; None: every engine.
    """
    _wishes[id(owner)] = (tuple(meters), only)
    weakref.finalize(owner, _wishes.pop, id(owner), None).atexit = False
    choose()


def unmeter(owner: object) -> None:
    """Undo `meter`."""
    if _wishes.pop(id(owner), None) is not None:
        choose()


def choose() -> None:
    """Find out anew who wants to know of which pool."""
    for state in tuple(_states):
        state.choose()


def _wanted(dialect: int) -> list[PoolMeter]:
    wishes = tuple(_wishes.values())
    return [meter for meters, only in wishes if only is None or dialect in only for meter in meters]


def state_of(pool: Any) -> PoolState | None:
    """Return the numbers of a pool; None where it is not watched yet."""
    found: PoolState | None = pool.__dict__.get(POOL)
    return found


def expect(state: PoolState, record: Any) -> None:
    """Take the first checkout of a pool, which was asked for before anybody looked, for one that did not wait."""
    seat = seat_of(state, record)
    seat.wait = 0.0
    seat.unseen = True


def watch(pool: Any, name: str) -> tuple[PoolState, bool]:
    """Keep the numbers of a pool from now on; whether they were not kept before, by another thread."""
    state = PoolState(pool, name)
    kept: PoolState = pool.__dict__.setdefault(POOL, state)
    if kept is not state:
        return kept, False
    if pool._pre_ping:
        pool._do_get = _timed_get(original_of(pool, "_do_get"))
    pool.dispose = _noted_dispose(state, original_of(pool, "dispose"))
    _states.add(state)
    state.choose()
    return state, True


def original_of(pool: Any, name: str) -> Callable[[], Any]:
    """Return a method of a pool; somebody else may have replaced it before us."""
    found: Callable[[], Any] = pool.__dict__.get(name) or getattr(type(pool), name).__get__(pool)
    return found


def _timed_get(original: Callable[[], Any], now: Callable[[], float] = time.perf_counter) -> Callable[[], Any]:
    """Note when the wait for the pool is over and the ping begins."""

    def get() -> Any:
        record = original()
        seat: Seat | None = record.record_info.get(SEAT)
        if seat is not None:
            seat.found = now()
        return record

    return get


def _noted_dispose(state: PoolState, original: Callable[[], Any]) -> Callable[[], None]:
    def dispose() -> None:
        original()
        try:
            state.disposed()
            settle()
        except Exception as fault:
            faults.caught("capture", fault)

    return dispose


def seat_of(state: PoolState, record: Any) -> Seat:
    """Return a record's place in its pool, made now if it has none."""
    info = record.record_info
    found: Seat | None = info.get(SEAT)
    if found is None:
        found = info[SEAT] = Seat(state)
    elif found.state is None:
        found.state = state
    return found


def opening(state: PoolState, record: Any) -> None:
    """A connection is being opened."""
    settle()
    seat_of(state, record).opening = _Clock.now()


def opened(state: PoolState, record: Any) -> None:
    """A connection was opened."""
    settle()
    seat, ended = seat_of(state, record), _Clock.now()
    if seat.opening is None:  # the engine has a `creator`, which no event announces
        seat.opening = ended - max(0.0, time.time() - record.starttime)
    seat.began, seat.opening = seat.opening, None
    state.open.add(id(record))
    for each in state.meters:
        each.connected(state, ended - seat.began)
    state.changed()


def checked_out(state: PoolState, seat: Seat, record: Any, moment: float) -> None:
    """A connection is handed out."""
    if _late or _nameless:
        settle()
    seat.out = True
    seat.proxy = record.fairy_ref
    seat.got = moment
    key = id(record)
    state.open.add(key)
    state.used[key] = seat


def returned(state: PoolState, seat: Seat, record: Any, moment: float) -> None:
    """A connection is back."""
    seat.out = False
    state.used.pop(id(record), None)
    wait, seat.wait = seat.wait, None
    if not state.meters and not state.disposed_of:
        return
    use, proxy = moment - seat.got, seat.proxy
    if proxy is not None and proxy() is None:
        _late.append(partial(_tell_return, state, wait, use))  # a lambda would make each of them dearer to read
    else:
        _tell_return(state, wait, use)


def closed(state: PoolState, seat: Seat, record: Any) -> None:
    """A connection is closed, or detached from its pool."""
    state.open.discard(id(record))
    if seat.proxy is not None and seat.proxy() is None:
        _late.append(state.settled)
    else:
        state.settled()


def _tell_return(state: PoolState, wait: float | None, use: float) -> None:
    for each in state.meters:
        each.returned(state, wait, use)
    if state.disposed_of:
        state.settled()


def settle() -> None:
    """Tell what had to wait, a part of it at a time."""
    with suppress(IndexError):  # another thread took the last
        while _late:
            _late.popleft()()
        for _ in range(min(len(_nameless), MAX_ASKED)):
            state, holder = _nameless.popleft()
            if holder.name or holder.closed:
                for each in state.meters:
                    each.blocked(state, holder)
            else:
                _nameless.append((state, holder))


def _limit(pool: Any) -> int | None:
    """Return how many connections a pool may open; None: any number."""
    if isinstance(pool, QueuePool):
        return None if pool._max_overflow < 0 else pool.size() + pool._max_overflow
    return 1 if isinstance(pool, StaticPool | AssertionPool) else None
