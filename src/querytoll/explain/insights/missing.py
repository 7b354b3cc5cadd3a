"""`missing-index`: the exact index for every scan that another rule found wasteful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from querytoll.advise.index import UNVERIFIED, Limits, Need, Suggestion, public, suggest
from querytoll.explain.insights.case import Case, count
from querytoll.explain.insights.joins import NestedLoopInnerScan
from querytoll.explain.insights.scans import InefficientIndex, SeqScanFilter, SeqScanJoin
from querytoll.explain.insights.steps import CorrelatedSubplan, LimitSort
from querytoll.explain.insights.writes import FkTriggerSlow
from querytoll.model import Finding


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """A table has no index for the way in which the statement reads it.

    Args:
        limits: see `Limits`.
    """

    slug: ClassVar[str] = "missing-index"
    limits: Limits = field(default_factory=Limits)
    scan: SeqScanFilter = field(default_factory=SeqScanFilter)
    index: InefficientIndex = field(default_factory=InefficientIndex)
    join: SeqScanJoin = field(default_factory=SeqScanJoin)
    inner: NestedLoopInnerScan = field(default_factory=NestedLoopInnerScan)
    subplan: CorrelatedSubplan = field(default_factory=CorrelatedSubplan)
    sort: LimitSort = field(default_factory=LimitSort)
    trigger: FkTriggerSlow = field(default_factory=FkTriggerSlow)

    def __call__(self, case: Case) -> Iterator[Finding]:
        for need, share, suggestion in self.hits(case):
            yield self._finding(case, need, share, suggestion)

    def hits(self, case: Case) -> Iterator[tuple[Need, float, Suggestion]]:
        """Each suggestion once, with the share of the statement that it is about."""
        seen: set[str] = set()
        for need, share in sorted(self._needs(case), key=lambda pair: -pair[1]):
            suggestion = suggest(need, case.catalog, self.limits)
            if suggestion and suggestion.definition not in seen:
                seen.add(suggestion.definition)
                yield need, share, suggestion

    def _needs(self, case: Case) -> Iterator[tuple[Need, float]]:
        found: list[tuple[Need | None, float]] = []
        for waste in self.scan.wastes(case):
            found.append((self.scan.need(case, waste), waste.share))
        for waste in self.index.wastes(case):
            found.append((self.index.need(case, waste), waste.share))
        for scans, _, condition in self.join.hits(case):
            found.append((self.join.need(case, scans, condition), sum(scan.share for scan in scans)))
        for node, join in self.inner.hits(case):
            found.append((self.inner.need(case, node, join), node.share))
        for node in self.subplan.hits(case):
            scan = self.subplan.scan(node)
            found.append((case.need(scan) if scan else None, case.inclusive(node)))
        for node, _, table in self.sort.hits(case):
            found.append((case.need(table) if table else None, case.inclusive(node)))
        for constraint, _ in self.trigger.hits(case):
            found.append((self.trigger.need(case, constraint), 0.0))
        yield from ((need, share) for need, share in found if need)

    def _finding(self, case: Case, need: Need, share: float, suggestion: Suggestion) -> Finding:
        node = case.append_above(case.nodes[need.node]) if need.partitions else case.nodes[need.node]
        columns = ", ".join(suggestion.columns)
        advice = [suggestion.summary + ".", *([suggestion.first] if suggestion.first else ())]
        advice += [f"{line}." for line in (*suggestion.why, *suggestion.notes)]
        if suggestion.bytes:
            advice.append(f"About {_size(suggestion.bytes)} on disk.")
        advice.append(f"Costs {suggestion.write_cost}. {UNVERIFIED}")
        return case.finding(
            self,
            node,
            f"{suggestion.table} has no index for {public(columns)}: "
            f"{count(need.scanned)} rows read for {count(need.kept)}",
            " ".join(advice),
            share=min(1.0, share),
            confidence=1.0 if case.catalog and case.catalog.table(suggestion.table) else 0.7,
            index=suggestion.public,
            columns=[public(column) for column in suggestion.columns],
            column_order=list(suggestion.why),
            notes=list(suggestion.notes),
            bytes=suggestion.bytes,
            write_cost=suggestion.write_cost,
            verified="no",
            extension=suggestion.extension,
        )


def _size(size: int) -> str:
    return f"{size / 1_048_576:.1f} MB" if size >= 1_048_576 else f"{size / 1024:.0f} kB"
