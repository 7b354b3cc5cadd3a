"""Pool events to the numbers of each pool, for the whole process: inside and outside of requests.

Numbers are lengths of sets and lists, which threads may change at once without a lock.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.pool import AssertionPool, QueuePool, StaticPool

from querytoll.errors import Faults, Part

TAP: Final = "_querytoll"
"""Attribute of a dialect: what is known of its engine."""
MAX_NAMELESS: Final = 1_000
"""Holders whose names are waited for."""
MAX_ASKED: Final = 8
"""Of them, those that are looked at when a connection is checked out."""
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


class Holder(Protocol):
    """Who holds a connection: the window of a request, which learns its name at its end."""

    kind: Any
    name: str
    closed: bool


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
        open: ids of the records that have a connection.
        used: ids of the records that are checked out.
        waiting: one entry per checkout that has not got its connection yet.
        meters: who wants to know.
        disposed_of: it is out of use unless somebody asks it again.
        met: a connection of it was checked out.
    """

    def __init__(self, pool: Any, name: str) -> None:
        self.name = name
        self.open: set[int] = set()
        self.used: set[int] = set()
        self.waiting: list[None] = []
        self.meters: tuple[PoolMeter, ...] = ()
        self.met = False
        self.disposed_of = False
        self._dialect = pool._dialect
        self._limit = _limit(pool)
        self._instant = False
        self._alive = weakref.ref(pool, lambda _: _late.append(self._end))

    @property
    def gone(self) -> bool:
        """The pool is no more, with what it held."""
        return self._alive() is None

    @property
    def idle(self) -> int:
        """Open connections that nobody uses."""
        return len(self.open - self.used)

    @property
    def limit(self) -> int | None:
        """Connections that it may open; None: any number."""
        return len(self.used) if self.disposed_of and self._limit is not None else self._limit

    def choose(self) -> None:
        """Find out who wants to know of this pool; nobody needs one that is disposed of and empty."""
        tap = self._dialect.__dict__.get(TAP)
        own = tap is not None and tap.own
        wanted = () if own or (self.disposed_of and not self.used) else _wanted(id(self._dialect))
        before, self.meters = self.meters, tuple(dict.fromkeys(wanted))
        self._instant = any(meter.instant for meter in self.meters)
        try:
            for meter in self.meters:
                if meter not in before:
                    meter.opened(self)
            for meter in before:
                if meter not in self.meters:
                    meter.closed(self)
        except Exception as fault:
            faults.caught("capture", fault)

    def asked(self) -> None:
        """Somebody wants a connection."""
        self.waiting.append(None)
        if self._instant and len(self.used) >= len(self.open):
            try:
                self.changed()
            except Exception as fault:
                faults.caught("capture", fault)

    def answered(self, record: Any, asked: float) -> None:
        """Whoever asked has a connection: it waited until that was there, to be pinged or to be opened."""
        self.waiting.pop()
        seat: Seat | None = record.record_info.get(SEAT) if record is not None else None
        if seat is None or seat.got < asked:
            return  # a connection that was out already: StaticPool and SingletonThreadPool share it
        moment = seat.found if seat.found > asked else seat.got
        wait = (seat.began if asked < seat.began < moment else moment) - asked
        if wait < SHORT_SECONDS and seat.out and not self._instant:
            seat.wait = wait
            return
        for meter in self.meters:
            meter.waited(self, wait)

    def failed(self, error: BaseException | None, wait: float, holders: Iterable[Holder | None]) -> None:
        """Whoever asked got an error, while these held connections."""
        self.waiting.pop()
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
        opening: the opening of its connection began, and goes on.
        began: the same of one that is open.
        found: the pool gave the record, to be pinged before it is checked out.
        got: the last checkout.
        wait: that nobody was told of yet.
        out: it is checked out.
        proxy: reference to whom it was given to; where that is gone, a finalizer gives it back.
    """

    __slots__ = ("began", "found", "got", "opening", "out", "proxy", "state", "wait")

    def __init__(self, state: PoolState) -> None:
        self.state = state
        self.opening: float | None = None
        self.began = 0.0
        self.found = 0.0
        self.got = 0.0
        self.wait: float | None = None
        self.out = False
        self.proxy: Callable[[], object] | None = None


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
    _seat(state, record).wait = 0.0


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


def _seat(state: PoolState, record: Any) -> Seat:
    info = record.record_info
    found: Seat | None = info.get(SEAT)
    if found is None:
        found = info[SEAT] = Seat(state)
    return found


def opening(state: PoolState, record: Any) -> None:
    """A connection is being opened."""
    settle()
    _seat(state, record).opening = _Clock.now()


def opened(state: PoolState, record: Any) -> None:
    """A connection was opened."""
    settle()
    seat, ended = _seat(state, record), _Clock.now()
    if seat.opening is None:  # the engine has a `creator`, which no event announces
        seat.opening = ended - max(0.0, time.time() - record.starttime)
    seat.began, seat.opening = seat.opening, None
    state.open.add(id(record))
    for each in state.meters:
        each.connected(state, ended - seat.began)
    state.changed()


def checked_out(state: PoolState, record: Any) -> None:
    """A connection is handed out."""
    if _late or _nameless:
        settle()
    seat: Seat = record.record_info.get(SEAT) or _seat(state, record)
    if seat.out:  # again after a failed ping, or to another at the same time: StaticPool
        return
    seat.out = True
    seat.proxy = record.fairy_ref
    seat.got = _Clock.now()
    key = id(record)
    state.open.add(key)
    state.used.add(key)


def returned(seat: Seat, record: Any) -> None:
    """A connection is back."""
    if not seat.out:
        return
    seat.out = False
    state = seat.state
    state.used.discard(id(record))
    use = _Clock.now() - seat.got
    wait, seat.wait = seat.wait, None
    proxy = seat.proxy
    if proxy is not None and proxy() is None:
        _late.append(lambda: _tell_return(state, wait, use))
    else:
        _tell_return(state, wait, use)


def closed(seat: Seat, record: Any) -> None:
    """A connection is closed, or detached from its pool."""
    seat.state.open.discard(id(record))
    if seat.proxy is not None and seat.proxy() is None:
        _late.append(seat.state.settled)
    else:
        seat.state.settled()


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
