"""Names of databases to engines: a real PostgreSQL, SQLite in a thread, and SQLite that answers at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from scripts.postgres import CACHE, embedded

INSTANT: Final = "instant"
SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"
DATABASES: Final = (POSTGRES, SQLITE, INSTANT)


@contextmanager
def started(database: str, url: str | None = None) -> Iterator[str]:
    """Run the database of that name while the block runs, and yield the URL that `connect` takes.

    Args:
        database: one of `DATABASES`.
        url: a PostgreSQL that runs already; None: an embedded one of the benchmarks' own.

    Raises:
        scripts.postgres.ServerError: it did not start.
    """
    if database != POSTGRES:
        yield database
    elif url is not None:
        yield url
    else:
        with embedded(CACHE / "bench-postgres") as server:
            yield server.url()


def connect(url: str) -> AsyncEngine:
    """An engine of one connection on a URL that `started` yielded."""
    pool: dict[str, Any] = {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0}
    if url == INSTANT:
        return create_async_engine("sqlite+aiosqlite://", async_creator=_InstantConnection.create, **pool)
    return create_async_engine("sqlite+aiosqlite://" if url == SQLITE else url, **pool)


class _InstantCursor:
    """aiosqlite's cursor without its thread: it never waits, hence takes no more than Python's own instructions."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.arraysize = 1

    def __await__(self) -> Generator[None, None, _InstantCursor]:
        return self
        yield

    async def __aenter__(self) -> _InstantCursor:
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, sql: str, parameters: Any = ()) -> None:
        self._cursor.execute(sql, parameters)

    async def executemany(self, sql: str, parameters: Any) -> None:
        self._cursor.executemany(sql, parameters)

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()


class _InstantConnection:
    """aiosqlite's connection, likewise."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)

    @classmethod
    async def create(cls) -> _InstantConnection:
        return cls()

    def cursor(self) -> _InstantCursor:
        return _InstantCursor(self._connection.cursor())

    async def create_function(self, name: str, width: int, function: Callable[..., Any], **options: Any) -> None:
        self._connection.create_function(name, width, function, **options)

    async def commit(self) -> None:
        self._connection.commit()

    async def rollback(self) -> None:
        self._connection.rollback()

    async def close(self) -> None:
        self._connection.close()

    def stop(self) -> None:
        self._connection.close()
