"""The profiler's own connection: EXPLAIN ANALYZE of what is proven read-only, and the catalog behind a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.pool import NullPool

from querytoll.capture import disown
from querytoll.errors import QuerytollError
from querytoll.explain.catalog import Catalog, catalog_of
from querytoll.explain.document import read_document
from querytoll.explain.estimate import EXPLAIN, Context, Estimate, Limits
from querytoll.explain.judge import refusal
from querytoll.explain.plan import plan_from, walk
from querytoll.explain.redact import STRUCTURAL
from querytoll.explain.scan import scan, scan_once

READ_ONLY: Final = {"isolation_level": "READ COMMITTED", "postgresql_readonly": True}
"""`BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY`, sent as the driver does: in one message, as PgBouncer needs it."""
SET: Final = "pg_catalog.set_config({name}, {value}, true)"
LIMIT: Final = text(
    "SELECT session_user::text, pg_catalog.current_setting('transaction_read_only'), "
    + ", ".join(
        SET.format(name=f"'{name}'", value=f":{name}")
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    )
)
LONG_SECONDS: Final = 1.0
"""From here on the clock is not read at every row: it would be a part of the time itself."""
_SHORTEST_SECONDS: Final = 0.25
_SERIALIZE_VERSION: Final = 17


class NotReadOnlyError(QuerytollError, RuntimeError):
    """A driver or a pooler does not make transactions read-only."""


def own_engine(engine: Engine) -> Engine:
    """Return an engine that connects as the application's does, keeps no connection, and is never profiled.

    It shares the application's way to make a connection, with passwords from `do_connect` events, TLS and arguments,
    and what its own `connect` listeners set up. Nothing of its pool.
    """
    own = create_engine(engine.url, creator=engine.pool._creator, poolclass=NullPool, execution_options=READ_ONLY)
    for listener in getattr(engine.pool.dispatch.connect, "listeners", ()):
        if not str(getattr(listener, "__module__", "")).startswith(("sqlalchemy.", "querytoll.")):
            event.listen(own.pool, "connect", listener)
    disown(own)
    return own


@dataclass(frozen=True, slots=True)
class Wanted:
    """A statement to look at again.

    Args:
        statement: as the driver took it.
        parameters: as the driver took them.
        estimate: its plain plan; None where it was killed, so that its own connection could not be asked.
        seconds: that it took, or had taken when it was killed.
        analyze: it may be executed again, if that is proven safe.
    """

    statement: str
    parameters: Any
    estimate: Estimate | None
    seconds: float
    analyze: bool


def settled(wanted: Wanted) -> Wanted:
    """Choose between the plan with values and the generic one that the server runs: the former where they are alike."""
    known = wanted.estimate
    if known is None or known.generic is None:
        return wanted
    if plan_from(known.generic).shape == plan_from(known.document).shape:
        return replace(wanted, estimate=replace(known, generic=None))
    return replace(wanted, estimate=replace(known, document=known.generic))


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of it.

    Args:
        document: the best plan there is, with its literals.
        analyzed: it was executed.
        reason: why not.
    """

    document: Mapping[str, object]
    analyzed: bool = False
    reason: str | None = None


def examine(connection: Connection, wanted: Wanted, limits: Limits, longest: float) -> Examined:
    """Execute the statement again under EXPLAIN ANALYZE, if it is proven to be a read and to be planned alike.

    Args:
        connection: of `own_engine`, in no transaction.
        limits: of a plain EXPLAIN.
        longest: `statement_timeout` at most, in seconds.
    """
    known = wanted.estimate
    if known is not None and (reason := _hindrance(wanted, known, longest)):
        return Examined(known.document, reason=reason)
    timeout = Limits(max(_SHORTEST_SECONDS, min(3 * wanted.seconds, longest)), 2 * limits.lock)
    with reading(connection, limits, known.context if known else None) as user:
        if known is not None and known.context is not None and known.context.user != user:
            return Examined(known.document, reason="its session had another user")
        document = _explain(connection, EXPLAIN, wanted)
        if known is None:
            return Examined(document, reason="it was stopped")
        if reason := refusal(document, wanted.statement, looking(connection)):
            return Examined(known.document, reason=reason)
        if plan_from(document).shape != plan_from(known.document).shape:
            return Examined(known.document, reason="another connection plans it otherwise")
        _limit(connection, timeout)
        return Examined(_explain(connection, analyze_prefix(connection, wanted.seconds), wanted), analyzed=True)


def _hindrance(wanted: Wanted, known: Estimate, longest: float) -> str | None:
    """Why the statement is not even looked at on another connection."""
    if not scan(wanted.statement).reading:
        return "not a read"
    if not wanted.analyze:
        return "EXPLAIN ANALYZE is switched off"
    if known.source == "auto_explain":
        return "the server sent the plan of the execution itself"
    if known.generic is not None:
        return "the server runs a generic plan"
    if known.context is None or known.context.wrote:
        return "its transaction had written"
    if not known.context.complete:
        return "it reads a session setting whose name is computed"
    return "it took too long" if wanted.seconds >= longest else None


def analyze_prefix(connection: Connection, seconds: float) -> str:
    """`EXPLAIN (ANALYZE, ...)` as it suits the server and a statement of that duration."""
    version = connection.dialect.server_version_info or (0,)
    options = ["ANALYZE", "BUFFERS", "VERBOSE", "SETTINGS", "FORMAT JSON"]
    options += ["TIMING OFF"] if seconds > LONG_SECONDS else []
    options += ["SERIALIZE TEXT"] if version >= (_SERIALIZE_VERSION,) else []
    return f"EXPLAIN ({', '.join(options)}) "


@contextmanager
def reading(connection: Connection, limits: Limits, context: Context | None) -> Iterator[str]:
    """A read-only transaction with timeouts and the context of another; it is always rolled back. Gives the user."""
    transaction = connection.begin()
    try:
        user, only = _limit(connection, limits)
        if only != "on":
            raise NotReadOnlyError("the transaction is not read-only: nothing is explained in it")
        if context is not None and context.user == user:
            settings = {"search_path": context.search_path, **context.settings}
            if context.role != "none":
                settings["role"] = context.role
            _set(connection, {name: value for name, value in settings.items() if value is not None})
        yield user
    finally:
        transaction.rollback()


def _limit(connection: Connection, limits: Limits) -> tuple[str, str]:
    """Set the timeouts of this transaction; gives its user, and whether it is read-only."""
    seconds = {
        "statement_timeout": limits.statement,
        "lock_timeout": limits.lock,
        "idle_in_transaction_session_timeout": limits.statement + 10,
    }
    values = {name: str(limits.milliseconds(value)) for name, value in seconds.items()}
    user, only, *_ = connection.execute(LIMIT, values).one()
    return user, only


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set what the session had, in this order and for this transaction."""
    calls = [SET.format(name=f":name_{number}", value=f":value_{number}") for number in range(len(settings))]
    values: dict[str, str] = {}
    for number, (name, value) in enumerate(settings.items()):
        values |= {f"name_{number}": name, f"value_{number}": value}
    connection.execute(text(f"SELECT {', '.join(calls)}"), values)


def _explain(connection: Connection, prefix: str, wanted: Wanted) -> Mapping[str, object]:
    return read_document(connection.exec_driver_sql(prefix + wanted.statement, wanted.parameters or None).scalar_one())


def looking(connection: Connection) -> Callable[[str, Mapping[str, object]], list[Mapping[str, Any]]]:
    """Return how the judge looks things up on a connection."""
    return lambda query, parameters: [dict(row) for row in connection.execute(text(query), parameters).mappings()]


def facts(connection: Connection, document: Mapping[str, object], limits: Limits, context: Context | None) -> Catalog:
    """Read what the catalog knows of the plan's tables and functions."""
    nodes = list(walk(plan_from(document).tree))
    calls = {
        name.name
        for node in nodes
        for key, value in node.facts.items()
        if isinstance(value, str) and key not in STRUCTURAL
        for name in scan_once(value).called
    }
    with reading(connection, limits, context):
        return catalog_of(
            connection,
            [node.relation for node in nodes if node.relation],
            schemas={node.schema for node in nodes if node.schema},
            functions=calls,
        )
