"""What recordings see around every way to call an application, what the expectations accept, and what they say."""

from __future__ import annotations

import asyncio
import re
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from sqlalchemy import Engine, create_engine, event, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Finding, Profiler, ProfilerMiddleware, Report, Settings, Site, Statement, Trace
from querytoll.capture import attach, detach, everywhere, listeners, window
from querytoll.capture.scope import current
from querytoll.errors import QueryAssertionError, WindowError
from querytoll.model import Shape
from querytoll.testing import (
    Recording,
    assert_max_db_time,
    assert_max_queries,
    assert_no_findings,
    assert_no_n_plus_one,
    assert_num_queries,
    explain,
    record,
)
from tests.capture import models
from tests.capture.models import AUTHORS, Author, Book, Shelf

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer versions of Starlette want httpx2
    from starlette.testclient import TestClient

EXPECTATIONS: dict[str, Callable[[], Recording]] = {
    "max": lambda: assert_max_queries(0),
    "num": lambda: assert_num_queries(7),
    "time": lambda: assert_max_db_time(0),
}
"""Each is not met by a block with one statement."""


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Listeners are as before; no scope, no window that sees everything and no ticking clock is left."""
    listened = event.contains(Engine, "do_execute", listeners.do_execute)
    yield
    attach() if listened else detach()
    assert current.get() is None
    assert everywhere == []
    assert [sampler for sampler in window._samplers._samplers.values() if sampler.windows] == []


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are written for 80 columns, with files relative to the repository."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("QUERYTOLL_PROJECT_ROOT", str(Path(__file__).parents[1]))


@pytest.fixture(scope="module")
def sync_url(postgres_url: str) -> str:
    """The module's database with its tables filled, for psycopg."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    engine = create_engine(url)
    with engine.begin() as connection:
        models.create(connection)
    engine.dispose()
    return url


@pytest.fixture
def sync_engine(sync_url: str) -> Iterator[Engine]:
    made = create_engine(sync_url, poolclass=NullPool)
    yield made
    made.dispose()


@pytest.fixture
def engine(postgres_url: str, sync_url: str) -> AsyncEngine:
    """An engine for any number of event loops: it keeps no connection."""
    return create_async_engine(postgres_url, poolclass=NullPool)


async def ask(engine: AsyncEngine, *words: str) -> None:
    """Send one statement for each word, which its text holds."""
    async with engine.connect() as connection:
        for word in words:
            await connection.execute(text(f"SELECT '{word}'"))


def ask_sync(engine: Engine, *words: str) -> None:
    with engine.connect() as connection:
        for word in words:
            connection.execute(text(f"SELECT '{word}'"))  # asked


def fail_twice(engine: Engine) -> None:
    with engine.connect() as connection:
        for table in ("nowhere", "authors", "nowhere"):
            with suppress(DBAPIError):
                connection.execute(text(f"SELECT id FROM {table} -- a comment"))  # asked for
            connection.rollback()


async def sleep(engine: AsyncEngine, seconds: float) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})  # slept


async def within(recording: Recording, *work: Awaitable[object]) -> None:
    async with recording:
        for each in work:
            await each


async def failure(recording: Recording, *work: Awaitable[object]) -> str:
    """What an expectation says of work that does not meet it."""
    with pytest.raises(QueryAssertionError) as caught:
        await within(recording, *work)
    return str(caught.value)


def words(recording: Recording) -> list[str]:
    return [statement.sql[8:-1] for statement in recording.statements]


async def find(engine: AsyncEngine, number: int) -> str | None:
    """A repository's method."""
    async with engine.connect() as connection:
        return await connection.scalar(select(Author.name).where(Author.id == number))  # find


async def load_lazily(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        for author in (await session.scalars(select(Author))).all():  # authors
            await author.awaitable_attrs.books  # lazy


async def ask_in_a_loop(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        for number in (await connection.scalars(select(Author.id))).all():
            await connection.execute(select(Book.title).where(Book.author_id == number))


async def load_early(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        numbers = (await connection.scalars(select(Author.id))).all()
        await connection.execute(select(Book.title).where(Book.author_id.in_(numbers)))


def library(engine: AsyncEngine, *, profiled: bool = True, lifespan: Any = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/ask/{word}")
    async def asked(word: str) -> None:
        await ask(engine, word)

    @app.get("/authors/{number}")
    async def author(number: int) -> str | None:
        return await find(engine, number)

    @app.get("/several/{words:path}")
    async def several(words: str) -> None:
        await ask(engine, *words.split("/"))

    @app.get("/lazy")
    async def lazy() -> None:
        await load_lazily(engine)  # endpoint

    @app.websocket("/chat")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async for word in socket.iter_text():
            await ask(engine, word)
            await socket.send_text(word)

    if profiled:
        app.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[]))
    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A real server in another thread; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def asgi_client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")


# What a recording sees


def test_a_recording_of_sync_calls(sync_engine: Engine) -> None:
    """Statements of the block are there in their order, those before and after it are not."""
    ask_sync(sync_engine, "before")
    with record() as queries:
        ask_sync(sync_engine, "a", "b")
    ask_sync(sync_engine, "after")
    assert words(queries) == ["a", "b"]
    assert queries.count == len(queries) == 2
    assert queries.trace.kind == "test"
    assert queries.findings == queries.report.findings == ()
    assert current.get() is None


async def test_a_recording_of_async_calls(engine: AsyncEngine) -> None:
    """`async with` records what is awaited in the block, and the tasks that it starts."""
    async with record() as queries:
        await ask(engine, "a")
        await asyncio.gather(ask(engine, "b"), ask(engine, "c"))
        await asyncio.create_task(ask(engine, "d"))
    assert (words(queries)[0], sorted(words(queries)), words(queries)[-1]) == ("a", list("abcd"), "d")


def test_a_recording_around_an_event_loop(engine: AsyncEngine) -> None:
    """A sync test that runs async code in an event loop sees its statements."""
    with record() as queries, closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(ask(engine, "within"))
    assert words(queries) == ["within"]


async def test_a_recording_and_threads(sync_engine: Engine) -> None:
    """`asyncio.to_thread` belongs to the block; a thread that was there before does not."""
    opened, asked = threading.Event(), threading.Event()

    def neighbour() -> None:
        assert opened.wait(30)
        ask_sync(sync_engine, "neighbour")
        asked.set()

    thread = threading.Thread(target=neighbour)
    thread.start()
    async with record() as queries:
        opened.set()
        assert await asyncio.to_thread(asked.wait, 30)
        await asyncio.to_thread(ask_sync, sync_engine, "own")
    await asyncio.to_thread(thread.join)
    assert words(queries) == ["own"]


async def test_a_neighbours_statements_are_not_counted(engine: AsyncEngine) -> None:
    """Another task of the same event loop, busy during the whole block, changes no count."""
    done = asyncio.Event()

    async def neighbour() -> None:
        while not done.is_set():
            await ask(engine, "neighbour")

    task = asyncio.create_task(neighbour())
    async with assert_num_queries(20):
        for _ in range(20):
            await ask(engine, "own")
    done.set()
    await task


@pytest.mark.parametrize("profiled", [True, False])
async def test_a_recording_around_asgi_transport(engine: AsyncEngine, profiled: bool) -> None:
    """Requests by httpx's ASGI transport are seen, whether the application is profiled or not."""
    async with asgi_client(library(engine, profiled=profiled)) as client, record() as queries:
        await client.get("/ask/one")
        await client.get("/ask/two")
    assert words(queries) == ["one", "two"]


@pytest.mark.parametrize("profiled", [True, False])
def test_a_recording_around_test_client(engine: AsyncEngine, profiled: bool) -> None:
    """Requests by Starlette's TestClient are seen, though they run in a thread of its own."""
    client = TestClient(library(engine, profiled=profiled))
    with record() as queries:
        client.get("/ask/one")
        client.get("/ask/two")
    assert words(queries) == ["one", "two"]


def test_a_recording_around_a_test_client_with_lifespan(engine: AsyncEngine) -> None:
    """A client that was started before has its requests seen, without what its application sends by itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await ask(engine, "startup")
        yield
        await ask(engine, "shutdown")

    app = library(engine, lifespan=lifespan)
    with record() as all_queries, TestClient(app) as client:
        with record() as queries:
            client.get("/ask/one")
        client.get("/ask/two")
    assert words(queries) == ["one"]
    assert words(all_queries) == ["startup", "one", "two", "shutdown"]


def test_a_recording_around_a_websocket(engine: AsyncEngine) -> None:
    """Messages of a websocket that was opened in the block are seen."""
    with record() as queries, TestClient(library(engine)).websocket_connect("/chat") as socket:
        for word in "abc":
            socket.send_text(word)
            assert socket.receive_text() == word
    assert words(queries) == ["a", "b", "c"]


def test_a_recording_of_a_live_server(engine: AsyncEngine) -> None:
    """A server in another thread is seen with `everywhere=True`, request by request, and only then."""
    with serving(library(engine)) as address, record(everywhere=True) as all_queries:
        with record() as queries:
            httpx.get(f"{address}/ask/one")
        with assert_max_queries(1, everywhere=True), assert_num_queries(1, everywhere=True):
            httpx.get(f"{address}/ask/two")
        with assert_no_n_plus_one(everywhere=True), assert_no_findings(everywhere=True):
            for number in range(1, 8):
                httpx.get(f"{address}/authors/{number}")
        with (
            pytest.raises(QueryAssertionError, match="selectinload"),
            assert_no_n_plus_one(everywhere=True),
        ):
            httpx.get(f"{address}/lazy")
    assert words(queries) == []
    assert words(all_queries)[:2] == ["one", "two"]
    assert len(all_queries) == 2 + 7 + 1 + AUTHORS


async def test_nested_recordings_see_their_own(engine: AsyncEngine) -> None:
    """An inner block's statements are the outer one's as well, not the other way round."""
    async with record() as outer:
        await ask(engine, "before")
        async with record() as inner:
            await ask(engine, "within")
        await ask(engine, "after")
    assert words(outer) == ["before", "within", "after"]
    assert words(inner) == ["within"]


async def test_a_recording_sees_what_a_disabled_profiler_does_not(engine: AsyncEngine) -> None:
    """`QUERYTOLL_ENABLED=false` in the tests' environment switches no expectation off."""
    app = library(engine, profiled=False)
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(Settings(enabled=False), sinks=[]))
    async with asgi_client(app) as client:
        with record(settings=Settings(enabled=False)) as queries:
            await client.get("/ask/one")
    assert words(queries) == ["one"]


def test_failed_statements_are_counted(sync_engine: Engine) -> None:
    """A statement that the server refused is one of the queries, with its SQLSTATE."""

    def fail() -> None:
        with sync_engine.connect() as connection:
            connection.execute(text("SELECT * FROM nowhere"))

    with record() as queries, pytest.raises(DBAPIError):
        fail()
    assert [statement.error for statement in queries.statements] == ["42P01"]
    with pytest.raises(QueryAssertionError), assert_max_queries(0), pytest.raises(DBAPIError):
        fail()


async def test_transaction_control_is_not_counted(engine: AsyncEngine) -> None:
    """BEGIN, SAVEPOINT, RELEASE, ROLLBACK TO and COMMIT are not the application's queries; a failed INSERT is."""
    async with assert_num_queries(3) as queries, engine.begin() as connection:
        await connection.execute(insert(Shelf), {"label": "once"})
        async with connection.begin_nested():
            await connection.execute(select(Shelf.id))
        with pytest.raises(IntegrityError):
            async with connection.begin_nested():
                await connection.execute(insert(Shelf), {"label": "once"})
    assert [statement.operation for statement in queries.statements] == ["INSERT", "SELECT", "INSERT"]
    assert queries.statements[2].error == "23505"
    assert queries.trace.controls >= 4
    (transaction,) = queries.trace.transactions
    assert transaction.outcome == "committed"


def test_statements_over_the_limit_are_counted(sync_engine: Engine) -> None:
    """What is too much to be kept is counted all the same."""
    with record(settings=Settings(max_statements=2)) as queries:
        ask_sync(sync_engine, *"abcde")
    assert (len(queries.statements), queries.count) == (2, 5)


def test_a_recording_read_too_early_says_so(sync_engine: Engine) -> None:
    """Before its end a recording has nothing to tell; the error says what to do."""
    queries = record()
    with queries:
        ask_sync(sync_engine, "a")
        for read in ("report", "trace", "statements", "findings", "count"):
            with pytest.raises(
                WindowError, match=r"^the recording is not complete yet: read it after the `with` block$"
            ):
                getattr(queries, read)
        with pytest.raises(WindowError):
            len(queries)
    assert len(queries) == 1


def test_a_recording_entered_twice_says_so(sync_engine: Engine) -> None:
    """A recording is for one block; a second entry, inside or afterwards, fails and harms the first one in nothing."""
    queries = record()
    message = "^a recording can be entered once: make one for each block$"
    with queries:
        ask_sync(sync_engine, "a")
        with pytest.raises(WindowError, match=message):
            queries.__enter__()
    with pytest.raises(WindowError, match=message):
        queries.__enter__()
    assert words(queries) == ["a"]
    assert everywhere == []


# What the expectations accept


@pytest.mark.parametrize("count", [0, 1, 9, 10])
def test_at_most_ten_accepts_up_to_ten(sync_engine: Engine, count: int) -> None:
    """Regression of other tools: the comparison was the wrong way round, 0 failed."""
    with assert_max_queries(10) as queries:
        if count:
            ask_sync(sync_engine, *map(str, range(count)))
    assert queries.count == count


@pytest.mark.parametrize("count", [11, 50])
def test_at_most_ten_refuses_more(sync_engine: Engine, count: int) -> None:
    """Regression of other tools: the comparison was the wrong way round, 50 passed."""
    with (
        pytest.raises(QueryAssertionError, match=f"^expected at most 10 queries, got {count}\n"),
        assert_max_queries(10),
    ):
        ask_sync(sync_engine, *map(str, range(count)))


@pytest.mark.parametrize(("number", "message"), [(1, "1 query, got 2"), (2, None), (3, "3 queries, got 2")])
async def test_the_exact_number_is_expected(engine: AsyncEngine, number: int, message: str | None) -> None:
    """Fewer statements than expected are not met any more than more are."""
    error = None
    try:
        async with assert_num_queries(number):
            await ask(engine, "a", "b")
    except QueryAssertionError as caught:
        error = str(caught).splitlines()[0]
    assert error == (message and f"expected exactly {message}")


@pytest.mark.parametrize("work", [load_lazily, ask_in_a_loop], ids=["lazy", "core"])
async def test_an_n_plus_one_is_refused(engine: AsyncEngine, work: Callable[[AsyncEngine], Any]) -> None:
    """Loads on attribute access and plain queries in a loop are both read once per row."""
    assert (await failure(assert_no_n_plus_one(), work(engine))).startswith("expected no n-plus-one, got 1\n")


async def test_an_in_list_is_no_n_plus_one(engine: AsyncEngine) -> None:
    """What the advice says is accepted."""
    async with assert_no_n_plus_one(), assert_no_findings():
        await load_early(engine)


async def test_five_clean_requests_are_no_n_plus_one(engine: AsyncEngine) -> None:
    """Regression of other tools: one clean request after the other in a test was taken for a loop."""
    async with asgi_client(library(engine)) as client, assert_no_n_plus_one(), assert_no_findings():
        for number in (1, 2, 3, 4, 5, 1, 1, 1):
            await client.get(f"/authors/{number}")


def test_five_clean_requests_by_test_client_are_no_n_plus_one(engine: AsyncEngine) -> None:
    """The same by TestClient: neither the client's calls nor the requests behind them repeat anything."""
    client = TestClient(library(engine))
    with assert_no_n_plus_one(), assert_no_findings():
        for number in (1, 2, 3, 4, 5, 1, 1, 1):
            client.get(f"/authors/{number}")


async def test_requests_are_not_added_up(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: budgets of time and of statements were held against all requests of the test together."""
    monkeypatch.setenv("QUERYTOLL_DATABASE_BUDGET_SECONDS", "0.7")
    monkeypatch.setenv("QUERYTOLL_STATEMENT_BUDGET", "2")
    app = library(engine)

    @app.get("/sleep")
    async def asleep() -> None:
        await sleep(engine, 0.25)

    rules = ["too-much-db-time", "too-many-queries", "long-transaction"]
    async with asgi_client(app) as client, assert_no_findings(rules=rules):
        for _ in range(3):
            await client.get("/sleep")


async def test_a_fault_of_one_request_among_many_is_found(engine: AsyncEngine) -> None:
    """An N+1 in a single request is one, however many clean ones there are around it."""
    async with asgi_client(library(engine)) as client:
        requests = [client.get(path) for path in ("/authors/1", "/authors/2", "/lazy", "/authors/3")]
        assert "n-plus-one: Author.books" in await failure(assert_no_n_plus_one(), *requests)


async def test_a_finding_names_its_request(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding about a whole request says which one it was."""
    monkeypatch.setenv("QUERYTOLL_STATEMENT_BUDGET", "2")
    async with asgi_client(library(engine)) as client:
        await client.get("/authors/1")
        told = await failure(assert_no_findings(), client.get("/authors/1"), client.get("/several/a/b/c"))
    assert "too-many-queries: GET /several/{words} sent 3 statements" in told


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["n-plus-one", "slow-query"], None),
        (["too-many-queries"], "expected no too-many-queries, got 1"),
        (["too-many-queries", "n-plus-one"], "expected no n-plus-one or too-many-queries, got 1: too-many-queries"),
        (None, "expected no finding, got 1: too-many-queries"),
    ],
    ids=["others", "this", "both", "all"],
)
async def test_only_the_rules_that_are_named_count(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, rules: list[str] | None, message: str | None
) -> None:
    """A finding of another rule is not what was asked for; without names, all rules count."""
    monkeypatch.setenv("QUERYTOLL_STATEMENT_BUDGET", "2")
    expectation, work = assert_no_findings(rules=rules), ask(engine, *"abc")
    if message is None:
        await within(expectation, work)
    else:
        assert (await failure(expectation, work)).splitlines()[0] == message


async def test_what_the_settings_ignore_does_not_count(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: findings that the project's environment ignores failed its tests."""
    monkeypatch.setenv("QUERYTOLL_IGNORE", '["n-plus-one@Author.books"]')
    await within(assert_no_findings(), load_lazily(engine))
    assert "n-plus-one" in await failure(assert_no_findings(), ask_in_a_loop(engine))


async def test_the_time_in_the_database_is_bounded(engine: AsyncEngine) -> None:
    """More seconds than expected are refused, with the slowest statement first; fewer are accepted."""
    await within(assert_max_db_time(60), sleep(engine, 0.03))
    told = await failure(assert_max_db_time(0.01), ask(engine, *"abcdefgh"), sleep(engine, 0.5))
    first, _, *shapes = told.splitlines()
    assert re.fullmatch(r"expected at most 10\.0 ms in the database, got \d+\.\d ms", first)
    assert shapes[0].startswith("  1x")
    assert "pg_sleep" in shapes[1]


async def test_statements_side_by_side_are_timed_once(engine: AsyncEngine) -> None:
    """Overlapping statements are not added up."""
    async with record() as queries:
        await asyncio.gather(*(sleep(engine, 0.2) for _ in range(3)))
    assert queries.trace.database_seconds >= 0.2
    assert queries.trace.database_seconds < sum(statement.elapsed for statement in queries.statements)


# The block's own exceptions


@pytest.mark.parametrize("expectation", EXPECTATIONS.values(), ids=EXPECTATIONS)
@pytest.mark.parametrize("error", [ValueError("mine"), AssertionError("mine"), KeyboardInterrupt("mine")], ids=type)
def test_the_blocks_own_exception_is_never_replaced(
    sync_engine: Engine, expectation: Callable[[], Recording], error: BaseException
) -> None:
    """A block that fails by itself fails with its own exception alone, however far off its queries are."""
    recording = expectation()

    def work() -> None:
        with recording:
            ask_sync(sync_engine, "a")
            raise error

    with pytest.raises(type(error), match="mine") as caught:
        work()
    assert caught.value is error
    assert error.__context__ is error.__cause__ is None
    assert words(recording) == ["a"]


def test_a_fault_of_ours_does_not_replace_the_blocks_exception(sync_engine: Engine) -> None:
    """Regression: a statement that cannot be read replaced the exception of the block."""
    recording = assert_max_queries(0)

    def work() -> None:
        with recording:
            assert recording._window is not None
            recording._window.rows.append("unreadable")  # type: ignore[arg-type]
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        work()
    assert caught.value.__context__ is None


def test_a_recording_can_be_read_after_it_failed(sync_engine: Engine) -> None:
    """The statements of an unmet expectation are there for a debugger or another assertion."""
    with pytest.raises(QueryAssertionError), assert_max_queries(0) as queries:
        ask_sync(sync_engine, "a")
    assert words(queries) == ["a"]


async def test_a_failure_is_shown_at_the_line_of_the_test(engine: AsyncEngine) -> None:
    """pytest leaves frames out that say `__tracebackhide__`: ours do, so that the `with` line is what it shows."""
    with pytest.raises(QueryAssertionError) as caught:
        await within(assert_max_queries(0), ask(engine, "a"))
    ours = [frame for frame, _ in traceback.walk_tb(caught.tb) if frame.f_globals["__name__"] == "querytoll.testing"]
    assert [frame.f_locals.get("__tracebackhide__") for frame in ours] == [True, True]


def test_a_failure_is_an_assertion_error() -> None:
    """Test runners show it as a failure, not as an error."""
    assert issubclass(QueryAssertionError, AssertionError)


# What a failure says


def normal(told: str) -> str:
    """A failure with durations as zeros, and with lines of this file as the names that their comments give them."""
    source = Path(__file__).read_text().splitlines()

    def named(match: re.Match[str]) -> str:
        _, comment, mark = source[int(match[2]) - 1].rpartition("  # ")
        return f"{match[1]}:{f'<{mark}>' if comment else 'LINE'}"

    assert max(map(len, told.splitlines())) <= 72, "80 columns with pytest's margin"
    return re.sub(r"(tests/test_testing\.py):(\d+)", named, re.sub(r"\d+\.\d ms", "0.0 ms", told))


def block(text: str) -> str:
    return textwrap.dedent(text).strip()


async def test_a_failure_with_an_n_plus_one(engine: AsyncEngine) -> None:
    """The message says what was expected and got, the statements by shape and line, and what to change."""
    async with asgi_client(library(engine)) as client:
        told = await failure(assert_max_queries(2), client.get("/lazy"))
    assert normal(told) == block("""
        expected at most 2 queries, got 4

          3x  SELECT books    tests/test_testing.py:<lazy>  0.0 ms
              SELECT ... FROM books WHERE ? = books.author_id ORDER BY books.id
              lazy load of Author.books
              from tests/test_testing.py:<endpoint>
          1x  SELECT authors  tests/test_testing.py:<authors>  0.0 ms
              SELECT authors.id, authors.name FROM authors
              from tests/test_testing.py:<endpoint>

        n-plus-one: Author.books loaded 3 times in a loop
          at tests/test_testing.py:<lazy> in load_lazily
          fix: Load it with its parents: .options(selectinload(Author.books)) on
               their statement (SELECT authors at tests/test_testing.py:<authors>).
    """)


async def test_a_failure_of_several_requests(engine: AsyncEngine) -> None:
    """A fault that several requests share is told once, with their number."""
    async with asgi_client(library(engine)) as client:
        told = await failure(assert_no_findings(), *(client.get("/lazy") for _ in range(3)))
    assert normal(told) == block("""
        expected no finding, got 1: n-plus-one

          9x  SELECT books    tests/test_testing.py:<lazy>  0.0 ms
              SELECT ... FROM books WHERE ? = books.author_id ORDER BY books.id
              lazy load of Author.books
              from tests/test_testing.py:<endpoint>
          3x  SELECT authors  tests/test_testing.py:<authors>  0.0 ms
              SELECT authors.id, authors.name FROM authors
              from tests/test_testing.py:<endpoint>

        n-plus-one: Author.books loaded 3 times in a loop (likewise in 2 other
          requests)
          at tests/test_testing.py:<lazy> in load_lazily
          fix: Load it with its parents: .options(selectinload(Author.books)) on
               their statement (SELECT authors at tests/test_testing.py:<authors>).
    """)


def test_a_failure_with_failed_statements(sync_engine: Engine) -> None:
    """Statements that failed are counted, and marked with their SQLSTATEs."""
    with pytest.raises(QueryAssertionError) as caught, assert_num_queries(1):
        fail_twice(sync_engine)  # failing
    assert normal(str(caught.value)) == block("""
        expected exactly 1 query, got 3

          2x  SELECT nowhere  tests/test_testing.py:<asked for>  0.0 ms
              SELECT id FROM nowhere
              2 failed: 42P01
              from tests/test_testing.py:<failing>
          1x  SELECT authors  tests/test_testing.py:<asked for>  0.0 ms
              SELECT id FROM authors
              from tests/test_testing.py:<failing>
    """)


def test_a_failure_without_statements() -> None:
    """Where nothing was seen although something was expected, the message says where else to look."""
    with pytest.raises(QueryAssertionError) as caught, assert_num_queries(1):
        pass
    assert str(caught.value) == block("""
        expected exactly 1 query, got 0

          no statements: this task or thread sent none, nor did what it started
          (everywhere=True sees those of a server in another thread)
    """)


# The parts of the text, from made-up reports


def shape(name: str, sql: str = "SELECT 1") -> Shape:
    return Shape(name, sql, sql.split()[0], f"{sql.split()[0]} {name}", (name,))


def statement(what: Shape, *places: str, elapsed: float = 0.001, **facts: Any) -> Statement:
    stack = tuple(Site(f"/srv/{place}.py", 7, "get", f"app/{place}.py") for place in places)
    return Statement(what.text, what, 0.0, elapsed, stack=stack, **facts)


def report(*statements: Statement, findings: tuple[Finding, ...] = (), dropped: int = 0) -> Report:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return Report(Trace("0" * 32, "test", "test", began, 1.0, statements, dropped=dropped), findings)


def told(*statements: Statement, width: int = 72, **facts: Any) -> list[str]:
    """The lines of a failure after its first."""
    return explain("unmet", report(*statements, **facts), width=width).splitlines()[2:]


def test_the_most_frequent_shapes_come_first() -> None:
    """Shapes are in order of their counts, then of their time; their columns are aligned."""
    shapes = [shape(name) for name in ("a", "orders", "bb")]
    rare, often, slow = shapes
    lines = told(
        *[statement(rare, "a/long/path/to/the/module")],
        *[statement(often, "orders")] * 120,
        *[statement(slow, "b", elapsed=2.0)],
    )
    assert lines[::2] == [
        "  120x  SELECT orders  app/orders.py:7                     120.0 ms",
        "    1x  SELECT bb      app/b.py:7                          2000.0 ms",
        "    1x  SELECT a       app/a/long/path/to/the/module.py:7  1.0 ms",
    ]


def test_one_shape_at_two_lines_is_told_twice() -> None:
    """Statements are grouped by shape and by the application's lines that led to them."""
    same = shape("orders")
    lines = told(statement(same, "repository", "orders"), statement(same, "repository", "users"), statement(same))
    assert lines[::3] == [
        "  1x  SELECT orders  app/repository.py:7    1.0 ms",
        "  1x  SELECT orders  app/repository.py:7    1.0 ms",
        "  1x  SELECT orders  (no application line)  1.0 ms",
    ]
    assert lines[2::3] == ["      from app/orders.py:7", "      from app/users.py:7"]


def test_callers_are_told_as_far_as_there_is_room() -> None:
    """The lines that led to a statement are few, and of those that do not fit the nearest is kept."""
    deep = statement(shape("orders"), "repository", "service", "router", "main")
    assert told(deep)[2] == "      from app/service.py:7 < app/router.py:7"
    assert told(deep, width=40)[2] == "      from app/service.py:7"


def test_many_shapes_are_cut_with_their_number() -> None:
    """At most twelve shapes are listed; the rest is told by its number."""
    lines = told(*(statement(shape(f"t{n}"), "orders") for n in range(15) for _ in range(n + 1)))
    assert len([line for line in lines if "SELECT t" in line]) == 12
    assert lines[0].startswith("  15x  SELECT t14  ")
    assert lines[-1] == "  and 6 more, of 3 other shapes or lines"


def test_statements_that_were_not_kept_are_told() -> None:
    """The number that was not kept is told, with the setting that bounds it."""
    lines = told(statement(shape("orders"), "orders"), dropped=5)
    assert lines[-1] == "  and 5 more, which were counted but not kept (Settings.max_statements)"


LONG = ", ".join(f"orders.column_{n}" for n in range(9))


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT orders.id FROM orders", "SELECT orders.id FROM orders"),
        (
            f"SELECT {LONG} FROM orders WHERE orders.id = ?",
            "SELECT orders.column_0, ... FROM orders WHERE orders.id = ?",
        ),
        (
            f"SELECT {LONG} FROM orders JOIN users ON users.id = orders.user_id",
            "SELECT ... FROM orders JOIN users ON users.id = orders.user_id",
        ),
        (
            f"SELECT (SELECT count(*) FROM items WHERE items.order_id = orders.id) AS count, {LONG} FROM orders",
            "SELECT ... FROM orders",
        ),
        (
            f"SELECT {LONG} FROM orders WHERE orders.customer_name = ? AND orders.customer_town = ?",
            "SELECT ... FROM orders WHERE orders.customer_name = ? AND order...",
        ),
        (
            "INSERT INTO orders (id, user_id, total, currency, address) VALUES (?, ?, ?, ?, ?)",
            "INSERT INTO orders (id, user_id, total, currency, address) VALU...",
        ),
        ("SELECT " + "x" * 80, "SELECT " + "x" * 56 + "..."),
    ],
    ids=["short", "columns", "all columns", "subquery", "conditions", "insert", "no table"],
)
def test_statements_are_cut_where_they_say_least(sql: str, shown: str) -> None:
    """Of a long SELECT, columns are left out before its tables and conditions; others lose their end."""
    line = told(statement(shape("orders", sql), "orders"))[1]
    assert line == f"      {shown}"
    assert len(line) <= 72


def test_findings_say_what_where_and_what_to_change() -> None:
    """Findings come dearest first, in the width of the terminal, each with its line if it has one."""
    found = (
        Finding(rule="slow-query", title="It was slow", advice="Be quick.", cost=1.0),
        Finding(
            rule="n-plus-one",
            title="Order.items was loaded again and again, in a loop that has no end as it seems",
            advice="Load it with its parents: .options(selectinload(Order.items)) on the statement that reads them.",
            site=Site("/srv/app/orders.py", 41, "Orders.list", "app/orders.py"),
            cost=2.0,
        ),
    )
    lines = told(statement(shape("orders"), "orders"), findings=found)
    assert lines[2:] == [
        "",
        "n-plus-one: Order.items was loaded again and again, in a loop that has",
        "  no end as it seems",
        "  at app/orders.py:41 in Orders.list",
        "  fix: Load it with its parents: .options(selectinload(Order.items)) on",
        "       the statement that reads them.",
        "",
        "slow-query: It was slow",
        "  fix: Be quick.",
    ]


def test_many_findings_are_cut_with_their_number() -> None:
    """At most six findings are told in full."""
    found = tuple(Finding(rule=f"rule-{n}", title="t", advice="a", cost=n) for n in range(8))
    lines = told(statement(shape("orders"), "orders"), findings=found)
    assert [line for line in lines if line.startswith("rule")] == [f"rule-{n}: t" for n in (7, 6, 5, 4, 3, 2)]
    assert lines[-1] == "and 2 more findings"


@pytest.mark.parametrize(("columns", "width"), [("40", 60), ("80", 72), ("100", 92), ("300", 112)])
def test_the_text_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    """Lines fill the terminal up to pytest's margin, and are neither very short nor very long."""
    monkeypatch.setenv("COLUMNS", columns)
    sql = "INSERT INTO orders VALUES " + "?" * 200
    text = explain("unmet", report(statement(shape("orders", sql), "orders")))
    assert len(text.splitlines()[3]) == width
