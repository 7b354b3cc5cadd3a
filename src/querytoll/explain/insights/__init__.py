"""The rules that turn a plan into findings; adding one is one class and one line here."""

from __future__ import annotations

from collections.abc import Iterable

from querytoll.explain.catalog import Catalog
from querytoll.explain.insights.case import Case, Rule
from querytoll.explain.insights.estimates import FunctionScanEstimate, RowMisestimate
from querytoll.explain.insights.joins import (
    CartesianJoin,
    JoinFilterQuadratic,
    MemoizeThrash,
    NestedLoopInnerScan,
    NestedLoopMany,
)
from querytoll.explain.insights.memory import DiskSort, HashaggSpill, HashBatches, TempIo
from querytoll.explain.insights.missing import MissingIndex
from querytoll.explain.insights.overhead import (
    IoHeavy,
    JitOverhead,
    PlanningTime,
    SerializeHeavy,
    WorkersNotLaunched,
)
from querytoll.explain.insights.scans import (
    FunctionOnColumn,
    HeapFetches,
    IndexRecheck,
    InefficientIndex,
    LeadingWildcard,
    LossyBitmap,
    SeqScanFilter,
    SeqScanJoin,
    TypeCastOnColumn,
)
from querytoll.explain.insights.steps import CorrelatedSubplan, CteFence, LargeOffset, LimitSort, PartitionPruning
from querytoll.explain.insights.writes import FkTriggerSlow, LockWait
from querytoll.model import Finding, Plan

RULES: tuple[Rule, ...] = (
    SeqScanFilter(),
    FunctionOnColumn(),
    TypeCastOnColumn(),
    LeadingWildcard(),
    SeqScanJoin(),
    InefficientIndex(),
    RowMisestimate(),
    FunctionScanEstimate(),
    DiskSort(),
    HashBatches(),
    HashaggSpill(),
    TempIo(),
    NestedLoopInnerScan(),
    NestedLoopMany(),
    JoinFilterQuadratic(),
    CartesianJoin(),
    LossyBitmap(),
    IndexRecheck(),
    HeapFetches(),
    IoHeavy(),
    JitOverhead(),
    PlanningTime(),
    LargeOffset(),
    LimitSort(),
    CteFence(),
    CorrelatedSubplan(),
    PartitionPruning(),
    WorkersNotLaunched(),
    MemoizeThrash(),
    FkTriggerSlow(),
    SerializeHeavy(),
    LockWait(),
    MissingIndex(),
)
"""Every rule, in the order in which findings of equal cost are shown."""


def inspect(
    plan: Plan,
    catalog: Catalog | None = None,
    *,
    observed: float | None = None,
    rules: Iterable[Rule] = RULES,
) -> tuple[Finding, ...]:
    """Apply the rules to a plan.

    Args:
        plan: best with its literals, from memory: a redacted plan hides whether a pattern is long enough for
            trigrams and what a column cast to text holds.
        catalog: facts about its tables; without them some rules stay silent.
        observed: seconds that the statement itself took, where the plan is of a second run.
        rules: rules to apply.

    Returns:
        Findings, the costliest first; none holds a literal of the statement.
    """
    case = Case(plan, catalog, observed)
    found = [finding for rule in rules for finding in rule(case)]
    return tuple(sorted(found, key=lambda finding: -finding.cost))
