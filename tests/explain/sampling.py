"""A table whose scan is slow, and a sink that keeps what it is told."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import make_url

from querytoll import Report
from querytoll.model import Finding, Plan
from tests.explain.servers import execute

SLOW = "SELECT * FROM events WHERE kind = "
TABLE = (
    "CREATE TABLE events (id int PRIMARY KEY, kind int, pad text, done boolean DEFAULT false)",
    "INSERT INTO events SELECT i, i % 5000, repeat('x', 60) FROM generate_series(1, 60000) i",
    "VACUUM ANALYZE events",
)
THRESHOLD = 0.0005
"""Seconds: the scan is far above, a look-up by key is mostly below."""


def fill(url: str) -> None:
    """Make the table."""
    execute(url, *TABLE)


def with_driver(url: str, driver: str) -> str:
    """SQLAlchemy's URL of a driver for libpq's."""
    return make_url(url).set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


class Sink:
    """Keeps reports and outcomes."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.outcomes: Counter[str] = Counter()
        self.seconds: list[float] = []

    def __call__(self, report: Report) -> None:
        self.reports.append(report)

    def explained(self, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        self.seconds.append(seconds)

    @property
    def plans(self) -> list[Plan]:
        return [plan for report in self.reports for plan in report.plans]

    @property
    def findings(self) -> list[Finding]:
        return [finding for report in self.reports if report.plans for finding in report.findings]

    def found(self, rule: str) -> Any:
        return next(finding for finding in self.findings if finding.rule == rule)


def strings(value: object) -> list[str]:
    """Every text in a report, with those inside of it; numbers are not values of the application's."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [found for pair in value.items() for item in pair for found in strings(item)]
    if isinstance(value, list | tuple | set | frozenset):
        return [found for item in value for found in strings(item)]
    if dataclasses.is_dataclass(value):
        return [found for field in dataclasses.fields(value) for found in strings(getattr(value, field.name))]
    return []
