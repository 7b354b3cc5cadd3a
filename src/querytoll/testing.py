"""Expectations about queries, for tests; needs no test framework."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, cast, overload

from querytoll.capture import Capture, Window, attach, everywhere
from querytoll.capture.assemble import assemble
from querytoll.capture.calls import CALL, SERIAL, Call, Row
from querytoll.capture.scope import current
from querytoll.detect import Ignoring, default_detectors, judge
from querytoll.errors import ConfigurationError, QueryAssertionError, WindowError
from querytoll.explain.indexed import Access, Accesses
from querytoll.fingerprint import shape
from querytoll.model import Finding, Report, Statement, Trace
from querytoll.settings import Settings
from querytoll.suite.failure import Rank, explain, explain_growth, milliseconds, seconds_of
from querytoll.suite.growth import growing
from querytoll.suite.paint import told
from querytoll.suite.watch import check_rules

__all__ = [
    "Queries",
    "Recording",
    "assert_max_db_time",
    "assert_max_queries",
    "assert_no_findings",
    "assert_no_n_plus_one",
    "assert_no_slow_queries",
    "assert_num_queries",
    "assert_query_growth",
    "assert_uses_index",
    "record",
]

F = TypeVar("F", bound=Callable[..., Any])
Expectation = Callable[["Recording"], str | None]
_TIMES: Final = 10
"""How many times more rows the larger run of `assert_query_growth` has."""


class What(TypedDict, total=False):
    """What a recording sees, and which of it counts.

    Args:
        everywhere: see the statements of the whole process (a live server in another thread).
        engine: count the statements of this `Engine` or `AsyncEngine`, or of engines of this name, only.
        table: count statements that read or write this table only.
        operation: count this operation only (`SELECT`).
        controls: count COMMIT and ROLLBACK as well, and transaction control that is sent as SQL (SAVEPOINT).
    """

    everywhere: bool
    engine: object
    table: str | None
    operation: str | None
    controls: bool


@dataclass(frozen=True, slots=True)
class Only:
    """Which statements count.

    Args:
        engine: as `Statement.engine`; None: any.
        table: read or written; None: any.
        operation: first verb; None: any.
    """

    engine: str | None = None
    table: str | None = None
    operation: str | None = None

    def __bool__(self) -> bool:
        return self != Only()

    def __str__(self) -> str:
        parts = (self.operation, self.table and f"of {self.table}", self.engine and f"on {self.engine}")
        return " ".join(filter(None, parts))

    def lets_pass(self, call: Call) -> bool:
        """Tell whether a statement counts."""
        what = shape(call.sql)
        return (
            self.engine in (None, call.tap.name)
            and (self.table is None or self.table in what.tables or self.table in what.writes)
            and (self.operation is None or self.operation.upper() == what.operation)
        )


EVERYTHING: Final = Only()


class Reading:
    """What can be read of a report."""

    @property
    def report(self) -> Report:
        """What was recorded and found."""
        raise NotImplementedError

    @property
    def trace(self) -> Trace:
        """What was recorded; raises as `report` does."""
        return self.report.trace

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements, failed ones included, transaction control not; raises as `report` does."""
        return tuple(self.report.trace.statements)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, request by request; raises as `report` does."""
        return self.report.findings

    @property
    def count(self) -> int:
        """The number of statements; raises as `report` does."""
        return len(self.statements) + self.trace.dropped

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return True


class Recording(Reading, AbstractContextManager["Recording"], AbstractAsyncContextManager["Recording"]):
    """The statements of a `with` or `async with` block, or of the calls of a decorated function.

    It sees what its own task or thread sends and what that starts: direct calls, `httpx.ASGITransport`, Starlette's
    `TestClient` with its own thread. Requests are judged one by one, never added up; `ProfilerMiddleware` in the
    application tells where one ends and the next begins.

    Args:
        expect: returns what was expected and not met, once the block has ended; None where all is well.
        settings: thresholds of the rules.
        rank: puts the shapes of a failure in order, the largest first; None: by count.
        what: as `What`.
    """

    def __init__(
        self,
        *,
        expect: Expectation | None = None,
        settings: Settings | None = None,
        rank: Rank | None = None,
        **what: Unpack[What],
    ) -> None:
        __tracebackhide__ = True
        unknown = what.keys() - What.__annotations__
        if unknown:  # a filter with an error in its name would let everything pass
            raise TypeError(f"unexpected keyword argument {', '.join(sorted(unknown))!r}")
        engine = what.get("engine")
        self._settings = settings if settings is not None else Settings()
        self._ignoring = Ignoring(self._settings.ignore)
        self._everywhere = what.get("everywhere", False)
        self._controls = what.get("controls", False)
        self._dialects = _dialects(engine)
        self._only = Only(engine if isinstance(engine, str) else None, what.get("table"), what.get("operation"))
        self._expect = expect
        self._rank = rank
        self._window: Window | None = None
        self._others: list[str] = []
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """What was recorded and found.

        Raises:
            WindowError: the block has not ended.
        """
        __tracebackhide__ = True
        if self._report is None:
            raise WindowError("the recording is not complete yet: read it after the `with` block")
        return self._report

    @property
    def only(self) -> Only:
        """Which statements count."""
        return self._only

    @property
    def count(self) -> int:
        """The number of statements, transaction control included where it was asked for; raises as `report` does."""
        ended = sum(transaction.outcome in ("committed", "rolled back") for transaction in self.trace.transactions)
        return super().count + (self.trace.controls + ended if self._controls else 0)

    def _judged(self, window: Window) -> Report:
        self._others = [shape(row[CALL].sql).summary for row in window.rows if not self._only.lets_pass(row[CALL])]
        return judged(window, self._settings, self._ignoring, self._only)

    def _sees(self) -> bool:
        """Tell whether a statement that runs here and now is one of the block's."""
        scope = current.get()
        return self._everywhere or (scope is not None and self._window in scope.windows)

    def __call__(self, function: F) -> F:
        """Decorate a sync or async function: each call of it is recorded as a block of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                async with copy.copy(self):
                    return await function(*args, **kwargs)

            return cast(F, waiting)

        @functools.wraps(function)
        def calling(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with copy.copy(self):
                return function(*args, **kwargs)

        return cast(F, calling)

    def __enter__(self) -> Self:
        if self._window is not None:
            raise WindowError("a recording can be entered once: make one for each block")
        attach()
        self._window = Window(Capture.of(self._settings, only=self._dialects), "test", "test")
        if self._everywhere:
            everywhere.append(self._window)
        else:
            self._window.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        window = self._window
        assert window is not None
        if self._everywhere:
            everywhere.remove(window)
        window.close()
        try:
            self._report = self._judged(window)
        except Exception as fault:
            if error is None:
                raise
            window.capture.faults.caught("capture", fault)
        if error is None and self._expect is not None:
            unmet = self._expect(self)
            if unmet is not None:
                raise _failure(unmet, self.report, self._rank, self._others)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, traceback)


def record(*, settings: Settings | None = None, **what: Unpack[What]) -> Recording:
    """Record the statements of a block: `with record() as queries: ...`, then `queries.statements`.

    Args:
        settings: thresholds of the rules.
        what: as `What`: `everywhere`, `engine`, `table`, `operation`, `controls`; so everywhere below.
    """
    return Recording(settings=settings, **what)


def assert_max_queries(limit: int, **what: Unpack[What]) -> Recording:
    """Expect at most so many statements in the block.

    Raises:
        QueryAssertionError: there were more; the message lists them by shape, with their lines.
    """
    return Recording(expect=lambda got: _over(got, limit), **what)


def assert_num_queries(number: int, *, exact: bool = True, **what: Unpack[What]) -> Recording:
    """Expect so many statements in the block.

    Args:
        exact: False: at most so many.

    Raises:
        QueryAssertionError: there were more or fewer.
    """
    return Recording(expect=lambda got: _unequal(got, number), **what) if exact else assert_max_queries(number, **what)


def assert_no_n_plus_one(**what: Unpack[What]) -> Recording:
    """Expect no read that is repeated per row.

    Raises:
        QueryAssertionError: there was one.
    """
    return assert_no_findings(rules=("n-plus-one",), **what)


def assert_no_slow_queries(seconds: float | None = None, **what: Unpack[What]) -> Recording:
    """Expect no single statement that takes longer.

    Args:
        seconds: None: `Settings.slow_statement_seconds`.

    Raises:
        QueryAssertionError: there was one.
    """
    settings = Settings() if seconds is None else Settings(slow_statement_seconds=seconds)
    return assert_no_findings(rules=("slow-query",), settings=settings, **what)


def assert_no_findings(
    *, rules: Iterable[str] | None = None, settings: Settings | None = None, **what: Unpack[What]
) -> Recording:
    """Expect that no rule has anything to say.

    Args:
        rules: slugs of the rules that count; None: all.
        settings: thresholds of the rules.

    Raises:
        QueryAssertionError: one had.
        ConfigurationError: there is no such rule.
    """
    wanted = None if rules is None else frozenset(rules)
    check_rules(wanted or ())
    return Recording(expect=lambda got: _found(got, wanted), settings=settings, **what)


def assert_max_db_time(seconds: float, **what: Unpack[What]) -> Recording:
    """Expect at most so many seconds in the database, overlapping statements counted once.

    Raises:
        QueryAssertionError: it took longer.
    """

    def unmet(got: Recording) -> str | None:
        spent = got.trace.database_seconds
        return (
            None
            if spent <= seconds
            else f"expected at most {milliseconds(seconds)} in the database, got {milliseconds(spent)}"
        )

    return Recording(expect=unmet, rank=seconds_of, **what)


def assert_uses_index(
    table: str, index: str | None = None, *, everywhere: bool = False, engine: object = None
) -> IndexRecording:
    """Expect that every statement of the block that reads a table could find its rows by an index (PostgreSQL).

    The server is asked for the plan with sequential scans off, right before the statement, inside a savepoint: the few
    rows of a test would be read whole in any case. Nothing more is executed.

    Args:
        table: the table.
        index: the index that is expected; None: any.
        everywhere: as `What`.
        engine: as `What`.

    Raises:
        QueryAssertionError: a statement cannot, or none was seen.
    """
    return IndexRecording(index, table=table, everywhere=everywhere, engine=engine)


@overload
def assert_query_growth(  # type: ignore[overload-overlap]
    action: Callable[[], Awaitable[object]],
    make: Callable[[int], object],
    *,
    rows: int = 2,
    settings: Settings | None = None,
    **what: Unpack[What],
) -> Coroutine[Any, Any, None]: ...
@overload
def assert_query_growth(  # type: ignore[overload-overlap]
    action: Callable[[], object],
    make: Callable[[int], Awaitable[object]],
    *,
    rows: int = 2,
    settings: Settings | None = None,
    **what: Unpack[What],
) -> Coroutine[Any, Any, None]: ...
@overload
def assert_query_growth(
    action: Callable[[], object],
    make: Callable[[int], object],
    *,
    rows: int = 2,
    settings: Settings | None = None,
    **what: Unpack[What],
) -> None: ...
def assert_query_growth(
    action: Callable[[], object],
    make: Callable[[int], object],
    *,
    rows: int = 2,
    settings: Settings | None = None,
    **what: Unpack[What],
) -> Coroutine[Any, Any, None] | None:
    """Expect an action to send no more statements of any shape when there are ten times as many rows.

    `make(rows)` and the action run, then `make(9 * rows)` and the action again. To be awaited where one of them is.

    Args:
        action: what is measured: `lambda: client.get("/orders")`. Objects that `make` left in a session of the action's
            need not be loaded again, which hides what a request would do: use a session of its own, or expire them.
        make: adds so many rows.
        rows: of the first run.
        settings: thresholds of the rules that tell what to change.
        what: as `What`.

    Raises:
        QueryAssertionError: it does; the message names each shape with its line and both numbers.
    """
    __tracebackhide__ = True

    def recording() -> Recording:
        return Recording(settings=settings, **what)

    made = make(rows)
    if inspect.isawaitable(made):
        return _growth(action, make, rows, recording, made=made)
    with recording() as few:
        done = action()
    if inspect.isawaitable(done):
        return _growth(action, make, rows, recording, done=done)
    make(_TIMES * rows - rows)
    with recording() as many:
        action()
    _compare(rows, few, many)
    return None


async def _growth(
    action: Callable[[], object],
    make: Callable[[int], object],
    rows: int,
    recording: Callable[[], Recording],
    *,
    made: object = None,
    done: object = None,
) -> None:
    """Go on where the first awaitable turned up: what `make` returned, or the action."""
    __tracebackhide__ = True
    await _settled(made)
    async with recording() as few:
        await _settled(action() if done is None else done)
    await _settled(make(_TIMES * rows - rows))
    async with recording() as many:
        await _settled(action())
    _compare(rows, few, many)


_growth.__qualname__ = assert_query_growth.__qualname__  # the name in "coroutine ... was never awaited"


async def _settled(value: object) -> None:
    if inspect.isawaitable(value):
        await value


def _compare(rows: int, few: Recording, many: Recording) -> None:
    __tracebackhide__ = True
    if not few.count and not many.count:
        raise _failure("expected the action to send queries, got none", many.report)
    found = growing(few.trace, many.trace)
    if found:
        raise QueryAssertionError(told(explain_growth((rows, _TIMES * rows), found, many.report)), many.report)


class IndexRecording(Recording):
    """A recording that knows by which indexes a table was read."""

    def __init__(self, index: str | None, **what: Unpack[What]) -> None:
        super().__init__(expect=lambda got: got._unindexed() if isinstance(got, IndexRecording) else None, **what)
        self._index = index

    @property
    def accesses(self) -> tuple[Access, ...]:
        """The ways in which the statements would read the table."""
        return tuple(self._accesses.found)

    def __enter__(self) -> Self:
        super().__enter__()
        self._accesses = Accesses(self._only.table or "", self._sees)
        self._accesses.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._accesses.close()
        super().__exit__(kind, error, traceback)

    def _judged(self, window: Window) -> Report:
        report = super()._judged(window)
        if not self.accesses:
            return report
        trace = report.trace
        of = {statement.fingerprint: statement for statement in reversed(trace.statements)}
        missed = {access.fingerprint: access for access in self._missed()}
        trace = trace._replace(statements=tuple(one for one in trace.statements if one.fingerprint in missed))
        return Report(trace, tuple(_unserved(of[key], access) for key, access in missed.items() if key in of))

    def _missed(self) -> list[Access]:
        return [access for access in self.accesses if access.index is None or self._index not in (None, access.index)]

    def _unindexed(self) -> str | None:
        wanted = self._index or f"an index of {self._only.table}"
        if not self.accesses:
            if self._accesses.errors:
                why = f"the server did not tell the plan ({self._accesses.errors[0]})"
            else:
                why = "plans are PostgreSQL's only" if self.count else f"nothing read {self._only.table}"
            return f"expected {wanted} to be used, but {why}"
        others = sorted({access.index for access in self._missed() if access.index is not None})
        got = f"got {' and '.join(others)}" if others else "got none"
        return f"expected {wanted} to be used, {got}" if self._missed() else None


def _unserved(statement: Statement, access: Access) -> Finding:
    condition = f" and holds each against {access.condition}" if access.condition else ""
    how = "reads all rows" if access.index is None else f"reads by {access.index}"
    return Finding(
        rule="missing-index",
        title=f"{statement.summary} {how}{condition}",
        advice="Create an index that begins with the columns that the condition compares by =, or write the condition "
        "so that an existing one serves it.",
        site=statement.site,
        fingerprint=statement.fingerprint,
        summary=statement.summary,
    )


class Queries(Reading):
    """The statements of a test so far, of whatever thread or task: what pytest's fixture `queries` is.

    Args:
        settings: thresholds of the rules.
        ignoring: findings not to tell.
    """

    def __init__(self, settings: Settings | None = None, ignoring: Ignoring | None = None) -> None:
        self._settings = settings if settings is not None else Settings()
        self._ignoring = ignoring or Ignoring(self._settings.ignore)
        self._window: Window | None = None

    def __repr__(self) -> str:
        return f"<{self.count if self._window is not None else 'no'} queries>"

    def begin(self) -> None:
        """See what is sent from here on."""
        attach()
        self._window = Window(Capture.of(self._settings), "test", "test")
        everywhere.append(self._window)

    def end(self) -> None:
        """See no more."""
        if self._window in everywhere:
            everywhere.remove(self._window)
        if self._window is not None and not self._window.closed:
            self._window.close()

    def clear(self) -> None:
        """Forget what was seen, to begin anew after a preparation."""
        self.end()
        self.begin()

    @property
    def report(self) -> Report:
        """What was recorded and found until now, request by request.

        Raises:
            WindowError: the test has not begun: a fixture reads it while it is set up.
        """
        return self.of(EVERYTHING)

    def of(self, only: Only) -> Report:
        """Return the report with the statements that are let pass; raises as `report` does."""
        return judged(self._copied(), self._settings, self._ignoring, only)

    def parts(self, only: Only = EVERYTHING) -> list[Report]:
        """Return a report for each request, and one for what was sent outside of requests; raises as `report` does."""
        return [judged(part, self._settings, self._ignoring, only) for part in _parts(self._copied())]

    def _copied(self) -> Window:
        if self._window is None:
            raise WindowError("queries are recorded from the beginning of the test: a fixture cannot read them")
        window = copy.copy(self._window)
        window.rows, window.holds = list(window.rows), list(window.holds)
        window.ended = window.ended or window.now()
        return window


def hold_to_limit(
    queries: Queries, limit: int, table: str | None = None, operation: str | None = None, per: str = "test"
) -> None:
    """Expect at most so many statements in a test, or in each of its requests.

    Raises:
        QueryAssertionError: there were more.
    """
    only = Only(None, table, operation)
    where = " in a request" if per == "request" else ""
    for report in queries.parts(only) if per == "request" else [queries.of(only)]:
        count = len(report.trace.statements) + report.trace.dropped
        if count > limit:
            unmet = f"expected at most {_queries(limit, only)}{where}, got {count}"
            raise _failure(unmet, report)


def hold_to_rules(queries: Queries, rules: Iterable[str]) -> None:
    """Expect that some rules have nothing to say of a test.

    Raises:
        QueryAssertionError: one had.
    """
    unmet = _found(queries, frozenset(rules))
    if unmet is not None:
        raise _failure(unmet, queries.report)


def judged(window: Window, settings: Settings, ignoring: Ignoring, only: Only = EVERYTHING) -> Report:
    """Judge request by request: statements of several requests in one block are not repetitions."""
    detectors, faults = default_detectors(settings), window.capture.faults
    reports = [judge(assemble(request), detectors, faults, ignoring) for request in _parts(window)]
    findings = tuple(finding for report in reports for finding in report.findings)
    if only:
        window.rows = [row for row in window.rows if only.lets_pass(row[CALL])]
    trace = assemble(window)
    if only:
        shapes = {statement.fingerprint for statement in trace.statements}
        findings = tuple(finding for finding in findings if finding.fingerprint in shapes)
    return Report(trace, findings)


def _parts(window: Window) -> Iterator[Window]:
    """Yield what a recording saw of each request, and what it saw outside of requests, as windows of their own."""
    rows: dict[int, list[Row]] = {}
    for row in window.rows:
        rows.setdefault(row[SERIAL], []).append(row)
    holders = {hold.holder.serial: hold.holder for hold in window.holds if isinstance(hold.holder, Window)}
    for serial in {**rows, **holders}:
        holder = holders.get(serial, window)
        part = copy.copy(window)
        part.kind, part.name = holder.kind, holder.name
        part.rows = rows.get(serial, [])
        part.holds = [hold for hold in window.holds if hold.holder is holder]
        part.dropped = 0
        yield part


def _failure(unmet: str, report: Report, rank: Rank | None = None, others: Iterable[str] = ()) -> QueryAssertionError:
    return QueryAssertionError(told(explain(unmet, report, rank=rank, others=others)), report)


def _over(got: Recording, limit: int) -> str | None:
    return None if got.count <= limit else f"expected at most {_queries(limit, got.only)}, got {got.count}"


def _unequal(got: Recording, number: int) -> str | None:
    return None if got.count == number else f"expected exactly {_queries(number, got.only)}, got {got.count}"


def _found(got: Reading, wanted: frozenset[str] | None) -> str | None:
    found = {finding.id: finding.rule for finding in got.findings if wanted is None or finding.rule in wanted}
    if not found:
        return None
    what = "finding" if wanted is None else " or ".join(sorted(wanted))
    kinds = "" if wanted is not None and len(wanted) == 1 else f": {', '.join(sorted(set(found.values())))}"
    return f"expected no {what}, got {len(found)}{kinds}"


def _dialects(engine: object) -> frozenset[int] | None:
    if engine is None or isinstance(engine, str):
        return None
    dialect = getattr(getattr(engine, "sync_engine", engine), "dialect", None)
    if dialect is None:
        raise ConfigurationError(f"engine: expected an engine or its name, got {type(engine).__name__}")
    return frozenset((id(dialect),))


def _queries(number: int, only: Only) -> str:
    return f"{number} quer{'y' if number == 1 else 'ies'}{f' ({only})' if only else ''}"
