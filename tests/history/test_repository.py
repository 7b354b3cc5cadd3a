"""The contract of every table on every database: add, get, list, clear."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from querytoll.history.models import Base
from querytoll.history.repository import Repository
from querytoll.history.schemas import (
    Create,
    FindingCreate,
    FingerprintCreate,
    SightingCreate,
    TraceCreate,
    TraceFindingCreate,
    TrafficCreate,
    UseCreate,
)
from querytoll.history.store import Tables
from tests.history.making import NOW, emptied, finding, plan, report, statement

HOUR = NOW.replace(minute=0, second=0)
LATER = NOW + timedelta(seconds=5)
FOUND = finding()
TRACE = report().trace

# Table, key, a row, the same row once more, and what has become of it.
MERGES: dict[str, tuple[tuple[object, ...], Create, Create, dict[str, object]]] = {
    "traces": (
        (TRACE.id,),
        TraceCreate.of(TRACE, "GET /orders", "finding", path=False),
        TraceCreate.of(TRACE, "GET /other", "slow", path=False),
        {"name": "GET /orders", "kept": "finding", "statements": 3, "path": None},
    ),
    "findings": (
        (FOUND.id,),
        FindingCreate.of(finding(count=5, plan=plan()), NOW).model_copy(update={"occurrences": 2, "cost": 0.5}),
        FindingCreate.of(finding(count=4, advice="Other."), LATER).model_copy(update={"occurrences": 1, "cost": 0.25}),
        {
            "title": "Order.items loaded 5 times",
            "advice": "Other.",
            "most": 5,
            "occurrences": 3,
            "cost": 0.75,
            "first_seen": NOW,
            "last_seen": LATER,
            "evidence": {"relation": "Order.items"},
        },
    ),
    "sightings": (
        (FOUND.id, "GET /orders", HOUR),
        SightingCreate(finding_id=FOUND.id, name="GET /orders", hour=HOUR, title="3", most=3, last_seen=LATER),
        SightingCreate(
            finding_id=FOUND.id, name="GET /orders", hour=HOUR, title="7", most=7, occurrences=1, last_seen=NOW
        ),
        {"title": "7", "most": 7, "occurrences": 1, "last_seen": LATER},
    ),
    "links": (
        (TRACE.id, FOUND.id),
        TraceFindingCreate(trace_id=TRACE.id, finding_id=FOUND.id, count=3, cost=0.1, last_seen=NOW),
        TraceFindingCreate(trace_id=TRACE.id, finding_id=FOUND.id, count=4, cost=0.1, last_seen=NOW),
        {"count": 3},
    ),
    "fingerprints": (
        (statement().fingerprint,),
        FingerprintCreate.of(statement().shape, LATER),
        FingerprintCreate.of(statement().shape, NOW),
        {"first_seen": NOW, "last_seen": LATER, "summary": "SELECT items"},
    ),
    "traffic": (
        ("GET /orders", HOUR),
        TrafficCreate(
            name="GET /orders", hour=HOUR, kind="request", requests=1, statements=3, most=3, longest=1, last_seen=NOW
        ),
        TrafficCreate(
            name="GET /orders", hour=HOUR, kind="request", requests=2, statements=8, most=7, longest=0.5, last_seen=NOW
        ),
        {"requests": 3, "statements": 11, "most": 7, "longest": 1.0},
    ),
    "uses": (
        ("GET /orders", "ab", HOUR),
        UseCreate(name="GET /orders", fingerprint="ab", hour=HOUR, most=3, file="a.py", line=1, last_seen=NOW),
        UseCreate(name="GET /orders", fingerprint="ab", hour=HOUR, most=2, file="b.py", line=2, last_seen=LATER),
        {"most": 3, "file": "a.py", "line": 1, "last_seen": LATER},
    ),
}


def test_every_table_keeps_the_contract() -> None:
    """A table that is added has to be in the list."""
    assert len(MERGES) == len(Base.metadata.tables)


@pytest.mark.parametrize("table", MERGES)
async def test_add_get_list_clear(url: str, table: str) -> None:
    """A row is there, merged when it comes again, listed, and gone when it is cleared."""
    key, first, again, expected = MERGES[table]
    store = await emptied(url)
    async with store.sessions.begin() as session:
        tables = Tables(session)
        await tables.findings.add([FindingCreate.of(FOUND, NOW)] if table in ("sightings", "links") else [])
        await tables.traces.add([TraceCreate.of(TRACE, "x", "slow", path=False)] if table == "links" else [])
        repository: Repository[Any, Any, Any] = getattr(tables, table)
        await repository.add([])
        assert await repository.get(*key) is None
        await repository.add([first])
        await repository.add([again])
        session.expire_all()
        row = await repository.get(*key)
        assert {name: getattr(row, name) for name in expected} == expected
        assert list(await repository.list()) == [row]
        assert list(await repository.list(limit=0)) == []
        assert await repository.clear(before=NOW - timedelta(days=1)) == 0
        assert await repository.clear(before=LATER + timedelta(days=1)) == 1
        await repository.add([first])
        assert await repository.clear() == 1
        assert list(await repository.list()) == []


async def test_a_plan_stays_until_another_comes(url: str) -> None:
    """A finding that was once seen with its plan keeps it; NULL is no plan."""
    store = await emptied(url)
    async with store.sessions.begin() as session:
        findings = Tables(session).findings
        await findings.add([FindingCreate.of(finding(plan=plan()), NOW)])
        await findings.add([FindingCreate.of(finding(), NOW)])
        session.expire_all()
        row = await findings.get(FOUND.id)
        assert row is not None
        assert row.plan is not None
        assert row.plan["tree"]["facts"] == {"Filter": "(order_id = ?)"}


async def test_rows_are_listed_newest_first(url: str) -> None:
    """The newest row is the first."""
    store = await emptied(url)
    async with store.sessions.begin() as session:
        traces = Tables(session).traces
        rows = [report(began=NOW + timedelta(seconds=second)).trace for second in (2, 9, 5)]
        await traces.add([TraceCreate.of(trace, "GET /orders", "slow", path=False) for trace in rows])
        assert [(row.began - NOW).seconds for row in await traces.list(limit=2)] == [9, 5]
