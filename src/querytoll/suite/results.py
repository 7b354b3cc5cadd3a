"""Reports of a run to its results: what each route sends, and each finding once; mergeable, and readable again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from querytoll.errors import ConfigurationError
from querytoll.model import Finding, Report, Severity, Site, Statement

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
VERSION: Final = 1
"""Of the results' JSON; another one is refused."""
MAX_TESTS: Final = 20
"""Tests that are named for one finding."""


@dataclass(frozen=True, slots=True)
class Use:
    """A shape as one route or test sends it.

    Args:
        fingerprint: id of the shape.
        summary: `SELECT orders`.
        count: the most executions in one request.
        path: file of the line that sends most of them, as people read it.
        line: that line.
    """

    fingerprint: str
    summary: str
    count: int
    path: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """`app/orders.py:41`; empty where no line is known."""
        return f"{self.path}:{self.line}" if self.path else ""

    def merged(self, other: Use) -> Use:
        """Return the one with more executions."""
        return other if other.count > self.count else self


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a route or a test sends.

    Args:
        name: `GET /orders/{id}`, or the id of a test.
        requests: how often it was seen.
        statements: the most in one request.
        seconds: the most time in the database in one request.
        test: the test of the request with the most statements.
        slowest: the test of the request with the most time.
        uses: its shapes, by fingerprint.
    """

    name: str
    requests: int = 1
    statements: int = 0
    seconds: float = 0.0
    test: str = ""
    slowest: str = ""
    uses: Mapping[str, Use] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report, test: str, name: str | None = None) -> Traffic:
        """Read one request, or one test."""
        trace = report.trace
        groups: dict[str, list[Statement]] = {}
        for statement in trace.statements:
            groups.setdefault(statement.fingerprint, []).append(statement)
        uses = {fingerprint: _use(group) for fingerprint, group in groups.items()}
        count = len(trace.statements) + trace.dropped
        return cls(name or trace.name, 1, count, trace.database_seconds, test, test, uses)

    def merged(self, other: Traffic) -> Traffic:
        """Return both as one."""
        most = max(other, self, key=lambda each: (each.statements, each.test))
        slowest = max(other, self, key=lambda each: each.seconds)
        return Traffic(
            self.name,
            self.requests + other.requests,
            most.statements,
            slowest.seconds,
            most.test,
            slowest.slowest,
            joined(self.uses, other.uses, Use.merged),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of a run, whichever requests showed it.

    Args:
        id: the finding's stable id.
        rule: its slug.
        title: that of the request with the highest count.
        advice: what to change.
        severity: how much it matters.
        path: the file, as people read it.
        line: the line to change.
        function: the function around it.
        summary: the shape at fault, `SELECT orders`.
        statement: its text, without literals.
        count: the most statements involved in one request.
        times: requests, and tests by themselves, that showed it.
        routes: where.
        tests: in which tests; at most 20.
    """

    id: str
    rule: str
    title: str
    advice: str
    severity: Severity = "warning"
    path: str = ""
    line: int = 0
    function: str = ""
    summary: str = ""
    statement: str = ""
    count: int = 1
    times: int = 1
    routes: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    @classmethod
    def of(cls, finding: Finding, route: str, test: str) -> Found:
        """Read one finding of one request."""
        site = finding.site or Site("", 0, "")
        return cls(
            id=finding.id,
            rule=finding.rule,
            title=finding.title,
            advice=finding.advice,
            severity=finding.severity,
            path=site.path or site.file,
            line=site.line,
            function=site.function,
            summary=finding.summary or "",
            statement=str(finding.evidence.get("statement", "")),
            count=finding.count,
            routes=(route,),
            tests=(test,) if test else (),
        )

    @property
    def place(self) -> str:
        """`app/orders.py:41`; empty where no line is known."""
        return f"{self.path}:{self.line}" if self.path else ""

    def merged(self, other: Found) -> Found:
        """Return both as one."""
        worst = max(other, self, key=lambda each: (each.count, each.title))
        return replace(
            worst,
            times=self.times + other.times,
            routes=tuple(sorted({*self.routes, *other.routes})),
            tests=tuple(sorted({*self.tests, *other.tests})[:MAX_TESTS]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a run has shown.

    Args:
        complete: every test ran and passed, so that what was not seen is not there.
        requests: requests seen.
        statements: sent by them.
        seconds: spent by them in the database.
        routes: by name.
        tests: by id, where tests were asked for.
        findings: by id.
        version: of this form.
    """

    complete: bool = True
    requests: int = 0
    statements: int = 0
    seconds: float = 0.0
    routes: Mapping[str, Traffic] = field(default_factory=dict)
    tests: Mapping[str, Traffic] = field(default_factory=dict)
    findings: Mapping[str, Found] = field(default_factory=dict)
    version: int = VERSION

    @classmethod
    def of(cls, report: Report, test: str = "") -> Results:
        """Read one request."""
        trace = report.trace
        return cls(
            requests=1,
            statements=len(trace.statements) + trace.dropped,
            seconds=trace.database_seconds,
            routes={trace.name: Traffic.of(report, test)},
            findings=_findings(report, trace.name, test),
        )

    @classmethod
    def of_test(cls, report: Report, test: str, own: Iterable[Finding] = ()) -> Results:
        """Read one test: all that it sent, and what was found in it outside of its requests."""
        found = _findings(Report(report.trace, tuple(own)), test, test)
        return cls(tests={test: Traffic.of(report, test, test)}, findings=found)

    def merged(self, other: Results) -> Results:
        """Return both as one; the order makes no difference."""
        return Results(
            complete=self.complete and other.complete,
            requests=self.requests + other.requests,
            statements=self.statements + other.statements,
            seconds=self.seconds + other.seconds,
            routes=joined(self.routes, other.routes, Traffic.merged),
            tests=joined(self.tests, other.tests, Traffic.merged),
            findings=joined(self.findings, other.findings, Found.merged),
        )

    def to_json(self) -> str:
        """Return a text that `read` reads."""
        return _adapter.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "results") -> Results:
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            results = _adapter.validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ConfigurationError(
                f"{source}: not results of querytoll ({where or 'JSON'}: {problem['msg']}); "
                "write them with pytest --querytoll-results FILE"
            ) from error
        if results.version != VERSION:
            raise ConfigurationError(f"{source}: results of version {results.version}, expected {VERSION}")
        return results

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error


def joined(one: Mapping[K, V], other: Mapping[K, V], merge: Callable[[V, V], V]) -> dict[K, V]:
    """Return the union of two mappings; what is in both is merged."""
    result = dict(one)
    for key, value in other.items():
        result[key] = merge(result[key], value) if key in result else value
    return result


def _findings(report: Report, route: str, test: str) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for finding in report.findings:
        one = Found.of(finding, route, test)
        if one.id not in found or found[one.id].count < one.count:
            found[one.id] = one
    return found


def _use(group: list[Statement]) -> Use:
    sites: dict[Site, int] = {}
    for statement in group:
        if statement.site is not None:
            sites[statement.site] = sites.get(statement.site, 0) + 1
    site = max(sites, key=sites.__getitem__, default=Site("", 0, ""))
    return Use(group[0].fingerprint, group[0].summary, len(group), site.path or site.file, site.line)


_adapter: Final = TypeAdapter(Results)
