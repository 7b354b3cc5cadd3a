"""The history for commands: they wait for it, and whatever is wrong with the database becomes one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from querytoll.capture.failure import code_of
from querytoll.errors import QuerytollError
from querytoll.history import migrate
from querytoll.history.engine import address
from querytoll.history.recorded import Recorded
from querytoll.history.store import HistoryError, Store

T = TypeVar("T")
CONNECT_SECONDS: Final = 60.0
"""That a command waits for the database."""


def read(url: str, since: datetime) -> Recorded:
    """Return what was seen since a moment.

    Raises:
        ConfigurationError: the URL cannot be used.
        HistoryError: the database cannot be reached, or has no history, or one of another version.
    """
    return asyncio.run(_told(url, Store(url).list(since)))


def upgrade(url: str, revision: str = "head") -> None:
    """Make or change the tables.

    Raises:
        ConfigurationError: the URL cannot be used, or Alembic is not installed.
        HistoryError: the database cannot be reached, or refuses.
    """
    asyncio.run(_told(url, migrate.upgrade(url, revision)))


def downgrade(url: str, revision: str = "base") -> None:
    """Take the tables back to a revision.

    Raises:
        ConfigurationError: the URL cannot be used, or Alembic is not installed.
        HistoryError: the database cannot be reached, or refuses.
    """
    asyncio.run(_told(url, migrate.downgrade(url, revision)))


async def _told(url: str, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await work
    except QuerytollError:
        raise
    except TimeoutError:
        raise HistoryError(f"the history at {address(url)} did not answer within {CONNECT_SECONDS:.0f} s") from None
    except Exception as error:
        origin = getattr(error, "orig", None) or error
        if not isinstance(error, OSError | SQLAlchemyError) and not hasattr(error, "sqlstate"):
            raise
        reason = next(iter(str(origin).splitlines()), "")
        raise HistoryError(f"the history at {address(url)} cannot be used: {reason} ({code_of(origin)})") from None
