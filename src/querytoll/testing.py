"""Expectations about queries, for tests; needs no test framework."""

from __future__ import annotations

import copy
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Final

from querytoll.capture import Capture, Window, attach, everywhere
from querytoll.capture.assemble import assemble
from querytoll.capture.window import Entry
from querytoll.detect import Ignoring, default_detectors, judge
from querytoll.errors import QueryAssertionError, WindowError
from querytoll.model import Finding, Report, Site, Statement, Trace
from querytoll.settings import Settings

__all__ = [
    "Recording",
    "assert_max_db_time",
    "assert_max_queries",
    "assert_no_findings",
    "assert_no_n_plus_one",
    "assert_num_queries",
    "record",
]

Expectation = Callable[["Recording"], str | None]
Group = list[Statement]
Rank = Callable[[Group], float]
MAX_SHAPES: Final = 12
"""Shapes of statements that a failure shows."""
MAX_FINDINGS: Final = 6
"""Findings that a failure shows."""
_MARGIN: Final = 8
"""Columns that pytest puts before each line of a failure."""
_FRAMES: Final = 3
"""Lines of the application's that tell one place of a statement from another."""
_FROM: Final = re.compile(r"\sFROM\s", re.IGNORECASE)


class Recording(AbstractContextManager["Recording"], AbstractAsyncContextManager["Recording"]):
    """The statements of a `with` or `async with` block.

    It sees what its own task or thread sends and what that starts: direct calls, `httpx.ASGITransport`, Starlette's
    `TestClient` with its own thread. Requests are judged one by one, never added up; `ProfilerMiddleware` in the
    application tells where one ends and the next begins.

    Args:
        everywhere: see the statements of the whole process (a live server in another thread).
        expect: returns what was expected and not met, once the block has ended; None where all is well.
        settings: thresholds of the rules.
        rank: puts the shapes of a failure in order, the largest first; None: by count.
    """

    def __init__(
        self,
        *,
        everywhere: bool = False,
        expect: Expectation | None = None,
        settings: Settings | None = None,
        rank: Rank | None = None,
    ) -> None:
        self._settings = settings if settings is not None else Settings()
        self._ignoring = Ignoring(self._settings.ignore)
        self._everywhere = everywhere
        self._expect = expect
        self._rank = rank
        self._window: Window | None = None
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """What was recorded and found.

        Raises:
            WindowError: the block has not ended.
        """
        if self._report is None:
            raise WindowError("the recording is not complete yet: read it after the `with` block")
        return self._report

    @property
    def trace(self) -> Trace:
        """What was recorded; raises as `report` does."""
        return self.report.trace

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements, failed ones included, transaction control not; raises as `report` does."""
        return self.report.trace.statements

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

    def __enter__(self) -> Recording:
        if self._window is not None:
            raise WindowError("a recording can be entered once: make one for each block")
        attach()
        self._window = Window(Capture.of(self._settings), "test", "test")
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
            self._report = _judge(window, self._settings, self._ignoring)
        except Exception as fault:
            if error is None:
                raise
            window.capture.faults.caught("capture", fault)
        if error is None and self._expect is not None:
            unmet = self._expect(self)
            if unmet is not None:
                raise QueryAssertionError(explain(unmet, self.report, rank=self._rank))

    async def __aenter__(self) -> Recording:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, traceback)


def record(*, everywhere: bool = False, settings: Settings | None = None) -> Recording:
    """Record the statements of a block: `with record() as queries: ...`, then `queries.statements`.

    Args:
        everywhere: see the statements of the whole process, from every thread and task.
        settings: thresholds of the rules.
    """
    return Recording(everywhere=everywhere, settings=settings)


def assert_max_queries(limit: int, *, everywhere: bool = False) -> Recording:
    """Expect at most so many statements in the block.

    Raises:
        QueryAssertionError: there were more; the message lists them by shape, with their lines.
    """
    return Recording(everywhere=everywhere, expect=lambda got: _over(got, limit))


def assert_num_queries(number: int, *, everywhere: bool = False) -> Recording:
    """Expect exactly so many statements in the block.

    Raises:
        QueryAssertionError: there were more or fewer.
    """
    return Recording(
        everywhere=everywhere,
        expect=lambda got: None if got.count == number else f"expected exactly {_queries(number)}, got {got.count}",
    )


def assert_no_n_plus_one(*, everywhere: bool = False) -> Recording:
    """Expect no read that is repeated per row.

    Raises:
        QueryAssertionError: there was one.
    """
    return assert_no_findings(rules=("n-plus-one",), everywhere=everywhere)


def assert_no_findings(*, rules: Iterable[str] | None = None, everywhere: bool = False) -> Recording:
    """Expect that no rule has anything to say.

    Args:
        rules: slugs of the rules that count; None: all.

    Raises:
        QueryAssertionError: one had.
    """
    wanted = None if rules is None else frozenset(rules)

    def unmet(got: Recording) -> str | None:
        found = {finding.id: finding.rule for finding in got.findings if wanted is None or finding.rule in wanted}
        if not found:
            return None
        what = "finding" if wanted is None else " or ".join(sorted(wanted))
        kinds = "" if wanted is not None and len(wanted) == 1 else f": {', '.join(sorted(set(found.values())))}"
        return f"expected no {what}, got {len(found)}{kinds}"

    return Recording(everywhere=everywhere, expect=unmet)


def assert_max_db_time(seconds: float, *, everywhere: bool = False) -> Recording:
    """Expect at most so many seconds in the database, overlapping statements counted once.

    Raises:
        QueryAssertionError: it took longer.
    """

    def unmet(got: Recording) -> str | None:
        spent = got.trace.database_seconds
        return None if spent <= seconds else f"expected at most {_ms(seconds)} in the database, got {_ms(spent)}"

    return Recording(everywhere=everywhere, expect=unmet, rank=_seconds)


def explain(unmet: str, report: Report, *, width: int | None = None, rank: Rank | None = None) -> str:
    """Return the text of a failure: what was expected, the statements by shape and line, and what to change.

    Args:
        unmet: what was expected, and got.
        report: what was recorded.
        width: columns; None: the terminal's, from 60 to 112.
        rank: puts the shapes in order, the largest first; None: by count.
    """
    width = width or max(60, min(112, shutil.get_terminal_size().columns - _MARGIN))
    lines = [unmet, ""]
    lines.extend(_statement_lines(report.trace, width, rank or len))
    lines.extend(_finding_lines(report.findings, width))
    return "\n".join(lines)


def _statement_lines(trace: Trace, width: int, rank: Rank) -> Iterator[str]:
    if not trace.statements:
        yield "  no statements: this task or thread sent none, nor did what it started"
        yield "  (everywhere=True sees those of a server in another thread)"
    groups: dict[tuple[str, tuple[Site, ...]], Group] = {}
    for statement in trace.statements:
        groups.setdefault((statement.fingerprint, statement.stack[:_FRAMES]), []).append(statement)
    ranked = sorted(groups.values(), key=lambda group: (rank(group), len(group), _seconds(group)), reverse=True)
    shown = ranked[:MAX_SHAPES]
    counts = _aligned([f"{len(group)}x" for group in shown], right=True)
    summaries = _aligned([group[0].summary for group in shown])
    places = _aligned([_place(group[0]) for group in shown])
    for group, count, summary, place in zip(shown, counts, summaries, places, strict=True):
        indent = " " * (len(count) + 4)
        yield f"  {count}  {summary}  {place}  {_ms(_seconds(group))}"
        yield indent + _cut(group[0].shape.text, width - len(indent))
        for note in _notes(group, width - len(indent)):
            yield indent + note
    if len(ranked) > len(shown):
        yield f"  and {sum(map(len, ranked[MAX_SHAPES:]))} more, of {len(ranked) - len(shown)} other shapes or lines"
    if trace.dropped:
        yield f"  and {trace.dropped} more, which were counted but not kept (Settings.max_statements)"


def _finding_lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    equal: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: -finding.cost):
        equal.setdefault(finding.id, []).append(finding)
    for finding, *again in list(equal.values())[:MAX_FINDINGS]:
        yield ""
        times = f" (likewise in {_plural(len(again), 'other request')})" if again else ""
        yield from _wrapped(f"{finding.rule}: {finding.title}{times}", width, "", "  ")
        if finding.site is not None:
            yield f"  at {finding.site} in {finding.site.function}"
        yield from _wrapped(finding.advice, width, "  fix: ", "       ")
    if len(equal) > MAX_FINDINGS:
        yield f"\nand {_plural(len(equal) - MAX_FINDINGS, 'more finding')}"


def _place(statement: Statement) -> str:
    return str(statement.site) if statement.site is not None else "(no application line)"


def _aligned(texts: list[str], *, right: bool = False) -> list[str]:
    width = max(map(len, texts), default=0)
    return [text.rjust(width) if right else text.ljust(width) for text in texts]


def _notes(group: Group, width: int) -> Iterator[str]:
    first = group[0]
    errors = [statement.error for statement in group if statement.error is not None]
    if errors:
        yield f"{len(errors)} failed: {', '.join(sorted(set(errors)))}"
    if first.relation is not None:
        yield f"{first.load} load of {first.relation}" if first.load != "refresh" else f"reloads {first.relation}"
    callers = [str(site) for site in first.stack[1:_FRAMES]]
    while len(callers) > 1 and len(" < ".join(callers)) + 5 > width:
        callers.pop()
    if callers:
        yield f"from {' < '.join(callers)}"


def _seconds(group: Group) -> float:
    return sum(statement.elapsed for statement in group)


def _judge(window: Window, settings: Settings, ignoring: Ignoring) -> Report:
    """Judge request by request: statements of several requests in one block are not repetitions."""
    detectors, faults = default_detectors(settings), window.capture.faults
    reports = [judge(assemble(request), detectors, faults, ignoring) for request in _requests(window)]
    return Report(assemble(window), tuple(finding for report in reports for finding in report.findings))


def _requests(window: Window) -> Iterator[Window]:
    """Yield what a recording saw of each request, and what it saw outside of requests, as windows of their own."""
    entries: dict[int, list[Entry]] = {}
    for entry in window.entries:
        entries.setdefault(entry.window, []).append(entry)
    holders = {hold.holder.serial: hold.holder for hold in window.holds if isinstance(hold.holder, Window)}
    for serial in {**entries, **holders}:
        holder = holders.get(serial, window)
        part = copy.copy(window)
        part.kind, part.name = holder.kind, holder.name
        part.entries = entries.get(serial, [])
        part.holds = [hold for hold in window.holds if hold.holder is holder]
        part.dropped = 0
        yield part


def _over(got: Recording, limit: int) -> str | None:
    return None if got.count <= limit else f"expected at most {_queries(limit)}, got {got.count}"


def _queries(number: int) -> str:
    return f"{number} quer{'y' if number == 1 else 'ies'}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _cut(text: str, width: int) -> str:
    """Shorten a statement: first its list of columns, which tells least, then its end."""
    if len(text) <= width:
        return text
    start = _end_of_columns(text)
    if start is not None:
        tail = text[start:]
        head = text[: max(0, width - len(tail) - 4)]
        text = f"{head[: head.rfind(',') + 1] or 'SELECT'} ...{tail}"
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def _end_of_columns(text: str) -> int | None:
    if text[:7].upper() != "SELECT ":
        return None
    ends = (found.start() for found in _FROM.finditer(text))
    return next((end for end in ends if text.count("(", 0, end) == text.count(")", 0, end)), None)
