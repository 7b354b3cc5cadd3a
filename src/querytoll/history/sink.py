"""Reports to a history; the request only puts them into a queue."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import timedelta
from typing import Final

from sqlalchemy import URL

from querytoll.errors import ConfigurationError, Faults
from querytoll.history.batch import Folder
from querytoll.history.store import Store
from querytoll.history.writer import CLOSE_SECONDS, Writer
from querytoll.model import Report
from querytoll.settings import Settings

KEEP_DAYS: Final = 14.0
MAX_TRACES: Final = 100
MAX_WAITING: Final = 50_000
INTERVAL_SECONDS: Final = 5.0


class HistorySink:
    """Keeps what was found in PostgreSQL or SQLite, over restarts and for all processes.

    Its tables are made with `querytoll history upgrade`. A thread of its own writes, and is there while there is
    something to write. While the database is away, it is tried again after one second up to one minute.

    Args:
        url: of the database, for asyncpg, psycopg or aiosqlite; may hold a password, and is never shown.
        settings: None: from the environment; `slow_request_seconds` and `max_routes` count here.
        keep_days: what was not seen for so long is forgotten.
        max_traces: traces kept for each route or name.
        max_waiting: statements and reports that may wait to be written; reports over it are dropped.
        interval_seconds: between two writes.
        paths: keep the path of a trace as requested, with the values in it.

    Raises:
        ConfigurationError: the URL or a number cannot be used.
    """

    def __init__(
        self,
        url: str | URL,
        settings: Settings | None = None,
        *,
        keep_days: float = KEEP_DAYS,
        max_traces: int = MAX_TRACES,
        max_waiting: int = MAX_WAITING,
        interval_seconds: float = INTERVAL_SECONDS,
        paths: bool = False,
    ) -> None:
        for name, value in (
            ("keep_days", keep_days),
            ("max_waiting", max_waiting),
            ("interval_seconds", interval_seconds),
        ):
            if value <= 0:
                raise ConfigurationError(f"HistorySink: {name} is more than 0, not {value}")
        if max_traces < 0:
            raise ConfigurationError(f"HistorySink: max_traces is 0 or more, not {max_traces}")
        self._folder = Folder(settings or Settings(), paths=paths)
        self._writer = Writer(
            Store(url),
            self._folder,
            limit=max_waiting,
            interval_seconds=interval_seconds,
            keep=timedelta(days=keep_days),
            max_traces=max_traces,
        )

    def __call__(self, report: Report) -> None:
        self._writer.put(report)

    @property
    def dropped(self) -> int:
        """Reports that were not kept: the queue was full, or the database refused them."""
        return self._writer.dropped

    @property
    def left_out(self) -> int:
        """Findings and shapes of statements that were over the limits of an hour."""
        return self._folder.left_out

    @property
    def faults(self) -> Faults:
        """Where exceptions end that come in the background."""
        return self._writer.faults

    def attend(self, faults: Faults) -> None:
        """Let exceptions end there."""
        self._writer.faults = faults

    def pending(self) -> list[Future[None]]:
        """Write what waits now, and return what ends with it; nothing while the database is away."""
        return self._writer.pending()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Take no more reports, and wait until those that wait are written; at the end of the process by itself."""
        self._writer.close(seconds)
