"""The name under which this instrumentation speaks, and which others are at work."""

from __future__ import annotations

import sys
from typing import Final

NAME: Final = "querytoll"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

_OTHERS: Final = "opentelemetry.instrumentation."
_BY_DRIVER: Final = {
    "aiomysql": ("aiomysql", "pymysql"),
    "aiosqlite": ("aiosqlite", "sqlite3"),
    "asyncmy": ("asyncmy",),
    "asyncpg": ("asyncpg",),
    "mysqlconnector": ("mysql",),
    "mysqldb": ("mysqlclient",),
    "psycopg": ("psycopg",),
    "psycopg2": ("psycopg2", "aiopg"),
    "psycopg_async": ("psycopg",),
    "pymysql": ("pymysql",),
    "pysqlite": ("sqlite3",),
}
_ALL: Final = tuple(sorted({name for names in _BY_DRIVER.values() for name in names}))


def other_instrumentation(driver: str | None) -> str | None:
    """Return the module that makes spans of the driver's statements already, of SQLAlchemy's or the driver's own.

    It is never imported here: one that nobody imported is not at work. None known of the driver: any counts.
    """
    for name in ("sqlalchemy", *_BY_DRIVER.get(driver or "", _ALL)):
        if _at_work(_OTHERS + name):
            return _OTHERS + name
    return None


def _at_work(module: str) -> bool:
    """An instrumentor of the module (there is one object of each class) has instrumented, and not undone it."""
    for candidate in vars(sys.modules.get(module, object)).values():
        instance = getattr(candidate, "_instance", None)
        if instance is not None and getattr(instance, "is_instrumented_by_opentelemetry", False) is True:
            return True
    return False
