"""Every statement of an open window becomes a `Statement`, whatever sent it, through whatever driver and engine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    DDL,
    Engine,
    Sequence,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, StaticPool

from querytoll.callsite import CallSites
from querytoll.capture import Capture, Window, attach, detach, disown, listeners
from querytoll.capture.assemble import so_far
from tests.capture.models import AUTHORS, Author, Shelf
from tests.capture.watching import Database, Watch, run, sync_of

Watching = Callable[[], Watch]
SLEEP = text("SELECT pg_sleep(:seconds)")


def flush(connection: Connection) -> None:
    with Session(connection) as session:
        session.add(Shelf(label="flushed"))
        session.flush()


def flush_many(connection: Connection) -> None:
    with Session(connection) as session:
        session.add_all(Shelf(label=f"flushed {n}") for n in range(3))
        session.flush()


def orm_rows(connection: Connection) -> None:
    with Session(connection) as session:
        kept = session.scalars(select(Author)).all()
        assert session.get(Author, 1) in kept
        session.expunge_all()
        session.get(Author, 1)


WAYS: dict[str, tuple[Callable[[Connection], Any], list[tuple[str, bool]]]] = {
    "core select": (lambda c: c.execute(select(Author.name)).all(), [("SELECT", False)]),
    "core scalar": (lambda c: c.scalar(select(func.count()).select_from(Author)), [("SELECT", False)]),
    "core insert": (lambda c: c.execute(insert(Shelf).values(label="core")), [("INSERT", False)]),
    "core update": (lambda c: c.execute(update(Author).values(name=Author.name)), [("UPDATE", False)]),
    "core delete": (lambda c: c.execute(delete(Shelf)), [("DELETE", False)]),
    "text": (
        lambda c: c.execute(text("SELECT name FROM authors WHERE id = :id"), {"id": 1}).all(),
        [("SELECT", False)],
    ),
    "driver sql": (lambda c: c.exec_driver_sql("SELECT name FROM authors").all(), [("SELECT", False)]),
    "driver sql without parameters": (
        lambda c: c.execution_options(no_parameters=True).exec_driver_sql("SELECT name FROM authors").all(),
        [("SELECT", False)],
    ),
    "text executemany": (
        lambda c: c.execute(text("INSERT INTO shelves (label) VALUES (:label)"), [{"label": "x"}, {"label": "y"}]),
        [("INSERT", True)],
    ),
    "core executemany": (
        lambda c: c.execute(
            update(Author).where(Author.id == bindparam("key")).values(name=bindparam("new")),
            [{"key": 1, "new": "author 1"}, {"key": 2, "new": "author 2"}],
        ),
        [("UPDATE", True)],
    ),
    "insertmanyvalues in batches": (
        lambda c: (
            c.execution_options(insertmanyvalues_page_size=3)
            .execute(insert(Shelf).returning(Shelf.id), [{"label": f"{n}"} for n in range(7)])
            .all()
        ),
        [("INSERT", True)] * 3,
    ),
    "ddl": (lambda c: c.execute(DDL("CREATE TEMPORARY TABLE scratch (id INTEGER)")), [("CREATE", False)]),
    "orm": (orm_rows, [("SELECT", False)] * 2),
    "orm flush": (flush, [("INSERT", False)]),
    "orm flush of several": (flush_many, [("INSERT", True)]),
}
# There is nothing in SQLite's RETURNING to put the rows of a batch in order.
ON_SQLITE = {"orm flush of several": [("INSERT", True)] * 3}


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_to_execute_gives_its_statements(database: Database, watch: Watching, way: str) -> None:
    work, expected = WAYS[way]
    if not database.is_postgres:
        expected = ON_SQLITE.get(way, expected)
    engine = database.engine()
    with watch() as seen:
        await run(engine, work)
    assert [(statement.operation, statement.many) for statement in seen.statements] == expected
    assert seen.trace.dropped == 0


async def test_a_statement_carries_what_the_driver_knows(database: Database, watch: Watching) -> None:
    """Text, moments, engine and place of one statement are those of the call."""
    engine = database.engine()

    def work(connection: Connection) -> int:
        connection.execute(text("SELECT name FROM authors ORDER BY id")).all()
        return inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]

    with watch() as seen:
        line = await run(engine, work)
    statement = seen.only
    assert statement.sql == "SELECT name FROM authors ORDER BY id"
    assert statement.rows == (AUTHORS if database.is_postgres else None)
    assert 0 <= statement.started <= statement.started + statement.elapsed <= seen.trace.elapsed
    assert statement.site is not None
    assert (statement.site.file, statement.site.line) == (__file__, line)
    assert statement.site.function.endswith("<locals>.work")
    assert statement.engine == f"{database.url.drivername}://{database.url.host or ''}/{database.url.database or ''}"
    assert (statement.error, statement.streamed, statement.detached, statement.window) == (
        None,
        False,
        False,
        seen.window.serial,
    )
    assert statement.blocking is (not database.is_async)


async def test_rows_that_were_written_are_counted(database: Database, watch: Watching) -> None:
    engine = database.engine()
    with watch() as seen:
        await run(engine, lambda c: c.execute(update(Author).where(Author.id < 3).values(name=Author.name)))
    assert seen.only.rows == 2


async def test_a_sequence_asked_for_a_value_is_a_statement(postgres_url: str, watch: Watching) -> None:
    """What SQLAlchemy sends by itself to compute a default costs a round trip like any other."""
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        await connection.execute(DDL("CREATE TEMPORARY SEQUENCE numbers"))
        with watch() as seen:
            assert await connection.run_sync(lambda sync: sync.scalar(Sequence("numbers"))) == 1
    await engine.dispose()
    assert "nextval" in seen.only.sql


async def test_nothing_is_seen_before_and_after_the_window(database: Database, watch: Watching) -> None:
    engine = database.engine()
    await run(engine, lambda c: c.execute(text("SELECT 1")))
    with watch() as seen:
        await run(engine, lambda c: c.execute(text("SELECT 2")))
    await run(engine, lambda c: c.execute(text("SELECT 3")))
    assert seen.texts == ["SELECT 2"]


async def test_statements_through_the_await_api_are_seen_with_their_lines(
    filled_postgres_url: str, watch: Watching
) -> None:
    """`AsyncConnection`, `AsyncSession`, `scalars`, `stream` and `run_sync` all blame the awaiting line."""
    engine = create_async_engine(filled_postgres_url)
    with watch() as seen:
        async with engine.connect() as connection:
            first = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
            await connection.execute(select(Author.id))
            await connection.scalar(select(Author.id))
            await connection.exec_driver_sql("SELECT 1")
            [row async for row in await connection.stream(select(Author.id))]
        async with AsyncSession(engine) as session:
            second = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
            await session.scalars(select(Author))
            await session.get(Author, 99)
            await session.run_sync(lambda sync: sync.scalars(select(Author)).all())
    await engine.dispose()
    lines = [statement.site.line for statement in seen.statements if statement.site]
    assert lines == [*range(first, first + 4), *range(second, second + 3)]


# Engines


@pytest.fixture
def unattached() -> Iterator[None]:
    """Start with no listener of ours anywhere."""
    detach()
    yield
    detach()


async def test_engines_made_before_and_after_attaching_are_seen(
    database: Database, watch: Watching, unattached: None
) -> None:
    """Where the engine was made does not matter, not even if it has run statements already."""
    before = database.engine()
    await run(before, lambda c: c.execute(text("SELECT 0")))
    attach()
    after = database.engine()
    with watch() as seen:
        await run(before, lambda c: c.execute(text("SELECT 1")))
        await run(after, lambda c: c.execute(text("SELECT 2")))
    assert seen.texts == ["SELECT 1", "SELECT 2"]


async def test_only_named_engines_are_seen(database: Database, watch: Watching, unattached: None) -> None:
    named, other = database.engine(), database.engine()
    attach([named])
    with watch() as seen:
        await run(named, lambda c: c.execute(text("SELECT 1")))
        await run(other, lambda c: c.execute(text("SELECT 2")))
    detach([named])
    assert seen.texts == ["SELECT 1"]
    assert len(seen.trace.connections) == 1


ATTACHINGS: dict[str, Callable[[Any], None]] = {
    "class twice": lambda engine: (attach(), attach()),  # type: ignore[func-returns-value]
    "named twice": lambda engine: (attach([engine]), attach([engine])),  # type: ignore[func-returns-value]
    "class, then named": lambda engine: (attach(), attach([engine])),  # type: ignore[func-returns-value]
    "named, then class": lambda engine: (attach([engine]), attach()),  # type: ignore[func-returns-value]
    "named and its async face": lambda engine: attach([engine, sync_of(engine)]),
}


@pytest.mark.parametrize("attaching", ATTACHINGS)
async def test_pitfall_12_attaching_twice_counts_once(
    database: Database, watch: Watching, unattached: None, attaching: str
) -> None:
    """Attaching is idempotent, in every order of class and engine: one statement, one checkout."""
    engine = database.engine()
    ATTACHINGS[attaching](engine)
    try:
        with watch() as seen:
            await run(engine, lambda c: c.execute(text("SELECT 1")))
            await run(engine, lambda c: c.execute(text("SELECT 1")))
    finally:
        detach([engine])
    assert seen.texts == ["SELECT 1"] * 2
    assert len(seen.trace.connections) == 2


async def test_detaching_ends_it(database: Database, watch: Watching, unattached: None) -> None:
    engine = database.engine()
    attach()
    attach([engine])
    detach()
    detach([engine])
    detach([engine])
    with watch() as seen:
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert seen.texts == []


@pytest.mark.parametrize("named", [False, True], ids=["class", "named"])
async def test_a_disposed_engine_is_still_seen(
    database: Database, watch: Watching, unattached: None, named: bool
) -> None:
    """`engine.dispose()` makes a new pool; statements and checkouts of the new one count as before."""
    engine = database.engine()
    attach([engine] if named else None)
    try:
        for _ in range(2):
            with watch() as seen:
                await run(engine, lambda c: c.execute(text("SELECT 1")))
                await run(engine, lambda c: c.execute(text("SELECT 1")))
            assert seen.texts == ["SELECT 1"] * 2
            assert len(seen.trace.connections) == 2
            await engine.dispose() if database.is_async else engine.dispose()
    finally:
        detach([engine])


async def test_our_own_engine_is_never_seen(database: Database, watch: Watching) -> None:
    """A disowned engine gives neither statements nor checkouts nor transactions, streams included."""
    own, theirs = database.engine(), database.engine()
    disown(own)
    with watch() as seen:
        await run(own, lambda c: c.execute(text("SELECT name FROM authors")).all(), commit=True, stream_results=True)
        await run(own, lambda c: c.execute(insert(Shelf), [{"label": "a"}, {"label": "b"}]))
        await run(theirs, lambda c: c.execute(text("SELECT 2")))
    assert seen.texts == ["SELECT 2"]
    assert (len(seen.trace.connections), len(seen.trace.transactions)) == (1, 1)
    assert seen.trace.connections[0].engine != "querytoll"


async def test_a_window_of_some_engines_leaves_out_the_others(database: Database, capture: Capture) -> None:
    """`Capture.only` holds for statements and for checkouts, in nested windows each for its own."""
    one, two = database.engine(), database.engine()
    only = Capture(capture.sites, capture.faults, only=frozenset([id(sync_of(one).dialect)]))
    with Watch(capture) as outer, Watch(only) as inner:
        for engine in (one, two, one):
            await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert (len(outer.statements), len(inner.statements)) == (3, 2)
    assert (len(outer.trace.connections), len(inner.trace.connections)) == (3, 2)


async def test_options_of_an_engine_do_not_hide_it(database: Database, watch: Watching) -> None:
    """`engine.execution_options()` makes an engine of the same pool, which is seen too."""
    engine = database.engine().execution_options(logging_token="shard 1")
    with watch() as seen:
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert seen.texts == ["SELECT 1"]


async def test_several_engines_of_one_window_keep_their_names_and_transactions(
    database: Database, watch: Watching
) -> None:
    reader, writer = database.engine(logging_name="reader"), database.engine(logging_name="writer")
    with watch() as seen:
        await run(reader, lambda c: c.execute(text("SELECT 1")))
        await run(writer, lambda c: c.execute(text("SELECT 2")), commit=True)
        await run(reader, lambda c: c.execute(text("SELECT 3")))
    assert [statement.engine for statement in seen.statements] == ["reader", "writer", "reader"]
    assert [statement.transaction for statement in seen.statements] == [0, 1, 2]
    assert [(t.engine, t.outcome) for t in seen.trace.transactions] == [
        ("reader", "rolled back"),
        ("writer", "committed"),
        ("reader", "rolled back"),
    ]


def test_the_name_of_an_engine_holds_no_credentials(watch: Watching) -> None:
    engine = create_engine("sqlite+pysqlite:///file::memory:?uri=true", poolclass=StaticPool)
    engine.url = make_url("postgresql+psycopg://ada:secret@db.example:5433/shop?password=secret")
    with watch() as seen, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engine.dispose()
    assert seen.only.engine == "postgresql+psycopg://db.example/shop"


async def test_what_sqlalchemy_asks_of_a_new_connection_is_not_counted(database: Database, watch: Watching) -> None:
    """The dialect's initialisation, pings before use and an application's `connect` hook are not its statements."""
    engine = database.engine(pool_pre_ping=True, pool_size=1, max_overflow=0)
    hooked = []

    @event.listens_for(sync_of(engine), "connect")
    def greet(dbapi_connection: Any, record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("SELECT 'hello'")
        cursor.close()
        hooked.append(1)

    with watch() as seen:
        for _ in range(3):
            await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert hooked == [1]
    assert seen.texts == ["SELECT 1"] * 3
    assert seen.trace.controls == 0


@pytest.mark.drivers("asyncpg", "psycopg-async", "psycopg")
async def test_a_ping_that_replaces_a_dead_connection_is_not_counted(database: Database, watch: Watching) -> None:
    engine = database.engine(pool_pre_ping=True, pool_size=1, max_overflow=0)
    pid = await run(engine, lambda c: c.scalar(text("SELECT pg_backend_pid()")))
    await terminate(database, pid)
    with watch() as seen:
        assert await run(engine, lambda c: c.scalar(text("SELECT pg_backend_pid()"))) != pid
    assert seen.texts == ["SELECT pg_backend_pid()"]
    assert seen.only.error is None


@pytest.mark.drivers("asyncpg", "psycopg-async", "psycopg")
async def test_a_retry_after_a_lost_connection_is_a_statement_of_its_own(database: Database, watch: Watching) -> None:
    """The attempt that found the connection dead and the one that went well are both there."""
    engine = database.engine(pool_size=1, max_overflow=0)
    await terminate(database, await run(engine, lambda c: c.scalar(text("SELECT pg_backend_pid()"))))
    with watch() as seen:
        with pytest.raises(DBAPIError) as lost:
            await run(engine, lambda c: c.execute(text("SELECT 1")))
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert lost.value.connection_invalidated
    first, second = seen.statements
    assert first.error is not None
    assert second.error is None
    assert first.transaction != second.transaction
    assert [t.outcome for t in seen.trace.transactions] == ["rolled back", "rolled back"]


async def terminate(database: Database, pid: int) -> None:
    killer = database.engine(poolclass=NullPool)
    await run(killer, lambda c: c.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}))


# Failures and cancellations

FAILURES = {
    "division": ("SELECT 1 / (id - 1) FROM authors ORDER BY id", "22012", None),
    "syntax": ("SELEKT 1", "42601", "OperationalError"),
    "no such table": ("SELECT * FROM nowhere", "42P01", "OperationalError"),
    "unique": ("INSERT INTO authors (id, name, biography) VALUES (1, 'x', '')", "23505", "IntegrityError"),
    "not null": ("INSERT INTO shelves (label) VALUES (NULL)", "23502", "IntegrityError"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_statement_keeps_its_code_and_never_the_text(
    database: Database, watch: Watching, failure: str
) -> None:
    sql, state, sqlite_error = FAILURES[failure]
    expected = state if database.is_postgres else sqlite_error
    if expected is None:
        return  # SQLite divides by zero
    engine = database.engine()
    with watch() as seen, pytest.raises(DBAPIError):
        await run(engine, lambda c: c.execute(text(sql)))
    assert seen.only.error == expected
    assert seen.only.rows is None
    assert [t.outcome for t in seen.trace.transactions] == ["rolled back"]


@pytest.mark.drivers("asyncpg", "psycopg-async", "psycopg")
async def test_pitfall_1_a_statement_ended_by_the_server_keeps_its_time(database: Database, watch: Watching) -> None:
    """`statement_timeout`: SQLSTATE 57014, and the time until then."""
    engine = database.engine()

    def work(connection: Connection) -> None:
        connection.execute(text("SET LOCAL statement_timeout = 60"))
        connection.execute(SLEEP, {"seconds": 30})

    with watch() as seen, pytest.raises(DBAPIError):
        await run(engine, work)
    assert seen.statements[-1].error == "57014"
    assert seen.statements[-1].elapsed >= 0.055


@pytest.mark.drivers("asyncpg", "psycopg-async")
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_pitfall_1_a_cancelled_statement_keeps_its_time(database: Database, watch: Watching, how: str) -> None:
    """Both `task.cancel()` and `asyncio.wait_for()`; the connection is back, the next one works."""
    engine = database.engine(pool_size=1, max_overflow=0)
    await run(engine, lambda c: c.execute(text("SELECT 0")))
    started = asyncio.Event()
    event.listen(sync_of(engine), "before_cursor_execute", lambda *args: started.set())

    async def sleep() -> None:
        async with engine.connect() as connection:
            await connection.execute(SLEEP, {"seconds": 30})

    with watch() as seen:
        task = asyncio.create_task(sleep())
        await started.wait()
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.06)
        else:
            await asyncio.sleep(0.06)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    cancelled, after = seen.statements
    assert cancelled.error == "CancelledError"
    assert 0.05 <= cancelled.elapsed <= seen.trace.elapsed
    assert after.error is None
    assert after.started >= cancelled.started + cancelled.elapsed
    assert all(checkout.hold < seen.trace.elapsed for checkout in seen.trace.connections)


async def test_pitfall_1_failures_leave_no_start_behind_on_a_pooled_connection(
    database: Database, watch: Watching
) -> None:
    """Of 20 failures and 20 successes in turn on one connection, no two overlap: each has its own start."""
    engine = database.engine(pool_size=1, max_overflow=0)

    def work(connection: Connection) -> None:
        for _ in range(20):
            with pytest.raises(DBAPIError):
                connection.execute(text("SELEKT 1"))
            connection.rollback()
            connection.execute(text("SELECT 1"))

    with watch() as seen:
        await run(engine, work)
    assert [statement.error is None for statement in seen.statements] == [False, True] * 20
    ends = [statement.started + statement.elapsed for statement in seen.statements]
    assert all(end <= later.started for end, later in zip(ends, seen.statements[1:], strict=False))


@pytest.mark.drivers("asyncpg", "psycopg-async", "aiosqlite")
async def test_pitfall_2_concurrent_statements_keep_their_own_durations(database: Database, watch: Watching) -> None:
    """Under `gather`, the long one is long and the short one short."""
    engine = database.engine()

    async def sleep(seconds: float, name: str) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT pg_sleep(:seconds) AS {name}"), {"seconds": seconds})

    with watch() as seen:
        await asyncio.gather(sleep(0.3, "long"), sleep(0.05, "short"))
    found = {statement.sql.rpartition(" ")[2]: statement for statement in seen.statements}
    assert found["long"].elapsed >= 0.29
    assert 0.045 <= found["short"].elapsed < found["long"].elapsed
    assert found["long"].transaction != found["short"].transaction


@pytest.mark.drivers("asyncpg", "psycopg-async", "aiosqlite")
async def test_pitfall_3_overlapping_statements_count_once(database: Database, watch: Watching) -> None:
    """Database time is the union of the intervals: less than their sum, and never more than the trace."""
    engine = database.engine(pool_size=3)

    async def sleep() -> None:
        async with engine.connect() as connection:
            await connection.execute(SLEEP, {"seconds": 0.2})

    with watch() as seen:
        await asyncio.gather(sleep(), sleep(), sleep())
    total = sum(statement.elapsed for statement in seen.statements)
    assert total >= 0.59
    assert 0.19 <= seen.trace.database_seconds < total - 0.1
    assert seen.trace.database_seconds <= seen.trace.elapsed


# Bounds


async def test_a_window_is_bounded_and_counts_what_it_drops(database: Database, capture: Capture) -> None:
    """Promise 3: statements and checkouts over the limit are not kept; statements are counted."""
    engine = database.engine()
    small = Capture(capture.sites, capture.faults, max_statements=5)
    with Watch(small) as seen, Watch(capture) as all_of_it:
        for _ in range(12):
            await run(engine, lambda c: c.execute(text("SELECT 1")))
        assert so_far(seen.window)[0] == 12
    assert (len(seen.statements), seen.trace.dropped) == (5, 7)
    assert len(seen.trace.connections) <= 2 * 5
    assert (len(all_of_it.statements), all_of_it.trace.dropped) == (12, 0)


@pytest.mark.drivers("asyncpg", "psycopg", "sqlite")
async def test_equal_texts_of_many_kilobytes_are_kept_once(database: Database, watch: Watching) -> None:
    """Promise 3: an import by insertmanyvalues makes a new text for every batch, of a size with its rows."""
    engine = database.engine()

    def load(connection: Connection) -> None:
        for batch in range(8):
            rows = [{"label": f"{batch}.{n}"} for n in range(400)]
            connection.execute(insert(Shelf).returning(Shelf.id), rows[:200])
            connection.execute(insert(Shelf).returning(Shelf.label), rows[200:])

    with watch() as seen:
        await run(engine, load)
        texts = [row[0].sql for row in seen.window.rows]
    assert min(map(len, texts)) > 1_000
    assert len({id(sql) for sql in texts}) == len(set(texts)) == 2
    assert len(seen.statements) == 16


# Bind values

MARKER = "s3cr3t"
BINDINGS: dict[str, Callable[[Connection], Any]] = {
    "named": lambda c: c.execute(text("SELECT :v"), {"v": MARKER}).all(),
    "literal": lambda c: c.execute(select(literal(MARKER))).all(),
    "in list": lambda c: c.execute(select(Author.id).where(Author.name.in_([MARKER, MARKER + "2"]))).all(),
    "limit": lambda c: c.execute(select(Author.id).where(Author.name > MARKER).limit(3)).all(),
    "executemany": lambda c: c.execute(insert(Shelf), [{"label": MARKER}, {"label": MARKER + "2"}]),
    "insertmanyvalues": lambda c: c.execute(insert(Shelf).returning(Shelf.id), [{"label": MARKER}] * 2),
    "update": lambda c: c.execute(update(Author).values(name=MARKER)),
    "key error": lambda c: c.execute(insert(Author).values(id=1, name=MARKER, biography=MARKER)),
}


@pytest.mark.parametrize("binding", BINDINGS)
async def test_promise_2_no_bind_value_reaches_the_trace(database: Database, watch: Watching, binding: str) -> None:
    """Neither on success nor on failure, where the server's message quotes the values."""
    engine = database.engine()
    with watch() as seen, contextlib.suppress(DBAPIError):
        await run(engine, BINDINGS[binding])
    assert len(seen.statements) == 1
    assert MARKER not in repr(seen.trace)


@pytest.fixture(scope="module")
def memory() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


@settings(deadline=None)
@given(marker=st.text("0123456789abcdef", min_size=12, max_size=30), wanted=st.booleans())
def test_promise_2_whatever_the_value(memory: Engine, marker: str, wanted: bool) -> None:
    sql = "SELECT :value" if wanted else "SELECT nothing FROM nowhere WHERE x = :value"
    seen = Watch(Capture(CallSites(__file__)))  # type: ignore[arg-type]
    with seen, memory.connect() as connection:
        try:
            connection.execute(text(sql), {"value": marker})
        except DBAPIError:
            assert not wanted
    assert seen.only.binds != 0
    assert marker not in repr(seen.trace)


async def test_equal_calls_share_a_digest_and_others_do_not(database: Database, watch: Watching) -> None:
    engine = database.engine()

    def work(connection: Connection) -> None:
        for key in (1, 2, 1):
            connection.execute(select(Author.name).where(Author.id == key))

    with watch() as seen:
        await run(engine, work)
    first, second, third = (statement.binds for statement in seen.statements)
    assert first == third != second


# Time and memory


async def test_pitfall_7_statements_outside_of_windows_are_not_kept(database: Database, watch: Watching) -> None:
    """Nothing of a statement that no window saw is left on its connection."""
    engine = database.engine()
    for _ in range(3):
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    with watch():
        pass
    # The database fixture looks through the pooled connections.


def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as freezegun does: replace the clocks in `time`, and wherever a module holds one of them by any name.

    All but `monotonic`, which is the event loop's.
    """
    real = {id(getattr(time, name)) for name in ("time", "perf_counter", "time_ns", "perf_counter_ns")}
    for name, module in list(sys.modules.items()):
        if not name.startswith(("querytoll", "time")) or not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in real:
                monkeypatch.setattr(module, attribute, lambda: 1_000.0)


def test_freezing_time_does_not_stop_our_clock(
    sqlite_url: str, watch: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under freezegun a statement, its transaction, its checkout and its trace still take time."""
    database = Database("sqlite", sqlite_url)
    engine = database.engine()
    nap = time.sleep
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    frozen_clock(monkeypatch)
    assert time.perf_counter() == time.perf_counter() == 1_000.0
    with watch() as seen, engine.connect() as connection:
        connection.execute(SLEEP, {"seconds": 0.02}).all()
        nap(0.01)
        connection.execute(text("SELECT 1"))
        connection.commit()
    engine.dispose()
    assert seen.statements[0].elapsed >= 0.019
    assert seen.statements[1].started >= seen.statements[0].elapsed + 0.009
    assert seen.trace.elapsed >= 0.029
    assert seen.trace.transactions[0].elapsed >= 0.029
    assert seen.trace.connections[0].hold >= 0.029


@pytest.mark.drivers("asyncpg", "aiosqlite")
async def test_freezing_time_does_not_stop_the_clock_of_streams(
    database: Database, watch: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = database.engine()
    frozen_clock(monkeypatch)
    with watch() as seen:
        async with engine.connect() as connection:
            async for _ in await connection.stream(select(Author.id)):
                await asyncio.sleep(0.01)
    assert seen.only.elapsed >= 0.029


def test_no_module_of_capture_holds_a_clock_that_freezing_would_replace() -> None:
    """The same for every module, whether or not the test above runs through it."""
    clocks = {id(time.perf_counter), id(time.monotonic), id(time.time)}
    held = [
        f"{name}.{attribute}"
        for name, module in list(sys.modules.items())
        if re.match(r"querytoll\.(capture|callsite)", name)
        for attribute, value in vars(module).items()
        if id(value) in clocks
    ]
    assert held == []


async def test_a_window_lets_go_of_its_entries_when_it_is_assembled(database: Database, watch: Watching) -> None:
    engine = database.engine()
    with watch() as seen:
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    assert (seen.window.rows, seen.window.holds) == ([], [])


def test_the_listeners_are_the_cheap_ones(unattached: None, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cursor or connection event is listened to: those switch on SQLAlchemy's slow path for every statement."""
    monkeypatch.setattr(Engine, "_has_events", False)  # whoever has listened to all engines has left it switched on
    engine = create_engine(sqlite_url)
    attach()
    attach([engine])
    try:
        with engine.connect() as connection:
            assert not engine._has_events
            assert not connection._has_events
    finally:
        detach([engine])
        engine.dispose()


def test_the_scope_is_one_lookup_when_no_window_is_open(monkeypatch: pytest.MonkeyPatch, memory: Engine) -> None:
    """Promise 7: without a window the dialect runs the statement itself."""
    monkeypatch.setattr(listeners, "_run", lambda *args: pytest.fail("it went through us"))
    monkeypatch.setattr(Window, "add", lambda *args: pytest.fail("it was recorded"))
    with memory.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
