"""The sink under real traffic: it survives its database, is never profiled, and keeps no value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from querytoll import Profiler, Settings
from querytoll.errors import ConfigurationError
from querytoll.history import HistorySink, Recorded, Store
from querytoll.history.models import Base
from tests.explain.servers import execute
from tests.history.making import NOW, emptied, report

FAST = Settings(
    slow_statement_seconds=1e-9, explain_interval_seconds=1e-9, explain_floor_seconds=1e6, explain_queue=100
)


async def recorded(url: str) -> Recorded:
    return await Store(url).list(NOW - timedelta(days=1))


async def requests(url: str) -> int:
    return sum(route.requests for route in (await recorded(url)).routes)


async def drain(sink: HistorySink) -> None:
    await asyncio.gather(*map(asyncio.wrap_future, sink.pending()))


@asynccontextmanager
async def profiled(url: str, engine: AsyncEngine, **options: Any) -> AsyncIterator[tuple[Profiler, HistorySink]]:
    sink = HistorySink(url, interval_seconds=600, **options)
    profiler = Profiler(FAST, engines=[engine], sinks=[sink])
    yield profiler, sink
    await profiler.aclose()
    sink.close()


# Its database


async def test_a_database_that_goes_away_and_comes_back(postgres_history: str) -> None:
    """Reports wait while it takes no connections; once it does, each of them is counted once."""
    await emptied(postgres_history)
    name = make_url(postgres_history).database
    plain = make_url(postgres_history).set(drivername="postgresql", database="postgres")
    server = plain.render_as_string(hide_password=False)
    sink = HistorySink(postgres_history, interval_seconds=0.01)
    sink(report())
    await drain(sink)
    execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        sink(report())
        await drain(sink)
        assert sink.faults.counts["sinks"] == 1
        sink(report())
        assert sink.pending() == []
    finally:
        execute(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    sink.close(30)
    assert sink.dropped == 0
    assert await requests(postgres_history) == 3


async def test_a_connection_that_is_killed_in_the_middle(postgres_history: str) -> None:
    """The batch whose transaction was lost is written again, whole and once."""
    await emptied(postgres_history)
    plain = make_url(postgres_history).set(drivername="postgresql").render_as_string(hide_password=False)
    engine = create_async_engine(postgres_history)
    sink = HistorySink(postgres_history, interval_seconds=0.01)
    async with engine.connect() as blocking:
        await blocking.execute(text("LOCK TABLE querytoll_uses IN ACCESS EXCLUSIVE MODE"))
        sink(report())
        victims = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        for _ in range(1_000):
            if execute(plain, f"SELECT pg_terminate_backend(pid) {victims}"):
                break
            await asyncio.sleep(0.01)
        for _ in range(1_000):
            if sink.faults.counts["sinks"]:
                break
            await asyncio.sleep(0.01)
    await engine.dispose()
    sink.close(30)
    assert (sink.faults.counts["sinks"], sink.dropped) == (1, 0)
    assert await requests(postgres_history) == 1


async def test_no_database_at_all() -> None:
    """Requests go on; what does not fit is dropped and counted, and the end does not hang."""
    sink = HistorySink("postgresql+asyncpg://nobody:secret@127.0.0.1:1/none", interval_seconds=0.001, max_waiting=40)
    profiler = Profiler(sinks=[sink])
    for _ in range(100):
        with profiler.profile("x"):
            pass
        await asyncio.sleep(0)
    await profiler.aclose()
    assert profiler.faults.counts["sinks"] >= 1
    sink.close(30)
    assert sink.dropped == 100


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"keep_days": 0}, "keep_days is more than 0, not 0"),
        ({"max_waiting": -1}, "max_waiting is more than 0, not -1"),
        ({"interval_seconds": 0}, "interval_seconds is more than 0, not 0"),
        ({"max_traces": -1}, "max_traces is 0 or more, not -1"),
    ],
)
def test_numbers_that_cannot_be(options: dict[str, Any], complaint: str) -> None:
    """They are told at set-up."""
    with pytest.raises(ConfigurationError, match=complaint):
        HistorySink("sqlite+aiosqlite:///x.db", **options)


async def test_no_traces_are_kept_if_none_are_wanted(url: str) -> None:
    """`max_traces=0` leaves findings and numbers."""
    store = await emptied(url)
    sink = HistorySink(url, interval_seconds=600, max_traces=0)
    sink(report())
    await drain(sink)
    sink.close()
    assert await requests(url) == 1
    async with store.sessions() as session:
        assert (await session.execute(select(Base.metadata.tables["querytoll_traces"]))).all() == []


# Its own statements


async def test_its_own_statements_are_never_profiled(url: str) -> None:
    """A profiler of every engine, and a window that sees the whole process, see none of them."""
    await emptied(url)
    reports: list[Any] = []
    sink = HistorySink(url, interval_seconds=600)
    profiler = Profiler(sinks=[sink, reports.append])
    with profiler.profile("x"):
        sink(report())
        await drain(sink)
        await Store(url).list(NOW)
    await profiler.aclose()
    sink.close()
    (seen,) = reports
    assert seen.trace.statements == ()
    assert seen.trace.connections == ()


# Privacy

WORDS = st.text("qxzjkvw", min_size=9, max_size=12)
NUMBERS = st.integers(300_000_000, 899_999_999)
STATEMENTS = (
    "SELECT * FROM people WHERE name = '{word}' AND age <> {number}",
    "SELECT * FROM people WHERE name IN ('a', '{word}') /* {word} */ -- {number}",
    "SELECT name || '{word}', count(*) FROM people GROUP BY 1 HAVING count(*) < {number}",
    "INSERT INTO people (name, age) VALUES ('{word}', {number})",
    "SELECT * FROM people WHERE name = '{word}' AND 1 / (age - age) = {number}",
    "SELECT * FROM people WHERE name = :word AND age <> :number",
    "UPDATE people SET name = :word WHERE age = :number",
)


async def everything(url: str) -> str:
    """All that is in the history, as one text."""
    async with Store(url).sessions() as session:
        tables = Base.metadata.sorted_tables
        rows = [row for table in tables for row in await session.execute(select(table))]
        return "\n".join(map(str, rows))


@pytest.fixture(scope="module")
def people(postgres_history: str) -> str:
    plain = make_url(postgres_history).set(drivername="postgresql").render_as_string(hide_password=False)
    execute(
        plain,
        "CREATE TABLE people (name text, age int)",
        "INSERT INTO people SELECT 'n' || i, i % 90 FROM generate_series(1, 3000) i",
    )
    return postgres_history


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=WORDS, number=NUMBERS, data=st.data())
def test_no_literal_is_ever_kept(people: str, word: str, number: int, data: st.DataObject) -> None:
    """Written into the text or bound, in statements that work or fail, with plans: no value is in any table."""
    chosen = data.draw(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=5))

    async def go() -> None:
        await emptied(people)
        engine = create_async_engine(people)
        async with profiled(people, engine) as (profiler, sink):
            async with profiler.profile("job"), engine.connect() as connection:
                for template in chosen:
                    values = {"word": word, "number": number} if ":word" in template else {}
                    statement = template if values else template.format(word=word, number=number)
                    for _ in range(3):
                        with suppress(DBAPIError):
                            await connection.execute(text(statement), values)
                        await connection.rollback()
            await profiler.drain()
            assert sink.dropped == 0
        await engine.dispose()
        kept = await everything(people)
        assert "slow-query" in kept
        assert "people" in kept
        assert word not in kept
        assert str(number) not in kept

    asyncio.run(go())


async def test_plans_are_kept_with_their_findings(people: str) -> None:
    """A finding in a plan comes later than its request; it is kept with the plan, and with the trace."""
    store = await emptied(people)
    engine = create_async_engine(people)
    joined = text("SELECT * FROM people a JOIN people b ON a.age + 0 = b.age ORDER BY a.name")
    async with profiled(people, engine) as (profiler, _), profiler.profile("job"), engine.connect() as connection:
        await connection.execute(joined)
    await engine.dispose()
    since = datetime.now(UTC) - timedelta(minutes=5)
    plans = [seen.finding for seen in (await store.list(since)).findings if seen.finding.plan is not None]
    assert plans
    assert "Seq Scan" in str(plans[0].plan)
