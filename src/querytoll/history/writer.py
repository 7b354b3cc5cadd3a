"""Reports to a history, in the background: a bounded queue, and a thread that is there while something is in it."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - before ours is registered, so that its threads end after ours
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from querytoll.capture.failure import code_of
from querytoll.errors import Faults, QuerytollError
from querytoll.history.batch import Batch, Folder
from querytoll.history.store import History
from querytoll.model import Report

WRITE_SECONDS: Final = 15.0
"""That one attempt to write may take, connecting included."""
CLOSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Between two attempts; the pause doubles from one second."""
MAX_REFUSALS: Final = 3
"""Attempts after which a batch that the database refuses is dropped; one that it cannot be asked about is kept."""
PRUNE_SECONDS: Final = 300.0

_log = logging.getLogger("querytoll")
_living: Final[WeakSet[Writer]] = WeakSet()


class Writer:
    """Takes reports, and adds them to a history in batches.

    Args:
        history: where to.
        folder: folds reports into batches.
        limit: statements and reports that may wait; a report over it is dropped.
        interval_seconds: between two batches.
        keep: how long what was seen is kept.
        max_traces: how many traces of each name are kept.

    Attributes:
        dropped: reports that were not added to the history.
        faults: where exceptions end.
    """

    # The clock is kept as a class attribute, where freezegun does not find it.
    now: Final = staticmethod(time.monotonic)

    def __init__(
        self,
        history: History,
        folder: Folder,
        *,
        limit: int,
        interval_seconds: float,
        keep: timedelta,
        max_traces: int,
    ) -> None:
        self.faults = Faults()
        self._history = history
        self._folder = folder
        self._limit = limit
        self._interval = interval_seconds
        self._keep = keep
        self._max_traces = max_traces
        self._start()
        _living.add(self)

    def _start(self) -> None:
        """Begin anew, as in a process that was just forked: neither threads nor locks survive that."""
        self.dropped = 0
        self._told = False
        self._closed = False
        self._last = False  # this attempt began after `close`, and is the last if it fails
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._reports: deque[Report] = deque()
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._flushed: Future[None] | None = None
        self._batch: Batch | None = None
        self._failures = 0
        self._prune_at = 0.0

    def put(self, report: Report) -> None:
        """Take a report; never waits."""
        size = 1 + len(report.trace.statements)
        with self._lock:
            if self._closed or self._waiting + size > self._limit:
                self.dropped += 1
                return
            self._reports.append(report)
            self._waiting += size
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="querytoll-history", daemon=True)
                thread.start()
                self._thread = thread
            elif self._waiting * 2 > self._limit and not self._failures:
                self._wake.set()

    def pending(self) -> list[Future[None]]:
        """Write what waits now, and return what ends with it; nothing while the database does not answer."""
        with self._lock:
            if self._thread is None or self._failures:
                return []
            if self._flushed is None:
                self._flushed = Future()
                self._flushed.set_running_or_notify_cancel()
            self._wake.set()
            return [self._flushed]

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Take no more reports, try once more to write what waits, and wait for that."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _work(self) -> None:
        try:
            with asyncio.Runner() as runner:
                while self._go_on():
                    self._wake.wait(self._pause())
                    self._round(runner)
        except Exception as fault:
            self.faults.caught("sinks", fault)
        finally:
            self._end()

    def _pause(self) -> float:
        if self._closed:
            return 0.0
        return min(2.0 ** (self._failures - 1), LONGEST_PAUSE_SECONDS) if self._failures else self._interval

    def _go_on(self) -> bool:
        """Tell whether there is something to do; if not, the thread ends."""
        with self._lock:
            given_up = self._last and self._failures > 0
            if (self._reports or self._batch is not None or self._flushed is not None) and not given_up:
                return True
            self._drop_all()
            self._thread = None
            return False

    def _round(self, runner: asyncio.Runner) -> None:
        flushed = self._take()
        try:
            if self._batch is not None:
                runner.run(_within(self._history.add(self._batch)))
                self._batch, self._failures = None, 0
                self._prune(runner)
        except Exception as fault:
            self._failed(fault)
        finally:
            if flushed is not None:
                flushed.set_result(None)

    def _take(self) -> Future[None] | None:
        """Fold what waits into a batch, unless there is one left."""
        with self._lock:
            self._wake.clear()
            self._last = self._closed
            flushed, self._flushed = self._flushed, None
            if self._batch is not None:
                return flushed
            reports, self._reports, self._waiting = self._reports, deque(), 0
        self._tell_dropped()
        batch = Batch()
        for report in reports:
            try:
                self._folder.fold(report, batch)
            except Exception as fault:
                self.dropped += 1
                self.faults.caught("sinks", fault)
        self._batch = batch if batch.reports else None
        return flushed

    def _prune(self, runner: asyncio.Runner) -> None:
        if self.now() < self._prune_at:
            return
        self._prune_at = self.now() + PRUNE_SECONDS
        before = datetime.now(UTC) - self._keep
        try:
            runner.run(_within(self._history.clear(before=before, traces=self._max_traces)))
        except Exception as fault:
            self.faults.caught("sinks", fault)

    def _failed(self, fault: Exception) -> None:
        self._failures += 1
        self.faults.caught("sinks", fault)
        if self._batch is not None and self._failures >= MAX_REFUSALS and _refused(fault):
            self.dropped += self._batch.reports
            self._batch, self._failures = None, 0

    def _end(self) -> None:
        """Let nobody wait for this thread, if it did not end by itself."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._drop_all()
                self._thread = None
                if self._flushed is not None:
                    self._flushed.set_result(None)
                    self._flushed = None

    def _tell_dropped(self) -> None:
        if self.dropped and not self._told:
            self._told = True
            _log.warning("history: %d reports were dropped; the queue was full, or the database refused", self.dropped)

    def _drop_all(self) -> None:
        self.dropped += len(self._reports) + (self._batch.reports if self._batch is not None else 0)
        self._reports.clear()
        self._waiting, self._batch = 0, None


async def _within(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await work


def _refused(fault: Exception) -> bool:
    """Tell whether the batch itself is at fault, and will be again; not the way to the database, or its state."""
    if not isinstance(fault, OSError | SQLAlchemyError | QuerytollError) and not hasattr(fault, "sqlstate"):
        return True
    if isinstance(fault, SQLAlchemyError) and not isinstance(fault, DBAPIError):
        return True
    if isinstance(fault, DBAPIError) and fault.connection_invalidated:
        return False
    code = code_of(getattr(fault, "orig", None) or fault)
    return code.startswith(("22", "23", "40")) or code in ("DataError", "IntegrityError", "InterfaceError")


def _close_all() -> None:
    for writer in list(_living):
        writer.close()


def _after_fork() -> None:
    for writer in list(_living):
        writer._start()


# What atexit calls comes after threads can no longer be started, which drivers do to look up a host or to open a file.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
