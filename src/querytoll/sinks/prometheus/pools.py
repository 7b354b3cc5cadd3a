"""What pools do to their metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from querytoll.capture.pools import PoolState
from querytoll.capture.stays import Holder
from querytoll.sinks.guard import ABSENT, Guard, label
from querytoll.sinks.prometheus.cells import Bins, Cell, Cells
from querytoll.sinks.prometheus.metrics import POOL_BUCKETS, TRANSACTION_BUCKETS, Metrics

CountBlocked = Callable[[str, tuple[str, str]], None]


class PoolSeries:
    """The series of every pool, by the name of its engine; a `PoolMeter`.

    Args:
        metrics: of the registry.
        cells: reaches their numbers.
        guard: of names.
        blocked: counts a pool and the method and route that held one of its connections when a checkout timed out.
        in_files: numbers are kept in files, where functions cannot be asked for them.
    """

    def __init__(self, metrics: Metrics, cells: Cells, guard: Guard, blocked: CountBlocked, *, in_files: bool) -> None:
        self._metrics = metrics
        self._cells = cells
        self._lock = cells.lock
        self._guard = guard
        self._blocked = blocked
        self.instant = in_files
        self._known: dict[str, _Pool] = {}
        self._of: dict[PoolState, _Pool] = {}

    def opened(self, pool: PoolState) -> None:
        """Know a pool from now on."""
        name = label(self._guard.fold(pool.name))
        series = self._known.get(name) or self._known.setdefault(name, self._make(name))
        self._of[pool] = series
        series.gauges.add(pool)

    def connected(self, pool: PoolState, seconds: float) -> None:
        """Take the time of opening a connection."""
        series = self._of.get(pool)
        if series is not None:
            self._observe(series.connect, seconds)

    def waited(self, pool: PoolState, wait: float) -> None:
        """Take the time that a checkout waited for the pool."""
        series = self._of.get(pool)
        if series is not None:
            self._observe(series.wait, wait)
            if self.instant:
                series.gauges.publish(pool)

    def returned(self, pool: PoolState, wait: float | None, use: float) -> None:
        """Take the time between a checkout and its end."""
        series = self._of.get(pool)
        if series is not None:
            lock = self._lock
            lock.acquire()  # at half the price of `with`
            try:
                if wait is not None:
                    series.wait.one(wait)
                series.use.one(use)
            finally:
                lock.release()
            if self.instant:
                series.gauges.publish(pool)

    def timed_out(self, pool: PoolState, wait: float) -> None:
        """Take a checkout that got no connection in time."""
        series = self._of.get(pool)
        if series is not None:
            self._observe(series.wait, wait)
            series.timeouts.inc(1)

    def blocked(self, pool: PoolState, holder: Holder) -> None:
        """Take who held a connection when a checkout timed out."""
        series = self._of.get(pool)
        method, route = holder.kind, holder.name
        if method in ("request", "websocket"):
            method, _, route = route.partition(" ")
        if series is not None:
            self._blocked(series.name, (method, route or ABSENT))

    def changed(self, pool: PoolState) -> None:
        """Know that the numbers of the pool are others now."""
        series = self._of.get(pool)
        if series is not None:
            series.gauges.publish(pool)

    def closed(self, pool: PoolState) -> None:
        """Forget a pool."""
        series = self._of.pop(pool, None)
        if series is not None:
            series.gauges.remove(pool)

    def _observe(self, bins: Bins, seconds: float) -> None:
        with self._lock:
            bins.one(seconds)

    def _make(self, name: str) -> _Pool:
        metrics, cells = self._metrics, self._cells
        gauges = _InFiles(metrics, name, cells.lock) if self.instant else _Asked(metrics, name)
        return _Pool(
            name,
            gauges,
            wait=cells.histogram(metrics.pool_wait.labels(name), POOL_BUCKETS),
            use=cells.histogram(metrics.pool_use.labels(name), TRANSACTION_BUCKETS),
            connect=cells.histogram(metrics.pool_connect.labels(name), POOL_BUCKETS),
            timeouts=cells.counter(metrics.pool_timeouts.labels(name)),
        )


class _Pool:
    """The series of one name."""

    __slots__ = ("connect", "gauges", "name", "timeouts", "use", "wait")

    def __init__(
        self, name: str, gauges: _Asked | _InFiles, *, wait: Bins, use: Bins, connect: Bins, timeouts: Cell
    ) -> None:
        self.name = name
        self.gauges = gauges
        self.wait = wait
        self.use = use
        self.connect = connect
        self.timeouts = timeouts


class _Asked:
    """Gauges that ask the pools of one name when they are scraped."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics = metrics
        self._name = name
        self._pools: set[PoolState] = set()
        self._limited = False
        metrics.pool_connections.labels(name, "used").set_function(self._sum(lambda pool: len(pool.used)))
        metrics.pool_connections.labels(name, "idle").set_function(self._sum(lambda pool: pool.idle))
        metrics.pool_pending.labels(name).set_function(self._sum(lambda pool: len(pool.waiting)))

    def add(self, pool: PoolState) -> None:
        """Count a pool in."""
        self._pools.add(pool)
        if pool.limit is not None and not self._limited:
            self._limited = True
            limit = self._metrics.pool_connections_max.labels(self._name)
            limit.set_function(self._sum(lambda pool: pool.limit or 0))

    def remove(self, pool: PoolState) -> None:
        """Count a pool no more."""
        self._pools.discard(pool)

    def publish(self, pool: PoolState) -> None:
        """Nothing to do: they ask."""

    def _sum(self, number: Callable[[PoolState], int]) -> Callable[[], float]:
        return lambda: sum(number(pool) for pool in tuple(self._pools) if not pool.gone)


class _InFiles:
    """Gauges in the client's files: what changed of a pool's numbers is added, so that pools of one name add up."""

    def __init__(self, metrics: Metrics, name: str, lock: AbstractContextManager[object]) -> None:
        self._metrics = metrics
        self._name = name
        self._lock = lock
        self._told: dict[PoolState, tuple[int, ...]] = {}
        self._process = os.getpid()
        connections = metrics.pool_connections
        pending = metrics.pool_pending.labels(name)
        self._gauges = [connections.labels(name, "used"), connections.labels(name, "idle"), pending]
        for gauge in self._gauges:
            gauge.set(0)  # the file may be that of a process of the same number, which is dead

    def add(self, pool: PoolState) -> None:
        """Count a pool in."""
        if pool.limit is not None and len(self._gauges) == 3:
            self._gauges.append(self._metrics.pool_connections_max.labels(self._name))
            self._gauges[-1].set(0)
        self.publish(pool)

    def remove(self, pool: PoolState) -> None:
        """Count a pool no more."""
        with self._lock:
            self._tell(pool, (0, 0, 0, 0))
            self._told.pop(pool, None)

    def publish(self, pool: PoolState) -> None:
        """Tell the pool's numbers."""
        with self._lock:
            self._tell(pool, (len(pool.used), pool.idle, len(pool.waiting), pool.limit or 0))

    def _tell(self, pool: PoolState, numbers: tuple[int, ...]) -> None:
        if self._process != os.getpid():  # forked: the files of this process are new
            self._process = os.getpid()
            self._told.clear()
        before = self._told.get(pool, (0, 0, 0, 0))
        self._told[pool] = numbers
        for gauge, old, new in zip(self._gauges, before, numbers, strict=False):
            if new != old:
                gauge.inc(new - old)
