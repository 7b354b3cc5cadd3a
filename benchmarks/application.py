"""The application under test: an ordinary FastAPI one, whose requests send as many statements as their path says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import combinations
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ITEMS: Final = 1_000
"""Rows of the one table."""


class Base(DeclarativeBase):
    """Registry of the models."""


class Item(Base):
    """A row as applications have them."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str]
    price: Mapped[int]
    stock: Mapped[int]
    weight: Mapped[int]
    colour: Mapped[str]
    rating: Mapped[int]


ITEM_TABLE: Final[Table] = Base.metadata.tables["items"]
_COLUMNS: Final = tuple(ITEM_TABLE.c)
# Some hundred shapes: every choice of four columns or fewer, the first to be asked for the widest.
_CHOICES: Final = [select(*chosen) for width in (4, 3, 2, 1) for chosen in combinations(_COLUMNS, width)]


class ItemRepository:
    """Reads items through the ORM."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key: int) -> Item | None:
        """Select one item by its key; never from the session's identity map."""
        return await self._session.scalar(select(Item).where(Item.id == key))

    async def pick(self, choice: int, key: int) -> Any:
        """Select some columns of one item: another choice is a statement of another shape."""
        result = await self._session.execute(_CHOICES[choice].where(Item.id == key))
        return result.one()


async def read_row(connection: AsyncConnection, key: int) -> Any:
    """Select one row by its key, without the ORM."""
    result = await connection.execute(select(ITEM_TABLE).where(ITEM_TABLE.c.id == key))
    return result.one()


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The request's session."""
    async with request.app.state.sessions() as session:
        yield session


async def get_connection(request: Request) -> AsyncIterator[AsyncConnection]:
    """The request's connection."""
    async with request.app.state.engine.connect() as connection:
        yield connection


Session = Annotated[AsyncSession, Depends(get_session)]
Connection = Annotated[AsyncConnection, Depends(get_connection)]
router: Final = APIRouter()


@router.get("/core/{count}/{first}")
async def core(count: int, first: int, connection: Connection) -> dict[str, int]:
    """Core selects in a loop."""
    total = 0
    for key in _keys(count, first):
        total += (await read_row(connection, key)).price
    return {"total": total}


@router.get("/orm/{count}/{first}")
async def orm(count: int, first: int, session: Session) -> dict[str, int]:
    """ORM selects in a loop: from three on, an N+1."""
    items = ItemRepository(session)
    total = 0
    for key in _keys(count, first):
        item = await items.get(key)
        total += item.price if item is not None else 0
    return {"total": total}


@router.get("/distinct/{count}/{first}")
async def distinct(count: int, first: int, session: Session) -> dict[str, int]:
    """As many shapes as statements: nothing to find."""
    items = ItemRepository(session)
    total = 0
    for choice, key in enumerate(_keys(count, first)):
        total += len(await items.pick(choice, key))
    return {"total": total}


def _keys(count: int, first: int) -> Iterator[int]:
    return ((first + step) % ITEMS + 1 for step in range(count))


async def seed(engine: AsyncEngine) -> None:
    """Make the table and its rows anew."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Item), [_row(key) for key in range(1, ITEMS + 1)])


def _row(key: int) -> dict[str, object]:
    numbers = {"price": key % 97, "stock": key % 13, "weight": key % 31, "rating": key % 5}
    return {"id": key, "name": f"item {key}", "note": "as described " * 4, "colour": "blue", **numbers}


def build(engine: AsyncEngine, install: Callable[[FastAPI, AsyncEngine], None]) -> FastAPI:
    """The application on this engine, with a contestant installed."""
    app = FastAPI(openapi_url=None)
    app.include_router(router)
    app.state.engine = engine
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    install(app, engine)
    return app


Application = Callable[[Any, Any, Any], Awaitable[None]]
