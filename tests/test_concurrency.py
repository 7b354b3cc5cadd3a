"""200 requests at once, each counted exactly, however their work is spread over tasks, threads and phases.

The truth is told by a listener that knows nothing of querytoll: it counts SQLAlchemy's own cursor events by request.
`QUERYTOLL_SEEDS=300` runs more than the few seeds of every day.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine, bindparam, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool

from querytoll import Profiler, ProfilerMiddleware, Report, Settings
from querytoll.capture import Capture, everywhere, window
from tests.capture.watching import Watch

SEEDS = range(int(os.environ.get("QUERYTOLL_SEEDS", "2")))
REQUESTS = 200
ONE = text("SELECT 1")
SLOW = text("SELECT pg_sleep(:seconds)")
FAILING = text("SELECT 1 / :zero").bindparams(bindparam("zero", 0))

request_of: ContextVar[str] = ContextVar("request_of", default="none")
truth: Counter[str] = Counter()


class Steps:
    """One request's work: how it is spread, and how many statements each part sends."""

    def __init__(self, chance: random.Random) -> None:
        self.before = chance.randint(0, 2)
        self.one_by_one = chance.randint(0, 4)
        self.gathered = [chance.randint(0, 2) for _ in range(chance.randint(0, 3))]
        self.in_threads = [chance.randint(0, 2) for _ in range(chance.randint(0, 2))]
        self.failing = chance.randint(0, 1)
        self.streamed = chance.randint(0, 3)
        self.background = chance.randint(0, 2)
        self.slow = chance.random() < 0.1
        self.holds = True
        """It keeps its cursor open while its client reads."""

    def __len__(self) -> int:
        """Statements of a request that nobody interrupts."""
        parts = (self.before, self.one_by_one, self.failing, self.streamed, self.background, self.slow)
        return sum(parts) + sum(self.gathered) + sum(self.in_threads)


class Shop:
    """An application that does what its plan says, on an async pool and on a synchronous one for its threads."""

    def __init__(self, url: str, profiler: Profiler, plans: dict[str, Steps]) -> None:
        self.plans = plans
        self.pool: AsyncEngine = create_async_engine(url, pool_size=10, max_overflow=10, pool_timeout=120)
        sync_url = make_url(url).set(drivername="postgresql+psycopg")
        self.threads: Engine = create_engine(sync_url, pool_size=5, max_overflow=5, pool_timeout=120)
        for engine in (self.pool.sync_engine, self.threads):
            event.listen(engine, "before_cursor_execute", count)
        self.app = FastAPI()
        self.app.add_middleware(ProfilerMiddleware, profiler=profiler)
        self.app.add_api_route("/mixed/{number}", self.mixed())
        self.app.add_api_route("/sync/{number}", self.sync_endpoint)
        self.app.add_api_websocket_route("/socket/{number}", self.socket)

    async def __aenter__(self) -> Shop:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.pool.dispose()
        self.threads.dispose()

    async def ask(self, times: int) -> None:
        """Send statements, each other one on a connection of its own."""
        for _ in range(times):
            async with self.pool.connect() as connection:
                await connection.execute(ONE)
            await asyncio.sleep(0)

    def ask_in_thread(self, times: int) -> None:
        for _ in range(times):
            with self.threads.connect() as connection:
                connection.execute(ONE)

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with suppress(Exception):
                async with self.pool.connect() as connection:
                    await connection.execute(FAILING)

    async def stream(self, steps: Steps) -> AsyncIterator[str]:
        for _ in range(steps.streamed):
            async with self.pool.connect() as connection:
                numbers = await connection.stream(text("SELECT generate_series(1, 3)"))
                if not steps.holds:
                    numbers = [row async for row in numbers]  # type: ignore[assignment]
                else:
                    async for (number,) in numbers:
                        yield f"{number}\n"
            await asyncio.sleep(0)
            yield "next\n"

    def mixed(self) -> Callable[..., Any]:
        async def dependency(number: str) -> AsyncIterator[Steps]:
            steps = self.plans[number]
            await self.ask(steps.before)
            yield steps

        async def endpoint(tasks: BackgroundTasks, steps: Steps = Depends(dependency)) -> StreamingResponse:
            await self.ask(steps.one_by_one)
            async with asyncio.TaskGroup() as group:
                for times in steps.gathered:
                    group.create_task(self.ask(times))
            await asyncio.gather(*(asyncio.to_thread(self.ask_in_thread, times) for times in steps.in_threads))
            await self.fail(steps.failing)
            if steps.slow:
                async with self.pool.connect() as connection:
                    await connection.execute(SLOW, {"seconds": 0.05})
            tasks.add_task(self.ask, steps.background)
            return StreamingResponse(self.stream(steps), background=tasks)

        endpoint.__annotations__.update(tasks=BackgroundTasks, steps=Steps)
        return endpoint

    def sync_endpoint(self, number: str, tasks: BackgroundTasks) -> str:
        """Runs in the server's threadpool, and so does its background task."""
        steps = self.plans[number]
        self.ask_in_thread(len(steps) - steps.background)
        tasks.add_task(self.ask_in_thread, steps.background)
        return number

    async def socket(self, socket: WebSocket, number: str) -> None:
        await socket.accept()
        await self.ask(len(self.plans[number]))
        await socket.close()


def count(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    """The truth: SQLAlchemy is about to call the driver for this request."""
    truth[request_of.get()] += 1


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No window stays open and no outliving task stays known."""
    truth.clear()
    yield
    assert everywhere == []
    assert dict(window._outliving) == {}
    assert [sampler.windows for sampler in window._samplers._samplers.values() if sampler.windows] == []


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
async def profiler(reports: list[Report]) -> AsyncIterator[Profiler]:
    made = Profiler(Settings(project_root=Path(__file__).parent, explain="off"), detectors=[], sinks=[reports.append])
    yield made
    await made.drain()
    assert not made.faults.counts


async def get(app: Any, path: str, cancel_after: float | None = None) -> None:
    """Send a request; its client may give up, which cancels the application's task."""
    request_of.set(path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(cancel_after):
                assert (await client.get(path)).status_code == 200


async def disconnect(app: Any, path: str, after: int) -> None:
    """Send a request as a server does, and tell the application that its client is gone after some messages."""
    request_of.set(path)
    gone = asyncio.Event()
    sent: list[str] = []
    begun = False

    async def receive() -> dict[str, Any]:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) > after:
            gone.set()
            raise OSError("the client is gone")

    with suppress(Exception):
        await app(_scope("http", path), receive, send)


async def talk(app: Any, path: str) -> None:
    """Open a websocket, and stay until the application closes it."""
    request_of.set(path)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    await app(_scope("websocket", path), receive, send)


def _scope(kind: str, path: str) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "server": ("shop", 80),
        "client": ("client", 1),
        "subprotocols": [],
        "state": {},
    }


def counted(reports: list[Report]) -> dict[str, int]:
    return {report.trace.path or "": len(report.trace.statements) for report in reports}


@pytest.mark.parametrize("seed", SEEDS)
async def test_concurrent_requests_are_counted_exactly(
    postgres_url: str, profiler: Profiler, reports: list[Report], seed: int
) -> None:
    """Each request's report has its own statements, no more and no less, whatever the others do; also to a test."""
    chance = random.Random(seed)
    plans = {str(number): Steps(chance) for number in range(REQUESTS)}
    paths = [f"/{chance.choices(['mixed', 'sync', 'socket'], [8, 2, 1])[0]}/{number}" for number in plans]
    async with Shop(postgres_url, profiler, plans) as shop:
        with Watch(Capture.of(Settings())) as everything:
            await asyncio.gather(*(talk(shop.app, p) if p.startswith("/socket") else get(shop.app, p) for p in paths))
        await profiler.drain()
    expected = {path: len(plans[path.rpartition("/")[2]]) for path in paths}
    assert truth == Counter(expected), "the application did not do what its plan says"
    assert counted(reports) == expected
    assert len(reports) == REQUESTS
    assert len(everything.statements) == sum(expected.values())
    by_window = Counter(statement.window for statement in everything.statements)
    assert sorted(by_window.values()) == sorted(filter(None, expected.values()))
    for report in reports:
        check(report, plans[(report.trace.path or "").rpartition("/")[2]])


def check(report: Report, steps: Steps) -> None:
    """What is told of a request besides the number of its statements."""
    trace = report.trace
    assert trace.kind == ("websocket" if (trace.path or "").startswith("/socket") else "request")
    assert not any(statement.detached for statement in trace.statements)
    assert trace.dropped == 0
    assert trace.database_seconds <= trace.elapsed + 1e-6
    assert sum(transaction.statements for transaction in trace.transactions) == len(trace.statements)
    assert all(transaction.outcome == "rolled back" for transaction in trace.transactions)
    if (trace.path or "").startswith("/mixed"):
        phases = Counter(statement.phase for statement in trace.statements)
        assert phases["dependency"] == steps.before
        assert phases["response"] == steps.streamed
        assert phases["background"] == steps.background
        assert sum(statement.error == "22012" for statement in trace.statements) == steps.failing
        assert sum(statement.streamed for statement in trace.statements) == steps.streamed
        assert all(statement.rows == 3 for statement in trace.statements if statement.streamed)


# SQLAlchemy 2.0.30 lets go of asyncpg connections whose cancellation failed.
cut = pytest.mark.filterwarnings("ignore::ResourceWarning")


@cut
@pytest.mark.parametrize("seed", SEEDS)
async def test_interrupted_requests_are_counted_exactly(
    postgres_url: str, profiler: Profiler, reports: list[Report], seed: int
) -> None:
    """Clients give up and disconnect anywhere: what was sent until then is counted, nothing of it leaks to others.

    Left out: threads, which cannot be interrupted and go on after their request; and cursors that are open while the
    client reads, because Starlette leaves the generator of a client that is gone to the garbage collector.
    """
    chance = random.Random(seed)
    plans = {str(number): Steps(chance) for number in range(REQUESTS)}
    for steps in plans.values():
        steps.in_threads = []
        steps.holds = False
        steps.slow = chance.random() < 0.5

    async def one(number: str) -> None:
        path = f"/mixed/{number}"
        fate = chance.choice(["fine", "cancelled", "disconnected"])
        if fate == "disconnected":
            await disconnect(shop.app, path, chance.randint(0, 4))
        else:
            await get(shop.app, path, chance.uniform(0.0, 0.6) if fate == "cancelled" else None)

    async with Shop(postgres_url, profiler, plans) as shop:
        with Watch(Capture.of(Settings())) as everything:
            await asyncio.gather(*map(one, plans))
        await profiler.drain()
        assert {path: number for path, number in counted(reports).items() if number} == dict(truth)
        assert sum(truth[f"/mixed/{number}"] < len(steps) for number, steps in plans.items()) > REQUESTS // 20
        assert len(everything.statements) == sum(truth.values())
        await returned(shop.pool)
        reports.clear()
        truth.clear()
        await asyncio.gather(*(get(shop.app, f"/mixed/{number}") for number in list(plans)[:20]))
        assert counted(reports) == {f"/mixed/{number}": len(plans[number]) for number in list(plans)[:20]}
    gc.collect()


async def returned(pool: AsyncEngine) -> None:
    """All connections come back; cancelled ones are closed in tasks of their own, abandoned ones when collected."""
    queue: Any = pool.sync_engine.pool
    for _ in range(500):
        if not queue.checkedout():
            return
        gc.collect()
        await asyncio.sleep(0.01)
    pytest.fail("a connection never came back")


@cut
async def test_a_client_that_leaves_a_stream_is_counted_once(
    postgres_url: str, profiler: Profiler, reports: list[Report]
) -> None:
    """The cursor is open when the request ends: the statement ends with it, and nothing is added later."""
    steps = Steps(random.Random(0))
    steps.before = steps.one_by_one = steps.failing = steps.background = 0
    steps.gathered, steps.in_threads, steps.slow, steps.streamed = [], [], False, 3
    async with Shop(postgres_url, profiler, {"1": steps}) as shop:
        await disconnect(shop.app, "/mixed/1", 2)
        (report,) = reports
        (statement,) = report.trace.statements
        assert (statement.streamed, statement.error) == (True, None)
        assert statement.started + statement.elapsed <= report.trace.elapsed + 1e-6
        await returned(shop.pool)
        assert len(reports) == len(report.trace.statements) == 1
    gc.collect()


async def test_requests_that_leave_tasks_behind_are_counted_apart(
    postgres_url: str, profiler: Profiler, reports: list[Report]
) -> None:
    """Each of 50 requests starts a task that outlives it: two reports each, the later one detached."""
    engine = create_async_engine(postgres_url, pool_size=10, max_overflow=10)
    app = FastAPI()
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    tasks: set[asyncio.Task[None]] = set()
    over = asyncio.Event()

    async def ask(times: int) -> None:
        for _ in range(times):
            async with engine.connect() as connection:
                await connection.execute(ONE)

    async def later(times: int) -> None:
        await over.wait()
        await ask(times)

    @app.get("/leave/{number}")
    async def leave(number: int) -> None:
        tasks.add(asyncio.create_task(later(number % 5)))
        await ask(number % 3)

    with Watch(Capture.of(Settings())) as everything:
        await asyncio.gather(*(get(app, f"/leave/{number}") for number in range(50)))
        over.set()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
    await engine.dispose()
    requests = [report.trace for report in reports if report.trace.kind == "request"]
    left = [report.trace for report in reports if report.trace.kind == "task"]
    assert {trace.path: len(trace.statements) for trace in requests} == {f"/leave/{n}": n % 3 for n in range(50)}
    assert Counter(len(trace.statements) for trace in left) == {1: 10, 2: 10, 3: 10, 4: 10}
    assert {trace.name for trace in left} == {"GET /leave/{number}"}
    assert all(statement.detached for trace in left for statement in trace.statements)
    assert len(everything.statements) == sum(n % 3 + n % 5 for n in range(50))


async def test_engines_of_every_kind_serve_one_request(
    postgres_url: str, tmp_path: Path, profiler: Profiler, reports: list[Report]
) -> None:
    """Async and sync PostgreSQL, SQLite, with and without a pool, at once in one request: every statement counts."""
    sync_url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    async with AsyncExitStack() as stack:
        pools = [
            create_async_engine(postgres_url),
            create_async_engine(postgres_url, poolclass=NullPool),
            create_async_engine(sync_url.set(drivername="postgresql+psycopg_async")),
            create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"),
        ]
        for pool in pools:
            stack.push_async_callback(pool.dispose)
        threads = [create_engine(sync_url, poolclass=NullPool), create_engine(f"sqlite:///{tmp_path / 'b.db'}")]
        for engine in threads:
            stack.callback(engine.dispose)
        assert isinstance(threads[1].pool, QueuePool)
        app = FastAPI()
        app.add_middleware(ProfilerMiddleware, profiler=profiler)

        @app.get("/")
        async def everything() -> None:
            async def ask(pool: AsyncEngine) -> None:
                async with pool.connect() as connection:
                    await connection.execute(ONE)

            def ask_in_thread(engine: Engine) -> None:
                with engine.connect() as connection:
                    connection.execute(ONE)

            work = [ask(pool) for pool in pools] + [asyncio.to_thread(ask_in_thread, engine) for engine in threads]
            await asyncio.gather(*work)

        for _ in range(3):
            await get(app, "/")
    assert [len(report.trace.statements) for report in reports] == [6, 6, 6]
    assert [len({statement.engine for statement in report.trace.statements}) for report in reports] == [5, 5, 5]
    assert [len(report.trace.connections) for report in reports] == [6, 6, 6]
