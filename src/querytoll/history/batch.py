"""Reports to rows: what is told of many requests is folded into few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from querytoll.history.schemas import (
    FindingCreate,
    FingerprintCreate,
    SightingCreate,
    TraceCreate,
    TraceFindingCreate,
    TrafficCreate,
    UseCreate,
    clean,
)
from querytoll.model import Finding, Report, Statement, Trace
from querytoll.settings import Settings

OTHER: Final = "other"
"""The name of what there was no room for."""
MAX_SHAPES: Final = 100
"""Shapes of statements that are kept for each name and hour."""
MAX_FINDINGS: Final = 2_000
"""Pairs of a name and a finding that are kept for each hour."""
TRACE_SECONDS: Final = 60.0
"""Least time between two traces that are kept for the same reason."""


@dataclass(slots=True)
class Batch:
    """Rows to be written together, by their keys."""

    reports: int = 0
    traces: dict[str, TraceCreate] = field(default_factory=dict)
    findings: dict[str, FindingCreate] = field(default_factory=dict)
    sightings: dict[tuple[str, str, datetime], SightingCreate] = field(default_factory=dict)
    links: dict[tuple[str, str], TraceFindingCreate] = field(default_factory=dict)
    fingerprints: dict[str, FingerprintCreate] = field(default_factory=dict)
    traffic: dict[tuple[str, datetime], TrafficCreate] = field(default_factory=dict)
    uses: dict[tuple[str, str, datetime], UseCreate] = field(default_factory=dict)


class Folder:
    """Folds reports into batches.

    Args:
        settings: `slow_request_seconds` and `max_routes`.
        paths: keep the paths of traces as requested.

    Attributes:
        left_out: findings and shapes of statements that there was no room for.
    """

    def __init__(self, settings: Settings, *, paths: bool = False) -> None:
        self.left_out = 0
        self._slow_seconds = settings.slow_request_seconds
        self._max_names = settings.max_routes
        self._paths = paths
        self._forget(None)

    def _forget(self, hour: datetime | None) -> None:
        """Begin another hour, with room for other names, shapes and findings."""
        self._hour = hour
        self._names: set[str] = set()
        self._shapes: dict[str, set[str]] = {}
        self._findings: set[tuple[str, str]] = set()
        self._kept: dict[tuple[str, str], datetime] = {}

    def fold(self, report: Report, batch: Batch) -> None:
        """Add a report to a batch."""
        trace = report.trace
        hour = trace.began.replace(minute=0, second=0, microsecond=0)
        if self._hour is None or hour > self._hour:
            self._forget(hour)
        name = self._name(trace.name or trace.kind)
        batch.reports += 1
        if not report.plans:  # those come with the trace's name alone, which was counted before
            self._count(trace, name, hour, batch)
            self._use(trace, name, hour, batch)
        found = [finding for finding in report.findings if self._has_room(name, finding)]
        for finding in found:
            self._find(finding, trace, name, hour, batch)
        reason = None if report.plans else self._reason(trace, name, found)
        if reason is not None:
            batch.traces[trace.id] = TraceCreate.of(trace, name, reason, path=self._paths)
        if reason is not None or report.plans:
            for finding in found:
                batch.links[trace.id, finding.id] = TraceFindingCreate(
                    trace_id=trace.id,
                    finding_id=finding.id,
                    count=finding.count,
                    cost=finding.cost,
                    last_seen=trace.began,
                )

    def _name(self, name: str) -> str:
        if name not in self._names:
            if len(self._names) >= self._max_names:
                return OTHER
            self._names.add(name)
        return name

    def _has_room(self, name: str, finding: Finding) -> bool:
        if (name, finding.id) not in self._findings:
            if len(self._findings) >= MAX_FINDINGS:
                self.left_out += 1
                return False
            self._findings.add((name, finding.id))
        return True

    def _count(self, trace: Trace, name: str, hour: datetime, batch: Batch) -> None:
        row = batch.traffic.get((name, hour))
        if row is None:
            row = TrafficCreate(name=name, hour=hour, kind=trace.kind, last_seen=trace.began)
            batch.traffic[name, hour] = row
        statements = len(trace.statements) + trace.dropped
        row.requests += 1
        row.statements += statements
        row.database_seconds += trace.database_seconds
        row.most = max(row.most, statements)
        row.longest = max(row.longest, trace.database_seconds)
        row.last_seen = max(row.last_seen, trace.began)

    def _use(self, trace: Trace, name: str, hour: datetime, batch: Batch) -> None:
        for first, count in _shapes(trace):
            fingerprint = first.shape.fingerprint
            row = batch.uses.get((name, fingerprint, hour))
            if row is not None and count <= row.most:
                row.last_seen = max(row.last_seen, trace.began)
                continue
            known = self._shapes.setdefault(name, set())
            if fingerprint not in known:
                if len(known) >= MAX_SHAPES:
                    self.left_out += 1
                    continue
                known.add(fingerprint)
            site = first.site
            batch.uses[name, fingerprint, hour] = UseCreate(
                name=name,
                fingerprint=fingerprint,
                hour=hour,
                most=count,
                file=site and (site.path or site.file),
                line=site and site.line,
                last_seen=trace.began if row is None else max(row.last_seen, trace.began),
            )
            if fingerprint not in batch.fingerprints:
                batch.fingerprints[fingerprint] = FingerprintCreate.of(first.shape, trace.began)

    def _find(self, finding: Finding, trace: Trace, name: str, hour: datetime, batch: Batch) -> None:
        row = batch.findings.get(finding.id)
        if row is None or finding.count > row.most:
            worse = FindingCreate.of(finding, trace.began)
            row = batch.findings[finding.id] = worse if row is None else _over(row, worse)
        row.occurrences += 1
        row.cost += finding.cost
        row.first_seen, row.last_seen = min(row.first_seen, trace.began), max(row.last_seen, trace.began)
        sighting = batch.sightings.get((finding.id, name, hour))
        if sighting is None:
            sighting = batch.sightings[finding.id, name, hour] = SightingCreate(
                finding_id=finding.id, name=name, hour=hour, title="", most=-1, last_seen=trace.began
            )
        if finding.count > sighting.most:
            sighting.most, sighting.title = finding.count, clean(finding.title)
        sighting.occurrences += 1
        sighting.cost += finding.cost
        sighting.last_seen = max(sighting.last_seen, trace.began)

    def _reason(self, trace: Trace, name: str, found: list[Finding]) -> str | None:
        """Tell why a trace is kept; each reason holds once in a while for each name."""
        for finding in found:
            if self._due(name, finding.id, trace.began):
                return "finding"
        if trace.database_seconds > self._slow_seconds and self._due(name, "slow", trace.began):
            return "slow"
        if (name, "sample") not in self._kept:
            self._kept[name, "sample"] = trace.began
            return "sample"
        return None

    def _due(self, name: str, reason: str, now: datetime) -> bool:
        last = self._kept.get((name, reason))
        if last is not None and abs((now - last).total_seconds()) < TRACE_SECONDS:
            return False
        self._kept[name, reason] = now
        return True


def _shapes(trace: Trace) -> Iterator[tuple[Statement, int]]:
    """Return the first statement of each shape, and how many there are."""
    counts: dict[str, int] = {}
    first: dict[str, Statement] = {}
    for statement in trace.statements:
        fingerprint = statement.shape.fingerprint
        counts[fingerprint] = counts.get(fingerprint, 0) + 1
        first.setdefault(fingerprint, statement)
    return ((statement, counts[fingerprint]) for fingerprint, statement in first.items())


def _over(row: FindingCreate, worse: FindingCreate) -> FindingCreate:
    """Return the worse of two rows with the sums of the first."""
    worse.occurrences, worse.cost = row.occurrences, row.cost
    worse.first_seen, worse.last_seen = row.first_seen, row.last_seen
    worse.plan = worse.plan or row.plan
    return worse
