"""A URL to the engine of a history, which is never profiled."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from querytoll.capture import disown
from querytoll.errors import ConfigurationError

DRIVERS: Final = {"postgresql": ("asyncpg", "psycopg"), "sqlite": ("aiosqlite",)}
"""Those that do not block an event loop; the first that is installed is taken where a URL names none."""
SQLITE_SECONDS: Final = 10.0
"""How long a process waits for another one's write."""
_FORMS: Final = "write it as postgresql+asyncpg://user@host/database or sqlite+aiosqlite:///file.db"


def address(url: str | URL) -> URL:
    """Return the URL with a driver that is installed.

    Raises:
        ConfigurationError: it is none, or no driver for it is installed. It says nothing of the URL, for the password.
    """
    try:
        found = make_url(url)
    except ArgumentError:
        raise ConfigurationError(f"history: this is no URL of a database; {_FORMS}") from None
    database, _, driver = found.drivername.partition("+")
    database = "postgresql" if database == "postgres" else database
    if database not in DRIVERS:
        raise ConfigurationError(f"history: it is kept in PostgreSQL or SQLite, not in {database}; {_FORMS}")
    if driver and driver not in DRIVERS[database]:
        raise ConfigurationError(
            f"history: {driver} blocks the event loop; use {' or '.join(DRIVERS[database])}: {_FORMS}"
        )
    if database == "sqlite" and found.database in (None, "", ":memory:"):
        raise ConfigurationError(f"history: an SQLite history is a file: {_FORMS}")
    drivers = (driver,) if driver else DRIVERS[database]
    for each in drivers:
        if _installed(database, each):
            return found.set(drivername=f"{database}+{each}")
    raise ConfigurationError(f"history: {drivers[0]} is not installed; run: pip install {drivers[0]}")


def connect(url: URL, *, exclusive: bool = False) -> AsyncEngine:
    """Make an engine, which keeps no connection.

    Args:
        url: as `address` returns it.
        exclusive: its transactions on SQLite lock out all others from their beginning.
    """
    arguments = {"timeout": SQLITE_SECONDS} if url.get_backend_name() == "sqlite" else {}
    # A connection that is kept would not survive the end of its thread's event loop, nor a fork.
    engine = create_async_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    disown(engine)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare)
        event.listen(engine.sync_engine, "begin", _begin_exclusively if exclusive else _begin)
    return engine


def _installed(database: str, driver: str) -> bool:
    try:
        make_url(f"{database}+{driver}://").get_dialect().import_dbapi()
    except (ImportError, NoSuchModuleError):
        return False
    return True


# The driver begins transactions too late, and none for DDL: https://docs.sqlalchemy.org/dialects/sqlite.html
def _prepare(connection: Any, record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_exclusively(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
