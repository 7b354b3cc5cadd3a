"""Rules about joins: repeated scans, quadratic filters, missing conditions, caches that do not hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from querytoll.advise.index import Need
from querytoll.explain.insights.case import JOINS, Case, count, percent, shown
from querytoll.explain.plan import number, texts_of, walk
from querytoll.explain.predicates import predicates
from querytoll.model import Finding, PlanNode


@dataclass(frozen=True, slots=True)
class NestedLoopInnerScan:
    """A nested loop reads a whole table once per outer row.

    Args:
        loops: executions of the scan (ours).
        rows: read per execution (ours).
        share: own part of the statement's time or cost, with the join's filter of these rows (ours).
    """

    slug: ClassVar[str] = "nested-loop-inner-scan"
    loops: int = 50
    rows: int = 1_000
    share: float = 0.2

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node, join in self.hits(case):
            per_loop = self._per_loop(node)
            yield case.finding(
                self,
                node,
                f"{node.relation} is read whole {count(node.loops or 0)} times, {count(per_loop)} rows each",
                f"Index the join column of {node.relation}, so that each outer row finds its matches.",
                share=self._share(node, join),
                need=self.need(case, node, join),
                loops=node.loops,
                rows_per_loop=per_loop,
            )

    def hits(self, case: Case) -> Iterator[tuple[PlanNode, PlanNode]]:
        """Scans over the line, each with its nested loop."""
        for node in case.of("Seq Scan"):
            join = case.inner_of(node)
            if join is None or case.in_subplan(node) or (node.loops or 0) < self.loops:
                continue
            if self._per_loop(node) >= self.rows and self._share(node, join) >= self.share:
                yield node, join

    def need(self, case: Case, node: PlanNode, join: PlanNode) -> Need | None:
        """The access path by the join's columns."""
        condition = predicates(join.facts.get("Join Filter"), node.alias or node.relation)
        need = case.need(node, [item for item in condition if item.others])
        return need

    def _share(self, node: PlanNode, join: PlanNode) -> float:
        return min(1.0, node.share + (join.share if "Join Filter" in join.facts else 0.0))

    def _per_loop(self, node: PlanNode) -> float:
        return number(node.facts.get("Actual Rows")) + number(node.facts.get("Rows Removed by Filter"))


@dataclass(frozen=True, slots=True)
class JoinFilterQuadratic:
    """A join compares every row with every row, and throws nearly all pairs away.

    Args:
        removed: pairs thrown away, over all loops (ours).
        ratio: thrown away for each one kept (ours).
    """

    slug: ClassVar[str] = "join-filter-quadratic"
    removed: int = 100_000
    ratio: int = 10

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in self.hits(case):
            removed = self._removed(case, node)
            yield case.finding(
                self,
                node,
                f"{count(removed)} pairs of rows compared and thrown away for {count(node.rows or 0)} kept",
                "Join by an equality, so that a hash or an index finds the pairs; for ranges use a range type with a "
                "GiST index, or a btree index on the bound.",
                share=node.share,
                pairs_removed=removed,
                rows=node.rows,
                join_filter=shown(node.facts.get("Join Filter")),
            )

    def hits(self, case: Case) -> Iterator[PlanNode]:
        """Joins over the line."""
        for node in case.of(*JOINS):
            removed = self._removed(case, node)
            if removed >= self.removed and removed >= self.ratio * (node.rows or 0.0):
                yield node

    def _removed(self, case: Case, node: PlanNode) -> float:
        return case.total(node, "Rows Removed by Join Filter")


@dataclass(frozen=True, slots=True)
class CartesianJoin:
    """Two inputs are joined without a condition.

    Args:
        side: rows of each side, at least (ours).
        output: rows of the product, at least (ours).
        fraction: output rows of all pairs (ours).
    """

    slug: ClassVar[str] = "cartesian-join"
    side: int = 50
    output: int = 10_000
    fraction: float = 0.9

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in self.hits(case):
            outer, inner = self._sizes(node)
            yield case.finding(
                self,
                node,
                f"{count(outer)} rows joined with {count(inner)} rows without a condition: {count(_rows(node))} rows",
                "Add the missing join condition; if the product is wanted, make its sides smaller first.",
                severity="error",
                share=case.inclusive(node),
                outer_rows=outer,
                inner_rows=inner,
                rows=_rows(node),
            )

    def hits(self, case: Case) -> Iterator[PlanNode]:
        """Nested loops over the line."""
        for node in case.of("Nested Loop"):
            if "Join Filter" in node.facts or node.join in ("Semi", "Anti") or len(_sides(node)) != 2:
                continue
            outer, inner = self._sizes(node)
            product = _rows(node) >= max(self.output, self.fraction * outer * inner)
            if min(outer, inner) >= self.side and product and not _parameterised(case, _sides(node)[1]):
                yield node

    def _sizes(self, node: PlanNode) -> tuple[float, float]:
        """Rows of the outer side, and of the inner side per execution."""
        outer, inner = _sides(node)
        loops = inner.loops or 1.0
        return _rows(outer), _rows(inner) / loops if inner.rows is not None else inner.estimated_rows


@dataclass(frozen=True, slots=True)
class NestedLoopMany:
    """A nested loop looks something up very often.

    Args:
        loops: executions of the inner side (ours).
        share: the inner side's part of the statement, everything below it included (ours).
        hit_ratio: of a Memoize that makes the loop cheap (ours).
        fraction: executions per row of the table looked up in, below which a hash join would read more (ours).
    """

    slug: ClassVar[str] = "nested-loop-many"
    loops: int = 10_000
    share: float = 0.3
    hit_ratio: float = 0.9
    fraction: float = 0.1
    quadratic: JoinFilterQuadratic = field(default_factory=JoinFilterQuadratic)
    cartesian: CartesianJoin = field(default_factory=CartesianJoin)
    scan: NestedLoopInnerScan = field(default_factory=NestedLoopInnerScan)

    def __call__(self, case: Case) -> Iterator[Finding]:
        hits = sorted(self._hits(case), key=lambda pair: -case.inclusive(pair[1]))
        for join, inner in hits[:1]:
            share = case.inclusive(inner)
            yield case.finding(
                self,
                join,
                f"A nested loop runs its inner side {count(inner.loops or 0)} times, {percent(share)} of the statement",
                _loop_advice(join),
                share=share,
                loops=inner.loops,
                estimated_outer_rows=_sides(join)[0].estimated_rows,
                outer_rows=_sides(join)[0].rows,
            )

    def _hits(self, case: Case) -> Iterator[tuple[PlanNode, PlanNode]]:
        claimed = {node.id for node in (*self.quadratic.hits(case), *self.cartesian.hits(case))}
        claimed |= {join.id for _, join in self.scan.hits(case)}
        for join in case.of("Nested Loop"):
            if join.id in claimed or len(_sides(join)) != 2 or case.in_subplan(join):
                continue
            inner = _sides(join)[1]
            cheap = any(hit_ratio(case, item) >= self.hit_ratio for item in (inner,) if item.kind == "Memoize")
            over = (inner.loops or 0) >= self.loops and case.inclusive(inner) >= self.share
            if over and not cheap and not self._right(case, join, inner):
                yield join, inner

    def _right(self, case: Case, join: PlanNode, inner: PlanNode) -> bool:
        """The planner knew how often, and each time an index finds a few of very many rows."""
        outer = _sides(join)[0]
        known = (outer.rows or 0.0) <= 3 * max(outer.estimated_rows, 1.0)
        table = case.table(inner) if "Index Cond" in inner.facts else None
        many = table is not None and table.rows is not None and (inner.loops or 0.0) <= self.fraction * table.rows
        return known and many and case.removed(inner) <= (inner.rows or 0.0) + (inner.loops or 0.0)


def _loop_advice(join: PlanNode) -> str:
    outer = _sides(join)[0]
    if outer.rows is not None and outer.rows >= 10 * max(outer.estimated_rows, 1.0):
        return (
            f"The planner expected {count(outer.estimated_rows)} outer rows and got {count(outer.rows)}: correct that "
            "estimate first (ANALYZE, CREATE STATISTICS), a hash join follows from it."
        )
    return "Let a hash join do it (an equality join key, enough work_mem), reduce the outer rows first, or batch."


@dataclass(frozen=True, slots=True)
class MemoizeThrash:
    """A Memoize cache is filled and emptied without being hit.

    Args:
        misses: at least (ours).
        evictions: at least (ours).
        hit_ratio: below (ours).
    """

    slug: ClassVar[str] = "memoize-thrash"
    misses: int = 1_000
    evictions: int = 1
    hit_ratio: float = 0.3

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Memoize"):
            misses, evictions = (_summed(case, node, f"Cache {name}") for name in ("Misses", "Evictions"))
            ratio = hit_ratio(case, node)
            if misses >= self.misses and evictions >= self.evictions and ratio < self.hit_ratio:
                yield case.finding(
                    self,
                    node,
                    f"A Memoize cache is hit by {percent(ratio)} of {count(misses)} and more lookups "
                    f"and evicts {count(evictions)} entries",
                    "The planner expects fewer different keys: raise the statistics target of the cache key's column "
                    "or set its n_distinct, and ANALYZE; more work_mem holds more entries.",
                    share=node.share,
                    hits=_summed(case, node, "Cache Hits"),
                    misses=misses,
                    evictions=evictions,
                    cache_key=shown(node.facts.get("Cache Key")),
                )


def hit_ratio(case: Case, node: PlanNode) -> float:
    """Hits of all lookups of a Memoize; 0 without ANALYZE."""
    hits, misses = _summed(case, node, "Cache Hits"), _summed(case, node, "Cache Misses")
    return hits / (hits + misses) if hits + misses else 0.0


def _summed(case: Case, node: PlanNode, key: str) -> float:
    return sum(number(value) for value in case.everywhere(node, key))


def _sides(join: PlanNode) -> Sequence[PlanNode]:
    return [child for child in join.children if child.role in ("Outer", "Inner")]


def _rows(node: PlanNode) -> float:
    return node.estimated_rows if node.rows is None else node.rows


_LATERAL = frozenset({"Function Scan", "Table Function Scan", "Values Scan", "Result", "ProjectSet", "Foreign Scan"})


def _parameterised(case: Case, inner: PlanNode) -> bool:
    """The inner side depends on the outer row, or may: what a lateral function takes is printed by VERBOSE only."""
    if inner.kind == "Materialize":
        return False
    if case.mentioned(inner) - case.aliases(inner):
        return True
    conditions = [text for item in walk(inner) for text in texts_of(_conditions(item))]
    if any("$" in text for text in conditions):
        return True
    return any(item.kind in _LATERAL for item in walk(inner))


def _conditions(node: PlanNode) -> dict[str, object]:
    return {key: value for key, value in node.facts.items() if key.endswith(("Cond", "Filter", "Key", "Call"))}
