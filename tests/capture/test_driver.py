"""Statements that go past SQLAlchemy, through a raw asyncpg connection, are seen as well, and once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from querytoll.capture import Capture, driver
from querytoll.capture.assemble import assemble
from querytoll.capture.connections import faults
from querytoll.model import Trace
from tests.capture.watching import Watch

Watching = Callable[[], Watch]


@pytest.fixture
async def engine(filled_postgres_url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(filled_postgres_url, pool_size=1, max_overflow=1)
    yield made
    await made.dispose()


@pytest.fixture
async def raw(engine: AsyncEngine) -> AsyncIterator[Any]:
    """asyncpg's connection of a pooled one."""
    async with engine.connect() as connection:
        yield (await connection.get_raw_connection()).driver_connection


CALLS: dict[str, tuple[Callable[[Any], Any], tuple[int | None, bool]]] = {
    "fetch": (lambda raw: raw.fetch("SELECT id FROM authors WHERE id > $1", 0), (3, False)),
    "fetchrow": (lambda raw: raw.fetchrow("SELECT id FROM authors ORDER BY id"), (1, False)),
    "fetchrow of nothing": (lambda raw: raw.fetchrow("SELECT id FROM authors WHERE id < 0"), (0, False)),
    "fetchval": (lambda raw: raw.fetchval("SELECT count(*) FROM authors"), (1, False)),
    "execute": (lambda raw: raw.execute("UPDATE authors SET name = name WHERE id < 3"), (2, False)),
    "execute with arguments": (lambda raw: raw.execute("UPDATE authors SET name = name WHERE id = $1", 1), (1, False)),
    "executemany": (
        lambda raw: raw.executemany("UPDATE authors SET name = name WHERE id = $1", [(1,), (2,)]),
        (None, True),
    ),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_raw_call_is_a_statement(raw: Any, watch: Watching, call: str) -> None:
    """With its rows, its line, and a digest where there are arguments; its answer is what it is without us."""
    work, (rows, many) = CALLS[call]
    bare = await work(raw)
    with watch() as seen:
        assert await work(raw) == bare
    statement = seen.only
    assert (statement.rows, statement.many, statement.error) == (rows, many, None)
    assert statement.site is not None
    assert statement.site.file == __file__
    assert 0 < statement.elapsed <= seen.trace.elapsed


async def test_a_raw_call_blames_the_line_that_awaits_it(raw: Any, watch: Watching) -> None:
    async def repository() -> int:
        await raw.fetch("SELECT 1")
        return inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]

    with watch() as seen:
        line = await repository()
    assert seen.only.site is not None
    assert (seen.only.site.function.rpartition(".")[2], seen.only.site.line) == ("repository", line)


async def test_what_sqlalchemy_sends_is_not_seen_twice(engine: AsyncEngine, raw: Any, watch: Watching) -> None:
    """Its statements, its BEGIN, its ping and its streams go through the same connection."""
    with watch() as seen:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            [row async for row in await connection.stream(text("SELECT 2"))]
        await raw.fetch("SELECT 3")
    assert seen.texts == ["SELECT 1", "SELECT 2", "SELECT 3"]


async def test_a_raw_transaction_is_control(raw: Any, watch: Watching) -> None:
    with watch() as seen:
        async with raw.transaction():
            await raw.execute("SELECT 1")
    assert seen.texts == ["SELECT 1"]


async def test_a_raw_failure_has_its_code_and_is_the_applications(raw: Any, watch: Watching) -> None:
    with watch() as seen:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await raw.fetch("SELECT 1 / $1::int", 0)
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await raw.execute("SELEKT")
    assert [statement.error for statement in seen.statements] == ["22012", "42601"]


async def test_a_raw_cancellation_keeps_its_time(raw: Any, watch: Watching) -> None:
    with watch() as seen, pytest.raises(TimeoutError):
        await asyncio.wait_for(raw.fetch("SELECT pg_sleep(30)"), 0.05)
    assert seen.only.error == "CancelledError"
    assert seen.only.elapsed >= 0.045


async def test_the_class_is_watched_once(engine: AsyncEngine, raw: Any, watch: Watching) -> None:
    """However many pools connect, a call is one statement."""
    for _ in range(3):
        driver.on_connect(type("Adapted", (), {"driver_connection": raw})(), None)
    with watch() as seen:
        await raw.fetch("SELECT 1")
    assert len(seen.statements) == 1


async def test_other_drivers_are_left_alone() -> None:
    driver.on_connect(object(), None)
    assert not hasattr(object, "_querytoll_watched")


async def test_outside_of_windows_nothing_is_kept(raw: Any, capture: Capture) -> None:
    await raw.fetch("SELECT 1")
    with Watch(capture) as seen:
        pass
    assert seen.statements == ()


async def test_windows_see_raw_calls_by_the_same_rules(raw: Any, capture: Capture) -> None:
    """Nested ones both, one that looks everywhere too; values leave digests only."""
    with Watch(capture, everywhere=True) as everything, Watch(capture) as outer, Watch(capture) as inner:
        await raw.fetch("SELECT $1::text", "s3cr3t")
    for seen in (everything, outer, inner):
        assert seen.texts == ["SELECT $1::text"]
        assert "s3cr3t" not in repr(seen.trace)
        assert seen.only.bind_count == 1
        assert seen.only.window == inner.window.serial


async def test_a_raw_call_of_a_task_that_outlives_its_request_is_reported(raw: Any, capture: Capture) -> None:
    """As SQLAlchemy's are: in a trace of its own, not in the request's."""
    traces: list[Trace] = []
    leaving = Capture(capture.sites, capture.faults, outlived=lambda left: traces.append(assemble(left)))
    ended = asyncio.Event()

    async def outlive() -> None:
        await ended.wait()
        await raw.fetch("SELECT 1")

    with Watch(leaving) as request:
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
    ended.set()
    await task
    await asyncio.sleep(0)
    (trace,) = traces
    assert [(statement.sql, statement.detached) for statement in trace.statements] == [("SELECT 1", True)]
    assert request.statements == ()


async def test_a_fault_of_ours_never_reaches_a_raw_call(
    raw: Any, faulty: None, monkeypatch: pytest.MonkeyPatch, capture: Capture
) -> None:
    def explode(*args: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    before = faults.counts["capture"]
    monkeypatch.setattr(driver, "_record", explode)
    with Watch(capture) as seen:
        assert await raw.fetchval("SELECT 1") == 1
    assert seen.statements == ()
    assert faults.counts["capture"] == before + 1


@pytest.fixture
def faulty() -> None:
    """Faults are expected: what they log is not looked at."""
