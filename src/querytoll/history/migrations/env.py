"""Run the history's migrations, one process at a time, in one transaction."""

import asyncio

from alembic import context
from sqlalchemy import URL, Connection, func, select

from querytoll.history.engine import connect
from querytoll.history.models import PREFIX, Base
from querytoll.history.store import LOCK, VERSION_TABLE

URL_: URL = context.config.attributes["url"]


def include(name: str | None, kind: str, parents: object) -> bool:
    """Leave the application's tables out of what is compared."""
    return kind != "table" or (name or "").startswith(PREFIX)


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_name=include,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        context.run_migrations()


async def connect_and_migrate() -> None:
    engine = connect(URL_, exclusive=True)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)


asyncio.run(connect_and_migrate())
