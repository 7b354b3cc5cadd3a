"""An action's statements with few rows and with ten times as many."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, insert, make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import NullPool

from querytoll.errors import QueryAssertionError
from querytoll.testing import assert_query_growth


class Base(DeclarativeBase):
    """Root of the mapping."""


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[Item]] = relationship(back_populates="order")


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    order: Mapped[Order] = relationship(back_populates="items")


numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("QUERYTOLL_PROJECT_ROOT", str(Path(__file__).parents[1]))


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[Engine]:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    made = create_engine(url.render_as_string(hide_password=False), poolclass=NullPool)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def async_engine(postgres_url: str, engine: Engine) -> AsyncEngine:
    return create_async_engine(postgres_url, poolclass=NullPool)


@pytest.fixture(autouse=True)
def empty(engine: Engine) -> Iterator[None]:
    yield
    with engine.begin() as connection:
        connection.execute(Item.__table__.delete())
        connection.execute(Order.__table__.delete())


@pytest.fixture
def make(engine: Engine) -> Callable[[int], None]:
    """Add orders with one item each."""

    def add(count: int) -> None:
        ids = [next(numbers) for _ in range(count)]
        with engine.begin() as connection:
            connection.execute(insert(Order), [{"id": number} for number in ids])
            connection.execute(insert(Item), [{"id": number, "order_id": number} for number in ids])

    return add


def load_lazily(engine: Engine) -> None:
    with Session(engine) as session:
        for order in session.scalars(select(Order)):
            len(order.items)


def load_early(engine: Engine) -> None:
    with Session(engine) as session:
        for order in session.scalars(select(Order).options(selectinload(Order.items))):
            len(order.items)


def ask_in_chunks(engine: Engine) -> None:
    with engine.connect() as connection:
        ids = list(connection.scalars(select(Order.id)))
        for start in range(0, len(ids), 30):
            connection.execute(select(Item.id).where(Item.order_id.in_(ids[start : start + 30])))


def failure(action: Callable[[], object], make: Callable[[int], object], **options: Any) -> str:
    with pytest.raises(QueryAssertionError) as caught:
        assert_query_growth(action, make, **options)
    return str(caught.value)


def test_a_lazy_load_per_row_grows(engine: Engine, make: Callable[[int], None]) -> None:
    """Two rows are enough to prove an N+1; the text names the shape, its line and both counts."""
    told = failure(lambda: load_lazily(engine), make)
    first, _, shape, *_ = told.splitlines()
    assert first == "expected as many queries for 20 rows as for 2, got more of 1 shape"
    line = load_lazily.__code__.co_firstlineno + 3
    assert shape == f"  2 -> 20  SELECT items  tests/test_growth.py:{line}"
    assert "lazy load of Order.items" in told
    assert ".options(selectinload(Order.items))" in told


def test_one_row_is_enough(engine: Engine, make: Callable[[int], None]) -> None:
    """One statement for one row is ten for ten."""
    assert "1 -> 10  SELECT items" in failure(lambda: load_lazily(engine), make, rows=1)


def test_an_eager_load_does_not_grow(engine: Engine, make: Callable[[int], None]) -> None:
    """What the advice says is accepted."""
    assert_query_growth(lambda: load_early(engine), make)


def test_chunks_do_not_grow(engine: Engine, make: Callable[[int], None]) -> None:
    """Statements for many rows each are as many as there are chunks, which is right."""
    assert_query_growth(lambda: ask_in_chunks(engine), make, rows=20)


def test_fewer_statements_are_no_growth(engine: Engine, make: Callable[[int], None]) -> None:
    """What the first run alone has to do, such as filling a cache, is not held against the second."""
    runs = itertools.count()

    def warming() -> None:
        for _ in range(3 if next(runs) == 0 else 1):
            load_early(engine)

    assert_query_growth(warming, make)


def test_a_write_per_row_grows(engine: Engine, make: Callable[[int], None]) -> None:
    """Statements that no rule knows more of have an advice as well."""

    def touch() -> None:
        with engine.begin() as connection:
            for number in connection.scalars(select(Order.id)).all():
                connection.execute(Item.__table__.update().where(Item.id == number).values(order_id=number))

    told = failure(touch, make, rows=1)
    assert "1 -> 10  UPDATE items" in told
    assert "fix: " in told


def test_only_what_is_asked_for_counts(engine: Engine, make: Callable[[int], None]) -> None:
    """A filter by table leaves the growing shape out."""
    assert_query_growth(lambda: load_lazily(engine), make, table="orders")


def test_an_action_without_statements_proves_nothing(make: Callable[[int], None]) -> None:
    """An action that was not seen is a failure, not a success."""
    assert "expected the action to send queries, got none" in failure(lambda: None, make)


async def load_lazily_async(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        for order in (await session.scalars(select(Order))).all():
            await session.scalars(select(Item).where(Item.order_id == order.id))


async def load_early_async(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await session.scalars(select(Order).options(selectinload(Order.items)))


async def test_async_actions(async_engine: AsyncEngine, make: Callable[[int], None]) -> None:
    """An async action is awaited, with a sync factory, through a lambda as well."""
    with pytest.raises(QueryAssertionError, match="2 -> 20  SELECT items"):
        await assert_query_growth(lambda: load_lazily_async(async_engine), make)
    await assert_query_growth(lambda: load_early_async(async_engine), make)


async def test_async_factories(async_engine: AsyncEngine, make: Callable[[int], None]) -> None:
    """An async factory is awaited, for async and for sync actions."""

    async def make_async(count: int) -> None:
        await asyncio.to_thread(make, count)

    with pytest.raises(QueryAssertionError, match="1 -> 10  SELECT items"):
        await assert_query_growth(lambda: load_lazily_async(async_engine), make_async, rows=1)
    await assert_query_growth(lambda: load_early_async(async_engine), make_async)


async def test_a_growth_that_nobody_awaits(make: Callable[[int], None]) -> None:
    """Python's warning has the name of what is to be awaited."""

    async def ask() -> None: ...

    waiting = assert_query_growth(ask, make)
    assert waiting.__qualname__ == "assert_query_growth"
    with pytest.raises(QueryAssertionError, match="expected the action to send queries, got none"):
        await waiting
