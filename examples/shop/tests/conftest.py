"""A seeded shop for all tests, an empty database for those that migrate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shop import migrate
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.main import create_app
from shop.seed import seed

ROWS = 2_000


@asynccontextmanager
async def new_database(server: str) -> AsyncIterator[str]:
    """Make a database next to the given one, and drop it afterwards."""
    name = f"shop_{uuid4().hex}"
    engine = create_async_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop_database(postgres_url: str) -> AsyncIterator[str]:
    """Give the URL of a migrated shop with `ROWS` rows."""
    async with new_database(postgres_url) as url:
        await migrate.upgrade(url)
        engine = create_engine(ShopSettings(database_url=url))
        await seed(engine, ROWS)
        await engine.dispose()
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database(postgres_url: str) -> AsyncIterator[str]:
    """Give the URL of a database without tables."""
    async with new_database(postgres_url) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(shop_database: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the running shop."""
    app = create_app(ShopSettings(database_url=shop_database, carrier_seconds=0.01))
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        yield shop
