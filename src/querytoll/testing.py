"""Expectations about queries, for tests; needs no test framework."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType

from querytoll.capture import Capture, Window, attach, everywhere
from querytoll.capture.assemble import assemble
from querytoll.detect import default_detectors, judge
from querytoll.errors import Faults, QueryAssertionError, WindowError
from querytoll.model import Finding, Report, Statement, Trace
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
_MAX_SHAPES = 12


class Recording(AbstractContextManager["Recording"], AbstractAsyncContextManager["Recording"]):
    """The statements of a `with` or `async with` block.

    It sees what its own task or thread sends and what that starts: direct calls, `httpx.ASGITransport`, Starlette's
    `TestClient` with its own thread. Requests are judged one by one, never added up.

    Args:
        everywhere: see the statements of the whole process (a live server in another thread).
        expect: returns what was expected and not met, once the block has ended; None where all is well.
        settings: thresholds of the rules.
    """

    def __init__(
        self, *, everywhere: bool = False, expect: Expectation | None = None, settings: Settings | None = None
    ) -> None:
        self._settings = settings if settings is not None else Settings()
        self._everywhere = everywhere
        self._expect = expect
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
        window = self._window
        assert window is not None
        if self._everywhere:
            everywhere.remove(window)
        window.close()
        self._report = _judge(assemble(window), self._settings, window.capture.faults)
        if error is None and self._expect is not None:
            unmet = self._expect(self)
            if unmet is not None:
                raise QueryAssertionError(explain(unmet, self._report))

    async def __aenter__(self) -> Recording:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
        found = [finding for finding in got.findings if wanted is None or finding.rule in wanted]
        if not found:
            return None
        return f"expected no {' or '.join(sorted(wanted)) if wanted else 'finding'}, got {len(found)}"

    return Recording(everywhere=everywhere, expect=unmet)


def assert_max_db_time(seconds: float, *, everywhere: bool = False) -> Recording:
    """Expect at most so many seconds in the database, overlapping statements counted once.

    Raises:
        QueryAssertionError: it took longer.
    """

    def unmet(got: Recording) -> str | None:
        spent = got.trace.database_seconds
        return None if spent <= seconds else f"expected at most {_ms(seconds)} in the database, got {_ms(spent)}"

    return Recording(everywhere=everywhere, expect=unmet)


def explain(unmet: str, report: Report, *, width: int | None = None) -> str:
    """Return the text of a failure: what was expected, the statements by shape and line, and what to change."""
    width = width or max(60, min(120, shutil.get_terminal_size().columns))
    lines = [unmet, ""]
    lines.extend(_statement_lines(report.trace, width))
    for finding in report.findings:
        lines.extend(("", f"{finding.rule}: {finding.title}"))
        if finding.site is not None:
            lines.append(f"  at {finding.site} in {finding.site.function}")
        lines.append(f"  fix: {finding.advice}")
    return "\n".join(lines)


def _statement_lines(trace: Trace, width: int) -> list[str]:
    groups: dict[tuple[str, str], list[Statement]] = {}
    for statement in trace.statements:
        place = str(statement.site) if statement.site is not None else "(no application line)"
        groups.setdefault((statement.fingerprint, place), []).append(statement)
    if not groups:
        return ["  no statements were seen"]
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    lines = []
    for (_, place), group in ranked[:_MAX_SHAPES]:
        seconds = sum(statement.elapsed for statement in group)
        failed = sum(statement.error is not None for statement in group)
        note = f", {failed} failed" if failed else ""
        lines.append(f"{len(group):>5}x  {group[0].summary}  {place}  {_ms(seconds)}{note}")
        lines.append(f"        {_cut(group[0].shape.text, width - 8)}")
    if len(ranked) > _MAX_SHAPES:
        lines.append(f"        and {len(ranked) - _MAX_SHAPES} more shapes")
    return lines


def _judge(trace: Trace, settings: Settings, faults: Faults) -> Report:
    """Judge request by request: statements of several requests in one block are not repetitions."""
    detectors = default_detectors(settings)
    windows: dict[int, list[Statement]] = {}
    for statement in trace.statements:
        windows.setdefault(statement.window, []).append(statement)
    findings: list[Finding] = []
    for statements in windows.values():
        part = dataclasses.replace(trace, statements=tuple(statements), dropped=0)
        findings.extend(judge(part, detectors, faults).findings)
    return Report(trace, tuple(findings))


def _over(got: Recording, limit: int) -> str | None:
    return None if got.count <= limit else f"expected at most {_queries(limit)}, got {got.count}"


def _queries(number: int) -> str:
    return f"{number} quer{'y' if number == 1 else 'ies'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
