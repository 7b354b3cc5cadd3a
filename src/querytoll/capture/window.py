"""A window: what is open while a request, task, test or block runs, and collects its statements."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextvars import Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from querytoll.callsite import CallSites
from querytoll.capture.calls import Row
from querytoll.capture.reads import Reads
from querytoll.capture.sampling import Sampler
from querytoll.capture.scope import Scope, get_scope, reset_scope, set_scope
from querytoll.capture.stalls import StallSampler, StallSamplers
from querytoll.capture.stays import Hold
from querytoll.errors import Faults
from querytoll.model import Kind
from querytoll.settings import Settings

_samplers: Final = StallSamplers()
_serials: Final = itertools.count(1)
everywhere: Final[list[Window]] = []
"""Windows that see the statements of the whole process."""

UNITS: Final[frozenset[Kind]] = frozenset(("request", "websocket", "task"))
"""Windows that are a unit of work, which blocks in them belong to."""

DETACHED_SECONDS: Final = 60.0
"""A task that outlives its request is reported at least this often."""


@dataclass(slots=True)
class Capture:
    """How windows see: shared by all windows of a profiler.

    Args:
        sites: finds the application's frames.
        faults: where exceptions of our own end.
        max_statements: rows that a window keeps.
        only: ids of the dialects to see; None: every engine.
        outlived: told of a window that collected the statements of a task that outlived its request.
        sampler: given the statements that took `sampler_seconds` or longer.
        watch: note which of the loaded relationships and columns are read.
    """

    sites: CallSites
    faults: Faults = field(default_factory=Faults)
    max_statements: int = 10_000
    only: frozenset[int] | None = None
    outlived: Callable[[Window], None] | None = None
    sampler: Sampler | None = None
    sampler_seconds: float = float("inf")
    watch: bool = False

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        faults: Faults | None = None,
        only: frozenset[int] | None = None,
        outlived: Callable[[Window], None] | None = None,
    ) -> Capture:
        """Return what the settings say."""
        sites = CallSites(
            settings.project_root,
            application=settings.application_paths,
            packages=settings.application_packages,
            library=settings.library_paths,
            depth=settings.stack_depth,
        )
        return cls(sites, faults or Faults(), settings.max_statements, only, outlived, watch=settings.watch_loads)


class Window:
    """Collects rows from open to close; private to its profiler."""

    __slots__ = (
        "_sampler",
        "_token",
        "began",
        "capture",
        "closed",
        "dropped",
        "ended",
        "holds",
        "kind",
        "limit",
        "name",
        "reads",
        "rows",
        "serial",
        "started",
    )

    # The clock is kept as a class attribute, where freezegun does not find it.
    now: Final = staticmethod(time.perf_counter)

    def __init__(self, capture: Capture, kind: Kind, name: str) -> None:
        self.capture = capture
        self.kind = kind
        self.name = name
        self.serial = next(_serials)
        self.limit = capture.max_statements
        self.rows: list[Row] = []
        self.holds: list[Hold] = []
        self.reads = Reads() if capture.watch else None
        self.dropped = 0
        self.closed = False
        self.ended = 0.0
        self._token: Token[Scope | None] | None = None
        self._sampler: StallSampler | None = None
        self.began = datetime.now(UTC)
        self.started = self.now()

    def open(self) -> Window:
        """See the statements of this task or thread, and of what it starts; windows around it see them too."""
        outer = get_scope()
        if outer is None:
            # What `Scope(...)` does for 2,000 instructions, for 1,400.
            scope = Scope.__new__(Scope)
            scope.windows = (self,)
            scope.ignores = ()
            scope.plain = self.capture.only is None
        else:
            scope = self._within(outer)
        self._token = set_scope(scope)
        self._sampler = _samplers.opened()
        return self

    def _within(self, outer: Scope) -> Scope:
        """Return the scope of a window that opens inside of another, or where rules are ignored."""
        windows = (self, *[window for window in outer.windows if not window.closed])
        if self.kind == "block" and len(windows) > 1 and windows[1].kind in UNITS:
            self.serial = windows[1].serial
        return Scope(windows, outer.ignores, outer.plain and self.capture.only is None)

    def is_within_another(self) -> bool:
        """Tell whether an open window of the same profiler sees the same statements."""
        scope = get_scope()
        return scope is not None and any(
            window is not self and window.capture is self.capture and not window.closed for window in scope.windows
        )

    def renew(self) -> None:
        """Take what follows for another unit of work: the next message of a websocket."""
        self.serial = next(_serials)

    def close(self) -> None:
        """See no more."""
        self.ended = self.now()
        self.closed = True
        if self._sampler is not None:
            self._sampler.closed()
        token, self._token = self._token, None
        scope = get_scope()
        if scope is not None and len(scope.windows) > 1 and self in scope.windows[1:]:
            # A window that opened later is open still: it is the one to restore the scope.
            scope.windows[scope.windows.index(self) - 1]._token = token
        elif token is not None:
            try:
                reset_scope(token)
            except ValueError:
                return  # closed in another context than opened, by a fixture's teardown: there is nothing to restore

    def stalls(self) -> list[tuple[float, float]]:
        """Return the event-loop stalls since the window opened."""
        return self._sampler.since(self.started) if self._sampler is not None else []

    def sees(self, dialect: Any) -> bool:
        """Tell whether the engine is one of those that the window is for."""
        return self.capture.only is None or id(dialect) in self.capture.only

    def add(self, row: Row) -> None:
        """Keep what was seen, or count it where there is no more room."""
        if len(self.rows) < self.limit:
            self.rows.append(row)
        else:
            self.dropped += 1

    def checked_out(self, hold: Hold) -> None:
        """Note a connection that was checked out here."""
        if not self.closed and len(self.holds) < self.limit:
            self.holds.append(hold)


def detached(windows: Sequence[Window], row: Row) -> Row:
    """Return the row of a statement whose innermost window has closed, told to the window of its task as well."""
    closed = windows[0]
    if closed.kind == "block" and any(not window.closed and window.kind in UNITS for window in windows):
        return row  # of a task that outlived a block of a request, not the request
    row = (row[0].outliving(), *row[1:])
    heir = _outlived(closed, row[1])
    if heir is not None:
        heir.add(row)
    return row


_outliving: Final[WeakKeyDictionary[asyncio.Task[Any], Window]] = WeakKeyDictionary()


def _outlived(closed: Window, began: float) -> Window | None:
    """Return the window of a task that outlived its request, opened at its first statement; None outside of tasks.

    It began with that statement, and ends with the task, or after `DETACHED_SECONDS`, so that a task that runs for ever
    is reported in pieces.
    """
    report = closed.capture.outlived
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    if report is None or task is None:
        return None
    window = _outliving.get(task)
    if window is not None and window.now() - window.started > DETACHED_SECONDS:
        window.close()
        report(window)
        window = None
    if window is None:
        first = task not in _outliving
        window = _outliving[task] = Window(closed.capture, "task", closed.name)
        window.started = began
        if first:
            task.add_done_callback(lambda done: _end_outliving(done, report))
    return window


def _end_outliving(task: asyncio.Task[Any], report: Callable[[Window], None]) -> None:
    window = _outliving.pop(task, None)
    if window is not None:
        window.close()
        report(window)
