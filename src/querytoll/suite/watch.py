"""Requests of applications under test, and statements that tests send themselves, to the results of the run."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from threading import Lock
from typing import Final, Literal

from querytoll.capture import Capture, Window, attach, everywhere
from querytoll.capture.assemble import Request, assemble
from querytoll.capture.calls import SERIAL
from querytoll.detect import RULES, Ignoring, default_detectors, judge
from querytoll.errors import ConfigurationError, Faults
from querytoll.model import Finding, Kind, Report, Trace
from querytoll.settings import Settings
from querytoll.suite.results import Results

Scope = Literal["requests", "tests", "all"]
"""Requests while a test runs; its own statements too; and those of its fixtures."""

TIMED: Final = (
    "slow-query",
    "too-much-db-time",
    "idle-in-transaction",
    "long-transaction",
    "connection-held",
    "pool-wait",
)
"""Rules about time: what they find depends on the machine, so that a run asks for them by name only."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules whose findings count.

    Args:
        wanted: slugs, `*` for any run of characters; None: all that do not depend on the machine's speed.

    Raises:
        ConfigurationError: there is no such rule, so that nothing could ever be found.
    """

    wanted: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_rules(self.wanted or ())

    def __contains__(self, rule: str) -> bool:
        if self.wanted is None:
            return rule not in TIMED
        return any(fnmatchcase(rule, pattern) for pattern in self.wanted)


def check_rules(patterns: Iterable[str]) -> None:
    """Refuse a pattern that no rule's slug matches.

    Raises:
        ConfigurationError: there is one.
    """
    __tracebackhide__ = True
    for pattern in patterns:
        if not any(fnmatchcase(rule, pattern) for rule in RULES):
            raise ConfigurationError(f"there is no rule {pattern!r}; the rules are {', '.join(sorted(RULES))}")


@dataclass(slots=True)
class Test:
    """A test while it runs.

    Args:
        name: its id.
        ignoring: findings not to tell in it.
    """

    name: str
    ignoring: Ignoring
    watched: bool = False
    statements: int = 0
    requests: int = 0


class Watch:
    """What the middleware needs of a profiler, and the results of the tests.

    Args:
        settings: thresholds of the rules.
        scope: what counts.
        rules: findings that count.
        per_test: keep what each test sends.
    """

    server_timing: Final = False
    answering: Final = None

    def __init__(
        self, settings: Settings, *, scope: Scope = "requests", rules: Rules | None = None, per_test: bool = False
    ) -> None:
        self.settings = settings
        self.scope = scope
        self.per_test = per_test
        self.rules = rules or Rules()
        self.active = True
        self.faults = Faults()
        self.results = Results()
        self.test: Test | None = None
        self._capture = Capture.of(settings, faults=self.faults)
        self._ignoring = Ignoring(settings.ignore)
        self._lock = Lock()
        self._window: Window | None = None
        self._requested: set[int] = set()
        attach()

    def open(self, kind: Kind) -> Window | None:
        """Open the window of a request."""
        return Window(self._capture, kind, "").open()

    def close(self, window: Window, request: Request) -> None:
        """Close the window of a request, and keep what it did if a test is being watched."""
        window.close()
        test = self.test
        with self._lock:
            self._requested.update(row[SERIAL] for row in window.rows)
        if test is None or not test.watched:
            return
        trace = assemble(window, request)
        found = self._findings(trace, test)
        with self._lock:
            test.requests += 1
            test.statements += len(trace.statements) + trace.dropped
            self.results = self.results.merged(Results.of(Report(trace, tuple(found)), test.name))

    def begin(self, test: Test) -> None:
        """Begin a test; from `enter` to `leave` it is watched, of the scope `all` at once."""
        self.test = test
        if self.scope == "all":
            self._open(test)

    def enter(self) -> None:
        """The test itself begins, its fixtures are set up."""
        if self.test is not None and self.scope != "all":
            self._open(self.test)

    def leave(self) -> None:
        """The test itself is over, its fixtures are about to be torn down."""
        if self.scope != "all":
            self._close()

    def end(self) -> None:
        """End a test."""
        self._close()
        self.test = None

    def incomplete(self) -> None:
        """Note that what was not seen may be there all the same."""
        self.results = replace(self.results, complete=False)

    def _open(self, test: Test) -> None:
        test.watched = True
        self._requested.clear()
        if self.scope != "requests" or self.per_test:
            self._window = Window(self._capture, "test", test.name)
            everywhere.append(self._window)

    def _close(self) -> None:
        test, window = self.test, self._window
        if test is not None:
            test.watched = False
        if test is None or window is None:
            return
        self._window = None
        everywhere.remove(window)
        window.close()
        try:
            self._keep(window, test)
        except Exception as fault:
            self.faults.caught("capture", fault)

    def _keep(self, window: Window, test: Test) -> None:
        own = copy.copy(window)
        own.rows = [row for row in window.rows if row[SERIAL] not in self._requested]
        own.holds = [hold for hold in window.holds if hold.holder is window]
        found = self._findings(assemble(own), test) if self.scope != "requests" else []
        trace = assemble(window)
        if trace.statements:
            with self._lock:
                self.results = self.results.merged(Results.of_test(Report(trace), test.name, found))

    def _findings(self, trace: Trace, test: Test) -> list[Finding]:
        # Detectors remember the routes that they have seen: new ones give the same findings in any order of the tests.
        report = judge(trace, default_detectors(self.settings), self.faults, self._ignoring)
        return [finding for finding in test.ignoring.apply(list(report.findings)) if finding.rule in self.rules]
