"""Batches in a database, and what was seen since a moment out of it; the same in every database."""

from __future__ import annotations

import asyncio
import math
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from querytoll.errors import ConfigurationError
from querytoll.fingerprint import shape
from querytoll.history import HistoryError, Store
from querytoll.history.batch import MAX_SHAPES, OTHER, Batch, Folder
from querytoll.history.engine import address, connect
from querytoll.history.models import Base, Trace
from querytoll.history.recorded import Recorded
from querytoll.history.store import VERSION_TABLE, Tables
from querytoll.model import Finding, Report, Site
from querytoll.settings import Settings
from tests.history.making import (
    BACKENDS,
    NOW,
    NewDatabase,
    batch,
    database,
    emptied,
    finding,
    plan,
    report,
    statement,
)

DAY = timedelta(days=1)


async def listed(url: str, since: timedelta, *batches: Batch) -> Recorded:
    store = await emptied(url)
    for each in batches:
        await store.add(each)
    return await store.list(NOW - since)


async def test_what_was_added_is_listed(url: str) -> None:
    """Numbers add up over requests, batches and processes; of each finding the worst is told, for each route."""
    recorded = await listed(
        url,
        DAY,
        batch(report("GET /a", 3, finding(count=3)), report("GET /a", 9, finding(count=9)), report("GET /b", 1)),
        batch(report("GET /a", 5, finding(count=5)), report("GET /b", 2, finding(count=2))),
    )
    routes = {route.name: route for route in recorded.routes}
    assert (routes["GET /a"].requests, routes["GET /a"].statements, routes["GET /a"].most) == (3, 17, 9)
    assert (routes["GET /b"].requests, routes["GET /b"].most, routes["GET /b"].longest) == (2, 2, 0.02)
    assert routes["GET /a"].database_seconds == pytest.approx(0.17)
    seen = {each.name: each for each in recorded.findings}
    assert {name: (each.most, each.occurrences, each.title) for name, each in seen.items()} == {
        "GET /a": (9, 3, "Order.items loaded 9 times"),
        "GET /b": (2, 1, "Order.items loaded 2 times"),
    }
    assert seen["GET /b"].finding.most == 9
    assert seen["GET /b"].finding.occurrences == 4
    assert seen["GET /b"].statement == statement().shape.text
    uses = {(use.name, use.summary): (use.most, use.file, use.line) for use in recorded.uses}
    assert uses == {
        ("GET /a", "SELECT items"): (9, "app/orders.py", 41),
        ("GET /b", "SELECT items"): (2, "app/orders.py", 41),
    }
    found = await Store(url).get(finding().id)
    assert found == seen["GET /a"].finding


async def test_only_what_was_seen_since_then_is_listed(url: str) -> None:
    """What was fixed a day ago is not told today, nor are the numbers of that time."""
    old, new = NOW - 2 * DAY, NOW - timedelta(minutes=1)
    batches = [
        batch(report("GET /a", 9, finding(count=9), finding("slow-query"), began=old)),
        batch(report("GET /a", 3, finding(count=3), began=new), report("GET /a", 1, began=new)),
    ]
    recorded = await listed(url, DAY, *batches)
    assert [(each.finding.rule, each.title) for each in recorded.findings] == [
        ("n-plus-one", "Order.items loaded 3 times")
    ]
    assert [(route.requests, route.most) for route in recorded.routes] == [(2, 3)]
    assert [use.most for use in recorded.uses] == [3]
    assert len((await listed(url, 3 * DAY, *batches)).findings) == 2
    assert (await listed(url, timedelta(), *batches)) == Recorded(routes=[], uses=[], findings=[])


async def test_what_is_old_is_forgotten(url: str) -> None:
    """Clearing takes what was not seen since then from every table, and the oldest traces of each name."""
    store = await emptied(url)
    old = NOW - 9 * DAY
    await store.add(batch(report("GET /old", 3, finding("write-loop"), began=old), report("GET /a", 1, began=old)))
    for second in range(5):
        moment = NOW + timedelta(seconds=second)
        await store.add(batch(report("GET /a", 3, finding(), began=moment), report("GET /b", 3, began=moment)))
    await store.clear(before=NOW - DAY, traces=2)
    recorded = await store.list(NOW - 90 * DAY)
    assert {route.name for route in recorded.routes} == {"GET /a", "GET /b"}
    assert {(route.name, route.requests) for route in recorded.routes} == {("GET /a", 5), ("GET /b", 5)}
    assert [each.finding.rule for each in recorded.findings] == ["n-plus-one"]
    async with store.sessions() as session:
        tables = Tables(session)
        kept = await tables.traces.list()
        assert sorted(trace.name for trace in kept) == ["GET /a", "GET /a", "GET /b", "GET /b"]
        assert {(trace.began - NOW).seconds for trace in kept} == {3, 4}
        assert {link.trace_id for link in await tables.links.list()} == {
            trace.id for trace in kept if trace.name == "GET /a"
        }
    await store.clear()
    async with store.sessions() as session:
        for table in Base.metadata.sorted_tables:
            assert await session.scalar(select(func.count()).select_from(table)) == 0, table.name


async def test_findings_of_plans_come_after_their_trace(url: str) -> None:
    """They count as findings, not as a request, and are linked with their trace if that was kept."""
    store = await emptied(url)
    first = report("GET /a", 3, database_seconds=9.0)
    await store.add(batch(first))
    slow = finding("seq-scan-filter", plan=plan())
    bare = report("GET /a", 0, id=first.trace.id, database_seconds=0.0).trace
    unknown = report("GET /a", 0, id="f" * 32, database_seconds=0.0).trace
    await store.add(batch(Report(bare, (slow,), (plan(),)), Report(unknown, (slow,), (plan(),))))
    recorded = await store.list(NOW - DAY)
    assert [(route.requests, route.most) for route in recorded.routes] == [(1, 3)]
    (seen,) = recorded.findings
    assert seen.finding.plan is not None
    async with store.sessions() as session:
        (link,) = await Tables(session).links.list()
        assert link.trace_id == first.trace.id
        assert (await session.scalars(select(Trace.statements))).all() == [3]


async def test_text_and_numbers_that_no_database_takes(url: str) -> None:
    """Halves of characters, NUL, endless text and numbers that are none are made fit, not lost with their batch."""
    rough = "x\0\udc80" + "y" * 30_000
    odd: Finding = Finding(
        rule=rough,
        title=rough,
        advice=rough,
        site=Site(rough, 2, rough),
        summary=rough,
        fingerprint=rough,
        evidence={rough: [math.nan, math.inf, {1: object()}, 10**17], "set": {1}},
    )
    store = await emptied(url)
    await store.add(batch(report(rough, 1, odd, path=rough, route=rough, method=rough)))
    (seen,) = (await store.list(NOW - DAY)).findings
    assert seen.finding.title.startswith("x\N{REPLACEMENT CHARACTER}?yyy")
    assert len(seen.finding.title) == 20_000
    assert len(seen.name) == 500
    assert seen.finding.evidence["set"] == [1]


async def test_a_document_that_is_too_large_is_left_out(url: str) -> None:
    """A finding with megabytes of evidence is kept without it."""
    store = await emptied(url)
    await store.add(batch(report("GET /a", 1, finding(evidence={str(number): "x" * 100 for number in range(9_000)}))))
    found = await store.get(finding().id)
    assert found is not None
    assert found.evidence == {}


async def test_processes_add_at_the_same_time(url: str) -> None:
    """Nothing is lost or counted twice when several write the same rows."""
    await emptied(url)
    names = [f"GET /{number}" for number in range(5)]

    async def write(order: list[str]) -> None:
        store = Store(url)
        for _ in range(5):
            await store.add(batch(*(report(name, 2, finding()) for name in order)))

    await asyncio.gather(*(write(names if number % 2 else names[::-1]) for number in range(4)))
    recorded = await Store(url).list(NOW - DAY)
    assert {route.requests for route in recorded.routes} == {20}
    assert {each.occurrences for each in recorded.findings} == {20}


def test_without_tables_it_says_what_to_run(empty_url: str) -> None:
    """Neither reading nor writing makes tables or files."""
    with pytest.raises(HistoryError, match=r"there is no history at .* run: querytoll history upgrade --url"):
        asyncio.run(Store(empty_url).list(NOW))
    with pytest.raises(HistoryError, match="there is no history"):
        asyncio.run(Store(empty_url).add(batch(report())))
    if "sqlite" in empty_url:
        assert not Path(str(address(empty_url).database)).exists()


@pytest.mark.parametrize(("version", "advice"), [("0000", "querytoll history upgrade"), ("9999", "upgrade querytoll")])
@pytest.mark.parametrize("backend", BACKENDS)
async def test_another_version_is_refused(
    backend: str, version: str, advice: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Tables of another version are neither read nor written."""
    with ExitStack() as stack:
        url = await asyncio.to_thread(database, backend, new_database, tmp_path, stack)
        async with connect(address(url)).begin() as connection:
            await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
        with pytest.raises(HistoryError, match=f"of version {version}, and this querytoll's is .*{advice}"):
            await Store(url).list(NOW)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nonsense", "no URL of a database"),
        ("mysql+asyncmy://u:secret@h/d", "not in mysql"),
        ("postgresql+psycopg2://u:secret@h/d", "psycopg2 blocks"),
        ("sqlite:///", "is a file"),
        ("sqlite+aiosqlite:///:memory:", "is a file"),
        ("sqlite+pysqlite:///x.db", "pysqlite blocks"),
    ],
)
def test_urls_that_cannot_be_used(url: str, complaint: str) -> None:
    """It is told at once, and without the password."""
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver"),
    [("postgresql://u@h/d", "asyncpg"), ("postgres://u@h/d", "asyncpg"), ("sqlite:///x.db", "aiosqlite")],
)
def test_a_driver_is_found(url: str, driver: str) -> None:
    """A URL without a driver gets one that does not block an event loop."""
    assert address(url).get_driver_name() == driver
    assert "secret" not in repr(Store(url.replace("u@", "u:secret@")))


# Folding


def test_names_and_shapes_and_findings_are_bounded() -> None:
    """Names over the limit become one; shapes and findings over theirs are counted and left out."""
    folder, made = Folder(Settings(max_routes=2)), Batch()
    for number in range(5):
        folder.fold(report(f"job {number}", 1), made)
    assert {name for name, _ in made.traffic} == {"job 0", "job 1", OTHER}
    assert made.traffic[OTHER, NOW.replace(minute=0, second=0)].requests == 3
    columns = [f"SELECT {'a' * number} FROM t" for number in range(1, MAX_SHAPES + 6)]
    folder.fold(report("job 0", 0, statements=tuple(map(statement, columns))), made)
    assert sum(name == "job 0" for name, _, _ in made.uses) == MAX_SHAPES
    assert folder.left_out == 6
    findings = [finding(f"rule-{number}") for number in range(2_003)]
    folder.fold(report("job 0", 1, *findings), made)
    assert len(made.findings) == 2_000
    assert folder.left_out == 9


def test_traces_are_kept_once_in_a_while() -> None:
    """For each name a sample an hour, and for each finding and for slowness one a minute."""
    folder, made = Folder(Settings(slow_request_seconds=1.0)), Batch()
    for second in range(0, 120, 20):
        moment = NOW.replace(minute=0) + timedelta(seconds=second)
        folder.fold(report("GET /a", 1, began=moment), made)
        folder.fold(report("GET /b", 1, finding(), began=moment), made)
        folder.fold(report("GET /c", 1, database_seconds=1.5, began=moment), made)
    kept = [(trace.name, trace.kept, trace.began.minute) for trace in made.traces.values()]
    assert [each for each in kept if each[0] == "GET /a"] == [("GET /a", "sample", 0)]
    assert [each for each in kept if each[1] == "finding"] == [("GET /b", "finding", 0), ("GET /b", "finding", 1)]
    assert [each for each in kept if each[1] == "slow"] == [("GET /c", "slow", 0), ("GET /c", "slow", 1)]


def test_a_path_is_kept_only_if_it_is_asked_for() -> None:
    """`/orders/7` holds a value of the request."""
    for paths, expected in ((False, None), (True, "/orders/7")):
        made = Batch()
        Folder(Settings(), paths=paths).fold(report("GET /orders/{id}", 1, path="/orders/7"), made)
        (trace,) = made.traces.values()
        assert trace.path == expected


def test_the_worst_of_a_batch_is_told() -> None:
    """Of one finding in one batch the highest count has the title, and all of them count."""
    made = batch(*(report("GET /a", 1, finding(count=count)) for count in (3, 8, 5)))
    (row,) = made.findings.values()
    (sighting,) = made.sightings.values()
    assert (row.title, row.most, row.occurrences, row.cost) == ("Order.items loaded 8 times", 8, 3, pytest.approx(0.03))
    assert (sighting.title, sighting.most, sighting.occurrences) == ("Order.items loaded 8 times", 8, 3)
    assert shape("SELECT 1").fingerprint not in made.fingerprints
