"""A thread with one connection of the profiler's own, both only there while there is something to do.

It has an event loop of its own where the driver needs one: the application's may close at any time, and is not kept
from its work.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from queue import Empty, Full, Queue
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.util.concurrency import greenlet_spawn

from querytoll.errors import Faults
from querytoll.explain.own import own_engine

LINGER_SECONDS: Final = 1.0
"""The connection is closed when there was nothing to do for so long."""
CONNECT_SECONDS: Final = 5.0
COOLING_SECONDS: Final = 60.0
"""After a connection could not be made, none is tried for so long."""
_MAX_ENGINES: Final = 8


class Job(Protocol):
    """Work for the connection; called a second time, without one, where it could not be had or was lost."""

    def __call__(self, connection: Connection | None, fault: Exception | None, /) -> None: ...


class Worker:
    """Runs one job after the other.

    Args:
        limit: jobs that may wait.
        seconds: that one job may take.
        faults: where exceptions of our own end.
    """

    def __init__(self, limit: int, seconds: float, faults: Faults) -> None:
        self._jobs: Queue[tuple[Engine, Job] | None] = Queue(limit)
        self._faults = faults
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._desk = _Desk(seconds)

    @property
    def has_room(self) -> bool:
        """Another job would be taken."""
        return not self._closed and not self._jobs.full()

    def submit(self, engine: Engine, job: Job) -> bool:
        """Take a job; False where there is no room for it."""
        with self._lock:
            if self._closed:
                return False
            try:
                self._jobs.put_nowait((engine, job))
            except Full:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="querytoll-explain", daemon=True)
                self._thread.start()
            return True

    def close(self) -> None:
        """Take no more jobs, and wait for the connection to be closed."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                try:
                    task = self._jobs.get(timeout=LINGER_SECONDS)
                except Empty:
                    task = None
                try:
                    if task is not None:
                        self._desk.serve(runner, *task)
                        continue
                    self._desk.clear(runner)
                except Exception as fault:
                    self._faults.caught("explain", fault)
                with self._lock:
                    if self._closed or self._jobs.empty():
                        self._thread = None
                        return


class _Desk:
    """The engines, and the one connection."""

    # The clock is kept as a class attribute, where freezegun does not find it.
    now: Final = staticmethod(time.monotonic)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._engines: OrderedDict[int, tuple[Engine, Engine]] = OrderedDict()
        self._connection: Connection | None = None
        self._cooling: dict[int, float] = {}

    def serve(self, runner: asyncio.Runner, engine: Engine, job: Job) -> None:
        """Run a job on a connection of the engine's kind."""
        try:
            own = self._own(engine)
            if self._connection is not None and self._connection.engine is not own:
                self.clear(runner)
            if self._cooling.get(id(own), 0.0) > self.now():
                raise ConnectionError("no connection could be made a moment ago")
            if self._connection is None:
                self._cooling[id(own)] = self.now() + COOLING_SECONDS
                self._connection = _run(runner, own, CONNECT_SECONDS, own.connect)
                del self._cooling[id(own)]
            _run(runner, own, self._seconds, self._done, job)
        except Exception as fault:
            self._discard(runner)
            job(None, fault)

    def _done(self, job: Job) -> None:
        assert self._connection is not None
        job(self._connection, None)
        self._connection.rollback()

    def _own(self, engine: Engine) -> Engine:
        key = id(engine.dialect)
        if key not in self._engines:
            self._engines[key] = (engine, own_engine(engine))
            if len(self._engines) > _MAX_ENGINES:
                self._engines.popitem(last=False)
        self._engines.move_to_end(key)
        return self._engines[key][1]

    def clear(self, runner: asyncio.Runner) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _run(runner, connection.engine, CONNECT_SECONDS, connection.close)

    def _discard(self, runner: asyncio.Runner) -> None:
        """Close a connection of which nothing good is known."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                _run(runner, connection.engine, CONNECT_SECONDS, _give_up, connection)
            except Exception:
                connection.detach()


def _give_up(connection: Connection) -> None:
    if not connection.invalidated:
        connection.invalidate()
    connection.close()


def _run(runner: asyncio.Runner, engine: Engine, seconds: float, work: Callable[..., Any], *args: Any) -> Any:
    if not engine.dialect.is_async:
        return work(*args)

    async def waited() -> Any:
        async with asyncio.timeout(seconds):
            return await greenlet_spawn(work, *args)

    return runner.run(waited())
