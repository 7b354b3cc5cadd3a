"""A server-side cursor's true time: until its result closes, not until it opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from sqlalchemy.engine import cursor as engine_cursor

from querytoll.capture.connections import faults
from querytoll.capture.failure import code_of


class Stream:
    """What became of a streamed result: when it ended, the seconds spent fetching, its rows, its error."""

    __slots__ = ("ended", "error", "fetching", "rows")

    def __init__(self) -> None:
        self.fetching = 0.0
        self.ended: float | None = None
        self.rows = 0
        self.error: str | None = None


def is_streamed(context: Any) -> bool:
    """Tell whether SQLAlchemy will fetch the rows through its buffer for server-side cursors.

    It fetches those of insertmanyvalues itself, batch by batch.
    """
    return (
        bool(context._is_server_side)
        and not context.executemany
        and context.cursor_fetch_strategy is engine_cursor._DEFAULT_FETCH
    )


def timed(context: Any, now: Callable[[], float]) -> Stream | None:
    """Let SQLAlchemy fetch the rows through `TimedFetch`; None where that could not be made.

    The first row is fetched here, as SQLAlchemy would: what the driver raises is the application's.
    """
    rows = deque(context.cursor.fetchmany(1))
    stream = Stream()
    try:
        context.cursor_fetch_strategy = TimedFetch(context, rows, stream, now)
    except Exception as fault:
        faults.caught("capture", fault)
        context.cursor_fetch_strategy = engine_cursor.BufferedRowCursorFetchStrategy(
            context.cursor, context.execution_options, initial_buffer=rows
        )
        return None
    return stream


class TimedFetch(engine_cursor.BufferedRowCursorFetchStrategy):
    """SQLAlchemy's own strategy for such cursors, with a note of the rows and of the end."""

    __slots__ = ("_now", "_stream")

    def __init__(self, context: Any, rows: deque[Any], stream: Stream, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        super().__init__(context.cursor, context.execution_options, initial_buffer=rows)
        stream.rows = len(rows)

    def _buffer_rows(self, result: Any, dbapi_cursor: Any) -> None:
        started = self._now()
        super()._buffer_rows(result, dbapi_cursor)
        self._stream.fetching += self._now() - started
        self._stream.rows += len(self._rowbuffer)

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        if size is None:
            return self.fetchall(result, dbapi_cursor)
        before, started = len(self._rowbuffer), self._now()
        rows = super().fetchmany(result, dbapi_cursor, size)
        self._stream.fetching += self._now() - started
        self._stream.rows += len(rows) + len(self._rowbuffer) - before
        return rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        before, started = len(self._rowbuffer), self._now()
        rows = super().fetchall(result, dbapi_cursor)
        self._stream.fetching += self._now() - started
        self._stream.rows += len(rows) - before
        return rows

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        self._end()
        super().soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        self._end()
        super().hard_close(result, dbapi_cursor)

    def handle_exception(self, result: Any, dbapi_cursor: Any, err: BaseException) -> NoReturn:
        self._stream.error = code_of(err)
        self._end()
        super().handle_exception(result, dbapi_cursor, err)

    def _end(self) -> None:
        if self._stream.ended is None:
            self._stream.ended = self._now()
