"""A statement that just ran, to its plain plan, on its own connection and without a trace left there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from querytoll.capture.failure import code_of
from querytoll.explain.document import read_document
from querytoll.explain.notices import Box, take
from querytoll.explain.ports import CLEANUP_SECONDS, Port
from querytoll.model import PlanSource

EXPLAIN: Final = "EXPLAIN (VERBOSE, SETTINGS, FORMAT JSON) "
LIMITS: Final = "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}"
OPEN_INSIDE: Final = f"SAVEPOINT querytoll; SET LOCAL transaction_read_only = on; {LIMITS}"
CLOSE_INSIDE: Final = "ROLLBACK TO SAVEPOINT querytoll; RELEASE SAVEPOINT querytoll"
OPEN_OUTSIDE: Final = f"BEGIN READ ONLY; {LIMITS}"
CLOSE_OUTSIDE: Final = "ROLLBACK"
CONTEXT: Final = (
    "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role'), session_user::text,"
    " pg_catalog.txid_current_if_assigned() IS NOT NULL, {settings}, {prepared}"
)
SETTING: Final = "pg_catalog.current_setting({name}, true)"
PREPARED: Final = (
    "(SELECT 'EXECUTE ' || pg_catalog.quote_ident(name) || '(NULL'"
    " || pg_catalog.repeat(', NULL', pg_catalog.cardinality(parameter_types) - 1) || ')'"
    " FROM pg_catalog.pg_prepared_statements WHERE statement = {text} AND generic_plans > 0 AND NOT from_sql"
    " AND pg_catalog.cardinality(parameter_types) > 0 LIMIT 1)"
)
FORCE_GENERIC: Final = "SET LOCAL plan_cache_mode = force_generic_plan"
_COUNTING_VERSION: Final = 14
"""Since when `pg_prepared_statements` tells how often a generic plan was run."""
_MENTIONED: Final = re.compile(r"current_setting\('((?:[^']|'')*)'")
_CALLED: Final = re.compile(r"current_setting\(")
_GRACE_SECONDS: Final = 0.25
_NO_SAVEPOINT: Final = "3B001"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that the server gives an EXPLAIN, for itself and for the locks that it needs."""

    statement: float = 0.25
    lock: float = 0.05

    @staticmethod
    def milliseconds(seconds: float) -> int:
        """As PostgreSQL's timeouts want it; 0 would mean none."""
        return max(1, round(seconds * 1000))

    def fill(self, script: str) -> str:
        """The script with its limits."""
        return script.format(statement=self.milliseconds(self.statement), lock=self.milliseconds(self.lock))


@dataclass(frozen=True, slots=True)
class Context:
    """What the connection was when the statement ran, as far as another one can be made alike.

    Args:
        settings: values of the session's settings that the plan depends on; None for one that is not set.
        wrote: the transaction had changed rows that no other connection sees.
        complete: everything that the plan asks of the session is known.
    """

    search_path: str
    role: str
    user: str
    wrote: bool = False
    settings: Mapping[str, str | None] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """A plain plan, with its literals; it lives in memory until it is read.

    Args:
        document: made with the statement's values.
        context: what the connection was.
        generic: the plan made without them, where the server runs that one.
        source: `auto_explain` where it is the execution's own.
    """

    document: Mapping[str, object]
    context: Context | None = None
    generic: Mapping[str, object] | None = None
    source: PlanSource = "estimate"


async def estimate(
    port: Port,
    statement: str,
    parameters: Any,
    limits: Limits,
    *,
    settings: Sequence[str] = (),
    text: str | None = None,
    box: Box | None = None,
) -> Estimate:
    """Ask the server how it would execute the statement; nothing is executed, and nothing stays behind.

    Args:
        statement: as the driver took it.
        parameters: as the driver took them.
        settings: session settings to read besides those that the plan mentions.
        text: the statement as the server got it, where that is known.
        box: where plans that the server sent by itself are found.
    """
    async with port.lock:
        inside = port.in_transaction
        patience = limits.statement + _GRACE_SECONDS
        try:
            # In a transaction auto_explain tells of a statement when the next one comes: now.
            await port.script(limits.fill(OPEN_INSIDE if inside else OPEN_OUTSIDE), patience)
            if (sent := take(box, text)) is not None:
                return Estimate(sent, source="auto_explain")
            document = await _explain(port, statement, parameters, patience)
            generic = None
            context, execution = await _context(port, document, settings, text, patience)
            if execution is not None:
                await port.script(FORCE_GENERIC, patience)
                generic = await _explain(port, execution, (), patience)
        finally:
            await _close(port, CLOSE_INSIDE if inside else CLOSE_OUTSIDE)
        return Estimate(document, context, generic)


async def _explain(port: Port, statement: str, parameters: Any, patience: float) -> Mapping[str, object]:
    rows = await port.rows(EXPLAIN + statement, parameters, patience)
    return read_document(rows[0][0])


async def _context(
    port: Port, document: Mapping[str, object], settings: Sequence[str], prepared: str | None, patience: float
) -> tuple[Context, str | None]:
    """The connection's context, and how to execute the statement by the generic plan that it has got."""
    mentioned = mentioned_settings(document)
    names = [*dict.fromkeys((*settings, *(mentioned or ())))]
    asked = [SETTING.format(name=port.place(place)) for place in range(1, len(names) + 1)]
    counted = prepared is not None and port.version >= _COUNTING_VERSION
    query = CONTEXT.format(
        settings=f"ARRAY[{', '.join(asked)}]" if asked else "ARRAY[]::text[]",
        prepared=PREPARED.format(text=port.place(len(names) + 1)) if counted else "NULL",
    )
    rows = await port.rows(query, (*names, *((prepared,) if counted else ())), patience)
    ((path, role, user, wrote, values, execution),) = rows
    planner = planner_settings(document)
    context = Context(
        path, role, user, wrote, {**planner, **dict(zip(names, values, strict=True))}, mentioned is not None
    )
    return context, execution


def mentioned_settings(document: Mapping[str, object]) -> list[str] | None:
    """Names of the session's settings that the plan's expressions read; None where one is not written out."""
    text = json.dumps(document.get("Plan"))
    names = _MENTIONED.findall(text)
    return names if len(names) == len(_CALLED.findall(text)) else None


def planner_settings(document: Mapping[str, object]) -> dict[str, str | None]:
    """The planner's settings that the session had changed."""
    settings = document.get("Settings")
    return {str(name): str(value) for name, value in settings.items()} if isinstance(settings, Mapping) else {}


async def _close(port: Port, closing: str) -> None:
    """Leave the transaction as it was; where that fails the connection is worth nothing to the application either."""
    done = port.closed
    try:
        if not done:
            await port.script(closing, CLEANUP_SECONDS)
            done = True
    except Exception as error:
        done = code_of(error) == _NO_SAVEPOINT
        raise
    finally:
        if not done and not port.closed:
            await port.abandon()
