"""Slow statements get plans, on every driver, and the application notices nothing but its answer."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, event, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Profiler, ProfilerMiddleware, Settings, ignore
from querytoll.explain import worker
from querytoll.sinks.log import LogSink
from querytoll.sinks.prometheus import PrometheusSink
from tests.explain.sampling import SLOW, THRESHOLD, Sink, fill, strings, with_driver
from tests.explain.servers import execute

ASYNC = ("asyncpg", "asyncpg-uncached", "psycopg_async")


@pytest.fixture(scope="module")
def filled(url: str) -> str:
    fill(url)
    return url


@pytest.fixture
def sink() -> Sink:
    return Sink()


def settings(**changes: Any) -> Settings:
    return Settings(slow_statement_seconds=THRESHOLD, **changes)


def async_engine(url: str, driver: str, **options: Any) -> AsyncEngine:
    if driver == "asyncpg-uncached":
        arguments = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        return create_async_engine(with_driver(url, "asyncpg"), connect_args=arguments, **options)
    return create_async_engine(with_driver(url, driver), **options)


@pytest.fixture(params=ASYNC)
async def engine(request: pytest.FixtureRequest, filled: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(filled, request.param)
    yield engine
    await engine.dispose()


async def slow(connection: AsyncConnection, kind: int = 4711) -> int:
    return len((await connection.execute(text(SLOW + ":kind"), {"kind": kind})).all())


async def closed(profiler: Profiler) -> None:
    await profiler.drain()
    await profiler.aclose()
    assert profiler.faults.counts["explain"] == 0


async def test_a_slow_read_is_explained_executed_again_and_judged(engine: AsyncEngine, sink: Sink) -> None:
    """From the statement to the index that it lacks, in one report after the block's own."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("import") as window, engine.begin() as connection:
        assert await slow(connection) == 12
        assert await connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "off"
        assert await connection.scalar(text("SELECT current_setting('statement_timeout')")) == "0"
    await closed(profiler)
    assert sink.outcomes["captured"] >= 2
    (late,) = [report for report in sink.reports if "missing-index" in {finding.rule for finding in report.findings}]
    assert late.trace.id == window.trace.id
    assert (late.trace.name, late.trace.kind, late.trace.statements) == ("import", "block", ())
    finding = sink.found("missing-index")
    assert finding.evidence["index"] == "CREATE INDEX CONCURRENTLY ix_events_kind ON events (kind)"
    assert finding.site.function.startswith("slow")
    assert finding.summary == "SELECT events"
    assert finding.plan.source == "analyze"
    assert not [found for found in strings(late) if "4711" in found]


async def test_a_write_gets_its_plain_plan_only(engine: AsyncEngine, sink: Sink) -> None:
    """What can write is never executed again, and what the transaction wrote is still there."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("write"), engine.begin() as connection:
        result = await connection.execute(text("UPDATE events SET done = NOT done WHERE kind = :kind"), {"kind": 5})
        assert result.rowcount == 12
        await slow(connection, 5)
    await closed(profiler)
    reasons = {finding.evidence.get("not_analyzed") for finding in sink.findings}
    assert reasons == {"not a read", "its transaction had written"}
    assert sink.outcomes["refused"] == 2
    assert {plan.source for plan in sink.plans} == {"estimate"}


async def test_autocommit_and_no_pool(filled: str, sink: Sink) -> None:
    """Outside of a transaction the EXPLAIN makes one of its own, and ends it."""
    for driver in ASYNC:
        engine = async_engine(filled, driver, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        profiler = Profiler(settings(), engines=[engine], sinks=[sink])
        async with profiler.profile("x"), engine.connect() as connection:
            await slow(connection)
            assert await connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "off"
            await connection.execute(text("UPDATE events SET done = false WHERE id = 1"))
        await closed(profiler)
        await engine.dispose()
    assert [plan.source for plan in sink.plans].count("analyze") >= 3


@pytest.fixture(params=["psycopg", "psycopg2"])
def sync_engine(request: pytest.FixtureRequest, filled: str) -> Iterator[Engine]:
    pytest.importorskip(request.param)
    engine = create_engine(with_driver(filled, request.param))
    yield engine
    engine.dispose()


def test_a_synchronous_engine(sync_engine: Engine, sink: Sink) -> None:
    """Threads and scripts are sampled as well."""
    engine = sync_engine
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    with profiler.profile("script"), engine.begin() as connection:
        connection.execute(text(SLOW + ":kind"), {"kind": 4711}).all()
        connection.execute(text("INSERT INTO events (id, kind) VALUES (0, 0)"))
    asyncio.run(closed(profiler))
    with engine.begin() as connection:
        assert connection.execute(text("DELETE FROM events WHERE id = 0")).rowcount == 1
    assert sink.found("missing-index").plan.source == "analyze"


def _fill_in_one_statement(connection: Connection) -> None:
    """By SQLAlchemy's insertmanyvalues: one INSERT with the values of all rows."""
    rows = [{"id": -number, "kind": number} for number in range(1, 900)]
    table = Table("events", MetaData(), Column("id", Integer, primary_key=True), Column("kind", Integer))
    assert len(connection.execute(insert(table).returning(table.c.id), rows).all()) == len(rows)
    connection.rollback()


def _assert_one_plan_of_an_insert(sink: Sink) -> None:
    (plan,) = sink.plans
    assert plan.tree.kind == "ModifyTable"
    assert plan.tree.children[0].kind == "Values Scan"
    assert plan.tree.children[0].estimated_rows > 100


def test_a_batch_of_rows_is_one_statement(sync_engine: Engine, sink: Sink) -> None:
    """It has the parameters of all its rows, and its plan too."""
    profiler = Profiler(settings(), engines=[sync_engine], sinks=[sink])
    with profiler.profile("x"), sync_engine.connect() as connection:
        _fill_in_one_statement(connection)
    asyncio.run(closed(profiler))
    _assert_one_plan_of_an_insert(sink)


async def test_a_batch_of_rows_is_one_statement_in_async_code_too(engine: AsyncEngine, sink: Sink) -> None:
    """Its parameters are a tuple where the driver numbers them."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await connection.run_sync(_fill_in_one_statement)
    await closed(profiler)
    _assert_one_plan_of_an_insert(sink)


async def test_one_plan_per_statement_and_interval(engine: AsyncEngine, sink: Sink) -> None:
    """A statement that is slow a hundred times has one plan."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        for kind in range(8):
            await slow(connection, kind)
    await closed(profiler)
    assert len([plan for plan in sink.plans if plan.tree.relation == "events" or plan.tree.children]) == 1
    assert sink.outcomes["cached"] >= 6


@pytest.mark.parametrize(("level", "sources"), [("off", []), ("estimate", ["estimate"])])
async def test_the_setting_is_obeyed(engine: AsyncEngine, sink: Sink, level: Any, sources: list[str]) -> None:
    """Off sends nothing; estimate executes nothing."""
    profiler = Profiler(settings(explain=level), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        await slow(connection)
    await closed(profiler)
    assert [plan.source for plan in sink.plans] == sources


async def test_what_the_connection_was_is_copied(filled: str, sink: Sink) -> None:
    """The role, the search path and the setting that a policy reads make the other connection plan alike."""
    role = f"querytoll_tenant_{os.getpid()}"
    execute(
        filled,
        f"CREATE ROLE {role}",
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.events (id int PRIMARY KEY, kind int, tenant text)",
        "INSERT INTO shop.events SELECT i, i % 3000, 't' || i % 2 FROM generate_series(1, 30000) i",
        "ALTER TABLE shop.events ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON shop.events USING (tenant = current_setting('app.tenant'))",
        f"GRANT ALL ON SCHEMA shop TO {role}",
        f"GRANT ALL ON shop.events TO {role}",
        "VACUUM ANALYZE shop.events",
    )
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    try:
        async with profiler.profile("x"), engine.begin() as connection:
            await connection.execute(text("SET LOCAL search_path = shop"))
            await connection.execute(text(f"SET LOCAL ROLE {role}"))
            await connection.execute(text("SET LOCAL app.tenant = 't1'"))
            assert await slow(connection, 7) == 10
        await closed(profiler)
        finding = sink.found("seq-scan-filter")
        assert finding.plan.source == "analyze"
        assert finding.plan.tree.schema == "shop"
        assert finding.plan.tree.rows == 10
    finally:
        await engine.dispose()
        execute(filled, "DROP SCHEMA shop CASCADE", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_temporary_table_keeps_its_plain_plan(engine: AsyncEngine, sink: Sink) -> None:
    """What only the statement's own connection sees is not looked for elsewhere."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await connection.execute(text("CREATE TEMP TABLE mine AS SELECT * FROM events"))
        await connection.commit()
        for _ in range(3):
            await connection.execute(text("SELECT count(*) FROM mine WHERE kind > :kind"), {"kind": 1})
    await closed(profiler)
    (plan,) = [plan for plan in sink.plans if "mine" in repr(plan)]
    assert plan.source == "estimate"


async def test_a_failed_explain_leaves_the_transaction_whole(filled: str, sink: Sink) -> None:
    """A locked table makes the EXPLAIN give up; the application's transaction commits."""
    engine = async_engine(filled, "asyncpg")
    execute(
        filled,
        "CREATE TABLE slept (id int)",
        "CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN PERFORM pg_sleep(0.3); RETURN 1; END $$",
    )
    profiler = Profiler(settings(explain_timeout_seconds=0.05), engines=[engine], sinks=[sink])
    async with profiler.profile("x"):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO slept SELECT nap()"))  # planned as slowly as it was executed
            await connection.execute(text("INSERT INTO slept VALUES (2)"))
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM slept")) == 2
    await closed(profiler)
    await engine.dispose()
    assert sink.outcomes["timeout"] == 1


async def test_a_statement_that_was_stopped_is_explained_elsewhere(filled: str, sink: Sink) -> None:
    """After a statement_timeout the transaction is aborted: the plain plan comes from the profiler's connection."""
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 60"))
        with pytest.raises(Exception, match="statement timeout"):
            await connection.execute(text("SELECT count(*) FROM events a, events b WHERE a.kind < :kind"), {"kind": 9})
    await closed(profiler)
    await engine.dispose()
    (plan,) = sink.plans
    assert plan.source == "estimate"
    assert {finding.evidence["not_analyzed"] for finding in sink.findings} <= {"it was stopped"}


async def test_executemany_is_explained_by_its_first_row(engine: AsyncEngine, sink: Sink) -> None:
    """One row's plan stands for all of them."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    rows = [{"id": number, "kind": number} for number in range(1, 6)]
    async with profiler.profile("x"), engine.begin() as connection:
        await connection.execute(text("UPDATE events SET done = true WHERE kind = :kind AND id > :id"), rows)
    await closed(profiler)
    assert [plan.tree.kind for plan in sink.plans] == ["ModifyTable"]


async def test_the_applications_prepared_statements_stay(filled: str, sink: Sink) -> None:
    """No EXPLAIN leaves a named statement behind, and none of the application's is evicted."""
    engine = async_engine(filled, "asyncpg")
    names = text("SELECT array_agg(statement) FROM pg_prepared_statements WHERE statement LIKE 'EXPLAIN%'")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        await slow(connection)
        assert await connection.scalar(names) is None
        count = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT * FROM events%'")
        assert await connection.scalar(count) == 1
    await closed(profiler)
    await engine.dispose()
    assert sink.outcomes["captured"] >= 1


async def test_streams_go_on(engine: AsyncEngine, sink: Sink) -> None:
    """A server-side cursor that is open does not mind the savepoint."""
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    every = text("SELECT * FROM events ORDER BY pad, kind")
    async with profiler.profile("x"), engine.connect() as connection, connection.stream(every) as result:
        assert len([row async for row in result]) == 60_000
    await closed(profiler)


async def test_two_tasks_on_one_connection_do_not_meet(filled: str, sink: Sink) -> None:
    """A statement of another task never slips into the savepoint, with which it would be rolled back."""
    engine = async_engine(filled, "asyncpg")
    execute(filled, "CREATE TABLE noted (id int)")
    profiler = Profiler(settings(explain_interval_seconds=1e-9), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:

        async def note(number: int) -> None:
            await connection.execute(text("INSERT INTO noted VALUES (:n)"), {"n": number})

        await slow(connection)
        for number in range(0, 60, 2):
            await asyncio.gather(slow(connection, number), note(number), note(number + 1))
        await connection.commit()
        assert await connection.scalar(text("SELECT count(*) FROM noted")) == 60
    await closed(profiler)
    await engine.dispose()


async def test_the_request_has_its_name(filled: str) -> None:
    """Findings of a plan reach the log and Prometheus under the route that sent the statement, counted once."""
    engine = async_engine(filled, "asyncpg")
    sink, registry = Sink(), CollectorRegistry()
    log = logging.getLogger("tests.explain")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    sinks = [sink, LogSink(settings(), logger=log), PrometheusSink(registry)]
    profiler = Profiler(settings(), engines=[engine], sinks=sinks)
    app = FastAPI()
    app.add_middleware(ProfilerMiddleware, profiler=profiler)

    @app.get("/events/{kind}")
    async def events(kind: int) -> int:
        async with engine.connect() as connection:
            found = await slow(connection, kind)
            await profiler.drain()  # the plan is there before the request has ended
            return found

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/events/4711")).json() == 12
    await closed(profiler)
    await engine.dispose()
    names = {(report.trace.name, report.trace.path) for report in sink.reports}
    assert names == {("GET /events/{kind}", "/events/4711")}
    assert len({report.trace.id for report in sink.reports}) == 1
    assert any(line.startswith("missing-index GET /events/{kind}: events has no index for kind") for line in lines)
    assert not any("4711" in line for line in lines)
    labels = {"method": "GET", "route": "/events/{kind}"}
    assert registry.get_sample_value("querytoll_request_statements_count", labels) == 1
    assert registry.get_sample_value("querytoll_explains_total", {"outcome": "captured"}) == 2
    assert (registry.get_sample_value("querytoll_explain_duration_seconds_count") or 0) >= 2


async def test_ignored_rules_stay_silent(engine: AsyncEngine, sink: Sink) -> None:
    """`querytoll.ignore` and `Settings.ignore` hold for plan findings too."""
    profiler = Profiler(settings(ignore=("seq-scan-filter",)), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        with ignore("missing-index", reason="a report"):
            await slow(connection)
    await closed(profiler)
    assert sink.plans
    assert not {finding.rule for finding in sink.findings} & {"seq-scan-filter", "missing-index"}


async def test_a_changed_plan_is_told(filled: str, sink: Sink) -> None:
    """An index that appears changes the plan: both plans and both times are in the finding, once."""
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(explain_interval_seconds=1e-9), engines=[engine], sinks=[sink])
    slow_all = text("SELECT count(pad) FROM events WHERE kind < :kind")
    try:
        for index in ("SELECT 1", "CREATE INDEX flip_idx ON events (kind, pad); ANALYZE events", "SELECT 1"):
            execute(filled, *index.split("; "))
            async with profiler.profile("x"), engine.connect() as connection:
                await connection.execute(slow_all, {"kind": 700})
            await profiler.drain()
        flips = [finding for finding in sink.findings if finding.rule == "plan-flip"]
        (flip,) = [finding for finding in flips if finding.summary == "SELECT events"]
        assert "Seq Scan on events" in flip.evidence["plan_before"]
        assert "flip_idx" in flip.evidence["plan_after"]
        assert flip.evidence["seconds_before"] > 0
        assert not [found for found in strings(flip) if re.search(r"(?<![\d.])700(?![\d.])", found)]
    finally:
        await closed(profiler)
        await engine.dispose()
        execute(filled, "DROP INDEX flip_idx")


async def test_a_generic_plan_is_shown_as_such(filled: str, sink: Sink) -> None:
    """After five executions the server may plan without the values: the plan shown is that one, and says so."""
    if execute(filled, "SELECT current_setting('server_version_num')::int < 140000") == [(True,)]:
        pytest.skip("PostgreSQL 13 does not tell how often a generic plan was run")
    execute(
        filled,
        "CREATE TABLE uneven (id int, kind int)",
        "INSERT INTO uneven SELECT i, CASE WHEN i > 59500 THEN i ELSE 1 END FROM generate_series(1, 60000) i",
        "CREATE INDEX uneven_kind_idx ON uneven (kind)",
        "VACUUM ANALYZE uneven",
    )
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    try:
        query = text("SELECT id FROM uneven WHERE kind = :kind")
        async with engine.connect() as connection:
            await connection.execute(text("SET plan_cache_mode = force_generic_plan"))
            for _ in range(6):
                await connection.execute(query, {"kind": 59_990})
            await connection.execute(text("SET plan_cache_mode = auto"))
            async with profiler.profile("x"):
                await connection.execute(query, {"kind": 1})
        await closed(profiler)
        (plan,) = sink.plans
        assert plan.source == "estimate"
        assert "$1" in repr(plan)
        for finding in sink.findings:
            assert "generic plan" in finding.advice
    finally:
        await engine.dispose()


async def test_auto_explain_saves_the_explain(filled: str, sink: Sink) -> None:
    """Where the server sends the plan of the execution itself, nothing is run twice."""
    engine = async_engine(filled, "asyncpg")

    @event.listens_for(engine.sync_engine, "connect")
    def load(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for statement in (
            "LOAD 'auto_explain'",
            "SET auto_explain.log_level = notice",
            "SET auto_explain.log_format = json",
            "SET auto_explain.log_min_duration = 0",
        ):
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        await slow(connection)
    await closed(profiler)
    await engine.dispose()
    (plan,) = sink.plans
    assert plan.source == "auto_explain"
    assert not [found for found in strings(sink.reports) if "4711" in found]
    assert sink.found("missing-index").evidence["not_analyzed"].startswith("the server sent")


async def test_hypopg_verifies_the_index_where_it_is_installed(filled: str, sink: Sink) -> None:
    """The finding says that the planner would use the index, and what it would save; no index was made."""
    if execute(filled, "SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'") == [(0,)]:
        pytest.skip("HypoPG is not installed on this server")
    execute(filled, "CREATE EXTENSION hypopg")
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await slow(connection)
    await closed(profiler)
    await engine.dispose()
    execute(filled, "DROP EXTENSION hypopg")
    finding = sink.found("missing-index")
    assert finding.evidence["verified"] == "hypopg"
    assert finding.evidence["cost_after"] < finding.evidence["cost_before"] / 2
    assert "Verified with HypoPG" in finding.advice


async def test_a_wrong_statement_is_not_tried_again(filled: str, sink: Sink) -> None:
    """What EXPLAIN does not take is refused without asking, and counted."""
    engine = async_engine(filled, "asyncpg")
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await connection.execute(text("CREATE TABLE IF NOT EXISTS made AS SELECT * FROM events"))
        await connection.rollback()
    await closed(profiler)
    await engine.dispose()
    assert sink.outcomes == {"refused": 1}


@pytest.fixture
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LINGER_SECONDS", 0.05)


async def test_the_connection_goes_when_there_is_nothing_to_do(filled: str, sink: Sink, short_linger: None) -> None:
    """No thread and no connection stays behind."""
    engine = async_engine(filled, "asyncpg", poolclass=NullPool)
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await slow(connection)
    await profiler.drain()
    assert profiler._sampler is not None
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"  # autovacuum comes and goes
    )
    for _ in range(100):  # the server ends a process some time after its client is gone
        if profiler._sampler._worker._thread is None and execute(filled, count) == [(0,)]:
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("a thread or a connection stays behind")
    await closed(profiler)
    await engine.dispose()


def test_other_databases_get_one_note_and_lose_nothing(
    sink: Sink, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """No plan, no outcome, no fault: statements and findings are there as ever."""
    caplog.set_level(logging.INFO, "querytoll")
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    engine.dialect.name = "mysql"
    profiler = Profiler(Settings(slow_statement_seconds=1e-9), engines=[engine], sinks=[sink])
    with profiler.profile("x") as window, engine.begin() as connection:
        for number in range(5):
            connection.execute(text("SELECT :number"), {"number": number})
    asyncio.run(closed(profiler))
    engine.dispose()
    assert len(window.trace.statements) == 5
    assert {finding.rule for finding in window.report.findings} >= {"slow-query"}
    assert (sink.plans, sink.outcomes) == ([], {})
    assert [record.message for record in caplog.records if "plans" in record.message] == [
        "mysql: no plans of slow statements, which are for PostgreSQL and SQLite"
    ]


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
async def test_sqlite_tells_its_query_plan(driver: str, sink: Sink, tmp_path: Any) -> None:
    """EXPLAIN QUERY PLAN executes nothing; a table that is read whole is found."""
    address = f"sqlite+{driver}:///{tmp_path / 'test.db'}"
    engine: Any = create_async_engine(address) if driver == "aiosqlite" else create_engine(address)
    profiler = Profiler(Settings(slow_statement_seconds=1e-6), engines=[engine], sinks=[sink])

    def work(connection: Any) -> None:
        connection.execute(text("CREATE TABLE t (a int, b text)"))
        connection.execute(text("INSERT INTO t VALUES (1, 'x')"))
        assert connection.execute(text("SELECT * FROM t WHERE a = :a"), {"a": 4711}).all() == []

    if isinstance(engine, Engine):
        with profiler.profile("x"), engine.begin() as connection:
            work(connection)
        engine.dispose()
    else:
        async with profiler.profile("x"), engine.begin() as connection:
            await connection.run_sync(work)
        await engine.dispose()
    await closed(profiler)
    finding = sink.found("seq-scan-filter")
    assert finding.title == "t is read whole"
    assert not [found for found in strings(sink.reports) if "4711" in found]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "querytoll-explain"]
