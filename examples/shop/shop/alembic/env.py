"""Run the migrations with the async engine of the URL that was given, else of `SHOP_DATABASE_URL`."""

import asyncio

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import shop.models  # noqa: F401 - fills the metadata
from shop.db.base import Base
from shop.db.config import ShopSettings

URL: str = context.config.attributes.get("url") or ShopSettings().database_url


def migrate(connection: Connection | None = None) -> None:
    """Run on the connection, or print the SQL where there is none."""
    context.configure(
        connection=connection,
        url=URL,
        literal_binds=connection is None,
        dialect_opts={"paramstyle": "named"},
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_migrate() -> None:
    engine = create_async_engine(URL, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    migrate()
else:
    asyncio.run(connect_and_migrate())
