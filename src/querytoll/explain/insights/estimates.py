"""Rules about the planner's expectations: rows estimated against rows seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from querytoll.advise.index import public
from querytoll.explain.insights.case import Case, count
from querytoll.explain.insights.joins import JoinFilterQuadratic
from querytoll.explain.insights.scans import FunctionOnColumn, TypeCastOnColumn
from querytoll.explain.plan import label, number, walk
from querytoll.explain.predicates import sort_keys, without_qualifiers, words
from querytoll.model import Finding, PlanNode

_FUNCTIONS = ("Function Scan", "Table Function Scan")
_PASSING = words(
    "Gather|Gather Merge|Materialize|Memoize|Hash|Sort|Incremental Sort|Limit|Result|ModifyTable|LockRows|Append"
    "|Merge Append|BitmapAnd|BitmapOr|Bitmap Index Scan|WorkTable Scan|Recursive Union|CTE Scan|ProjectSet|WindowAgg"
    "|Values Scan|Function Scan|Table Function Scan|Named Tuplestore Scan",
    "|",
)
"""Steps that hand on what their child estimated, or that no statistics describe."""
_BLOCKING = frozenset({"Sort", "Hash", "Aggregate"})


@dataclass(frozen=True, slots=True)
class RowMisestimate:
    """The planner expected far more or far fewer rows than there were.

    Args:
        factor: between estimate and reality (pev2, depesz: 10).
        rows: the larger of the two over all loops, at least (ours).
        per_loop: and per execution, at least (ours).
        empty: an estimate below it that met no rows at all is no fault (ours).
    """

    slug: ClassVar[str] = "row-misestimate"
    factor: float = 10.0
    rows: int = 1_000
    per_loop: int = 100
    empty: int = 10_000
    function: FunctionOnColumn = field(default_factory=FunctionOnColumn)
    cast: TypeCastOnColumn = field(default_factory=TypeCastOnColumn)
    quadratic: JoinFilterQuadratic = field(default_factory=JoinFilterQuadratic)

    def __call__(self, case: Case) -> Iterator[Finding]:
        told = self._told(case)
        wrong = {node.id for node in case.nodes if self._off(node) and not _stopped_early(case, node)}
        for node in case.nodes:
            deeper = any(item.id in wrong for item in walk(node) if item is not node)
            if node.id not in wrong or deeper or node.kind in _PASSING or node.id in told or _recursive(case, node):
                continue
            expected, seen = _pair(node)
            factor = max(expected, seen) / max(min(expected, seen), 1.0)
            yield case.finding(
                self,
                node,
                f"{label(node)} returned {count(seen)} rows where {count(expected)} were expected",
                _advice(node),
                share=None,
                confidence=0.9,
                expected_rows=expected,
                rows=seen,
                factor=round(factor, 1),
                loops=node.loops,
            )

    def _told(self, case: Case) -> set[int]:
        """Steps whose estimate is a default, because of the very fault that another rule tells of."""
        scans = {
            node.id for rule in (self.function, self.cast) for waste, *_ in rule.hits(case) for node in waste.scans
        }
        return scans | {join.id for join in self.quadratic.hits(case)}

    def _off(self, node: PlanNode) -> bool:
        if not node.loops or node.kind in ("BitmapAnd", "BitmapOr", "ModifyTable", "Limit"):
            return False
        ungrouped = node.kind == "Aggregate" and "Group Key" not in node.facts and "Grouping Sets" not in node.facts
        if ungrouped:
            return False
        expected, seen = _pair(node)
        most, least = max(expected, seen), max(min(expected, seen), 1.0)
        if seen == 0 and expected < self.empty:
            return False
        return most >= self.factor * least and most * node.loops >= self.rows and most >= self.per_loop


def _pair(node: PlanNode) -> tuple[float, float]:
    return number(node.facts.get("Plan Rows")), number(node.facts.get("Actual Rows"))


def _stopped_early(case: Case, node: PlanNode) -> bool:
    """Somebody above may have stopped to ask for rows, so that their count says nothing."""
    if node.kind in _BLOCKING and node.kind != "Aggregate":
        return True
    for parent, below in case.lineage(node):
        if parent.kind in ("Limit", "Merge Join"):
            return True
        if parent.kind == "Nested Loop" and parent.join in ("Semi", "Anti") and below.role == "Inner":
            return True
        if parent.kind == "Hash Join" and below.role == "Outer" and _empty_build(parent):
            return True
        if below.role in ("SubPlan", "InitPlan") and not (below.name or "").startswith("CTE"):
            return _pair(below)[1] <= 1
        if parent.kind in ("Sort", "Hash") or (parent.kind == "Aggregate" and parent.strategy != "Sorted"):
            return False
        if below.role == "InitPlan":
            return any(case.limit_above(scan) for scan in _readers(case, below))
    return False


def _empty_build(join: PlanNode) -> bool:
    build = next((child for child in join.children if child.role == "Inner"), None)
    return build is not None and not build.rows


def _readers(case: Case, cte: PlanNode) -> list[PlanNode]:
    return [node for node in case.of("CTE Scan") if case.cte(node) is cte]


def _recursive(case: Case, node: PlanNode) -> bool:
    return any(parent.kind == "Recursive Union" and below.role == "Inner" for parent, below in case.lineage(node))


def _advice(node: PlanNode) -> str:
    if node.kind == "Aggregate" and (keys := _computed_keys(node)):
        tables = {item.relation for item in walk(node) if item.relation}
        table = tables.pop() if len(tables) == 1 else "the table"
        return (
            f"Nothing is known of what it groups by: CREATE STATISTICS a_name ON {public(keys[0])} FROM {table} "
            "(PostgreSQL 14 and later), then ANALYZE; or group by a stored or generated column."
        )
    if node.kind == "Aggregate":
        return (
            "ANALYZE the tables; for several correlated group columns CREATE STATISTICS (ndistinct), for a column with "
            "a wrong count of values ALTER TABLE ... ALTER COLUMN ... SET (n_distinct = ...)."
        )
    if node.relation:
        return (
            f"ANALYZE {node.relation}; if the filtered columns depend on each other, CREATE STATISTICS "
            f"(dependencies, ndistinct, mcv) ON them FROM {node.relation}; or raise the columns' statistics target."
        )
    return "ANALYZE the joined tables; CREATE STATISTICS on columns that depend on each other; raise their targets."


def _computed_keys(node: PlanNode) -> list[str]:
    """Expressions that it groups by, in parentheses as CREATE STATISTICS needs them."""
    keys = node.facts.get("Group Key")
    texts = [without_qualifiers(key.text) for key in sort_keys(keys) if key.column is None]
    return [text if text.startswith("(") else f"({text})" for text in texts]


@dataclass(frozen=True, slots=True)
class FunctionScanEstimate:
    """A set-returning function returns far more rows than the planner's default guess.

    Args:
        factor: between guess and reality (ours; pganalyze's mis-estimate family).
        rows: returned, at least (ours; the planner's own guesses are 1000 and 100).
    """

    slug: ClassVar[str] = "function-scan-estimate"
    factor: float = 10.0
    rows: int = 1_000

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of(*_FUNCTIONS):
            expected, seen = _pair(node)
            exact = node.facts.get("Function Name") == "generate_series"
            if exact or seen < self.rows or seen < self.factor * max(expected, 1.0) or case.limit_above(node):
                continue
            name = node.name or node.alias or "a function"
            yield case.finding(
                self,
                node,
                f"{name} returned {count(seen)} rows where {count(expected)} were guessed",
                "Give a function of your own ROWS n or a SUPPORT function; for a built-in one, load the rows into a "
                "temporary table and ANALYZE it, or pass typed arrays to unnest().",
                share=None,
                expected_rows=expected,
                rows=seen,
            )
