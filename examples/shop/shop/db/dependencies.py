"""What an endpoint may ask for: the engine, a session, a unit of work."""

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from shop.repositories.unit_of_work import UnitOfWork


def get_engine(request: Request) -> AsyncEngine:
    """Give the engine of the running application."""
    return cast("AsyncEngine", request.app.state.engine)


def get_sessions(request: Request) -> async_sessionmaker[AsyncSession]:
    """Give the session factory, for work that outlives the endpoint."""
    return cast("async_sessionmaker[AsyncSession]", request.app.state.sessions)


Engine = Annotated[AsyncEngine, Depends(get_engine)]
Sessions = Annotated[async_sessionmaker[AsyncSession], Depends(get_sessions)]


async def get_db(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """Give one session per request; what was not committed is rolled back."""
    async with sessions() as session:
        yield session


Db = Annotated[AsyncSession, Depends(get_db)]


def get_unit_of_work(db: Db) -> UnitOfWork:
    """Give the request's unit of work."""
    return UnitOfWork(db)


Work = Annotated[UnitOfWork, Depends(get_unit_of_work)]
