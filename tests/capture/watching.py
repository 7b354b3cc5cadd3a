"""A window as a `with` block, and the engines of every driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from querytoll.capture import Capture, Window, everywhere, pools
from querytoll.capture.assemble import assemble
from querytoll.capture.scope import current
from querytoll.model import Kind, Statement, Trace

T = TypeVar("T")


class Watch:
    """A window that is open during the block; its trace afterwards.

    Args:
        capture: how it sees.
        everywhere: it sees the whole process.
        kind: of the window.
    """

    def __init__(self, capture: Capture, *, everywhere: bool = False, kind: Kind = "test") -> None:
        self.window = Window(capture, kind, "watched")
        self._everywhere = everywhere

    def __enter__(self) -> Watch:
        self._outer = current.get()
        if self._everywhere:
            everywhere.append(self.window)
        else:
            self.window.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._everywhere:
            everywhere.remove(self.window)
        self.window.close()
        assert current.get() is self._outer, "the window left its scope behind"
        self.trace: Trace = assemble(self.window)

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.trace.statements

    @property
    def texts(self) -> list[str]:
        return [statement.sql for statement in self.trace.statements]

    @property
    def only(self) -> Statement:
        """The one statement that was seen."""
        (statement,) = self.trace.statements
        return statement


class Database:
    """One driver's database, and the engines made on it."""

    def __init__(self, driver: str, url: str) -> None:
        self.driver = driver
        self.url = make_url(url)
        self.is_postgres = self.url.get_backend_name() == "postgresql"
        self.is_async = self.url.get_dialect().is_async
        self._engines: list[Any] = []

    def engine(self, **options: Any) -> Any:
        """Make an `Engine` or `AsyncEngine`, which the fixture disposes of; SQLite learns `pg_sleep`."""
        if self.driver == "aiosqlite":
            options.setdefault("poolclass", AsyncAdaptedQueuePool)  # before SQLAlchemy 2.0.38 not the default
        made: Any = create_async_engine(self.url, **options) if self.is_async else create_engine(self.url, **options)
        if not self.is_postgres:
            event.listen(sync_of(made), "connect", _learn_to_sleep)
        self._engines.append(made)
        return made

    async def dispose(self) -> None:
        """Give back all connections, which must be in their pools and free of anything of ours."""
        for engine in self._engines:
            for record in pooled(engine):
                seat = record.record_info.get(pools.SEAT)
                assert seat is None or (seat.link is None and not seat.out), "a pooled connection keeps state"
            state = pools.state_of(sync_of(engine).pool)
            assert state is None or not (state.used or state.waiting or state.returned), "a pool keeps who used it"
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            else:
                engine.dispose()


def sync_of(engine: Any) -> Engine:
    """The `Engine` of an `Engine` or `AsyncEngine`."""
    found: Engine = getattr(engine, "sync_engine", engine)
    return found


def pooled(engine: Any) -> Iterator[Any]:
    """The pool's records of the connections that lie in it."""
    pool: Any = sync_of(engine).pool
    queue = getattr(pool, "_pool", None)
    if queue is not None and hasattr(queue, "_queue"):
        yield from queue._queue._queue
    elif queue is not None and hasattr(queue, "queue"):
        yield from queue.queue


async def run(engine: Any, work: Callable[[Connection], T], *, commit: bool = False, **options: Any) -> T:
    """Do synchronous work on a connection of any engine; rolled back unless it is to commit."""
    if isinstance(engine, AsyncEngine):
        async with engine.connect() as connection:
            if options:
                await connection.execution_options(**options)
            result = await connection.run_sync(work)
            if commit:
                await connection.commit()
            return result
    with engine.connect().execution_options(**options) as connection:
        result = work(connection)
        if commit:
            connection.commit()
        return result


def _learn_to_sleep(dbapi_connection: Any, record: object) -> None:
    dbapi_connection.create_function("pg_sleep", 1, lambda seconds: time.sleep(float(seconds)))
