"""Rules about the statement's form: offsets, sorts under a LIMIT, fenced CTEs, correlated subqueries, partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from querytoll.explain.catalog import Table
from querytoll.explain.insights.case import CONDITIONS, Case, count, percent, shown
from querytoll.explain.plan import number, walk
from querytoll.explain.predicates import predicates, sort_keys
from querytoll.model import Finding, PlanNode


@dataclass(frozen=True, slots=True)
class LargeOffset:
    """A LIMIT skips many rows before the first one it returns.

    Args:
        skipped: rows read and skipped (ours).
        ratio: rows read for each one returned (ours).
    """

    slug: ClassVar[str] = "large-offset"
    skipped: int = 1_000
    ratio: int = 10

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Limit"):
            child = _first(node)
            if child is None or child.rows is None or node.rows is None:
                continue
            skipped = child.rows - node.rows
            if skipped >= self.skipped and child.rows >= self.ratio * max(node.rows, 1.0):
                yield case.finding(
                    self,
                    node,
                    f"OFFSET skips {count(skipped)} rows to return {count(node.rows)}",
                    "Use keyset pagination: WHERE (sort columns) > (the last row's values) ORDER BY ... LIMIT n, "
                    "with an index on the sort columns.",
                    share=case.inclusive(child) * skipped / child.rows,
                    rows_skipped=skipped,
                    rows_returned=node.rows,
                )


@dataclass(frozen=True, slots=True)
class LimitSort:
    """Many rows are sorted to return the first few.

    Args:
        input: rows sorted (ours).
        ratio: rows sorted for each one wanted (ours).
    """

    slug: ClassVar[str] = "limit-sort"
    input: int = 10_000
    ratio: int = 100

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node, limit, scan in self.hits(case):
            rows, wanted = _rows(_first(node)), _rows(limit)
            yield case.finding(
                self,
                node,
                f"{count(rows)} rows sorted to return the first {count(wanted)}",
                _sort_advice(node),
                share=case.inclusive(node),
                need=case.need(scan) if scan else None,
                rows_sorted=rows,
                rows_wanted=wanted,
                sort_key=[shown(key) for key in _list(node.facts.get("Sort Key"))],
            )

    def hits(self, case: Case) -> Iterator[tuple[PlanNode, PlanNode, PlanNode | None]]:
        """Sorts over the line, with their LIMIT and the one table they read, where it is one."""
        for node in case.of("Sort"):
            limit, below = _limit_over(case, node)
            child = _first(node)
            if limit is None or child is None or not _sortable(node):
                continue
            wanted = max(_rows(limit), _rows(below) if below and case.analyzed else 0.0, 1.0)
            if _rows(child) >= max(self.input, self.ratio * wanted):
                yield node, limit, _one_table(child)


def _limit_over(case: Case, node: PlanNode) -> tuple[PlanNode | None, PlanNode | None]:
    for parent, below in case.lineage(node):
        if parent.kind == "Limit":
            return parent, below
        if parent.kind not in ("Gather Merge", "Result", "Subquery Scan", "LockRows"):
            return None, None
    return None, None


def _sortable(node: PlanNode) -> bool:
    """An index could give the order: no aggregate and no window between the sort and the tables, a plain column."""
    keys = sort_keys(node.facts.get("Sort Key"))
    below = node
    while (child := _first(below)) is not None:
        if child.kind in ("Aggregate", "WindowAgg", "Unique", "SetOp", "CTE Scan", "Function Scan", "ProjectSet"):
            return False
        below = child
    return bool(keys) and all(key.column is not None or key.text.startswith(("lower(", "upper(")) for key in keys)


def _one_table(node: PlanNode) -> PlanNode | None:
    while node.relation is None:
        if node.kind not in ("Gather", "Gather Merge", "Result", "Subquery Scan", "Append") or not node.children:
            return None
        node = node.children[0]
    return node


def _sort_advice(node: PlanNode) -> str:
    keys = ", ".join(shown(key) for key in _list(node.facts.get("Sort Key")))
    return f"An index whose columns are the equality filters and then {keys} returns the first rows without a sort."


def _list(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class CteFence:
    """A CTE is computed whole, and most of it filtered away outside.

    Args:
        removed: rows thrown away (ours).
        fraction: of the rows read (ours).
    """

    slug: ClassVar[str] = "cte-fence"
    removed: int = 10_000
    fraction: float = 0.9

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in self.hits(case):
            removed, kept = case.removed(node), node.rows or 0.0
            source = case.cte(node)
            share = node.share + (case.inclusive(source) if source else 0.0)
            yield case.finding(
                self,
                node,
                f"The CTE {node.facts.get('CTE Name')} computes {count(removed + kept)} rows of which "
                f"{count(kept)} are used",
                "Write it AS NOT MATERIALIZED, so that the condition reaches its tables, or repeat the condition "
                "inside it.",
                share=min(1.0, share),
                rows_computed=removed + kept,
                rows_used=kept,
                filter=shown(node.facts.get("Filter")),
            )

    def hits(self, case: Case) -> Iterator[PlanNode]:
        """Of the scans of each CTE the most wasteful, if it is over the line."""
        worst: dict[object, PlanNode] = {}
        for node in case.of("CTE Scan"):
            name = node.facts.get("CTE Name")
            if name not in worst or case.removed(node) > case.removed(worst[name]):
                worst[name] = node
        for node in worst.values():
            removed, kept = case.removed(node), node.rows or 0.0
            if removed >= self.removed and removed >= self.fraction * (removed + kept):
                yield node


@dataclass(frozen=True, slots=True)
class CorrelatedSubplan:
    """A subquery runs once per row of the outer query.

    Args:
        loops: executions that count with `share` (ours).
        share: part of the statement, everything in it included (ours).
        few_loops: executions that count with `large_share` (ours).
        large_share: see `few_loops` (ours).
        rows: read per execution, up to which an index makes it cheap (ours).
        cheap_loops: executions from which even a cheap one counts (ours).
    """

    slug: ClassVar[str] = "correlated-subplan"
    loops: int = 100
    share: float = 0.2
    few_loops: int = 10
    large_share: float = 0.5
    rows: int = 100
    cheap_loops: int = 1_000

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in self.hits(case):
            share = case.inclusive(node)
            scan = self.scan(node)
            yield case.finding(
                self,
                node,
                f"{node.name or 'A subquery'} ran {count(node.loops or 0)} times, once per row: "
                f"{percent(share)} of the statement",
                "Join once instead: a LEFT JOIN with GROUP BY, LATERAL, or EXISTS/NOT EXISTS; an index on the "
                "correlated column makes each run short.",
                share=share,
                need=case.need(scan) if scan else None,
                loops=node.loops,
            )

    def hits(self, case: Case) -> Iterator[PlanNode]:
        """Outermost subplans over the line."""
        for node in case.nodes:
            if node.role != "SubPlan" or "hashed" in (node.name or "") or case.in_subplan(node) is not node:
                continue
            loops, share = node.loops or 0.0, case.inclusive(node)
            many = loops >= self.loops and share >= self.share
            over = many or (loops >= self.few_loops and share >= self.large_share)
            if over and (loops >= self.cheap_loops or not self._cheap(case, node)):
                yield node

    def _cheap(self, case: Case, node: PlanNode) -> bool:
        """Each execution reads a few rows by an index, as for one page of a list."""
        scans = [item for item in walk(node) if item.relation and item.loops]
        read = sum((item.rows or 0.0) + case.removed(item) for item in scans)
        return all(item.kind != "Seq Scan" for item in scans) and read <= self.rows * (node.loops or 0.0)

    def scan(self, node: PlanNode) -> PlanNode | None:
        """The sequential scan in it that costs most."""
        scans = [item for item in walk(node) if item.kind == "Seq Scan" and "Filter" in item.facts]
        return max(scans, key=lambda item: item.share, default=None)


@dataclass(frozen=True, slots=True)
class PartitionPruning:
    """A condition does not tell which partitions can hold its rows.

    Args:
        partitions: of one table scanned, at least (ours).
        found: part of them in which an index finds rows, from which on all of them are wanted (ours).
    """

    slug: ClassVar[str] = "partition-pruning"
    partitions: int = 8
    found: float = 0.5

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Append", "Merge Append"):
            for parent, scans in self._families(case, node).items():
                table = case.catalog.table(parent) if case.catalog else None
                if table is None or not table.partition_key or len(scans) < self.partitions:
                    continue
                if number(node.facts.get("Subplans Removed")) > 0 or not _misses_key(case, scans, table):
                    continue
                if sum(_found_by_index(case, scan) for scan in scans) >= self.found * len(scans):
                    continue
                keys = ", ".join(table.partition_key)
                yield case.finding(
                    self,
                    node,
                    f"{len(scans)} partitions of {parent} scanned: no condition on its key ({keys})",
                    f"Add a condition on {keys} itself, not inside a function or cast, "
                    "so that the planner leaves partitions out.",
                    share=min(1.0, sum(case.inclusive(scan) for scan in scans)),
                    partitions=len(scans),
                    partition_key=keys,
                )

    def _families(self, case: Case, node: PlanNode) -> dict[str, list[PlanNode]]:
        families: dict[str, list[PlanNode]] = {}
        for child in node.children:
            scan = next((item for item in walk(child) if item.relation), None)
            table = case.table(scan) if scan else None
            if scan and scan.loops != 0 and table and table.parent and child.role == "Member":
                families.setdefault(table.parent, []).append(scan)
        return families


def _found_by_index(case: Case, scan: PlanNode) -> bool:
    """It has rows, one is what the planner expects at least, and its index leads to little else."""
    indexed = any("Index Cond" in item.facts for item in walk(scan))
    rows = scan.estimated_rows - 1 if scan.rows is None else scan.rows
    return indexed and rows > 0 and case.removed(scan) <= rows


def _misses_key(case: Case, scans: list[PlanNode], table: Table) -> bool:
    """There are conditions, and none compares the partition key itself with a value or with another table's column."""
    found = False
    for scan in scans:
        for item in walk(scan):
            for key in CONDITIONS:
                for term in predicates(item.facts.get(key), scan.alias or scan.relation):
                    found = True
                    bare = term.bare or term.expression in table.partition_key
                    if term.operator and bare and (term.column or term.expression) in table.partition_key:
                        return False
                    if term.expression in table.partition_key and term.operator:
                        return False
    return found


def _first(node: PlanNode) -> PlanNode | None:
    return next((child for child in node.children if child.role not in ("InitPlan", "SubPlan")), None)


def _rows(node: PlanNode | None) -> float:
    if node is None:
        return 0.0
    return node.estimated_rows if node.rows is None else node.rows
