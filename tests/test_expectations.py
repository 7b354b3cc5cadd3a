"""Expectations as decorators, filters of what counts, and indexes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from querytoll.capture import everywhere
from querytoll.capture.scope import current
from querytoll.errors import ConfigurationError, QueryAssertionError, WindowError
from querytoll.testing import (
    assert_max_db_time,
    assert_max_queries,
    assert_no_findings,
    assert_no_n_plus_one,
    assert_no_slow_queries,
    assert_num_queries,
    assert_uses_index,
    record,
)

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer_id", Integer),
    Column("note", Text),
    Index("ix_orders_customer_id", "customer_id"),
)
customers = Table("customers", metadata, Column("id", Integer, primary_key=True), Column("name", Text))


@pytest.fixture(autouse=True)
def nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No scope and no window that sees everything is left; failures are written for 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("QUERYTOLL_PROJECT_ROOT", str(Path(__file__).parents[1]))
    yield
    assert current.get() is None
    assert everywhere == []


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[Engine]:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    made = create_engine(url, poolclass=NullPool)
    metadata.create_all(made)
    with made.begin() as connection:
        connection.execute(insert(orders), [{"id": n, "customer_id": n, "note": "secret"} for n in range(5)])
    yield made
    made.dispose()


@pytest.fixture
def other(postgres_url: str, engine: Engine) -> Iterator[Engine]:
    """Another engine of the same database and driver."""
    made = create_engine(engine.url, poolclass=NullPool)
    yield made
    made.dispose()


@pytest.fixture
def async_engine(postgres_url: str, engine: Engine) -> AsyncEngine:
    return create_async_engine(postgres_url, poolclass=NullPool)


def work(engine: Engine) -> None:
    """Two reads of orders, one of customers, one write."""
    with engine.begin() as connection:
        for _ in range(2):
            connection.execute(select(orders.c.id).where(orders.c.customer_id == 1))
        connection.execute(select(customers.c.id))
        connection.execute(orders.update().where(orders.c.id == 1).values(note="n"))


# Decorators


def test_a_decorated_function_is_held_to_it_in_every_call(engine: Engine) -> None:
    """Each call is a block of its own, with the function's result and arguments as they are."""

    @assert_max_queries(4)
    def worked(engine: Engine, *, answer: int = 42) -> int:
        work(engine)
        return answer

    assert [worked(engine), worked(engine, answer=1)] == [42, 1]
    assert str(inspect.signature(worked)) == "(engine: 'Engine', *, answer: 'int' = 42) -> 'int'"


def test_a_decorated_function_fails(engine: Engine) -> None:
    """What is not met is raised from the call, every time."""
    worked = assert_num_queries(1)(work)
    for _ in range(2):
        with pytest.raises(QueryAssertionError, match="expected exactly 1 query, got 4"):
            worked(engine)


async def test_a_decorated_coroutine_function(async_engine: AsyncEngine) -> None:
    """An async function stays one, and is held to it while it is awaited."""

    @assert_max_queries(1)
    async def asked(times: int) -> int:
        async with async_engine.connect() as connection:
            for _ in range(times):
                await connection.execute(text("SELECT 1"))
        return times

    assert inspect.iscoroutinefunction(asked)
    assert await asked(1) == 1
    with pytest.raises(QueryAssertionError, match="expected at most 1 query, got 2"):
        await asked(2)


@assert_no_n_plus_one()
@assert_no_findings(rules=["n-plus-one"])
@assert_max_db_time(60)
@assert_no_slow_queries(60)
@assert_num_queries(4)
def test_decorators_of_a_test(engine: Engine) -> None:
    """A test with fixtures can be decorated, several times."""
    work(engine)


def test_a_decorator_is_no_recording_to_read() -> None:
    """Each call has its own recording; the decorator has none."""
    recording = record()
    recording(lambda: None)()
    with pytest.raises(WindowError):
        _ = recording.count


# Filters


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ({"table": "orders"}, 3),
        ({"table": "customers"}, 1),
        ({"table": "nowhere"}, 0),
        ({"operation": "select"}, 3),
        ({"operation": "UPDATE"}, 1),
        ({"table": "orders", "operation": "SELECT"}, 2),
        ({"engine": "nowhere"}, 0),
    ],
    ids=str,
)
def test_a_filter_leaves_the_rest_out(engine: Engine, what: dict[str, str], count: int) -> None:
    """Statements, their number and the text of a failure are those of the table, operation or engine."""
    with record(**what) as queries:
        work(engine)
    assert (queries.count, len(queries.statements)) == (count, count)


def test_a_filter_is_named_in_the_failure(engine: Engine) -> None:
    """The text says what was counted, and shows no other statement."""
    with pytest.raises(QueryAssertionError) as caught, assert_max_queries(1, table="orders", operation="SELECT"):
        work(engine)
    told = str(caught.value)
    assert told.startswith("expected at most 1 query (SELECT of orders), got 2\n")
    assert "customers" not in told


def test_an_engine_is_told_from_its_twin(engine: Engine, other: Engine) -> None:
    """An engine is itself, though another one has the same name."""
    with record(engine=engine) as queries, record(engine=other) as none, record() as all_queries:
        work(engine)
    assert (queries.count, none.count, all_queries.count) == (4, 0, 4)
    assert {statement.engine for statement in queries.statements} == {
        statement.engine for statement in all_queries.statements
    }
    with record(engine=queries.statements[0].engine) as named:
        work(engine)
    assert named.count == 4


async def test_an_async_engine_is_taken_for_its_own(async_engine: AsyncEngine) -> None:
    """An AsyncEngine is an engine."""
    async with record(engine=async_engine) as queries, async_engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert queries.count == 1


def test_what_is_no_engine_fails_at_once() -> None:
    """A mistake is told where it was made."""
    with pytest.raises(ConfigurationError, match="engine: expected an engine or its name, got int"):
        record(engine=5)


def test_at_most_by_another_name(engine: Engine) -> None:
    """`exact=False` accepts fewer."""
    with assert_num_queries(10, exact=False):
        work(engine)
    with pytest.raises(QueryAssertionError, match="at most 3 queries, got 4"), assert_num_queries(3, exact=False):
        work(engine)


def test_transaction_control_on_request(engine: Engine) -> None:
    """COMMIT, ROLLBACK and SAVEPOINTs are counted where they are asked for."""
    with (
        assert_num_queries(1),
        assert_num_queries(4, controls=True),
        engine.begin() as connection,
        connection.begin_nested(),
    ):
        connection.execute(select(orders.c.id))


def test_slow_queries(engine: Engine) -> None:
    """A single statement over the limit is refused."""

    def sleep() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_sleep(0.03)"))

    with assert_no_slow_queries():
        sleep()
    with pytest.raises(QueryAssertionError, match="expected no slow-query, got 1"), assert_no_slow_queries(0.01):
        sleep()


# Indexes


def by_customer(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(select(orders.c.id).where(orders.c.customer_id == 3))


def by_note(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(select(orders.c.id).where(orders.c.note == "top secret").order_by(orders.c.id))


def test_an_index_that_would_be_used(engine: Engine) -> None:
    """Five rows would be read whole; what counts is that an index could find them."""
    with assert_uses_index("orders") as queries, assert_num_queries(1):
        by_customer(engine)
    assert [access.index for access in queries.accesses] == ["ix_orders_customer_id"]
    with assert_uses_index("orders", "ix_orders_customer_id"), assert_num_queries(1, controls=False):
        by_customer(engine)


def test_a_missing_index(engine: Engine) -> None:
    """The text names the statement, its line and the condition, without the value."""

    def ask() -> None:
        by_customer(engine)
        by_note(engine)

    with pytest.raises(QueryAssertionError) as caught:
        assert_uses_index("orders")(ask)()
    told = str(caught.value)
    assert told.startswith("expected an index of orders to be used, got none\n")
    assert "1x  SELECT orders" in told
    assert f"test_expectations.py:{by_note.__code__.co_firstlineno + 2}" in told
    assert "note = ?" in told
    assert "secret" not in told


def test_another_index(engine: Engine) -> None:
    """An index that was not the expected one is named."""
    message = "expected pk to be used, got ix_orders_customer_id"
    with pytest.raises(QueryAssertionError, match=message), assert_uses_index("orders", "pk"):
        by_customer(engine)


def test_nothing_of_the_table(engine: Engine) -> None:
    """Without a statement of the table nothing was proven."""
    with pytest.raises(QueryAssertionError, match="but nothing read customers"), assert_uses_index("customers"):
        by_customer(engine)


def test_no_plans_but_postgresqls() -> None:
    """On another server nothing is proven either, and the text says why and what was sent."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE orders (id int)"))
        with pytest.raises(QueryAssertionError) as caught, assert_uses_index("orders"):
            connection.execute(text("SELECT id FROM orders"))
    engine.dispose()
    assert str(caught.value).startswith(
        "expected an index of orders to be used, but plans are PostgreSQL's only\n\n  1x"
    )


def test_only_the_blocks_statements_are_asked_about(engine: Engine) -> None:
    """Before and after the block no statement has a companion."""
    with assert_uses_index("orders") as queries:
        by_customer(engine)
    by_note(engine)
    assert len(queries.accesses) == 1


def test_uncommitted_indexes_and_a_transaction_that_goes_on(engine: Engine) -> None:
    """The plan is asked for in the test's own transaction, which is as before afterwards."""
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE fresh (note text)"))
        connection.execute(text("CREATE INDEX ix_note ON fresh (note)"))
        with assert_uses_index("fresh", "ix_note"):
            connection.execute(text("SELECT * FROM fresh WHERE note = :note"), {"note": "n"})
        assert connection.scalar(text("SHOW enable_seqscan")) == "on"
        connection.rollback()


def test_a_statement_that_fails_is_the_blocks_own(engine: Engine) -> None:
    """What cannot be explained fails as it would have without us."""
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught, assert_uses_index("orders"):
        connection.execute(text("SELECT nothing FROM orders"))
    assert caught.value.orig is not None
    assert getattr(caught.value.orig, "sqlstate", None) == "42703"


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "AUTOCOMMIT"])
async def test_indexes_on_asyncpg(async_engine: AsyncEngine, isolation: str) -> None:
    """Parameters of asyncpg are bound, inside and outside of transactions."""
    engine = async_engine.execution_options(isolation_level=isolation)
    async with assert_uses_index("orders", "ix_orders_customer_id") as queries, engine.connect() as connection:
        for number in (1, 2):
            await connection.execute(select(orders).where(orders.c.customer_id == number))
        assert await connection.scalar(text("SHOW enable_seqscan")) == "on"
    assert len(queries.accesses) == 1


# Mistakes


def test_a_filter_that_lets_nothing_pass(engine: Engine) -> None:
    """A table with an error in its name is told by what was sent instead."""
    with pytest.raises(QueryAssertionError) as caught, assert_num_queries(1, table="order"):
        by_customer(engine)
    assert str(caught.value) == (
        "expected exactly 1 query (of order), got 0\n\n  none that counts, but 1 other statement: SELECT orders"
    )


def test_a_filter_that_there_is_not() -> None:
    """An error in the name of an argument would let everything count."""
    with pytest.raises(TypeError, match="'tabel'"):
        assert_max_queries(1, tabel="orders")  # type: ignore[call-arg]


def test_a_rule_that_there_is_not() -> None:
    """An error in a slug would find nothing, for ever."""
    with pytest.raises(ConfigurationError, match=r"there is no rule 'n\+1'; the rules are .*n-plus-one"):
        assert_no_findings(rules=["n+1"])
