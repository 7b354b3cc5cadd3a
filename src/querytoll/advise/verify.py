"""A suggested index to the proof that the planner uses it: HypoPG, or a real index in a rolled-back transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from querytoll.advise.index import UNVERIFIED, Suggestion
from querytoll.errors import QuerytollError
from querytoll.explain.document import read_document
from querytoll.explain.plan import plan_from, walk
from querytoll.model import Finding, Plan

Method = Literal["hypopg", "index", "none"]
Parameters = Sequence[Any] | Mapping[str, Any] | None


class VerificationError(QuerytollError, RuntimeError):
    """The verification could not be made safely; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the planner does with the index.

    Args:
        method: how it was tried; `none` where it could not be.
        before: planner's cost of the statement without it.
        after: with it.
        used: the plan reads it.
        bytes: its size.
        reason: why it was not tried.
        minimum_saving: share of the cost that it must save to count (ours; dexter asks for 0.5).
    """

    method: Method
    before: float = 0.0
    after: float = 0.0
    used: bool = False
    bytes: int | None = None
    reason: str = ""
    minimum_saving: float = 0.1

    @property
    def saving(self) -> float:
        """Share of the cost that it saves."""
        return 1 - self.after / self.before if self.before > 0 else 0.0

    @property
    def helps(self) -> bool:
        """The planner uses it and expects less work."""
        return self.used and self.saving >= self.minimum_saving


async def verify(
    connection: AsyncConnection,
    suggestion: Suggestion,
    statement: str,
    parameters: Parameters = None,
    *,
    real: bool = False,
    lock_timeout: str = "2s",
) -> Verdict:
    """Try the index on the statement; leaves nothing behind.

    Args:
        connection: not in autocommit. An open transaction is kept as it is: everything runs in a savepoint. A real
            index on a table that this very transaction has updated may stay unused (PostgreSQL's broken HOT chains).
        statement: as the driver takes it, with its placeholders; it is planned, never executed.
        real: build a real index in a transaction that is rolled back. It takes a ShareLock, so that writers wait:
            for tests and CI, never for production. Otherwise HypoPG, where it is installed.
        lock_timeout: how long the real index may wait for its lock.

    Raises:
        VerificationError: the connection is in autocommit.
    """
    outer = None if connection.in_transaction() else await connection.begin()
    try:
        if real:
            await connection.run_sync(_assert_transactional)
        return await connection.run_sync(_guarded, suggestion, statement, parameters, real, lock_timeout)
    finally:
        if outer is not None:
            await outer.rollback()


def _guarded(
    connection: Connection,
    suggestion: Suggestion,
    statement: str,
    parameters: Parameters,
    real: bool,
    lock_timeout: str,
) -> Verdict:
    savepoint = connection.begin_nested()
    try:
        if not real:
            return verify_hypothetically(connection, suggestion, statement, parameters)
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": lock_timeout})
        return verify_by_index(connection, suggestion, statement, parameters)
    except DBAPIError as error:
        return _refused(error)
    finally:
        savepoint.rollback()


def verify_hypothetically(
    connection: Connection, suggestion: Suggestion, statement: str, parameters: Parameters = None
) -> Verdict:
    """Try the index with HypoPG, where it is installed: it exists in the memory of this session only."""
    if not connection.scalar(text("SELECT count(*) FROM pg_catalog.pg_extension WHERE extname = 'hypopg'")):
        return Verdict("none", reason="HypoPG is not installed")
    try:
        return _with_hypopg(connection, suggestion, statement, parameters, _plan(connection, statement, parameters))
    except DBAPIError as error:
        return _refused(error)


def verify_by_index(
    connection: Connection, suggestion: Suggestion, statement: str, parameters: Parameters = None
) -> Verdict:
    """Try the index by making it, in a transaction that the caller rolls back: writers wait for it meanwhile."""
    try:
        return _with_index(connection, suggestion, statement, parameters, _plan(connection, statement, parameters))
    except DBAPIError as error:
        return _refused(error)


def _refused(error: DBAPIError) -> Verdict:
    return Verdict("none", reason=f"the server refused it (SQLSTATE {_sqlstate(error)})")


def verified(finding: Finding, verdict: Verdict) -> Finding:
    """The finding with the verdict in its advice, its evidence and its confidence."""
    evidence = dict(finding.evidence)
    if verdict.method == "none":
        sentence = f"Unverified: {verdict.reason}."
        return replace(finding, advice=finding.advice.replace(UNVERIFIED, sentence))
    how = "HypoPG" if verdict.method == "hypopg" else "a real index in a rolled-back transaction"
    outcome = f"cost {verdict.before:.2f} before, {verdict.after:.2f} after"
    sentence = f"Verified with {how}: {outcome}." if verdict.helps else f"Tried with {how}: no gain ({outcome})."
    evidence |= {
        "verified": verdict.method if verdict.helps else "no gain",
        "cost_before": verdict.before,
        "cost_after": verdict.after,
        "bytes": verdict.bytes or evidence.get("bytes"),
    }
    return replace(
        finding,
        advice=finding.advice.replace(UNVERIFIED, sentence),
        evidence=evidence,
        confidence=1.0 if verdict.helps else 0.2,
    )


def _assert_transactional(connection: Connection) -> None:
    """In autocommit every statement is a transaction of its own."""
    transaction = text("SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid() LIMIT 1")
    if connection.scalar(transaction) != connection.scalar(transaction):
        raise VerificationError(
            "the connection is in autocommit, so that an index could not be rolled back; "
            "pass a connection of an engine without isolation_level='AUTOCOMMIT'"
        )


def _plan(connection: Connection, statement: str, parameters: Parameters) -> Plan:
    bound = tuple(parameters) if isinstance(parameters, Sequence) else parameters
    result = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", bound or None)
    return plan_from(read_document(result.scalar_one()))


def _with_index(
    connection: Connection, suggestion: Suggestion, statement: str, parameters: Parameters, before: Plan
) -> Verdict:
    if suggestion.preparation:
        connection.exec_driver_sql(suggestion.preparation)
    connection.exec_driver_sql(suggestion.creation)
    connection.exec_driver_sql(f"ANALYZE {suggestion.target}")
    after = _plan(connection, statement, parameters)
    size = connection.scalar(
        text(
            "SELECT pg_relation_size(CAST(:name AS text)::regclass) + COALESCE(sum(pg_relation_size(relid)), 0)::bigint"
            " FROM pg_partition_tree(CAST(:name AS text)::regclass) WHERE isleaf AND level > 0"
        ),
        {"name": suggestion.relation},
    )
    return _verdict("index", before, after, size)


def _with_hypopg(
    connection: Connection, suggestion: Suggestion, statement: str, parameters: Parameters, before: Plan
) -> Verdict:
    created = text("SELECT indexrelid::bigint FROM hypopg_create_index(:definition)")
    identifier = connection.scalar(created, {"definition": suggestion.definition})
    try:
        after = _plan(connection, statement, parameters)
        size = connection.scalar(text("SELECT hypopg_relation_size(CAST(:id AS oid))"), {"id": identifier})
    finally:
        connection.execute(text("SELECT hypopg_drop_index(CAST(:id AS oid))"), {"id": identifier})
    return _verdict("hypopg", before, after, size)


def _verdict(method: Method, before: Plan, after: Plan, size: int | None) -> Verdict:
    used = _indexes(after) - _indexes(before)
    return Verdict(method, before.tree.cost, after.tree.cost, bool(used), size)


def _indexes(plan: Plan) -> set[str]:
    return {node.index for node in walk(plan.tree) if node.index}


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or type(error).__name__)
