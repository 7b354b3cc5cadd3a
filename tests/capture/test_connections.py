"""Checkouts and transactions: who waited for what, how long, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiosqlite
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import DDL, create_engine, insert, make_url, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

from querytoll.capture import Capture, attach, connections, detach, pools
from querytoll.capture.ledger import _union
from querytoll.capture.pools import SEAT
from querytoll.capture.stays import Hold
from querytoll.model import Checkout, Outcome, Trace, Transaction
from scripts.postgres import CACHE, Server, embedded
from tests.capture.models import Author, Shelf
from tests.capture.watching import Database, Watch, pooled, run, sync_of

Watching = Callable[[], Watch]
ASYNC = ("asyncpg", "psycopg-async", "aiosqlite")
POSTGRES = ("asyncpg", "psycopg-async", "psycopg")
SYNC = ("psycopg", "sqlite")
ONE = text("SELECT 1")
SLEEP = text("SELECT pg_sleep(:seconds)")


def outcomes(trace: Trace) -> list[Outcome]:
    return [transaction.outcome for transaction in trace.transactions]


# Transactions


def commit(connection: Connection) -> None:
    connection.execute(ONE)
    connection.execute(ONE)
    connection.commit()


def roll_back(connection: Connection) -> None:
    connection.execute(ONE)
    connection.rollback()


def leave_open(connection: Connection) -> None:
    connection.execute(ONE)


def fail_inside(connection: Connection) -> None:
    with contextlib.suppress(DBAPIError), connection.begin():
        connection.execute(ONE)
        connection.execute(text("SELEKT"))


def use_a_session(connection: Connection) -> None:
    with Session(connection) as session, session.begin():
        session.execute(ONE)


def commit_then_more(connection: Connection) -> None:
    commit(connection)
    roll_back(connection)
    leave_open(connection)


def commit_nothing(connection: Connection) -> None:
    connection.begin()
    connection.commit()


ENDINGS: dict[str, tuple[Callable[[Connection], None], list[Outcome], list[int]]] = {
    "commit": (commit, ["committed"], [2]),
    "rollback": (roll_back, ["rolled back"], [1]),
    "closed without commit": (leave_open, ["rolled back"], [1]),
    "exception inside": (fail_inside, ["rolled back"], [2]),
    "session": (use_a_session, ["committed"], [1]),
    "three in turn": (commit_then_more, ["committed", "rolled back", "rolled back"], [2, 1, 1]),
    "no statement": (commit_nothing, [], []),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_transaction_has_its_outcome_and_its_statements(
    database: Database, watch: Watching, ending: str
) -> None:
    work, expected, statements = ENDINGS[ending]
    with watch() as seen:
        await run(database.engine(), work)
    assert outcomes(seen.trace) == expected
    assert [transaction.statements for transaction in seen.trace.transactions] == statements
    ordinals = [statement.transaction for statement in seen.statements]
    assert ordinals == [n for n, count in enumerate(statements) for _ in range(count)]


async def test_a_transaction_lasts_from_its_first_statement_to_its_end(database: Database, watch: Watching) -> None:
    """Idle time inside counts, time before and after it does not."""
    engine = database.engine()

    def work(connection: Connection) -> None:
        time.sleep(0.03)
        connection.execute(ONE)
        time.sleep(0.05)
        connection.execute(ONE)
        connection.commit()
        time.sleep(0.03)

    with watch() as seen:
        await run(engine, work)
    (transaction,) = seen.trace.transactions
    first, second = seen.statements
    assert transaction.began == first.started >= 0.03
    assert transaction.elapsed >= 0.05 + second.elapsed
    assert transaction.elapsed <= seen.trace.elapsed - 0.06
    assert 0 < transaction.ending < transaction.elapsed
    assert transaction.began + transaction.elapsed - transaction.ending >= second.started + second.elapsed
    assert transaction.site == first.site


async def test_a_transaction_that_is_open_when_the_window_closes_says_so(database: Database, capture: Capture) -> None:
    """The inner window closes first; the outer one sees the end."""
    engine = database.engine()

    def work(connection: Connection) -> Watch:
        with Watch(capture) as inner:
            connection.execute(ONE)
            time.sleep(0.02)
        connection.commit()
        return inner

    with Watch(capture) as outer:
        inner = await run(engine, work)
    assert (outcomes(inner.trace), outcomes(outer.trace)) == (["open"], ["committed"])
    assert 0.02 <= inner.trace.transactions[0].elapsed <= inner.trace.elapsed


async def test_a_transaction_that_began_before_the_window_counts_from_it(database: Database, watch: Watching) -> None:
    engine = database.engine()

    def work(connection: Connection) -> Watch:
        connection.execute(ONE)
        with watch() as seen:
            connection.execute(ONE)
            connection.commit()
        return seen

    seen = await run(engine, work)
    (transaction,) = seen.trace.transactions
    assert (transaction.outcome, transaction.statements) == ("committed", 1)
    assert 0 <= transaction.began <= transaction.elapsed + transaction.began <= seen.trace.elapsed


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "autocommit"])
@pytest.mark.parametrize("how", ["engine", "connection", "engine option"])
async def test_autocommit_is_no_transaction(database: Database, watch: Watching, how: str, level: str) -> None:
    """However it is written: SQLAlchemy takes it in any case."""
    engine = database.engine(**({"isolation_level": level} if how == "engine" else {}))
    if how == "engine option":
        engine = engine.execution_options(isolation_level=level)
    options = {"isolation_level": level} if how == "connection" else {}
    with watch() as seen:
        await run(engine, leave_open, **options)
        await run(engine, commit, **options)
    assert seen.trace.transactions == ()
    assert [statement.transaction for statement in seen.statements] == [None] * 3


@pytest.mark.parametrize("inner", ["released", "rolled back"])
async def test_savepoints_are_control_and_stay_in_their_transaction(
    database: Database, watch: Watching, inner: str
) -> None:
    def work(connection: Connection) -> None:
        with connection.begin():
            connection.execute(ONE)
            savepoint = connection.begin_nested()
            connection.execute(insert(Shelf).values(label="saved"))
            savepoint.commit() if inner == "released" else savepoint.rollback()
            connection.execute(ONE)

    engine = database.engine()
    with watch() as seen:
        await run(engine, work)
        await run(engine, lambda c: c.execute(text("DELETE FROM shelves")), commit=True)
    assert [statement.operation for statement in seen.statements] == ["SELECT", "INSERT", "SELECT", "DELETE"]
    assert seen.trace.controls == 2
    assert outcomes(seen.trace) == ["committed", "committed"]
    assert seen.trace.transactions[0].statements == 3


@pytest.mark.drivers(*POSTGRES)
async def test_a_commit_that_fails_has_rolled_back(database: Database, watch: Watching) -> None:
    """A deferred constraint fails in COMMIT itself; the error passes, the connection is clean for the next."""
    engine = database.engine(pool_size=1, max_overflow=0)

    def work(connection: Connection) -> None:
        connection.execute(DDL("CREATE TEMPORARY TABLE strict (id INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        connection.execute(text("INSERT INTO strict VALUES (1), (1)"))
        with pytest.raises(IntegrityError):
            connection.commit()
        connection.rollback()
        connection.execute(ONE)
        connection.commit()

    with watch() as seen:
        await run(engine, work)
    assert outcomes(seen.trace) == ["rolled back", "committed"]
    assert seen.trace.transactions[0].ending > 0


@pytest.mark.drivers(*ASYNC)
async def test_a_cancelled_request_leaves_a_clean_connection(database: Database, watch: Watching) -> None:
    """Pitfall 1: no transaction of a cancelled task is continued by the next one on its connection."""
    engine = database.engine(pool_size=1, max_overflow=0)
    executed = asyncio.Event()

    async def cancelled() -> None:
        async with engine.begin() as connection:
            await connection.execute(ONE)
            executed.set()
            await asyncio.sleep(30)

    with watch() as seen:
        for _ in range(3):
            executed.clear()
            task = asyncio.create_task(cancelled())
            await executed.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await run(engine, commit)
    assert outcomes(seen.trace) == ["rolled back"] * 3 + ["committed"]
    ends = [transaction.began + transaction.elapsed for transaction in seen.trace.transactions]
    assert all(end <= t.began for end, t in zip(ends, seen.trace.transactions[1:], strict=False))


@pytest.mark.drivers(*SYNC)
def test_an_invalidated_connection_ends_its_transaction(database: Database, watch: Watching) -> None:
    with watch() as seen, database.engine().connect() as connection:
        connection.execute(ONE)
        connection.invalidate()
        connection.rollback()
        connection.execute(ONE)
        connection.commit()
    assert outcomes(seen.trace) == ["rolled back", "committed"]
    assert [checkout.busy > 0 for checkout in seen.trace.connections] == [True, True]


@pytest.mark.drivers(*SYNC)
def test_a_detached_connection_takes_nothing_with_it(database: Database, watch: Watching) -> None:
    """Its statements still count; its place in the pool is clean for the next, with a transaction of its own."""
    engine = database.engine(pool_size=1, max_overflow=0)
    with watch() as seen:
        connection = engine.connect()
        connection.execute(ONE)
        connection.detach()
        time.sleep(0.02)
        connection.execute(ONE)
        connection.close()
        time.sleep(0.02)
        with engine.connect() as another:
            another.execute(ONE)
            another.commit()
    assert len(seen.statements) == 3
    assert [statement.transaction for statement in seen.statements] == [0, None, 1]
    assert outcomes(seen.trace) == ["rolled back", "committed"]
    first, second = seen.trace.connections
    assert first.began + first.wait + first.hold <= second.began
    assert second.hold <= seen.trace.elapsed - 0.04


# Two phases


@pytest.fixture(scope="module")
def two_phase_url(postgres_server: Server) -> Iterator[str]:
    """A server that allows prepared transactions: the tests' own if it does, else one more."""
    if prepared(postgres_server) > 0:
        yield postgres_server.url()
        return
    home = CACHE / "postgres-18-two-phase"
    with embedded(home) as server:
        allowed = prepared(server) > 0
        if not allowed:
            on(server, "ALTER SYSTEM SET max_prepared_transactions = 10")
    with embedded(home) as server:
        yield server.url()


def prepared(server: Server) -> int:
    return int(on(server, "SHOW max_prepared_transactions") or 0)


def on(server: Server, sql: str) -> Any:
    engine = create_engine(server.url(driver="psycopg"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        result = connection.execute(text(sql))
        return result.scalar() if result.returns_rows else None


def prepare_and_commit(connection: Connection) -> None:
    transaction = connection.begin_twophase()
    connection.execute(ONE)
    transaction.prepare()
    transaction.commit()


def prepare_and_roll_back(connection: Connection) -> None:
    transaction = connection.begin_twophase()
    connection.execute(ONE)
    transaction.prepare()
    transaction.rollback()


def prepare_only(connection: Connection) -> None:
    transaction = connection.begin_twophase("querytoll-left")
    connection.execute(ONE)
    transaction.prepare()


def commit_unprepared(connection: Connection) -> None:
    transaction = connection.begin_twophase()
    connection.execute(ONE)
    transaction.commit()


TWO_PHASES: dict[str, tuple[Callable[[Connection], None], list[Outcome]]] = {
    "prepared, committed": (prepare_and_commit, ["committed"]),
    "prepared, rolled back": (prepare_and_roll_back, ["rolled back"]),
    "committed at once": (commit_unprepared, ["committed"]),
    "prepared, left": (prepare_only, ["prepared"]),
}


@pytest.mark.parametrize("ending", TWO_PHASES)
def test_a_two_phase_transaction_has_its_outcome(two_phase_url: str, watch: Watching, ending: str) -> None:
    """PREPARE TRANSACTION and what follows are control, no statements; the outcome is the last one's."""
    work, expected = TWO_PHASES[ending]
    engine = create_engine(make_url(two_phase_url).set(drivername="postgresql+psycopg"))
    with watch() as seen, engine.connect() as connection:
        work(connection)
        connection.invalidate() if ending == "prepared, left" else None
    with engine.connect() as connection:
        for gid in connection.recover_twophase():
            connection.rollback()
            connection.rollback_prepared(gid, recover=True)
    engine.dispose()
    assert [statement.operation for statement in seen.statements] == ["SELECT"]
    assert outcomes(seen.trace) == expected


# Checkouts


async def test_a_checkout_is_waited_for_held_and_used(database: Database, watch: Watching) -> None:
    """Hold is the stay with the application, busy the part of it in which statements ran."""
    engine = database.engine()

    def work(connection: Connection) -> None:
        connection.execute(SLEEP, {"seconds": 0.03})
        time.sleep(0.03)
        connection.execute(SLEEP, {"seconds": 0.03})

    await run(engine, lambda c: c.execute(ONE))
    with watch() as seen:
        await run(engine, work)
        await asyncio.sleep(0.03)
    (checkout,) = seen.trace.connections
    assert checkout.busy == pytest.approx(sum(statement.elapsed for statement in seen.statements))
    assert checkout.busy >= 0.055
    assert checkout.hold >= checkout.busy + 0.03
    assert checkout.hold <= seen.trace.elapsed - checkout.wait - 0.025
    assert (checkout.engine, checkout.error) == (seen.statements[0].engine, None)
    assert checkout.site is not None
    assert checkout.site.path == "tests/capture/watching.py", "the line that asked for the connection"
    assert 0 <= checkout.began <= checkout.began + checkout.wait + checkout.hold <= seen.trace.elapsed


async def test_a_checkout_from_before_the_window_counts_from_it(database: Database, watch: Watching) -> None:
    engine = database.engine()

    def work(connection: Connection) -> Watch:
        time.sleep(0.05)
        with watch() as seen:
            connection.execute(ONE)
        return seen

    seen = await run(engine, work)
    (checkout,) = seen.trace.connections
    assert checkout.wait == 0
    assert 0 <= checkout.busy <= checkout.hold <= seen.trace.elapsed


async def test_nested_windows_see_one_checkout_each_for_its_own_time(database: Database, capture: Capture) -> None:
    engine = database.engine()

    def work(connection: Connection) -> Watch:
        connection.execute(ONE)
        time.sleep(0.03)
        with Watch(capture) as inner:
            connection.execute(ONE)
            time.sleep(0.02)
        time.sleep(0.03)
        return inner

    await run(engine, lambda c: c.execute(ONE))
    with Watch(capture) as outer:
        inner = await run(engine, work)
    (all_of_it,), (part,) = outer.trace.connections, inner.trace.connections
    assert all_of_it.hold >= 0.08
    assert 0.02 <= part.hold <= inner.trace.elapsed
    assert part.busy < all_of_it.busy


@pytest.mark.drivers(*ASYNC)
async def test_waiting_for_an_exhausted_pool_is_the_wait(database: Database, watch: Watching) -> None:
    """Size 1: the second task waits as long as the first one holds, and the wait is not database time."""
    engine = database.engine(pool_size=1, max_overflow=0)
    await run(engine, lambda c: c.execute(ONE))

    async def hold() -> None:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            await asyncio.sleep(0.1)

    with watch() as seen:
        await asyncio.gather(hold(), hold())
    first, second = sorted(seen.trace.connections, key=lambda checkout: checkout.wait)
    assert second.wait >= 0.09
    assert second.began + second.wait >= first.began + first.wait + first.hold - 0.001
    assert min(first.hold, second.hold) >= 0.1
    assert second.holders == ("watched",)
    assert seen.trace.database_seconds <= seen.trace.elapsed - 0.19


@pytest.mark.drivers(*ASYNC)
async def test_whom_a_request_waited_for_is_told_though_they_are_over(database: Database, capture: Capture) -> None:
    """A pool of one is taken in turn: each was told of all that had the connection while it waited."""
    engine = database.engine(pool_size=1, max_overflow=0)
    await run(engine, lambda c: c.execute(ONE))

    async def take(name: str) -> Trace:
        with Watch(capture) as seen:
            seen.window.name = name
            async with engine.connect() as connection:
                await connection.execute(SLEEP, {"seconds": 0.03})
        return seen.trace

    traces = await asyncio.gather(*map(take, "abcd"))
    assert [trace.connections[0].holders for trace in traces] == [(), ("a",), ("a", "b"), ("a", "b", "c")]


@pytest.mark.drivers(*ASYNC)
async def test_a_connection_from_before_is_waited_for(
    database: Database, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a connection waits for nobody; who gets one that others opened outside of any window does."""
    monkeypatch.setattr(connections, "LONG_WAIT_SECONDS", 0)
    engine = database.engine(pool_size=2, max_overflow=0)
    async with engine.connect(), engine.connect():
        pass
    with Watch(capture) as first:
        first.window.name = "first"
        async with engine.connect():
            with Watch(capture) as second:
                await run(engine, lambda c: c.execute(ONE))
    assert [checkout.holders for checkout in second.trace.connections] == [("first",)]


@pytest.mark.drivers(*SYNC)
def test_only_what_is_listened_to_is_noted(database: Database, watch: Watching) -> None:
    """A pool whose listeners are gone hands out connections as if nobody had ever looked."""
    engine = database.engine()
    with engine.connect():
        pass
    detach()
    with watch() as unseen, engine.connect():
        pass
    attach()
    with watch() as seen, engine.connect():
        pass
    assert (len(unseen.trace.connections), len(seen.trace.connections)) == (0, 1)


@pytest.mark.drivers(*ASYNC)
async def test_a_pool_that_is_always_short_keeps_no_one_for_ever(
    database: Database, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waited for the one before it; what is known of them is let go, and all of it when nobody asks."""
    monkeypatch.setattr(connections, "LONG_WAIT_SECONDS", 0)
    monkeypatch.setattr(pools, "MAX_RETURNED", 5)
    engine = database.engine(pool_size=1, max_overflow=0)
    kept: list[int] = []

    async def take(times: int) -> None:
        for _ in range(times):
            with Watch(capture):
                async with engine.connect() as connection:
                    await connection.execute(ONE)
        kept.append(count_of(Hold))

    await asyncio.gather(take(30), take(40), take(50))
    assert max(kept) <= 5 + 3
    assert kept[-1] == 0


def count_of(kind: type) -> int:
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


@pytest.mark.drivers(*SYNC)
def test_threads_wait_for_an_exhausted_pool_too(database: Database, capture: Capture) -> None:
    engine = database.engine(pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        connection.execute(ONE)
    held = threading.Event()
    traces: list[Trace] = []

    def hold() -> None:
        with Watch(capture) as seen, engine.connect() as connection:
            connection.execute(ONE)
            held.set()
            time.sleep(0.1)
        traces.append(seen.trace)

    def wait() -> None:
        held.wait()
        with Watch(capture) as seen, engine.connect() as connection:
            connection.execute(ONE)
        traces.append(seen.trace)

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waits = [trace.connections[0].wait for trace in traces]
    assert max(waits) >= 0.08
    assert all(len(trace.statements) == 1 for trace in traces)


@pytest.mark.drivers(*ASYNC)
async def test_a_pool_timeout_is_a_wait_without_hold(database: Database, watch: Watching) -> None:
    """The application's exception passes, the wait is told with its reason and place; the pool works on."""
    engine = database.engine(pool_size=1, max_overflow=0, pool_timeout=0.05)
    await run(engine, lambda c: c.execute(ONE))
    with watch() as seen:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            with pytest.raises(PoolTimeout):
                async with engine.connect():
                    pass
        await run(engine, lambda c: c.execute(ONE))
    held, refused, after = seen.trace.connections
    assert 0.045 <= refused.wait <= held.hold
    assert (refused.hold, refused.busy, refused.error) == (0, 0, "TimeoutError")
    assert refused.site is not None
    assert refused.site.file == __file__
    assert (held.error, after.error) == (None, None)
    assert len(seen.statements) == 2


@pytest.mark.drivers(*ASYNC)
async def test_a_cancelled_wait_is_a_wait(database: Database, watch: Watching) -> None:
    engine = database.engine(pool_size=1, max_overflow=0)
    await run(engine, lambda c: c.execute(ONE))
    with watch() as seen:
        async with engine.connect():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.connect().start(), 0.05)
    assert sorted(checkout.error or "" for checkout in seen.trace.connections) == ["", "CancelledError"]
    assert max(checkout.wait for checkout in seen.trace.connections) >= 0.045


async def test_a_server_that_is_not_there_is_a_failed_checkout(watch: Watching) -> None:
    """Connecting fails: the application has its error, the trace a checkout without hold and its reason."""
    down = False

    async def connect() -> Any:
        if down:
            raise ConnectionRefusedError("down")
        return await aiosqlite.connect(":memory:")

    engine = create_async_engine("sqlite+aiosqlite://", async_creator=connect, poolclass=NullPool)
    await run(engine, lambda c: c.execute(ONE))
    down = True
    with watch() as seen, pytest.raises(ConnectionRefusedError):
        await run(engine, lambda c: c.execute(ONE))
    assert seen.statements == ()
    (checkout,) = seen.trace.connections
    assert (checkout.error, checkout.hold) == ("ConnectionRefusedError", 0)


POOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "QueuePool": ("sqlite", {"poolclass": QueuePool}),
    "QueuePool, psycopg": ("psycopg", {}),
    "NullPool": ("sqlite", {"poolclass": NullPool}),
    "NullPool, asyncpg": ("asyncpg", {"poolclass": NullPool}),
    "StaticPool": ("sqlite", {"poolclass": StaticPool}),
    "StaticPool, aiosqlite": ("aiosqlite", {"poolclass": StaticPool}),
    "AsyncAdaptedQueuePool": ("asyncpg", {"poolclass": AsyncAdaptedQueuePool}),
    "SingletonThreadPool": ("sqlite", {"poolclass": SingletonThreadPool}),
    "AssertionPool": ("sqlite", {"poolclass": AssertionPool}),
}


@pytest.fixture
async def pool_engine(request: pytest.FixtureRequest, sqlite_url: str, filled_postgres_url: str) -> Any:
    driver, options = POOLS[request.param]
    names = {
        "sqlite": sqlite_url,
        "aiosqlite": sqlite_url.replace("pysqlite", "aiosqlite"),
        "asyncpg": filled_postgres_url,
        "psycopg": filled_postgres_url.replace("asyncpg", "psycopg"),
    }
    database = Database(driver, names[driver])
    yield database.engine(**options)
    await database.dispose()


@pytest.mark.parametrize("pool_engine", POOLS, indirect=True)
async def test_every_pool_tells_its_checkouts(pool_engine: Any, watch: Watching) -> None:
    """Three stays one after the other are three checkouts, which end when they end."""
    with watch() as seen:
        for _ in range(3):
            await run(pool_engine, commit)
            await asyncio.sleep(0.01)
    assert len(seen.statements) == 6
    assert outcomes(seen.trace) == ["committed"] * 3
    assert len(seen.trace.connections) == 3
    ends = [checkout.began + checkout.wait + checkout.hold for checkout in seen.trace.connections]
    assert all(end <= later.began for end, later in zip(ends, seen.trace.connections[1:], strict=False))
    assert ends[-1] <= seen.trace.elapsed - 0.005


@pytest.mark.parametrize("pool_engine", ["StaticPool", "SingletonThreadPool"], indirect=True)
def test_pools_that_hand_out_one_connection_twice_end_both_stays(pool_engine: Any, watch: Watching) -> None:
    """Two stays on the same connection overlap; neither lasts beyond its connection's return."""
    with pool_engine.connect() as connection:
        connection.execute(ONE)
    with watch() as seen:
        with pool_engine.connect() as one, pool_engine.connect() as two:
            one.execute(ONE)
            two.execute(ONE)
        time.sleep(0.05)
    assert len(seen.statements) == 2
    assert all(checkout.hold <= seen.trace.elapsed - 0.045 for checkout in seen.trace.connections)


@pytest.mark.drivers(*SYNC)
def test_a_connection_that_is_collected_is_back(database: Database, watch: Watching) -> None:
    """Nobody closed it: the pool takes it back when it is garbage."""
    engine = database.engine(pool_size=1, max_overflow=0)
    with watch() as seen:
        connection = engine.connect()
        connection.execute(ONE)
        del connection
        gc.collect()
        time.sleep(0.03)
    assert outcomes(seen.trace) == ["rolled back"]
    assert seen.trace.connections[0].hold <= seen.trace.elapsed - 0.025


@pytest.mark.drivers(*SYNC)
def test_a_raw_connection_is_a_checkout_without_statements(database: Database, watch: Watching) -> None:
    engine = database.engine()
    with engine.connect() as connection:
        connection.execute(ONE)
    with watch() as seen:
        raw = engine.raw_connection()
        raw.cursor().execute("SELECT 1")
        raw.rollback()
        raw.close()
    assert seen.statements == ()
    assert len(seen.trace.connections) == 1


async def test_concurrent_connections_of_one_request_are_counted(database: Database, watch: Watching) -> None:
    """Per-resolver sessions: five sessions at once are five checkouts that overlap."""
    engine = database.engine(pool_size=5)
    if not isinstance(engine, AsyncEngine):
        return

    async def resolve() -> None:
        async with AsyncSession(engine) as session:
            await session.execute(ONE)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(resolve() for _ in range(5)))
    with watch() as seen:
        await asyncio.gather(*(resolve() for _ in range(5)))
    latest = max(checkout.began + checkout.wait for checkout in seen.trace.connections)
    open_then = [c for c in seen.trace.connections if c.began + c.wait + c.hold > latest]
    assert len(open_then) == len(seen.trace.connections) == 5


@pytest.mark.drivers("asyncpg", "sqlite")
async def test_our_state_leaves_the_connection_when_it_goes_back(database: Database, watch: Watching) -> None:
    """Nothing of ours lies on a pooled connection, while others' `info` stays."""
    engine = database.engine(pool_size=1)

    def work(connection: Connection) -> None:
        connection.info["theirs"] = 1
        connection.execute(ONE)

    with watch():
        await run(engine, work)
    (record,) = pooled(engine)
    assert record.info == {"theirs": 1}
    assert record.record_info[SEAT].link is None


async def test_windows_leave_the_pool_as_it_was(database: Database, watch: Watching) -> None:
    """Checked-out connections, overflow and size are what they are without us."""
    engine = database.engine(pool_size=2, max_overflow=1)
    pool: Any = sync_of(engine).pool
    with watch():
        await run(engine, lambda c: c.execute(select(Author.id)))
        with pytest.raises(DBAPIError):
            await run(engine, lambda c: c.execute(text("SELEKT")))
    assert (pool.checkedout(), pool.checkedin(), pool.size()) == (0, 1, 2)


def test_attaching_to_an_engine_attaches_to_its_pool_only_once(sqlite_url: str, watch: Watching) -> None:
    engine = create_engine(sqlite_url)
    for _ in range(3):
        attach([engine])
        with engine.connect() as connection:
            connection.execute(ONE)
    with watch() as seen, engine.connect() as connection:
        connection.execute(ONE)
    engine.dispose()
    assert len(seen.trace.connections) == 1


# Arithmetic


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_pitfall_3_the_union_is_the_number_of_busy_moments(intervals: list[tuple[int, int]]) -> None:
    """Against the definition: count the moments that lie in any interval."""
    moments = {moment for start, length in intervals for moment in range(start, start + length)}
    assert _union([(float(start), float(start + length)) for start, length in intervals]) == len(moments)


@pytest.mark.drivers("aiosqlite", "asyncpg")
async def test_a_trace_is_consistent_whatever_ran_at_once(database: Database, watch: Watching) -> None:
    """Every part lies inside the whole, every part of a part inside of that."""
    engine = database.engine(pool_size=2, max_overflow=2)

    async def work(n: int) -> None:
        async with engine.connect() as connection:
            for _ in range(n):
                await connection.execute(SLEEP, {"seconds": 0.004 * n})
            await connection.commit() if n % 2 else await connection.rollback()

    with watch() as seen:
        await asyncio.gather(*(work(n) for n in (1, 2, 3, 4, 1, 2)))
    trace = seen.trace
    inside = trace.elapsed + 1e-6
    parts: list[tuple[Transaction | Checkout, float]] = [(t, t.elapsed) for t in trace.transactions]
    parts += [(checkout, checkout.wait + checkout.hold) for checkout in trace.connections]
    assert all(0 <= part.began <= part.began + length <= inside for part, length in parts)
    assert all(checkout.busy <= checkout.hold + 1e-6 for checkout in trace.connections)
    assert sum(transaction.statements for transaction in trace.transactions) == len(trace.statements) == 13
    assert max(s.elapsed for s in trace.statements) <= trace.database_seconds <= inside
    assert len(trace.connections) == 6
