"""A trace, looked through once for all rules: so that a clean request costs each of them next to nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from querytoll.model import Shape, Statement, Trace

_CATALOGS: Final = ("pg_", "information_schema.", "alembic_version", "sqlite_")
Group = list[Statement]


class Index:
    """What several rules ask of a trace.

    Attributes:
        trace: the trace.
        shapes: its statements by fingerprint.
        repeated: the groups of `shapes` with more than one statement.
        writes: places in `trace.statements` of what writes.
        resets: places of what may change the answers of later reads: SET, set_config, advisory locks.
        claims: places of reads that lock what no other worker has locked.
        failed, blocking: statements with an error; statements of a sync driver on an event loop.
        longest: seconds of the longest statement.
        most_rows, largest: rows, and bytes, of the largest result.
    """

    __slots__ = (
        "_ordered",
        "blocking",
        "claims",
        "failed",
        "largest",
        "longest",
        "most_rows",
        "repeated",
        "resets",
        "shapes",
        "trace",
        "writes",
    )

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._ordered: Group | None = None
        shapes: dict[str, Group] = {}
        self.writes: list[int] = []
        self.resets: list[int] = []
        self.claims: list[int] = []
        self.failed: Group = []
        self.blocking: Group = []
        self.longest, self.most_rows, self.largest = 0.0, 0, 0
        for place, statement in enumerate(trace.statements):
            shape = statement.shape
            group = shapes.get(shape.fingerprint)
            if group is None:
                shapes[shape.fingerprint] = [statement]
            else:
                group.append(statement)
            if shape.writes:
                self.writes.append(place)
            elif shape.locking or not shape.tables:
                self._note(place, shape)
            if statement.elapsed > self.longest:
                self.longest = statement.elapsed
            if (statement.rows or 0) > self.most_rows:
                self.most_rows = statement.rows or 0
            if statement.size is not None:
                self.largest = max(self.largest, statement.size)
            if statement.error is not None:
                self.failed.append(statement)
            if statement.blocking:
                self.blocking.append(statement)
        self.shapes = shapes
        self.repeated = [group for group in shapes.values() if len(group) > 1]

    def before(self, moment: float, limit: int) -> Iterator[Statement]:
        """Yield the statements that started before a moment, the latest first."""
        if self._ordered is None:
            self._ordered = sorted(self.trace.statements, key=started)
        end = bisect_left(self._ordered, moment, key=started)
        for place in range(end - 1, max(-1, end - 1 - limit), -1):
            yield self._ordered[place]

    def _note(self, place: int, shape: Shape) -> None:
        if "SKIP LOCKED" in shape.text:
            self.claims.append(place)
        elif shape.operation in ("SET", "RESET", "LISTEN") or "set_config" in shape.text or "advisory" in shape.text:
            self.resets.append(place)


def started(statement: Statement) -> float:
    """Order statements by their start."""
    return statement.started


def reads_tables(shape: Shape) -> bool:
    """Tell whether a shape plainly reads the application's tables, and locks nothing."""
    return (
        not shape.writes
        and not shape.locking
        and shape.operation in ("SELECT", "TABLE")
        and any(not table.startswith(_CATALOGS) for table in shape.tables)
    )
