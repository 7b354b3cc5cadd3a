"""Names of engines and codes of errors to OpenTelemetry's attributes of databases."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

Attributes = Mapping[str, str | int | float]

MAX_LENGTH: Final = 1_000
"""Characters of one text."""

_SYSTEMS: Final = {
    "cockroachdb": "cockroachdb",
    "mariadb": "mariadb",
    "mssql": "microsoft.sql_server",
    "mysql": "mysql",
    "oracle": "oracle.db",
    "postgresql": "postgresql",
    "sqlite": "sqlite",
}
_UNKNOWN: Final = "other_sql"


class Database(NamedTuple):
    """What an engine's name tells.

    Args:
        attributes: `db.system.name`, and `server.address`, `server.port` and `db.namespace` where they are known.
        driver: `asyncpg`; None where the name does not tell.
    """

    attributes: Attributes
    driver: str | None


@functools.lru_cache(maxsize=256)
def database_of(engine: str) -> Database:
    """Read `driver://host/database`; a name that the application gave its engine tells nothing of these."""
    drivername, is_url, rest = engine.partition("://")
    if not is_url:
        return Database({"db.system.name": _UNKNOWN}, None)
    dialect, _, driver = drivername.partition("+")
    server, _, namespace = rest.partition("/")
    attributes: dict[str, str | int | float] = {"db.system.name": _SYSTEMS.get(dialect, _UNKNOWN)}
    address, colon, port = server.rpartition(":")
    if colon and port.isdecimal() and ":" not in address:
        attributes["server.address"], attributes["server.port"] = text(address), int(port)
    elif server:
        attributes["server.address"] = text(server)
    if namespace:
        attributes["db.namespace"] = text(namespace)
    return Database(attributes, driver or None)


def error_of(code: str) -> Attributes:
    """Tell an error by its SQLSTATE, or by the name of its class where the server did not answer."""
    if re.fullmatch(r"[0-9A-Z]{5}", code):
        return {"error.type": code, "db.response.status_code": code}
    return {"error.type": text(code)}


def text(value: str) -> str:
    """Cut what is too long, and replace what has no UTF-8: one lone surrogate would fail a whole export."""
    value = value[:MAX_LENGTH]
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
