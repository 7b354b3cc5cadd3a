"""SQLite's EXPLAIN QUERY PLAN, which executes nothing, to a plan and to tables that are read whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from querytoll.explain.redact import redact_text
from querytoll.explain.shape import shape_of
from querytoll.model import Finding, Plan, PlanNode, Shape

EXPLAIN: Final = "EXPLAIN QUERY PLAN "
_READ: Final = re.compile(
    r"(?P<how>SCAN|SEARCH)\s+(?:TABLE\s+)?(?P<table>\S+)(?:\s+AS\s+(?P<alias>\S+))?"
    r"(?:\s+USING\s+(?:AUTOMATIC\s+)?(?:PARTIAL\s+)?(?:COVERING\s+)?INDEX\s+(?P<index>\S+))?"
)
_FILTERED: Final = re.compile(r"\bWHERE\b", re.IGNORECASE)


def explained(context: Any, statement: str, parameters: Any, what: Shape) -> tuple[Plan, list[Finding]]:
    """Ask the connection of a statement that just ran how SQLite executes it."""
    cursor = context._dbapi_connection.cursor()
    try:
        cursor.execute(EXPLAIN + statement, parameters or ())
        rows = cursor.fetchall()
    finally:
        cursor.close()
    return plan_of(rows, what.fingerprint), list(_findings(rows, what))


def plan_of(rows: Iterable[Sequence[Any]], fingerprint: str | None = None) -> Plan:
    """Build the tree from rows of (id, parent, unused, detail)."""
    below: dict[int, list[tuple[int, str]]] = {}
    for key, parent, _, detail in rows:
        below.setdefault(parent, []).append((key, redact_text(str(detail))))
    numbers = iter(range(1, 1_000_000))
    children = tuple(_node(key, detail, below, numbers) for key, detail in below.get(0, ()))
    tree = PlanNode(id=0, kind="Query Plan", children=children)
    return Plan(tree=tree, shape=shape_of(tree), source="estimate", fingerprint=fingerprint, captured=datetime.now(UTC))


def _node(key: int, detail: str, below: dict[int, list[tuple[int, str]]], numbers: Any) -> PlanNode:
    number = next(numbers)
    found = _READ.match(detail)
    return PlanNode(
        id=number,
        kind=found["how"].capitalize() if found else detail,
        relation=found["table"] if found else None,
        alias=found["alias"] if found else None,
        index=found["index"] if found else None,
        facts={"Detail": detail},
        children=tuple(_node(child, text, below, numbers) for child, text in below.get(key, ())),
    )


def _findings(rows: Iterable[Sequence[Any]], what: Shape) -> Iterable[Finding]:
    """A table that is read whole by a statement that is slow and has a condition."""
    if not _FILTERED.search(what.text):
        return
    for _, _, _, detail in rows:
        found = _READ.match(str(detail))
        if found and found["how"] == "SCAN" and found["index"] is None and "VIRTUAL" not in str(detail):
            yield Finding(
                rule="seq-scan-filter",
                title=f"{found['table']} is read whole",
                advice="An index on the columns of WHERE, equalities first, lets SQLite search instead of scan.",
                fingerprint=what.fingerprint,
                confidence=0.6,
                evidence={"node": redact_text(str(detail)), "table": found["table"]},
            )
