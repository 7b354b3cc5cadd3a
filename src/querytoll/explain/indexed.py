"""Statements of a block to how they would find a table's rows if they had to use an index; for tests.

A test's table has a handful of rows, which the server rightly reads whole. The plan is therefore asked for with
sequential scans off, right before the statement, on its own connection, where uncommitted rows and indexes are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine

from querytoll.capture.failure import code_of
from querytoll.explain.document import read_document
from querytoll.explain.plan import plan_from, walk
from querytoll.explain.redact import redact
from querytoll.fingerprint import shape
from querytoll.model import Plan, PlanNode

_EXPLAINED: Final = frozenset(("SELECT", "UPDATE", "DELETE", "INSERT", "MERGE", "TABLE"))
_EVENTS: Final = ("do_execute", "do_execute_no_params")


@dataclass(frozen=True, slots=True)
class Access:
    """One way in which a statement reads a table.

    Args:
        fingerprint: the statement's shape.
        index: the index that finds the rows; None: all rows are read.
        condition: what each row read is held against, without literals; empty: nothing.
    """

    fingerprint: str
    index: str | None
    condition: str = ""


@dataclass(slots=True)
class Accesses:
    """How the statements of a block would read a table; each shape is asked about once.

    Args:
        table: the table.
        wanted: tells whether a statement that is about to run is one of the block's.
    """

    table: str
    wanted: Callable[[], bool]
    found: list[Access] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """SQLSTATEs of what could not be explained."""
    _asked: set[str] = field(default_factory=set)

    def open(self) -> None:
        """Begin to ask."""
        for name in _EVENTS:
            event.listen(Engine, name, self._before, insert=True)

    def close(self) -> None:
        """Ask no more."""
        for name in _EVENTS:
            event.remove(Engine, name, self._before)

    def _before(self, cursor: Any, statement: str, *rest: Any) -> None:
        what = shape(statement)
        if what.operation not in _EXPLAINED or self.table not in (*what.tables, *what.writes):
            return
        context = rest[-1]
        if what.fingerprint in self._asked or context.dialect.name != "postgresql" or not self.wanted():
            return
        self._asked.add(what.fingerprint)
        try:
            self.found.extend(accesses(_plan(context, statement, rest[:-1], what.fingerprint), self.table))
        except Exception as error:  # the driver's: the statement itself is about to fail, or cannot be explained
            self.errors.append(code_of(error))


def accesses(plan: Plan, table: str) -> Iterator[Access]:
    """Tell how a plan reads a table; an index that is walked whole, row by row, finds nothing."""
    for node in walk(plan.tree):
        if node.relation != table:
            continue
        condition = str(node.facts.get("Filter") or "")
        if node.kind == "Bitmap Heap Scan":
            for index in _bitmaps(node):
                yield Access(plan.fingerprint or "", index, condition)
        elif "Scan" in node.kind:
            found = node.index is not None and ("Index Cond" in node.facts or not condition)
            yield Access(plan.fingerprint or "", node.index if found else None, condition)


def _bitmaps(node: PlanNode) -> Iterator[str | None]:
    return (each.index for each in walk(node) if each.kind == "Bitmap Index Scan")


def _plan(context: Any, statement: str, parameters: tuple[Any, ...], fingerprint: str) -> Plan:
    with _without_seqscan(context) as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
        (document,) = cursor.fetchone()
    return plan_from(redact(read_document(document)), fingerprint=fingerprint)


@contextmanager
def _without_seqscan(context: Any) -> Iterator[Any]:
    """A cursor of the statement's own connection, in a savepoint that is rolled back whatever happens."""
    connection = context.root_connection
    isolation = connection.get_execution_options().get("isolation_level") or context.dialect._on_connect_isolation_level
    inside = isolation != "AUTOCOMMIT"
    cursor = connection.connection.cursor()
    cursor.execute("SAVEPOINT querytoll" if inside else "BEGIN")
    try:
        cursor.execute("SET LOCAL enable_seqscan = off")
        yield cursor
    finally:
        cursor.execute("ROLLBACK TO SAVEPOINT querytoll" if inside else "ROLLBACK")
        if inside:
            cursor.execute("RELEASE SAVEPOINT querytoll")
        cursor.close()
