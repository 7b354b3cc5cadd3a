"""A trace, looked through once for all rules: so that a clean request costs each of them next to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from querytoll.capture.recorded import Recorded
from querytoll.detect.layout import Run, layout_of, runs_of
from querytoll.model import Shape, Statement, Trace

_CATALOGS: Final = ("pg_", "information_schema.", "alembic_version", "sqlite_")
started: Final = itemgetter(Statement._fields.index("started"))
"""Orders statements by their start; a function would cost twice as much."""
_FIRST: Final = itemgetter(0)
_NO_COLUMNS: Final = ((),) * len(Statement._fields)


class _Column:
    """A column that is made when a rule asks for it; from then on, or where it was set, a plain attribute.

    As `cached_property`, without its lock.
    """

    def __init__(self, field: str) -> None:
        self._field = field

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, index: Any, owner: type) -> Any:
        column = index.__dict__[self._name] = index.statements.column(self._field)
        return column


def _column(field: str) -> Any:
    return _Column(field)


class Index:
    """What several rules ask of a trace.

    Most of it is columns: one field of all statements. All of them cost as much as six attributes of each statement,
    and what is then asked of a column is asked in C. What only a repetition is asked for is made when it is.

    Attributes:
        trace, statements, size: the trace, what it sent, and how many.
        sqls, started, elapsed, rows, many, loads, binds, transactions, errors, engines, bind_counts, sizes: columns.
        layout, repeated, inlined, written: how they repeat; what it tells at once.
        plain: no statement failed, was a batch or an eager load, or has an ignore.
        ignored, failing, blocking: a statement has an ignore; has an error; is of a sync driver on an event loop.
        seconds, total_rows, total_size: sums, which no single statement exceeds.
    """

    sqls: Sequence[str] = _column("sql")
    started: Sequence[float] = _column("started")
    elapsed: Sequence[float] = _column("elapsed")
    rows: Sequence[int | None] = _column("rows")
    many: Sequence[bool] = _column("many")
    loads: Sequence[str | None] = _column("load")
    binds: Sequence[int] = _column("binds")
    transactions: Sequence[int | None] = _column("transaction")
    errors: Sequence[str | None] = _column("error")
    engines: Sequence[str] = _column("engine")
    bind_counts: Sequence[int] = _column("bind_count")
    sizes: Sequence[int | None] = _column("size")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.statements = statements = trace.statements
        self.size = len(statements)
        if isinstance(statements, Recorded) and not statements.odd:
            self._sum_up(statements)
        else:
            self._look_through(statements)
        # Until somebody asks.
        self._resets: list[float] | None = None
        self._claims: list[float] | None = None
        self._differing: bool | None = None
        self._failed_transactions: set[int] | None = None
        self._changes: dict[str, list[float]] | None = None
        self._within: dict[int, list[Statement]] | None = None
        self._ordered: tuple[Sequence[Statement], Sequence[float]] | None = None

    def _look_through(self, statements: Sequence[Statement]) -> None:
        """Take everything from the statements."""
        size = self.size
        # Strict, which they are, would cost a tenth more.
        columns: Any = zip(*statements) if statements else _NO_COLUMNS  # noqa: B905
        # fmt: off
        (
            sqls, shapes, self.started, elapsed, _stall, rows, many, _streamed, stacks, relations, loads,
            self.binds, self.transactions, _phase, errors, self.engines, blocking, _detached, ignored,
            _window, _bind_digests, self.bind_counts, _entities, sizes,
        ) = columns
        # fmt: on
        self.sqls, self.elapsed, self.rows, self.many = sqls, elapsed, rows, many
        self.loads, self.errors, self.sizes = loads, errors, sizes
        self.seconds = sum(elapsed)
        self.total_rows = sum(filter(None, rows))
        # To count the object that most of them are is the cheapest thing to ask of a column.
        self.total_size = sum(filter(None, sizes)) if sizes.count(None) < size else 0
        self.failing = failing = errors.count(None) < size
        self.blocking = blocking.count(False) < size
        self.ignored = ignores = ignored.count(()) < size
        eager = loads.count(None) < size and "eager" in loads
        self.plain = not (failing or ignores or eager or many.count(False) < size)
        self._lay_out(runs_of(sqls, shapes, stacks, relations))

    def _sum_up(self, recorded: Recorded) -> None:
        """Take what is needed for a verdict from columns that are there; others are made when a rule asks for them."""
        self.seconds, self.total_rows, self.total_size = sum(recorded.elapsed), recorded.rows(), 0
        self.failing, self.blocking, self.ignored = False, recorded.blocking, recorded.ignored
        self.plain = recorded.plain
        runs: list[Run] = []
        for call, size, _, _, _ in recorded.runs:
            runs.append((call.sql, call.shape, call.stack, call.relation, size))
        self._lay_out(runs)

    def _lay_out(self, runs: Sequence[Run]) -> None:
        self.layout = layout = layout_of(runs)
        self.repeated, self.inlined, self.written = layout.repeated, layout.inlined, layout.written

    def resets(self) -> list[float]:
        """Return the starts of what may change the answers of later reads (SET, set_config, advisory locks), sorted."""
        if self._resets is None:
            self._resets = sorted(map(self.started.__getitem__, self.layout.resets()))
        return self._resets

    def claims(self) -> list[float]:
        """Return the starts of reads that lock what no other worker has locked, sorted."""
        if self._claims is None:
            self._claims = sorted(map(self.started.__getitem__, self.layout.claims()))
        return self._claims

    def all_differ(self) -> bool:
        """Tell whether no two statements have equal bind values."""
        if self._differing is None:
            self._differing = len(set(self.binds)) == self.size
        return self._differing

    def ordered(self) -> tuple[Sequence[Statement], Sequence[float]]:
        """Return the statements in order of their starts, and these."""
        if self._ordered is None:
            statements: Sequence[Statement] = self.statements
            starts = tuple(sorted(self.started))
            if starts != self.started:  # comparing is cheaper than sorting by key
                statements = sorted(statements, key=started)
            self._ordered = statements, starts
        return self._ordered

    def within(self, transaction: int) -> list[Statement]:
        """Return the statements of a transaction in order of their starts."""
        if self._within is None:
            self._within = {}
            for statement, ordinal in zip(self.statements, self.transactions, strict=True):
                if ordinal is not None:
                    self._within.setdefault(ordinal, []).append(statement)
        return sorted(self._within.get(transaction, ()), key=started)

    def most_rows(self) -> int:
        """Return the rows of the largest result."""
        return max(filter(None, self.rows), default=0)

    def largest(self) -> int:
        """Return the bytes of the largest result."""
        return max(filter(None, self.sizes), default=0)

    def changes(self, tables: Iterable[str]) -> list[Sequence[float]]:
        """Return what may change the answers of reads of some tables: starts, ascending, of each cause."""
        if self._changes is None:
            self._changes = self._changes_of_tables() if self.written else {}
        changes: list[Sequence[float]] = [self._changes[table] for table in tables if table in self._changes]
        resets = self.resets()
        return [*changes, resets] if resets else changes

    def _changes_of_tables(self) -> dict[str, list[float]]:
        changes: dict[str, list[float]] = {}
        for calls in self.layout.calls():
            for table in calls.shape.writes:
                changes.setdefault(table, []).extend(map(self.started.__getitem__, calls.places))
        return {table: sorted(moments) for table, moments in changes.items()}

    def failed_transactions(self) -> set[int]:
        """Return the transactions in which a statement failed."""
        if self._failed_transactions is None:
            self._failed_transactions = {each.transaction for each in self.failed() if each.transaction is not None}
        return self._failed_transactions

    def failed(self) -> list[Statement]:
        """Return the statements with an error."""
        return [each for each in self.statements if each.error is not None] if self.failing else []


class Group:
    """Some statements of a trace that are judged together.

    Args:
        index: the trace.
        places: theirs in it.
        ascending: whether the places are.
    """

    __slots__ = ("_ascending", "_distinct", "_slice", "first", "index", "places", "size")

    def __init__(self, index: Index, places: list[int], ascending: bool = True) -> None:
        self.index = index
        self.places = places
        self.size = size = len(places)
        first = places[0]
        self.first = index.statements[first]
        self._ascending = ascending
        self._distinct: int | None = None
        # Statements in a row, as single ones are, are sliced, which costs next to nothing.
        self._slice = slice(first, first + size) if ascending and places[-1] - first == size - 1 else None

    def of(self, column: Sequence[Any]) -> tuple[Any, ...]:
        """Return their part of a column."""
        part = self._slice
        picked: tuple[Any, ...] = tuple(column[part] if part is not None else itemgetter(*self.places)(column))
        return picked

    def statements(self) -> tuple[Statement, ...]:
        """Return themselves."""
        return self.of(self.index.statements)

    def distinct(self) -> int:
        """Count the sets of values, bound or written into the text."""
        if self._distinct is None:
            self._distinct = self.size if self.index.all_differ() else self._count_distinct()
        return self._distinct

    def _count_distinct(self) -> int:
        binds = self.of(self.index.binds)
        distinct = len(set(binds))
        return distinct if distinct == self.size else len(set(zip(self.of(self.index.sqls), binds, strict=True)))

    def earliest(self) -> Statement:
        """Return the first that started."""
        statements, _ = self.index.ordered()
        in_order = self._ascending and statements is self.index.statements
        return self.first if in_order else min(self.statements(), key=started)

    def spans(self) -> list[tuple[float, float]]:
        """Return their starts and durations, in order of the starts."""
        starts = self.of(self.index.started)
        spans = list(zip(starts, self.of(self.index.elapsed), strict=True))
        if sorted(starts) != list(starts):
            spans.sort(key=_FIRST)
        return spans

    def saved(self) -> float:
        """Return the seconds of all but the longest: one statement remains."""
        seconds: tuple[float, ...] = self.of(self.index.elapsed)
        longest = 0.0
        for each in seconds:  # costs half of max()
            if each > longest:
                longest = each
        return sum(seconds) - longest


def reads_tables(shape: Shape) -> bool:
    """Tell whether a shape plainly reads the application's tables, and locks nothing."""
    if shape.writes or shape.locking or shape.operation not in ("SELECT", "TABLE"):
        return False
    for table in shape.tables:  # noqa: SIM110 - a generator costs as much as the rest of this
        if not table.startswith(_CATALOGS):
            return True
    return False
