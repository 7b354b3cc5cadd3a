"""Migrations lead to the models' schema, and back."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shop.db.base import Base
from shop.migrate import configuration, downgrade, upgrade

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tables(url: str) -> set[str]:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return set(names) - {"alembic_version"}


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


async def test_up_down_and_up_again(empty_database: str) -> None:
    """Downgrading leaves nothing behind that would stop the next upgrade."""
    await upgrade(empty_database)
    assert await tables(empty_database) == set(Base.metadata.tables)
    await downgrade(empty_database)
    assert await tables(empty_database) == set()
    await upgrade(empty_database)
    assert await tables(empty_database) == set(Base.metadata.tables)


async def test_each_step_is_reversible(empty_database: str) -> None:
    """Every migration can be taken back on its own and run again."""
    for script in reversed(list(ScriptDirectory.from_config(configuration("")).walk_revisions())):
        for move, revision in ((upgrade, script.revision), (downgrade, "-1"), (upgrade, script.revision)):
            await move(empty_database, revision)


async def test_models_and_migrations_agree(empty_database: str) -> None:
    """Autogenerate finds nothing to do."""
    await upgrade(empty_database)
    engine = create_async_engine(empty_database, poolclass=NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
