"""Alembic's commands for use in code."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config

SCRIPTS = Path(__file__).parent / "alembic"


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database of the asyncpg URL up to the revision."""
    await asyncio.to_thread(command.upgrade, configuration(url), revision)


async def downgrade(url: str, revision: str = "base") -> None:
    """Bring the database of the asyncpg URL down to the revision."""
    await asyncio.to_thread(command.downgrade, configuration(url), revision)


def configuration(url: str) -> Config:
    """Make what alembic.ini holds; the URL bypasses the interpolation of `%`."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["url"] = url
    return config
