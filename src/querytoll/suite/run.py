"""A run of tests to its verdict, and to the files that a team commits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar, get_args

from querytoll.detect import Ignoring
from querytoll.errors import ConfigurationError
from querytoll.settings import Settings
from querytoll.suite.baseline import Baseline
from querytoll.suite.failure import plural
from querytoll.suite.lock import Lock
from querytoll.suite.results import Results
from querytoll.suite.verdict import Verdict, verdict
from querytoll.suite.watch import Rules, Scope, Test, Watch

T = TypeVar("T")
C = TypeVar("C", bound=str)


class Files(NamedTuple):
    """What a run is compared to, and where its results go."""

    baseline: Path | None = None
    lock: Path | None = None
    results: Path | None = None


class Run:
    """A run of tests, from its beginning to its verdict.

    Args:
        root: the project's folder.
        files: what is read and written.
        scope: as `Watch`.
        rules: slugs whose findings count, with commas; empty: all that do not depend on time.
        per: the lock lists the queries of each `route` or `test`.
        update: write baseline and lock anew.
        strict: findings that are not in the baseline fail the run.

    Raises:
        ConfigurationError: a file cannot be read, or a choice is none.
    """

    def __init__(
        self,
        root: Path,
        files: Files,
        *,
        scope: str = "requests",
        rules: str = "",
        per: str = "route",
        update: bool = False,
        strict: bool = False,
    ) -> None:
        self.settings = Settings() if "QUERYTOLL_PROJECT_ROOT" in os.environ else Settings(project_root=root)
        self.verdict: Verdict | None = None
        self.notes: list[str] = []
        self._files = files
        self._update = update
        self._strict = strict
        self._per_test = _chosen("lock-per", per, ("route", "test")) == "test"
        self._undo: list[Callable[[], None]] = []
        self._baseline = _read(files.baseline, Baseline.read, Baseline(), update)
        self._lock = _read(files.lock, Lock.read, Lock(), update)
        wanted = tuple(rule.strip() for rule in rules.split(",") if rule.strip()) or None
        self.watch = Watch(
            self.settings,
            scope=_chosen("watch", scope, get_args(Scope)),
            rules=Rules(wanted),
            per_test=self._per_test,
        )

    def ignoring(self, patterns: Iterable[str]) -> Ignoring:
        """Return what a test ignores: `n-plus-one`, `Order.items`, `app/legacy/*`, `n-plus-one@Order.items`."""
        return Ignoring([*self.settings.ignore, *map(_pattern, patterns)])

    def begin(self, name: str, ignored: Iterable[str]) -> None:
        """Begin a test."""
        self.watch.begin(Test(name, self.ignoring(ignored)))

    def properties(self) -> list[tuple[str, object]]:
        """Return what JUnit XML tells of the test that runs."""
        test = self.watch.test
        if test is None or not test.requests:
            return []
        return [("querytoll_requests", test.requests), ("querytoll_statements", test.statements)]

    def merge(self, document: str | None) -> None:
        """Add the results of another process; None: it ended without."""
        if document is None:
            self.watch.incomplete()
        else:
            self.watch.results = self.watch.results.merged(Results.from_json(document))

    def on_stop(self, *undo: Callable[[], None]) -> None:
        """Note what is to be done at the end."""
        self._undo.extend(undo)

    def stop(self) -> None:
        """Watch no more."""
        self.watch.active = False
        while self._undo:
            self._undo.pop()()

    def finish(self) -> None:
        """Reach the verdict, and write what is to be written."""
        results = self.watch.results
        if self._files.results is not None:
            _write(self._files.results, results.to_json())
        if self._update:
            self._write_anew(results)
        self.verdict = verdict(
            results, self._baseline, self._lock, per_test=self._per_test, strict=self._strict and not self._update
        )
        faults = sum(self.watch.faults.counts.values())
        if faults:
            self.notes.append(f"querytoll itself failed {faults} times; see the log")

    def _write_anew(self, results: Results) -> None:
        traffic = results.tests if self._per_test else results.routes
        complete = results.complete and bool(results.routes or results.tests)
        if self._baseline is not None and self._files.baseline is not None:
            self._baseline = self._baseline.updated(results.findings.values(), complete=complete)
            _write(self._files.baseline, str(self._baseline))
            self.notes.append(
                f"{self._files.baseline.name} written: {plural(len(self._baseline.entries), 'known finding')}"
            )
        if self._lock is not None and self._files.lock is not None:
            self._lock = self._lock.updated(traffic, complete=complete)
            _write(self._files.lock, str(self._lock))
            number = plural(len(self._lock.routes), "test" if self._per_test else "route")
            self.notes.append(f"{self._files.lock.name} written: {number}")
        if not complete:
            self.notes.append("not every test ran and passed: nothing was removed or lowered")


def _pattern(text: str) -> str:
    """Read what a marker ignores: a rule, else a relation, a path or a function of any rule."""
    return text if "@" in text or not set(text) & set("./") else f"*@{text}"


def _chosen(name: str, value: str, choices: tuple[C, ...]) -> C:
    if value not in choices:
        raise ConfigurationError(f"{name} is one of {', '.join(choices)}, not {value!r}")
    return value


def _read(path: Path | None, read: Callable[[Path], T], empty: T, update: bool) -> T | None:
    if path is None:
        return None
    return empty if update and not path.exists() else read(path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
