"""A driver's connection, below SQLAlchemy, to the three things that an EXPLAIN on it needs.

SQLAlchemy's own cursors will not do: those of asyncpg evict the application's statements from the prepared cache, and
leave named ones behind.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy.util.concurrency import await_only

T = TypeVar("T")
Row = Sequence[Any]

CLEANUP_SECONDS: Final = 5.0
"""A connection that cannot even roll a savepoint back within this time is given up."""


class Port(Protocol):
    """A connection in the middle of the application's work."""

    lock: AbstractAsyncContextManager[Any]
    """Held from the savepoint to its rollback: a statement of another task in between would be rolled back with it."""

    @property
    def in_transaction(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def version(self) -> int: ...
    def place(self, number: int) -> str: ...
    def text(self, cursor: Any, statement: str) -> str | None: ...
    async def script(self, sql: str, seconds: float) -> None: ...
    async def rows(self, sql: str, parameters: Any, seconds: float) -> list[Row]: ...
    async def abandon(self) -> None: ...


def port_of(connection: Any, dialect: Any) -> Port | None:
    """Return the port of a pooled connection's DBAPI connection; None for a driver that has none here."""
    if dialect.driver == "asyncpg":
        return Asyncpg(connection)
    if dialect.driver.startswith("psycopg") and dialect.is_async:
        return PsycopgAsync(connection)
    if dialect.driver in ("psycopg", "psycopg2"):
        return Psycopg(connection)
    return None


def run(port: Port, work: Coroutine[Any, Any, T]) -> T:
    """Run work on a port from where the application's statement was run: a greenlet of SQLAlchemy's, or a thread."""
    if not isinstance(port, Psycopg):
        return await_only(work)
    try:
        work.send(None)  # nothing in it ever waits
    except StopIteration as done:
        value: T = done.value
        return value
    raise RuntimeError("a synchronous driver waited")


class Asyncpg:
    """asyncpg: parameters as `$1`, unnamed prepared statements, scripts by the simple protocol."""

    def __init__(self, adapted: Any) -> None:
        self._raw = adapted._connection
        self.lock: AbstractAsyncContextManager[Any] = _lock_of(adapted)

    @property
    def in_transaction(self) -> bool:
        return bool(self._raw.is_in_transaction())

    @property
    def closed(self) -> bool:
        return bool(self._raw.is_closed())

    @property
    def version(self) -> int:
        return int(self._raw.get_server_version().major)

    def place(self, number: int) -> str:
        return f"${number}"

    def text(self, cursor: Any, statement: str) -> str | None:
        return statement

    async def script(self, sql: str, seconds: float) -> None:
        # Unwrapped: querytoll, for one, watches what the application sends through this method.
        await inspect.unwrap(type(self._raw).execute)(self._raw, sql, timeout=seconds)

    async def rows(self, sql: str, parameters: Any, seconds: float) -> list[Row]:
        prepared = await self._raw.prepare(sql, name="", timeout=seconds)
        found: list[Row] = await prepared.fetch(*(parameters or ()), timeout=seconds)
        return found

    async def abandon(self) -> None:
        self._raw.terminate()


class _Libpq:
    """What psycopg and psycopg2 have in common."""

    _raw: Any

    @property
    def in_transaction(self) -> bool:
        return int(self._raw.info.transaction_status) != 0

    @property
    def closed(self) -> bool:
        return bool(self._raw.closed)

    @property
    def version(self) -> int:
        return int(self._raw.info.server_version) // 10_000

    def place(self, number: int) -> str:
        return "%s"

    def text(self, cursor: Any, statement: str) -> str | None:
        """psycopg's cursor knows the statement with its placeholders turned into `$1`; psycopg2 has none."""
        query = getattr(getattr(getattr(cursor, "_cursor", cursor), "_query", None), "query", None)
        return query.decode(errors="replace") if isinstance(query, bytes) else None


class PsycopgAsync(_Libpq):
    """psycopg's asynchronous connection."""

    def __init__(self, adapted: Any) -> None:
        self._raw = adapted._connection
        self.lock: AbstractAsyncContextManager[Any] = _lock_of(adapted)

    async def script(self, sql: str, seconds: float) -> None:
        async with asyncio.timeout(seconds), self._raw.cursor() as cursor:
            await cursor.execute(sql, prepare=False)

    async def rows(self, sql: str, parameters: Any, seconds: float) -> list[Row]:
        async with asyncio.timeout(seconds), self._raw.cursor() as cursor:
            await cursor.execute(sql, parameters, prepare=False)
            return list(map(_values, await cursor.fetchall()))

    async def abandon(self) -> None:
        await self._raw.close()


class Psycopg(_Libpq):
    """psycopg's synchronous connection, and psycopg2's: the server's timeouts alone end what takes too long."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.lock: AbstractAsyncContextManager[Any] = nullcontext()
        self._options = {"prepare": False} if type(raw).__module__.partition(".")[0] == "psycopg" else {}

    async def script(self, sql: str, seconds: float) -> None:
        with self._raw.cursor() as cursor:
            cursor.execute(sql, **self._options)

    async def rows(self, sql: str, parameters: Any, seconds: float) -> list[Row]:
        with self._raw.cursor() as cursor:
            cursor.execute(sql, parameters, **self._options)
            return list(map(_values, cursor.fetchall()))

    async def abandon(self) -> None:
        self._raw.close()


def _values(row: Any) -> Row:
    """The values of a row, whatever the application's row factory makes of it."""
    return list(row.values()) if isinstance(row, Mapping) else row if isinstance(row, Sequence) else list(row)


def _lock_of(adapted: Any) -> AbstractAsyncContextManager[Any]:
    lock = getattr(adapted, "_execute_mutex", None)
    return lock if lock is not None else nullcontext()
