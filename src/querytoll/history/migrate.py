"""Alembic's commands for the history's tables."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL

from querytoll.errors import ConfigurationError, MissingExtraError
from querytoll.history.engine import address

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS: Final = Path(__file__).parent / "migrations"


async def upgrade(url: str | URL, revision: str = "head") -> None:
    """Make or change the tables; several processes may do so at once.

    Alembic keeps what it works on in module globals: not while the application's own migrations run in this process.

    Args:
        url: of the history.
        revision: of the history's migrations.

    Raises:
        MissingExtraError: Alembic is not installed.
        ConfigurationError: the URL cannot be used.
    """
    await _run("upgrade", url, revision)


async def downgrade(url: str | URL, revision: str = "base") -> None:
    """Take the tables back to a revision, by default to none.

    Args:
        url: of the history.
        revision: of the history's migrations.

    Raises:
        MissingExtraError: Alembic is not installed.
        ConfigurationError: the URL cannot be used.
    """
    await _run("downgrade", url, revision)


async def _run(command: str, url: str | URL, revision: str) -> None:
    config = configuration(url)
    from alembic import command as commands

    await asyncio.to_thread(getattr(commands, command), config, revision)


def _folder_exists(url: URL) -> bool:
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).parent.is_dir()


def configuration(url: str | URL) -> Config:
    """Make what alembic.ini would hold.

    Raises:
        MissingExtraError: Alembic is not installed.
        ConfigurationError: the URL cannot be used.
    """
    try:
        from alembic.config import Config
    except ImportError:
        raise MissingExtraError("alembic", "history") from None
    found = address(url)
    if not _folder_exists(found):
        raise ConfigurationError(f"history: the folder of {found} does not exist")
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["url"] = found
    return config
