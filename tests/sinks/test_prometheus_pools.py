"""What the metrics of pools say, against real pools and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as CheckoutTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from querytoll import Profiler, ProfilerMiddleware, Settings
from querytoll.capture import connections, pools
from querytoll.sinks.prometheus import PrometheusSink
from querytoll.sinks.prometheus.series import MAX_POOLS

ONE = text("SELECT 1")
NAME = "shop"


class Pools:
    """A profiler with metrics of its own, the engines that a test makes, and what a scrape says of them."""

    def __init__(self, url: str) -> None:
        self.registry = CollectorRegistry()
        self.url = make_url(url)
        self.profilers: list[Profiler] = []
        self.engines: list[Any] = []

    def profiler(self, engines: list[Any] | None = None, **settings: Any) -> Profiler:
        made = Profiler(Settings(explain="off", **settings), engines=engines, sinks=[PrometheusSink(self.registry)])
        self.profilers.append(made)
        return made

    def sync(self, name: str = NAME, **options: Any) -> Any:
        url = self.url.set(drivername="postgresql+psycopg")
        return self._kept(create_engine(url, logging_name=name, **options))

    def asynchronous(self, name: str = NAME, **options: Any) -> AsyncEngine:
        return self._kept(create_async_engine(self.url, logging_name=name, **options))

    def _kept(self, engine: Any) -> Any:
        self.engines.append(engine)
        return engine

    def value(self, name: str, pool: str = NAME, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"querytoll_pool_{name}", {"pool": pool, **labels})

    def connections(self, pool: str = NAME) -> tuple[float | None, float | None, float | None]:
        """Used, idle, most."""
        used, idle = (self.value("connections", pool, state=state) for state in ("used", "idle"))
        return used, idle, self.value("connections_max", pool)

    def total(self, name: str) -> float:
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return sum(sample.value for sample in samples if sample.name == f"querytoll_pool_{name}")

    def names(self) -> set[str]:
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return {sample.labels["pool"] for sample in samples if sample.name == "querytoll_pool_connections"}

    async def close(self) -> None:
        for profiler in self.profilers:
            await profiler.aclose()
        for engine in self.engines:
            await engine.dispose() if isinstance(engine, AsyncEngine) else engine.dispose()


@pytest.fixture
async def seen(postgres_url: str) -> AsyncIterator[Pools]:
    """No fault of ours is left behind, and no pool is told to a meter that nobody wants."""
    gc.collect()  # pools that other tests left behind have names like ours
    faults = pools.faults.counts["capture"]
    made = Pools(postgres_url)
    yield made
    await made.close()
    assert pools.faults.counts["capture"] == faults
    assert not [state for state in pools._states for meter in state.meters if meter in _meters(made)]


def _meters(made: Pools) -> list[pools.PoolMeter]:
    return [sink.pool_meter for profiler in made.profilers for sink in profiler._sinks]


async def ask(connection: AsyncConnection) -> None:
    await connection.execute(ONE)


# Numbers


async def test_connections_are_counted_by_what_they_do(seen: Pools) -> None:
    """Used, idle and most follow a pool from its first connection to its disposal, overflow included."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=2, max_overflow=1)
    first, second, third = engine.connect(), engine.connect(), engine.connect()
    await first.start()
    assert seen.connections() == (1, 0, 3)
    await second.start()
    await third.start()
    assert seen.connections() == (3, 0, 3)
    await first.close()
    assert seen.connections() == (2, 1, 3)
    await second.close()
    await third.close()
    assert seen.connections() == (0, 2, 3), "the overflow was closed"
    await engine.dispose()
    assert seen.connections() == (0, 0, 0)
    assert seen.value("use_seconds_count") == seen.value("wait_seconds_count") == 3
    assert seen.value("connect_seconds_count") == 3
    assert seen.value("timeouts_total") == 0


async def test_a_recreated_pool_is_counted_anew(seen: Pools) -> None:
    """After dispose, the engine's next pool stands under the same name, and connections still out are still counted."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=2, max_overflow=0)
    held = await engine.connect().start()
    await engine.dispose()
    assert seen.connections() == (1, 0, 1)
    async with engine.connect():
        assert seen.connections() == (2, 0, 3)
    assert seen.connections() == (1, 1, 3)
    await held.invalidate()  # it would lie open in the old pool, which nobody will ever close
    await held.close()
    async with engine.connect():
        assert seen.connections() == (1, 0, 2)


def test_an_engine_that_is_gone_leaves_no_connections(seen: Pools) -> None:
    """The collector takes an engine that nobody disposed of, and its connections leave the gauges."""
    seen.profiler()
    engine = create_engine(seen.url.set(drivername="postgresql+psycopg"), logging_name="gone", pool_size=3)
    with engine.connect(), engine.connect():
        pass
    assert seen.connections("gone") == (0, 2, 13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del engine
        gc.collect()
    assert seen.connections("gone") == (0, 0, 0)


POOLS: dict[str, tuple[dict[str, Any], float | None, float]] = {
    "queue": ({"poolclass": QueuePool, "pool_size": 2, "max_overflow": 3}, 5, 1),
    "queue without limit": ({"poolclass": QueuePool, "max_overflow": -1}, None, 1),
    "null": ({"poolclass": NullPool}, None, 0),
    "static": ({"poolclass": StaticPool}, 1, 1),
    "thread": ({"poolclass": SingletonThreadPool}, None, 1),
    "assertion": ({"poolclass": AssertionPool}, 1, 1),
}


@pytest.mark.parametrize("kind", POOLS)
def test_every_class_of_pool_is_counted(seen: Pools, kind: str) -> None:
    """Each class of pool tells its numbers, its limit where it has one, and no wait where nobody waited."""
    options, limit, idle = POOLS[kind]
    seen.profiler()
    engine = seen.sync(**options)
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(ONE)
            assert seen.connections() == (1, 0, limit)
    assert seen.connections() == (0, idle, limit)
    assert seen.value("use_seconds_count") == seen.value("wait_seconds_count") == 3
    assert seen.value("wait_seconds_bucket", le="0.25") == 3
    assert seen.value("connect_seconds_count") == (3 if kind == "null" else 1)
    assert (seen.value("connect_seconds_sum") or 0) > 0
    assert seen.value("pending_requests") == 0


@pytest.mark.parametrize("poolclass", [None, NullPool, StaticPool], ids=["queue", "null", "static"])
async def test_every_class_of_async_pool_is_counted(seen: Pools, poolclass: Any) -> None:
    """The same on asyncpg."""
    seen.profiler()
    engine = seen.asynchronous(**({} if poolclass is None else {"poolclass": poolclass}))
    for _ in range(3):
        async with engine.connect() as connection:
            await ask(connection)
            assert seen.connections()[:2] == (1, 0)
    assert seen.connections()[:2] == (0, 0 if poolclass is NullPool else 1)
    assert seen.value("use_seconds_count") == seen.value("wait_seconds_count") == 3
    assert seen.value("wait_seconds_bucket", le="0.25") == 3
    assert seen.value("connect_seconds_count") == (3 if poolclass is NullPool else 1)


def test_static_pools_are_used_by_many_at_a_time(seen: Pools) -> None:
    """One connection that two use is one connection, and its use is counted once."""
    seen.profiler()
    engine = seen.sync(poolclass=StaticPool)
    first, second = engine.connect(), engine.connect()
    assert seen.connections() == (1, 0, 1)
    second.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's own, of the double checkin
        first.close()
    assert seen.connections() == (0, 1, 1)
    assert seen.value("use_seconds_count") == 1


# Wait, ping and connect


async def test_the_wait_for_the_pool_is_measured(seen: Pools) -> None:
    """Who waits for another's connection waits as long as that one kept it; the others do not wait."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0)
    first = await engine.connect().start()
    second = asyncio.create_task(engine.connect().start())  # type: ignore[arg-type]
    await asyncio.sleep(0.12)
    assert seen.value("pending_requests") == 1
    await first.close()
    await (await second).close()
    assert seen.value("pending_requests") == 0
    assert seen.value("wait_seconds_count") == 2
    assert seen.value("wait_seconds_bucket", le="0.1") == 1
    assert (seen.value("wait_seconds_sum") or 0) >= 0.12


def test_threads_wait_for_each_other(seen: Pools) -> None:
    """Six threads on two connections: every checkout and every wait is counted."""
    seen.profiler()
    engine = seen.sync(pool_size=2, max_overflow=0)

    def work() -> None:
        for _ in range(5):
            with engine.connect() as connection:
                connection.execute(text("SELECT pg_sleep(0.01)"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.connections() == (0, 2, 2)
    assert seen.value("pending_requests") == 0
    assert seen.value("use_seconds_count") == 30
    assert seen.value("wait_seconds_count") in (29, 30, 31), "two may be asked for before the pool is known"
    assert (seen.value("wait_seconds_sum") or 0) > 0.05


class Slow:
    """A step that takes its time."""

    def __init__(self, original: Callable[..., Any], seconds: float) -> None:
        self.original = original
        self.seconds = seconds
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        return self.original(*args, **options)


@pytest.mark.parametrize("asked_before", [False, True], ids=["first", "later"])
def test_connecting_is_not_waiting(seen: Pools, asked_before: bool) -> None:
    """A slow server makes connecting slow, for the first connection and for later ones; nobody waited for the pool."""
    seen.profiler()
    engine = seen.sync(pool_size=2, max_overflow=0)
    if asked_before:
        engine.connect().close()
    engine.dialect.connect = Slow(engine.dialect.connect, 0.3)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(engine.connect())
    assert (seen.value("connect_seconds_sum") or 0) >= 0.3 * (2 - asked_before)
    assert seen.value("wait_seconds_count") == 2 + asked_before
    assert seen.value("wait_seconds_bucket", le="0.25") == 2 + asked_before


def test_a_creator_is_timed(seen: Pools) -> None:
    """An engine that opens its connections by a function of its own is measured as well."""
    seen.profiler()
    target = seen.url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = create_engine(
        "postgresql+psycopg://", creator=Slow(lambda: psycopg.connect(target), 0.3), logging_name=NAME
    )
    seen.engines.append(engine)
    for _ in range(2):
        with engine.connect() as connection:
            connection.execute(ONE)
    assert seen.value("connect_seconds_count") == 1
    assert (seen.value("connect_seconds_sum") or 0) >= 0.3
    assert seen.value("wait_seconds_bucket", le="0.25") == 2


def test_pings_are_not_waiting(seen: Pools) -> None:
    """A slow pre-ping is neither a wait nor a connect."""
    seen.profiler()
    engine = seen.sync(pool_size=1, max_overflow=0, pool_pre_ping=True)
    engine.connect().close()
    ping = engine.dialect.do_ping = Slow(engine.dialect.do_ping, 0.3)
    for _ in range(2):
        engine.connect().close()
    assert ping.calls == 2
    assert seen.value("wait_seconds_count") == 3
    assert seen.value("wait_seconds_bucket", le="0.25") == 3
    assert seen.value("connect_seconds_count") == 1


async def test_the_wait_before_a_ping_is_measured(seen: Pools) -> None:
    """With pre-ping the wait for the pool is measured, and only that."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0, pool_pre_ping=True)
    await (await engine.connect().start()).close()
    first = await engine.connect().start()
    engine.sync_engine.dialect.do_ping = Slow(engine.sync_engine.dialect.do_ping, 1.5)  # type: ignore[method-assign]
    second = asyncio.create_task(engine.connect().start())  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    await first.close()
    await (await second).close()
    assert (seen.value("wait_seconds_sum") or 0) >= 0.1
    assert seen.value("wait_seconds_bucket", le="1.0") == seen.value("wait_seconds_count") == 3


async def test_a_dead_connection_is_replaced(seen: Pools) -> None:
    """A ping that fails opens another connection; the checkout is one, and did not wait."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0, pool_pre_ping=True)
    async with engine.connect() as connection:
        process = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    await _terminate(seen, process)
    async with engine.connect() as connection:
        await ask(connection)
        assert seen.connections() == (1, 0, 1)
    assert seen.connections() == (0, 1, 1)
    assert seen.value("connect_seconds_count") == 2
    assert seen.value("use_seconds_count") == seen.value("wait_seconds_count") == 2
    assert seen.value("wait_seconds_bucket", le="0.25") == 2


async def _terminate(seen: Pools, process: int) -> None:
    killer = create_async_engine(seen.url, poolclass=NullPool, logging_name="killer")
    async with killer.connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})


def test_recycled_connections_are_opened_again(seen: Pools) -> None:
    """A connection over its age is closed and opened at its checkout, which is no wait."""
    seen.profiler()
    engine = seen.sync(pool_size=1, max_overflow=0, pool_recycle=0.3)
    for _ in range(3):
        engine.connect().close()
        time.sleep(0.35)
    assert seen.connections() == (0, 1, 1)
    assert seen.value("connect_seconds_count") == 3
    assert seen.value("wait_seconds_bucket", le="0.25") == seen.value("wait_seconds_count") == 3


async def test_invalidated_and_detached_connections_leave_the_pool(seen: Pools) -> None:
    """Neither is open in the pool any more; a detached one is its taker's."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=2, max_overflow=0)
    async with engine.connect() as connection:
        await ask(connection)
        await connection.invalidate()
        assert seen.connections() == (0, 0, 2)
    assert seen.connections() == (0, 0, 2)
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        raw.detach()
        assert seen.connections() == (0, 0, 2)
        await ask(connection)
    assert seen.connections() == (0, 0, 2)
    assert seen.value("use_seconds_count") == 2


def test_a_connection_that_cannot_be_opened(seen: Pools) -> None:
    """A server that refuses makes no connection, no use and no timeout, and nobody is left waiting."""
    seen.profiler()
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", logging_name=NAME)
    for _ in range(2):
        with pytest.raises(OperationalError):
            engine.connect()
    assert seen.connections() == (0, 0, 15)
    assert seen.value("timeouts_total") == seen.value("pending_requests") == seen.value("use_seconds_count") == 0


# Timeouts


async def test_timeouts_are_counted(seen: Pools) -> None:
    """A checkout that gets no connection in time is a timeout, and its wait is a wait."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0, pool_timeout=0.1)
    async with engine.connect():
        for _ in range(2):
            with pytest.raises(CheckoutTimeout):
                await engine.connect().start()
    assert seen.value("timeouts_total") == 2
    assert seen.value("wait_seconds_count") == 3
    assert (seen.value("wait_seconds_sum") or 0) >= 0.2
    assert seen.value("pending_requests") == 0
    assert seen.connections() == (0, 1, 1)


def test_timeouts_of_threads_are_counted(seen: Pools) -> None:
    """The same on psycopg."""
    seen.profiler()
    engine = seen.sync(pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), pytest.raises(CheckoutTimeout):
        engine.connect()
    assert seen.value("timeouts_total") == 1
    assert (seen.value("wait_seconds_sum") or 0) >= 0.1


async def test_a_cancelled_wait_is_no_timeout(seen: Pools) -> None:
    """Who gives up waiting got neither a connection nor an error of the pool."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0)
    async with engine.connect():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await engine.connect().start()
        assert seen.value("pending_requests") == 0
    assert seen.value("timeouts_total") == 0


def test_who_held_the_connections_when_a_checkout_timed_out(seen: Pools) -> None:
    """Routes that are still running then are told when they end: by their route, not by their path."""
    profiler = seen.profiler()
    engine = seen.asynchronous(pool_size=1, max_overflow=0, pool_timeout=0.1)
    holding, timed_out = asyncio.Event(), asyncio.Event()

    async def hog(request: Request) -> Response:
        async with engine.connect() as connection:
            await ask(connection)
            holding.set()
            await timed_out.wait()
        return Response()

    async def hungry(request: Request) -> Response:
        await holding.wait()
        with pytest.raises(CheckoutTimeout):
            await engine.connect().start()
        timed_out.set()
        return Response()

    async def both(request: Request) -> Response:
        async with engine.connect() as connection:
            await ask(connection)
        return Response()

    routes = [Route("/hog/{id}", hog), Route("/hungry", hungry), Route("/both", both)]
    app = ProfilerMiddleware(Starlette(routes=routes), profiler)

    async def send() -> None:
        await asyncio.gather(call(app, "/hog/7"), call(app, "/hungry"))
        await call(app, "/both")
        await engine.dispose()

    asyncio.run(send())
    blocked = seen.registry.get_sample_value(
        "querytoll_pool_timeout_holders_total", {"pool": NAME, "method": "GET", "route": "/hog/{id}"}
    )
    assert blocked == 1
    assert seen.total("timeout_holders_total") == 1


async def call(app: Any, path: str) -> None:
    """Send a GET request to an ASGI application."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)


# Whose pools


async def test_work_outside_of_requests_counts(seen: Pools) -> None:
    """A background worker's checkouts count, and those of requests that are not in the sample."""
    profiler = seen.profiler(sample_rate=0.0)
    engine = seen.asynchronous()
    async with engine.connect() as connection:
        await ask(connection)

    async def page(request: Request) -> Response:
        async with engine.connect() as connection:
            await ask(connection)
        return Response()

    await call(ProfilerMiddleware(Starlette(routes=[Route("/", page)]), profiler), "/")
    assert seen.value("use_seconds_count") == 2


async def test_gather_over_sessions(seen: Pools) -> None:
    """Twenty sessions on four connections, inside a window: each is counted once."""
    profiler = seen.profiler()
    engine = seen.asynchronous(pool_size=2, max_overflow=2)

    async def work() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT pg_sleep(0.01)"))

    with profiler.profile("import"):
        await asyncio.gather(*(work() for _ in range(20)))
    assert seen.value("use_seconds_count") == seen.value("wait_seconds_count") == 20
    assert seen.connections()[0] == 0
    assert (seen.value("wait_seconds_sum") or 0) > 0.1


async def test_only_the_named_engines_count(seen: Pools) -> None:
    """Engines that are not the profiler's are not told, also where another profiler listens to every engine."""
    mine, other = seen.sync("mine"), seen.sync("other")
    seen.profiler(engines=[mine])
    Profiler(Settings(explain="off"), sinks=[lambda report: None])
    assert seen.connections("mine") == (0, 0, 15), "known before its first connection"
    assert seen.value("timeouts_total", "mine") == 0
    for engine in (mine, other):
        with engine.connect() as connection:
            connection.execute(ONE)
    assert seen.names() == {"mine"}
    assert seen.value("use_seconds_count", "mine") == 1


async def test_the_profilers_own_engine_does_not_count(seen: Pools) -> None:
    """EXPLAINs of slow statements go over a pool of the profiler's own, which is not in the metrics."""
    engine = seen.asynchronous()
    profiler = Profiler(
        Settings(explain="estimate", slow_statement_seconds=0.01),
        engines=[engine],
        sinks=[PrometheusSink(seen.registry)],
    )
    seen.profilers.append(profiler)
    with profiler.profile("slow"):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT count(*), pg_sleep(0.05) FROM pg_class"))
    await profiler.drain()
    explained = [
        sample.value
        for metric in seen.registry.collect()
        for sample in metric.samples
        if sample.name == "querytoll_explains_total"
    ]
    assert sum(explained) == 1
    assert seen.names() == {NAME}
    assert seen.value("use_seconds_count") == 1


async def test_two_profilers_on_one_registry_count_once(seen: Pools) -> None:
    """Their sinks share the series, so that a checkout is told once."""
    seen.profiler()
    seen.profiler()
    with seen.sync().connect():
        pass
    assert seen.value("use_seconds_count") == 1


async def test_a_closed_profiler_forgets_its_pools(seen: Pools) -> None:
    """After aclose the gauges are at 0 and counters stay."""
    profiler = seen.profiler()
    engine = seen.sync()
    with engine.connect():
        await profiler.aclose()
        assert seen.connections() == (0, 0, 0)
    with engine.connect():
        pass
    assert seen.value("use_seconds_count") == 0


def test_a_pool_that_was_in_use_before(seen: Pools) -> None:
    """A profiler that comes late sees connections when they are used next, and none of them twice."""
    engine = seen.sync(pool_size=2, max_overflow=0)
    early, idle = engine.connect(), engine.connect()
    idle.close()
    seen.profiler()
    with engine.connect():
        assert seen.connections() == (1, 0, 2)
    early.close()
    with engine.connect(), engine.connect():
        assert seen.connections() == (2, 0, 2)
    assert seen.connections() == (0, 2, 2)


def test_pools_are_bounded(seen: Pools) -> None:
    """An engine per tenant: the first have their names, the rest adds up under one."""
    engines = [seen.sync(f"tenant{number}", pool_size=1, max_overflow=1) for number in range(MAX_POOLS + 5)]
    seen.profiler(engines)
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(engine.connect())
        assert seen.connections("other") == (5, 0, 10)
    assert len(seen.names()) == MAX_POOLS + 1
    assert seen.connections("other") == (0, 5, 10)
    assert seen.total("use_seconds_count") == MAX_POOLS + 5


def test_names_hold_no_credentials(seen: Pools) -> None:
    """Without a name of its own an engine is told by driver, host and database."""
    seen.profiler()
    engine = create_engine(seen.url.set(drivername="postgresql+psycopg", password="secret"))
    seen.engines.append(engine)
    engine.connect().close()
    assert f"postgresql+psycopg://{seen.url.host or ''}/{seen.url.database}" in seen.names()
    assert not [name for name in seen.names() if "secret" in name]


# Faults and finalizers


@pytest.fixture
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_leaked_connection_is_given_back_by_the_collector(seen: Pools, no_warnings: None) -> None:
    """A finalizer must not take a lock: its return is told with the next event, and nothing is lost."""
    seen.profiler()
    engine = seen.sync(pool_size=1, max_overflow=0)
    seen.registry.get_sample_value("querytoll_pool_use_seconds_count")
    (sink,) = seen.profilers[0]._sinks
    leaked: list[Any] = [engine.connect()]
    with sink._series.cells.lock:  # whoever runs the finalizer may hold it
        leaked.clear()
        gc.collect()
        assert seen.connections()[0] == 0
    assert seen.value("use_seconds_count") == 0
    with engine.connect():
        assert seen.value("use_seconds_count") == 1
        assert seen.connections() == (1, 0, 1)


async def test_a_leaked_async_connection(seen: Pools, no_warnings: None) -> None:
    """SQLAlchemy drops it; it is not in use any more."""
    seen.profiler()
    engine = seen.asynchronous(pool_size=2, max_overflow=0)
    leaked: list[Any] = [await engine.connect().start()]
    leaked.clear()
    gc.collect()
    async with engine.connect():
        assert seen.connections() == (1, 0, 2)
    assert seen.value("use_seconds_count") == 2


class Broken:
    """A meter that fails at everything."""

    instant = True

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


async def test_faults_of_meters_are_ours_alone(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A meter that fails changes nothing for the application, and is counted by the sinks of every living profiler."""
    registry = CollectorRegistry()
    profilers = [
        Profiler(Settings(explain="off"), sinks=[PrometheusSink(registry)]),
        Profiler(Settings(explain="off"), sinks=[PrometheusSink(registry)]),
    ]
    before = pools.faults.counts["capture"]
    owner = Profiler(Settings(enabled=False))
    pools.meter(owner, [Broken()])
    try:
        engine = create_async_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
        async with engine.connect() as connection:
            assert (await connection.execute(ONE)).scalar_one() == 1
            with pytest.raises(CheckoutTimeout):
                await engine.connect().start()
        await engine.dispose()
        faults = pools.faults.counts["capture"] - before
        assert faults > 0
        counted = registry.get_sample_value("querytoll_internal_errors_total", {"part": "capture"})
        assert counted == faults
    finally:
        pools.unmeter(owner)
        for profiler in profilers:
            await profiler.aclose()


@pytest.mark.parametrize("name", ["_watch_pool", "_tap_on_stack"])
async def test_a_pool_that_cannot_be_watched_works(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Our own fault at the first sight of a pool is counted, and the application has its connection."""

    def explode(*_: object) -> None:
        raise RuntimeError

    profiler = Profiler(Settings(explain="off"), sinks=[PrometheusSink(CollectorRegistry())])
    before = pools.faults.counts["capture"]
    monkeypatch.setattr(connections, name, explode)
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        assert (await connection.execute(ONE)).scalar_one() == 1
    await engine.dispose()
    await profiler.aclose()
    assert pools.faults.counts["capture"] > before


# Several processes

WORKERS = """
import asyncio, json, os, sys
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, text
from querytoll import Profiler, Settings
from querytoll.sinks.prometheus import PrometheusSink, exposition

def told():
    body, _ = exposition(None, None)
    families = text_string_to_metric_families(body.decode())
    return {
        (sample.name.removeprefix("querytoll_pool_") + sample.labels.get("state", "")): sample.value
        for family in families for sample in family.samples
        if sample.name.startswith("querytoll_pool_") and "le" not in sample.labels
    }

profiler = Profiler(Settings(explain="off"), sinks=[PrometheusSink(CollectorRegistry())])
engine = create_engine(sys.argv[1], pool_size=2, max_overflow=1, logging_name="shop")
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
steps = [told()]
ready, go = os.pipe(), os.pipe()
child = os.fork()
if not child:
    engine.dispose(close=False)
    held = [engine.connect(), engine.connect()]
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    for connection in held:
        connection.close()
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
with engine.connect():
    steps.append(told())
os.write(go[1], b"x")
os.read(ready[0], 1)
steps.append(told())
os.write(go[1], b"x")
os.waitpid(child, 0)
steps.append(told())
engine.dispose()
steps.append(told())
print(json.dumps(steps))
"""


def test_processes_add_up(tmp_path: Path, postgres_url: str) -> None:
    """In multiprocess mode gauges are the sum over living processes, from the fork of one to its end."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKERS, url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    alone, both, returned, dead, disposed = json.loads(done.stdout)

    def numbers(step: dict[str, float]) -> tuple[float, ...]:
        return tuple(step[name] for name in ("connectionsused", "connectionsidle", "connections_max"))

    assert numbers(alone) == (0, 1, 3)
    assert numbers(both) == (3, 0, 6)
    assert numbers(returned) == (0, 3, 6)
    assert numbers(dead) == (0, 1, 3)
    assert numbers(disposed) == (0, 0, 0)
    assert dead["use_seconds_count"] == 4
    assert dead["pending_requests"] == dead["timeouts_total"] == 0
