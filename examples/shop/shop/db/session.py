"""Settings to an engine, an engine to sessions."""

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from shop.db.config import ShopSettings


def create_engine(settings: ShopSettings) -> AsyncEngine:
    """Make the engine; it connects on first use."""
    return create_async_engine(
        settings.database_url,
        pool_pre_ping=True,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout_seconds,
    )


def create_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make the session factory; objects stay readable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)
