"""The engines and sessions of the application under test, as its dependencies hand them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from tests.detect.corpus import models

POOL_SIZE = 20


class Database:
    """Set by `open`: an engine per driver, and their sessions.

    Attributes:
        engine: asyncpg, pooled.
        sessions: of it, as async applications have them.
        expiring: of it, with SQLAlchemy's default `expire_on_commit=True`.
        sync_engine: psycopg.
        sync_sessions: of it.
    """

    url: str
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    expiring: async_sessionmaker[AsyncSession]
    sync_engine: Engine
    sync_sessions: sessionmaker[Session]

    def __init__(self) -> None:
        self._more: list[AsyncEngine] = []
        self._named: dict[str, AsyncEngine] = {}

    async def open(self, url: str) -> None:
        """Make the engines and the tables, and fill the pool as an application that has run for a while."""
        self.url = url
        self.sync_engine = create_engine(self.url_of("psycopg"))
        self.sync_sessions = sessionmaker(self.sync_engine)
        with self.sync_engine.begin() as connection:
            models.create(connection)
        self.engine = create_async_engine(url, pool_size=POOL_SIZE)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.expiring = async_sessionmaker(self.engine)
        await asyncio.gather(*(self._use() for _ in range(POOL_SIZE)))

    def url_of(self, driver: str) -> str:
        """The same database through another driver."""
        return make_url(self.url).set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)

    def another(self, driver: str = "asyncpg", **options: Any) -> AsyncEngine:
        """Make an engine that lives until the scenario ends."""
        made = create_async_engine(self.url_of(driver), **options)
        self._more.append(made)
        return made

    def shared(self, name: str, **options: Any) -> AsyncEngine:
        """The engine of that name; made at first use, it lives until the scenario ends."""
        if name not in self._named:
            self._named[name] = self.another(**options)
        return self._named[name]

    async def close_others(self) -> None:
        """Dispose of what `another` and `shared` made."""
        self._named.clear()
        while self._more:
            await self._more.pop().dispose()

    async def close(self) -> None:
        """Dispose of all engines."""
        await self.close_others()
        await self.engine.dispose()
        self.sync_engine.dispose()

    async def _use(self) -> None:
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.1)"))


database = Database()


async def get_session() -> AsyncIterator[AsyncSession]:
    async with database.sessions() as session:
        yield session


async def get_expiring_session() -> AsyncIterator[AsyncSession]:
    async with database.expiring() as session:
        yield session


async def get_connection() -> AsyncIterator[AsyncConnection]:
    async with database.engine.connect() as connection:
        yield connection


def get_sync_session() -> Iterator[Session]:
    with database.sync_sessions() as session:
        yield session


Db = Annotated[AsyncSession, Depends(get_session)]
ExpiringDb = Annotated[AsyncSession, Depends(get_expiring_session)]
Conn = Annotated[AsyncConnection, Depends(get_connection)]
SyncDb = Annotated[Session, Depends(get_sync_session)]


async def driver_of(session: AsyncSession | AsyncConnection) -> Any:
    """The asyncpg connection beneath."""
    connection = await session.connection() if isinstance(session, AsyncSession) else session
    return (await connection.get_raw_connection()).driver_connection
