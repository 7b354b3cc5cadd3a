"""A streamed result takes until it is closed, its rows are counted, and they are the rows that there are without us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Result, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from querytoll.callsite import CallSites
from querytoll.capture import Capture
from querytoll.capture.stream import TimedFetch
from tests.capture.models import AUTHORS, Author, Book, Shelf
from tests.capture.watching import Database, Watch, run, sync_of

Watching = Callable[[], Watch]
ASYNC = ("asyncpg", "psycopg-async", "aiosqlite")
STREAMING = (*ASYNC, "psycopg")
ALL = (*STREAMING, "sqlite")
NUMBERS = text(
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40) SELECT n FROM numbers"
)

# psycopg minds a cursor that nobody closed, watched or not.
unclosed = pytest.mark.filterwarnings("ignore:.*:ResourceWarning")


@contextmanager
def streamed(connection: Connection, statement: Any, **options: Any) -> Iterator[Result[Any]]:
    """Execute with a server-side cursor, as `AsyncConnection.stream` does."""
    result = connection.execution_options(stream_results=True, **options).execute(statement)
    try:
        yield result
    finally:
        result.close()


# Time


@pytest.mark.drivers(*ASYNC)
async def test_a_stream_takes_until_its_consumer_is_done(database: Database, watch: Watching) -> None:
    """The time of a consumer that waits between rows is the statement's: its cursor stays open."""
    engine = database.engine()
    with watch() as seen:
        async with engine.connect() as connection:
            async for _ in await connection.stream(select(Author.id)):
                await asyncio.sleep(0.03)
            await asyncio.sleep(0.05)
    statement = seen.only
    assert statement.streamed
    assert 0.085 <= statement.elapsed <= seen.trace.elapsed - 0.045


@pytest.mark.drivers(*STREAMING)
async def test_sync_code_that_streams_is_timed_the_same(database: Database, watch: Watching) -> None:
    engine = database.engine()

    def work(connection: Connection) -> None:
        with streamed(connection, select(Author.id)) as result:
            for _ in result:
                time.sleep(0.02)

    with watch() as seen:
        await run(engine, work)
    assert seen.only.streamed
    assert seen.only.elapsed >= 0.055


@pytest.mark.drivers("sqlite")
async def test_a_driver_without_server_side_cursors_does_not_stream(database: Database, watch: Watching) -> None:
    with watch() as seen:
        await run(database.engine(), lambda c: c.execute(NUMBERS).all(), stream_results=True)
    assert not seen.only.streamed


@pytest.mark.drivers(*ALL)
async def test_a_result_that_is_not_streamed_ends_with_the_answer(database: Database, watch: Watching) -> None:
    """What the application does with fetched rows is not the database's time."""
    engine = database.engine()

    def work(connection: Connection) -> None:
        result = connection.execute(select(Author.id))
        time.sleep(0.05)
        result.all()

    with watch() as seen:
        await run(engine, work)
    assert not seen.only.streamed
    assert seen.only.elapsed <= seen.trace.elapsed - 0.045


@pytest.mark.drivers(*STREAMING)
@pytest.mark.parametrize("end", ["close", "exhaust", "first", "one row, then close"])
async def test_a_stream_ends_when_its_result_does(database: Database, watch: Watching, end: str) -> None:
    engine = database.engine()

    def work(connection: Connection) -> None:
        with streamed(connection, NUMBERS) as result:
            time.sleep(0.03)
            if end == "exhaust":
                result.all()
            elif end == "first":
                result.first()
            elif end == "one row, then close":
                result.fetchone()
            if end.endswith("close"):
                result.close()
            time.sleep(0.05)

    with watch() as seen:
        await run(engine, work)
    assert 0.025 <= seen.only.elapsed <= seen.trace.elapsed - 0.045


@unclosed
@pytest.mark.drivers(*ASYNC)
async def test_an_abandoned_stream_ends_with_its_connections_stay(database: Database, watch: Watching) -> None:
    """Nobody closes the result: its cursor lives until the connection is given back, not until the window closes."""
    engine = database.engine()
    with watch() as seen:
        async with engine.connect() as connection:
            result = await connection.stream(NUMBERS)
            await result.fetchone()
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.05)
    assert 0.025 <= seen.only.elapsed <= seen.trace.elapsed - 0.045
    assert seen.only.error is None


@pytest.mark.drivers(*STREAMING)
async def test_a_stream_that_is_open_when_the_window_closes_ends_with_it(database: Database, capture: Capture) -> None:
    """An inner window has what it saw; the outer one has the whole."""
    engine = database.engine()

    def work(connection: Connection) -> Watch:
        with Watch(capture) as inner:
            result = connection.execution_options(stream_results=True).execute(NUMBERS)
            time.sleep(0.03)
        time.sleep(0.05)
        result.close()
        return inner

    with Watch(capture) as outer:
        inner = await run(engine, work)
    assert inner.only.elapsed >= 0.025
    assert inner.only.started + inner.only.elapsed <= inner.trace.elapsed + 1e-6
    assert outer.only.elapsed >= 0.075
    assert inner.trace.database_seconds <= inner.trace.elapsed + 1e-6


# Rows

CONSUMERS: dict[str, Callable[[Result[Any]], int]] = {
    "iterate": lambda result: sum(1 for _ in result),
    "fetchall": lambda result: len(result.fetchall()),
    "fetchmany": lambda result: sum(len(rows) for rows in iter(lambda: result.fetchmany(7), [])),
    "fetchmany of everything": lambda result: len(result.fetchmany()),
    "partitions": lambda result: sum(len(rows) for rows in result.partitions(9)),
    "yield_per": lambda result: sum(1 for _ in result.yield_per(6)),
    "scalars": lambda result: len(result.scalars().all()),
    "mappings": lambda result: len(result.mappings().fetchmany(40)),
    "unique": lambda result: len(result.unique().all()),
    "one by one, then the rest": lambda result: sum(1 for _ in (result.fetchone(), result.fetchone(), *result.all())),
    "some, then the rest": lambda result: len([*result.fetchmany(3), *result.fetchall()]),
}


@pytest.mark.drivers(*STREAMING)
@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_rows_of_a_stream_are_counted_however_they_are_fetched(
    database: Database, watch: Watching, consumer: str
) -> None:
    def work(connection: Connection) -> int:
        with streamed(connection, NUMBERS) as result:
            return CONSUMERS[consumer](result)

    with watch() as seen:
        assert await run(database.engine(), work) == 40
    assert seen.only.rows == 40


@pytest.mark.drivers(*STREAMING)
async def test_rows_that_nobody_fetched_are_not_counted(database: Database, watch: Watching) -> None:
    """Of a stream that is given up early, the rows that came over the wire count."""

    def work(connection: Connection) -> None:
        with streamed(connection, NUMBERS, max_row_buffer=10) as result:
            result.fetchmany(3)

    with watch() as seen:
        await run(database.engine(), work)
    assert seen.only.rows is not None
    assert 3 <= seen.only.rows < 40


@pytest.mark.drivers(*ASYNC)
async def test_orm_entities_are_streamed_with_their_batches(database: Database, watch: Watching) -> None:
    """`yield_per` with a session: the stream and each selectin batch are statements."""
    engine = database.engine()
    with watch() as seen:
        async with AsyncSession(engine) as session:
            stream = await session.stream_scalars(select(Author).execution_options(yield_per=2))
            assert [author.id async for author in stream] == [1, 2, 3]
    assert (seen.only.streamed, seen.only.rows) == (True, AUTHORS)


@pytest.mark.drivers(*STREAMING)
async def test_an_empty_stream_has_no_rows(database: Database, watch: Watching) -> None:
    with watch() as seen:
        assert await run(database.engine(), lambda c: c.execute(select(Author).where(Author.id < 0)).all()) == []
        await run(database.engine(), lambda c: c.execute(text("SELECT 1 WHERE 1 = 0")).all(), stream_results=True)
    assert [statement.rows or 0 for statement in seen.statements] == [0, 0]
    assert [statement.streamed for statement in seen.statements] == [False, True]


FETCHES = st.lists(
    st.sampled_from(["fetchone", "fetchmany", "fetchmany(1)", "fetchmany(4)", "fetchmany(100)", "fetchall", "next"]),
    max_size=8,
)


@pytest.fixture(scope="module")
def stubborn() -> Iterator[Any]:
    """An engine whose dialect says that it has server-side cursors, fast enough for many examples."""
    engine = Database("sqlite", "sqlite+pysqlite://").engine(poolclass=StaticPool)
    engine.dialect.supports_server_side_cursors = True
    engine.dialect.execution_ctx_cls = type(
        "Streaming",
        (engine.dialect.execution_ctx_cls,),
        {"create_server_side_cursor": lambda self: self._dbapi_connection.cursor()},
    )
    yield engine
    engine.dispose()


@settings(deadline=None)
@given(
    fetches=FETCHES,
    rows=st.integers(0, 30),
    buffer=st.integers(1, 40),
    yield_per=st.none() | st.integers(1, 10),
    scalars=st.booleans(),
)
def test_a_watched_stream_gives_what_an_unwatched_one_gives(
    stubborn: Any, fetches: list[str], rows: int, buffer: int, yield_per: int | None, scalars: bool
) -> None:
    """Whatever is called in whatever order, every call has the same answer with and without a window."""

    def answers() -> list[Any]:
        sql = text(
            "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows) "
            "SELECT n FROM numbers WHERE n > 0"
        )
        with (
            stubborn.connect() as connection,
            streamed(connection, sql.bindparams(rows=rows), max_row_buffer=buffer) as result,
        ):
            if yield_per:
                result.yield_per(yield_per)
            source: Any = result.scalars() if scalars else result
            return [fetched(source, each) for each in fetches]

    bare = answers()
    with Watch(Capture(CallSites(Path(__file__).parent))) as seen:
        watched = answers()
    assert watched == bare
    assert seen.only.streamed
    assert seen.only.rows is not None
    assert sum(len(each) if isinstance(each, list) else each is not None for each in bare) <= seen.only.rows <= rows


def fetched(source: Any, how: str) -> Any:
    """Call one of the methods; None at the end, and for what scalars have not got."""
    if how == "next":
        return next(iter(source), None)
    name, _, size = how.partition("(")
    if not hasattr(source, name):
        return None
    answer = getattr(source, name)(*([int(size[:-1])] if size else []))
    return list(answer) if isinstance(answer, (list, tuple)) and name != "fetchone" else answer


@pytest.mark.drivers(*ASYNC)
@pytest.mark.parametrize("wanted", ["rows", "values", "entities"])
async def test_a_watched_stream_of_a_real_driver_gives_the_same(
    database: Database, watch: Watching, wanted: str
) -> None:
    engine = database.engine()

    async def consume() -> list[Any]:
        async with AsyncSession(engine) as session:
            if wanted == "entities":
                found = await session.stream_scalars(select(Book).order_by(Book.id).execution_options(yield_per=2))
                return [(book.id, book.title) async for book in found]
            result = await session.stream(select(Book.id, Book.title).order_by(Book.id))
            return [tuple(row) async for row in result] if wanted == "rows" else list(await result.scalars().all())

    bare = await consume()
    with watch() as seen:
        assert await consume() == bare
    assert seen.statements[0].rows == len(bare) == 6


# Writes


@pytest.mark.drivers("asyncpg", "aiosqlite")
async def test_a_streamed_insertmanyvalues_loses_no_row(database: Database, watch: Watching) -> None:
    """SQLAlchemy fetches the rows of each batch by itself: nothing may be fetched before it."""
    engine = database.engine()
    labels = [f"{n}" for n in range(7)]

    async def write() -> list[str] | type[Exception]:
        async with engine.connect() as connection:
            try:
                result = await connection.stream(
                    insert(Shelf).returning(Shelf.label, sort_by_parameter_order=True),
                    [{"label": label} for label in labels],
                    execution_options={"insertmanyvalues_page_size": 3},
                )
                return [label async for (label,) in result]
            except TypeError as error:  # asyncpg with SQLAlchemy 2.0.30
                return type(error)

    bare = await write()
    with watch() as seen:
        assert await write() == bare
    assert bare in (labels, TypeError)
    assert {(statement.many, statement.streamed) for statement in seen.statements} == {(True, False)}


@pytest.mark.drivers("asyncpg", "aiosqlite")
@pytest.mark.parametrize("write", ["insert", "update", "text"])
async def test_a_streamed_write_gives_its_rows(database: Database, watch: Watching, write: str) -> None:
    statements: dict[str, Any] = {
        "insert": insert(Shelf).values(label="x").returning(Shelf.label),
        "update": update(Author).where(Author.id == 1).values(name="x").returning(Author.name),
        "text": text("INSERT INTO shelves (label) VALUES ('x') RETURNING label"),
    }
    with watch() as seen:
        async with database.engine().connect() as connection:
            result = await connection.stream(statements[write])
            assert [value async for (value,) in result] == ["x"]
    assert seen.only.rows == 1


@pytest.mark.drivers("asyncpg", "aiosqlite")
async def test_a_streamed_write_without_rows_is_a_statement(database: Database, watch: Watching) -> None:
    def write(connection: Connection) -> Any:
        return connection.execute(insert(Shelf).values(id=1, label="x")).inserted_primary_key

    engine = database.engine()
    bare = await run(engine, write, stream_results=True)
    with watch() as seen:
        assert await run(engine, write, stream_results=True) == bare
    assert seen.only.operation == "INSERT"


# Failures

# asyncpg fetches 50 rows at a time.
DIVIDE = text("SELECT 10 / (150 - n) FROM generate_series(1, 200) n")


@pytest.mark.drivers("asyncpg", "psycopg-async")
async def test_a_stream_that_fails_midway_says_so(database: Database, watch: Watching) -> None:
    """The error comes to the application as ever; the statement has its code, its time and the rows until then."""
    engine = database.engine()

    async def consume() -> int:
        async with engine.connect() as connection:
            result = (await connection.stream(DIVIDE)).yield_per(5)
            count = 0
            while True:
                try:
                    assert await result.fetchone()
                except (DBAPIError, asyncpg.DataError):
                    return count
                count += 1
                await asyncio.sleep(0.001)

    bare = await consume()
    with watch() as seen:
        assert await consume() == bare > 0
    assert seen.only.error == "22012"
    assert seen.only.rows is not None
    assert seen.only.rows >= bare
    assert seen.only.elapsed >= 0.001 * bare
    assert seen.trace.transactions[0].outcome == "rolled back"


@pytest.mark.drivers("asyncpg", "psycopg-async")
async def test_a_stream_that_fails_at_once_says_so(database: Database, watch: Watching) -> None:
    """The first row is fetched while the statement is executed: it fails there, as without us."""
    engine = database.engine()
    failing = text("SELECT 10 / (1 - n) FROM generate_series(1, 60) n")
    with watch() as seen:
        async with engine.connect() as connection:
            with pytest.raises((DBAPIError, asyncpg.DataError), match="division by zero"):
                await connection.stream(failing)
    assert seen.only.error == "22012"


@unclosed
@pytest.mark.drivers(*ASYNC)
async def test_a_cancelled_consumer_ends_the_stream(database: Database, watch: Watching) -> None:
    """Cancelled between two rows: the stream ends with the connection, which is free for the next."""
    engine = database.engine(pool_size=1, max_overflow=0)
    reached = asyncio.Event()

    async def consume() -> None:
        async with engine.connect() as connection:
            async for _ in await connection.stream(NUMBERS):
                reached.set()
                await asyncio.sleep(30)

    with watch() as seen:
        task = asyncio.create_task(consume())
        await reached.wait()
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await run(engine, lambda c: c.execute(text("SELECT 1")))
    stream, after = seen.statements
    assert stream.elapsed >= 0.025
    assert stream.started + stream.elapsed <= after.started
    assert after.error is None


@pytest.mark.drivers("asyncpg")
async def test_a_fetch_that_is_cancelled_is_the_streams_error(database: Database, watch: Watching) -> None:
    engine = database.engine()
    slow = text("SELECT n, pg_sleep(CASE WHEN n < 70 THEN 0 ELSE 30 END) FROM generate_series(1, 80) n")
    with watch() as seen:
        async with engine.connect() as connection:
            result = await connection.stream(slow)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(result.all(), 0.1)
    assert seen.only.error == "CancelledError"
    assert 0.09 <= seen.only.elapsed <= seen.trace.elapsed


# Other people's


@pytest.mark.drivers(*ASYNC)
async def test_a_stream_outside_of_windows_is_sqlalchemys_own(database: Database, watch: Watching) -> None:
    """Only a window changes how rows are fetched; a subclass of SQLAlchemy's own strategy then."""
    engine = database.engine()
    async with engine.connect() as connection:
        bare = await connection.stream(NUMBERS)
        with watch():
            watched = await connection.stream(NUMBERS)
            assert isinstance(strategy(watched), TimedFetch)
            assert isinstance(strategy(watched), type(strategy(bare)))
            await watched.close()
        assert not isinstance(strategy(bare), TimedFetch)
        await bare.close()


def strategy(result: AsyncResult[Any]) -> Any:
    return result._real_result.cursor_strategy  # type: ignore[union-attr]


@pytest.mark.drivers(*ASYNC)
async def test_streams_of_one_gather_keep_apart(database: Database, watch: Watching) -> None:
    """Each stream counts its own rows, whichever order their fetches come in."""
    engine = database.engine(pool_size=3)

    async def numbers(connection: AsyncConnection, limit: int) -> AsyncIterator[int]:
        async for (n,) in await connection.stream(text(f"{NUMBERS} LIMIT {limit}"), execution_options={"yield_per": 2}):
            yield n
            await asyncio.sleep(0)

    async def consume(limit: int) -> int:
        async with engine.connect() as connection:
            return len([n async for n in numbers(connection, limit)])

    with watch() as seen:
        assert await asyncio.gather(*map(consume, (5, 11, 40))) == [5, 11, 40]
    assert sorted(statement.rows or 0 for statement in seen.statements) == [5, 11, 40]


@pytest.mark.drivers("psycopg", "sqlite")
async def test_a_session_that_streams_in_sync_code(database: Database, watch: Watching) -> None:
    engine = database.engine()
    with watch() as seen, Session(sync_of(engine)) as session:
        found = session.scalars(select(Author).execution_options(yield_per=2)).all()
    assert len(found) == AUTHORS
    assert seen.only.streamed is (database.driver == "psycopg")
