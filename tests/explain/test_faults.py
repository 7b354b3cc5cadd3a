"""Whatever happens to the server, the pool, the loop or the process: the request goes on, and nothing leaks."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Profiler, Settings
from querytoll.explain import worker
from scripts.postgres import CACHE, Server, embedded
from tests.explain import servers
from tests.explain.sampling import SLOW, THRESHOLD, Sink, fill, with_driver
from tests.explain.servers import execute

SLEEPY = """
CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF current_query() LIKE 'EXPLAIN%' AND (current_setting('idle_in_transaction_session_timeout') <> '0') = {own} THEN
        PERFORM pg_sleep(8);
    END IF;
    RETURN 4711;
END $$
"""
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"


class Killable:
    """A server that can be killed as `pg_ctl stop -m immediate` does."""

    def __init__(self, server: Server, stop: Callable[[], None]) -> None:
        self.url = server.url(driver=None)
        self.stop = stop


@contextmanager
def newest() -> Iterator[Killable]:
    home = CACHE / f"postgres-18-faults-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with embedded(home) as server:
        place = home / "place" if (home / "place").is_symlink() else home
        pid = int((place / "data" / "postmaster.pid").read_text().split()[0])
        yield Killable(server, lambda: os.kill(pid, signal.SIGQUIT))


@contextmanager
def private() -> Iterator[Killable]:
    if not servers.PROGRAMS.exists():
        pytest.skip(servers.ABSENT)
    with servers.private() as server:
        yield Killable(server, server.stop_immediately)


@pytest.fixture(params=[private] if servers.GIVEN else [newest, private])
def killable(request: pytest.FixtureRequest) -> Iterator[Killable]:
    with request.param() as server:
        execute(server.url, "DROP TABLE IF EXISTS events", "DROP FUNCTION IF EXISTS nap")
        fill(server.url)
        yield server


@pytest.fixture(scope="module")
def filled(url: str) -> str:
    fill(url)
    execute(url, SLEEPY.format(own="false"))
    return url


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LINGER_SECONDS", 0.05)


def settings(**changes: Any) -> Settings:
    return Settings(slow_statement_seconds=THRESHOLD, **changes)


@pytest.fixture
async def engine(filled: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(with_driver(filled, "asyncpg"))
    yield engine
    await engine.dispose()


async def sleeping(url: str, wanted: int = 1) -> None:
    for _ in range(300):
        if execute(url, SLEEPING) == [(wanted,)]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no EXPLAIN sleeps")


@pytest.mark.parametrize("own", [False, True], ids=["its-connection", "our-connection"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_the_server_is_killed_in_mid_explain(killable: Killable, driver: str, own: bool, sink: Sink) -> None:
    """The statement's rows are there; the next statement fails as it would without querytoll."""
    execute(killable.url, SLEEPY.format(own=str(own).lower()))
    engine = create_async_engine(with_driver(killable.url, driver))
    profiler = Profiler(settings(explain_timeout_seconds=20), engines=[engine], sinks=[sink])

    rows: list[Any] = []

    async def request() -> None:
        async with profiler.profile("x"), engine.connect() as connection:
            rows.extend((await connection.execute(text(SLOW + "nap()"))).all())
            for _ in range(100):
                await connection.execute(text("SELECT 1"))
                await asyncio.sleep(0.05)

    async with asyncio.timeout(15):
        task = asyncio.create_task(request())
        await sleeping(killable.url)
        killable.stop()
        with pytest.raises((DBAPIError, OSError)):
            await task
        assert len(rows) == 12
        await profiler.drain()
        await profiler.aclose()
    await engine.dispose()
    assert sink.outcomes["error"] >= 1
    assert bool(sink.plans) == own  # the plain plan is told when the rest is lost
    assert profiler.faults.counts["explain"] == 0


async def test_a_cancelled_request_ends_at_once(engine: AsyncEngine, filled: str, sink: Sink) -> None:
    """A cancellation that arrives during the EXPLAIN passes through; the pool gets back a whole connection."""
    profiler = Profiler(settings(explain_timeout_seconds=20), engines=[engine], sinks=[sink])

    async def request() -> None:
        async with profiler.profile("x"), engine.begin() as connection:
            await connection.execute(text(SLOW + "nap()"))

    task = asyncio.create_task(request())
    await sleeping(filled)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
    await sleeping(filled, 0)
    async with engine.begin() as connection:
        assert await connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "off"
    await profiler.aclose()


async def test_an_explain_that_hangs_is_given_up(engine: AsyncEngine, sink: Sink) -> None:
    """The server's timeout ends it, and the transaction goes on."""
    profiler = Profiler(settings(explain_timeout_seconds=0.1), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.begin() as connection:
        started = time.monotonic()
        await connection.execute(text(SLOW + "nap()"))
        assert time.monotonic() - started < 2
        assert await connection.scalar(text("SELECT 1")) == 1
    await profiler.aclose()
    assert sink.outcomes["timeout"] == 1


async def test_a_lock_is_not_waited_for(engine: AsyncEngine, filled: str, sink: Sink) -> None:
    """Outside of a transaction the table may be locked by the time of the EXPLAIN: it gives up within lock_timeout."""
    own = create_async_engine(with_driver(filled, "asyncpg"), isolation_level="AUTOCOMMIT")
    profiler = Profiler(settings(), engines=[own], sinks=[sink])
    execute(filled, "CREATE TABLE IF NOT EXISTS locked (id int)")
    async with profiler.profile("x"), own.connect() as connection, engine.begin() as other:
        await other.execute(text("LOCK TABLE locked"))
        started = time.monotonic()
        with pytest.raises(DBAPIError):
            await connection.execute(text("SELECT 1; SELECT 2"))
        async with asyncio.timeout(5):
            await connection.execute(text("SET statement_timeout = 60"))
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT * FROM locked"))  # stopped: explained elsewhere
        await profiler.drain()
        assert time.monotonic() - started < 3
    await profiler.aclose()
    await own.dispose()
    assert sink.outcomes["timeout"] == 1


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
async def test_a_pool_without_room_is_not_asked(filled: str, driver: str, sink: Sink) -> None:
    """A pool of one, in use by the request itself: the plan comes, and the request never waits for it."""
    engine = create_async_engine(with_driver(filled, driver), pool_size=1, max_overflow=0, pool_timeout=1)
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        await connection.execute(text(SLOW + ":kind"), {"kind": 7})
        await profiler.drain()
        assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    await profiler.aclose()
    await engine.dispose()
    assert "analyze" in {plan.source for plan in sink.plans}


async def test_a_server_without_room_keeps_the_plain_plan(filled: str, sink: Sink) -> None:
    """Where the profiler gets no connection of its own the plain plan is told, and no other is tried for a while."""
    engine = create_async_engine(with_driver(filled, "asyncpg"))
    profiler = Profiler(settings(explain_interval_seconds=1e-9), engines=[engine], sinks=[sink])
    role = f"querytoll_single_{os.getpid()}"
    execute(filled, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1", f"GRANT SELECT ON events TO {role}")
    single = engine.url.set(username=role)
    limited = create_async_engine(single, poolclass=NullPool)
    profiler = Profiler(settings(explain_interval_seconds=1e-9), engines=[limited], sinks=[sink])
    try:
        async with profiler.profile("x"), limited.connect() as connection:
            for kind in (7, 8):
                await connection.execute(text(SLOW + ":kind"), {"kind": kind})
                await profiler.drain()
        await profiler.aclose()
    finally:
        await limited.dispose()
        await engine.dispose()
        execute(filled, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    assert sink.outcomes["error"] == 2
    assert [plan.source for plan in sink.plans] == ["estimate", "estimate"]
    assert sink.found("seq-scan-filter")


def test_the_loop_is_closed_while_a_plan_is_made(filled: str, sink: Sink) -> None:
    """The work goes on beside the application's loop, and ends by itself."""
    engine = create_async_engine(with_driver(filled, "asyncpg"), poolclass=NullPool)
    profiler = Profiler(settings(), engines=[engine], sinks=[sink])

    async def application() -> None:
        async with profiler.profile("x"), engine.connect() as connection:
            await connection.execute(text(SLOW + ":kind"), {"kind": 7})

    asyncio.run(application())
    asyncio.run(application())
    for _ in range(200):
        if any(plan.source == "analyze" for plan in sink.plans):
            break
        time.sleep(0.02)
    assert any(plan.source == "analyze" for plan in sink.plans)
    asyncio.run(profiler.aclose())


def test_a_forked_worker_has_a_connection_of_its_own(filled: str, tmp_path: Path) -> None:
    """Neither the parent's thread nor its connection is used in the child."""
    told = tmp_path / "told"
    sink = Sink()
    engine = create_engine(with_driver(filled, "psycopg"), poolclass=NullPool)
    profiler = Profiler(settings(explain_interval_seconds=1e-9), engines=[engine], sinks=[sink])

    def work() -> None:
        with profiler.profile("x"), engine.connect() as connection:
            connection.execute(text(SLOW + ":kind"), {"kind": 7}).all()

    work()
    child = os.fork()
    if child == 0:
        try:
            sink.reports.clear()
            work()
            asyncio.run(profiler.drain())
            told.write_text(",".join(plan.source for plan in sink.plans))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    asyncio.run(profiler.aclose())
    assert told.read_text() == "analyze"
    assert "analyze" in {plan.source for plan in sink.plans}


async def test_the_queue_is_bounded(filled: str, sink: Sink) -> None:
    """While one plan is being made only so many wait; the others are counted."""
    execute(
        filled,
        "CREATE OR REPLACE FUNCTION nap_own() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF current_setting('idle_in_transaction_session_timeout') <> '0' THEN PERFORM pg_sleep(0.2); END IF;"
        " RETURN 4711; END $$",
    )
    engine = create_async_engine(with_driver(filled, "asyncpg"))
    limits = settings(explain_interval_seconds=1e-9, explain_queue=2, explain_floor_seconds=1000)
    profiler = Profiler(limits, engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        for _ in range(8):
            await connection.execute(text(SLOW + "nap_own()"))
    await profiler.aclose()
    await engine.dispose()
    assert sink.outcomes["budget"] >= 4
    assert 2 <= len(sink.plans) <= 4


async def test_explains_do_not_cost_more_than_allowed(engine: AsyncEngine, sink: Sink) -> None:
    """When the allowance is used up no plan is made."""
    limits = settings(explain_interval_seconds=1e-9, explain_floor_seconds=0.0001, explain_share=0.0001)
    profiler = Profiler(limits, engines=[engine], sinks=[sink])
    async with profiler.profile("x"), engine.connect() as connection:
        for kind in range(8):
            await connection.execute(text(SLOW + ":kind"), {"kind": kind})
    await profiler.aclose()
    assert sink.outcomes["budget"] >= 6
