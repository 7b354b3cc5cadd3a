"""Rules about reading a table: sequential scans, inefficient indexes, bitmaps, visibility."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

from querytoll.advise.index import Need, immutable, suggest
from querytoll.explain.catalog import Column
from querytoll.explain.insights.case import JOINS, PASSING, Case, count, shown
from querytoll.explain.insights.joins import NestedLoopInnerScan
from querytoll.explain.insights.steps import CorrelatedSubplan
from querytoll.explain.plan import number, walk
from querytoll.explain.predicates import Predicate, cast_at_fault, predicates, truncates_time
from querytoll.model import Finding, PlanNode

_STEPS_OF_VALUES = frozenset({"->", "->>", "#>", "#>>"})


class Waste(NamedTuple):
    """A scan, or the scans of one table's partitions, that threw most of its rows away."""

    node: PlanNode
    scans: tuple[PlanNode, ...]
    read: float
    kept: float
    share: float


@dataclass(frozen=True, slots=True)
class SeqScanFilter:
    """A sequential scan reads a table to keep a few rows of it.

    Args:
        removed: rows thrown away, over all loops (ours).
        fraction: of the rows read (pev2: 0.9).
        share: own part of the statement's time or cost (ours).
        estimated_fraction: expected part of the table without ANALYZE (ours).
        blind_rows: rows, guessed from the cost, where neither ANALYZE nor a catalog counts them (ours).
    """

    slug: ClassVar[str] = "seq-scan-filter"
    removed: int = 10_000
    fraction: float = 0.9
    share: float = 0.2
    estimated_fraction: float = 0.1
    blind_rows: int = 20_000

    def __call__(self, case: Case) -> Iterator[Finding]:
        for waste in self.wastes(case):
            node, first = waste.node, waste.scans[0]
            need = self.need(case, waste)
            parts = f" in {len(waste.scans)} partitions" if len(waste.scans) > 1 else ""
            yield case.finding(
                self,
                node,
                f"{count(waste.read)} rows of {_target(case, first)}{parts} read to keep {count(waste.kept)}",
                _scan_advice(case, first, need),
                share=waste.share,
                need=need,
                confidence=1.0 if case.analyzed or case.table(first) else 0.6,
                rows_read=waste.read,
                rows_kept=waste.kept,
                filter=shown(first.facts.get("Filter")),
                estimated=not case.analyzed,
            )

    def wastes(self, case: Case) -> Iterator[Waste]:
        """The scans over the line; those of a nested loop's inner side or a SubPlan belong to other rules."""
        for scans in _grouped(case, [node for node in case.of("Seq Scan") if "Filter" in node.facts]):
            waste = self._waste(case, scans)
            if waste and not self._claimed(case, scans[0]):
                yield waste

    def _waste(self, case: Case, scans: tuple[PlanNode, ...]) -> Waste | None:
        share = _shared(case, scans)
        node = scans[0] if len(scans) == 1 else case.append_above(scans[0])
        if not case.analyzed:
            return self._expected(case, node, scans, share)
        removed = sum(case.removed(scan) for scan in scans)
        kept = sum(scan.rows or 0.0 for scan in scans)
        wasteful = removed >= self.removed and removed >= self.fraction * (removed + kept) and share >= self.share
        return Waste(node, scans, removed + kept, kept, share) if wasteful else None

    def _expected(self, case: Case, node: PlanNode, scans: tuple[PlanNode, ...], share: float) -> Waste | None:
        sizes = [case.table(scan) for scan in scans]
        known = [table.rows for table in sizes if table and table.rows is not None]
        read = sum(known) if len(known) == len(scans) else sum(_guessed_rows(scan) for scan in scans)
        least = self.removed if len(known) == len(scans) else self.blind_rows
        kept = sum(scan.estimated_rows for scan in scans)
        limit = case.limit_above(scans[0])
        if limit is not None and kept > 0:
            read *= min(1.0, limit.estimated_rows / kept)
        few = read >= least and kept <= self.estimated_fraction * max(read, 1.0)
        return Waste(node, scans, read, kept, share) if few and share >= self.share else None

    def need(self, case: Case, waste: Waste) -> Need | None:
        """The access path that these scans lack."""
        siblings = waste.scans if len(waste.scans) > 1 else ()
        return case.need(waste.scans[0], siblings=siblings)

    def _claimed(self, case: Case, node: PlanNode) -> bool:
        inner = any(node.id == scan.id for scan, _ in NestedLoopInnerScan().hits(case))
        subplan = case.in_subplan(node)
        return inner or (subplan is not None and any(subplan.id == hit.id for hit in CorrelatedSubplan().hits(case)))


@dataclass(frozen=True, slots=True)
class InefficientIndex:
    """An index leads to many rows of which the filter keeps a few.

    Args:
        removed: rows thrown away, over all loops (ours).
        fraction: of the rows read (ours; pev2 marks 0.9).
        share: own part of the statement's time or cost (ours).
        few_per_loop: rows removed per execution inside a nested loop that are no fault (ours).
    """

    slug: ClassVar[str] = "inefficient-index"
    removed: int = 5_000
    fraction: float = 0.9
    share: float = 0.2
    few_per_loop: int = 2

    def __call__(self, case: Case) -> Iterator[Finding]:
        for waste in self.wastes(case):
            first = waste.scans[0]
            need = self.need(case, waste)
            names = sorted({item.index for item in walk(first) if item.index})
            yield case.finding(
                self,
                waste.node,
                f"{', '.join(names) or 'an index'} leads to {count(waste.read)} rows of {_target(case, first)}, "
                f"of which {count(waste.kept)} are kept",
                _index_advice(case, first, need),
                share=waste.share,
                need=need,
                rows_read=waste.read,
                rows_kept=waste.kept,
                filter=shown(first.facts.get("Filter")),
            )

    def wastes(self, case: Case) -> Iterator[Waste]:
        """The index scans over the line."""
        kinds = ("Index Scan", "Index Only Scan", "Bitmap Heap Scan")
        for scans in _grouped(case, [node for node in case.of(*kinds) if "Filter" in node.facts]):
            removed = sum(case.removed(scan) for scan in scans)
            kept = sum(scan.rows or 0.0 for scan in scans)
            bitmaps = sum(_with_bitmaps(scan) - scan.share for scan in scans)
            share = min(1.0, _shared(case, scans) + bitmaps)
            per_loop = max(number(scan.facts.get("Rows Removed by Filter")) for scan in scans)
            if case.inner_of(scans[0]) and per_loop <= self.few_per_loop:
                continue
            if removed >= self.removed and removed >= self.fraction * (removed + kept) and share >= self.share:
                node = scans[0] if len(scans) == 1 else case.append_above(scans[0])
                yield Waste(node, scans, removed + kept, kept, share)

    def need(self, case: Case, waste: Waste) -> Need | None:
        """The access path that these scans lack."""
        return case.need(waste.scans[0], siblings=waste.scans if len(waste.scans) > 1 else ())


def _wasteful_filters(case: Case, scan: SeqScanFilter, index: InefficientIndex) -> Iterator[tuple[Waste, Predicate]]:
    for waste in (*scan.wastes(case), *index.wastes(case)):
        for predicate in case.filters(waste.scans[0]):
            if predicate.column and predicate.constant:
                yield waste, predicate


@dataclass(frozen=True, slots=True)
class FunctionOnColumn:
    """A filter wraps its column in a function, so that no plain index on the column can serve it."""

    slug: ClassVar[str] = "function-on-column"
    scan: SeqScanFilter = field(default_factory=SeqScanFilter)
    index: InefficientIndex = field(default_factory=InefficientIndex)

    def __call__(self, case: Case) -> Iterator[Finding]:
        for waste, predicate in self.hits(case):
            node = waste.scans[0]
            table = case.table(node)
            column = table.column(predicate.column or "") if table else None
            what = predicate.function or predicate.cast
            indexable = immutable(predicate, column, case.catalog)
            yield case.finding(
                self,
                waste.node,
                f"{what} around {node.relation}.{predicate.column} keeps every plain index on it from use",
                _function_advice(predicate, indexable),
                share=waste.share,
                need=_alone(self.scan.need(case, waste), predicate) if indexable else None,
                column=predicate.column,
                function=what,
                expression_index_possible=indexable,
            )

    def hits(self, case: Case) -> Iterator[tuple[Waste, Predicate]]:
        """Wasteful scans, each with the term that computes."""
        for waste, predicate in _wasteful_filters(case, self.scan, self.index):
            if _computed(predicate) and not predicate.wildcard:
                yield waste, predicate


def _alone(need: Need | None, predicate: Predicate) -> Need | None:
    """The access path for one term of the filter."""
    return replace(need, predicates=(predicate,), order=(), limited=False) if need else None


def _computed(predicate: Predicate) -> bool:
    if predicate.wrap == "operator":
        return predicate.function not in _STEPS_OF_VALUES
    return predicate.wrap == "function" or truncates_time(predicate)


def _function_advice(predicate: Predicate, indexable: bool) -> str:
    column = predicate.column
    if truncates_time(predicate) or predicate.function in ("date_trunc", "date", "extract", "date_part"):
        rewrite = f"Rewrite to a half-open range: {column} >= start AND {column} < end, with an index on {column}"
        why = "" if indexable else "; on timestamptz the function is only STABLE, so an index on it is impossible"
        return f"{rewrite}{why}."
    if indexable:
        return f"Compare the bare column, or index the expression {shown(predicate.expression)}."
    return f"Move the computation to the other side, so that {column} stands alone; the function is not IMMUTABLE."


@dataclass(frozen=True, slots=True)
class TypeCastOnColumn:
    """A filter casts its column to the type of the value, so that no index on the column can serve it."""

    slug: ClassVar[str] = "type-cast-on-column"
    scan: SeqScanFilter = field(default_factory=SeqScanFilter)
    index: InefficientIndex = field(default_factory=InefficientIndex)

    def __call__(self, case: Case) -> Iterator[Finding]:
        for waste, predicate, column in self.hits(case):
            node = waste.scans[0]
            known = f" ({column.type})" if column and column.type else ""
            yield case.finding(
                self,
                waste.node,
                f"{node.relation}.{predicate.column}{known} is cast to {predicate.cast} in every row",
                f"Bind the value with the column's own type, or cast the value and not {predicate.column}: "
                "an index on the column serves it then. No new index is needed for this.",
                share=waste.share,
                column=predicate.column,
                cast=predicate.cast,
            )

    def hits(self, case: Case) -> Iterator[tuple[Waste, Predicate, Column | None]]:
        """Wasteful scans, each with the term that casts its column."""
        for waste, predicate in _wasteful_filters(case, self.scan, self.index):
            table = case.table(waste.scans[0])
            column = table.column(predicate.column or "") if table else None
            if cast_at_fault(predicate, column.type if column else None):
                yield waste, predicate, column


@dataclass(frozen=True, slots=True)
class LeadingWildcard:
    """A pattern starts with a wildcard, so that no btree can serve it."""

    slug: ClassVar[str] = "leading-wildcard"
    scan: SeqScanFilter = field(default_factory=SeqScanFilter)
    index: InefficientIndex = field(default_factory=InefficientIndex)

    def __call__(self, case: Case) -> Iterator[Finding]:
        for waste, predicate in _wasteful_filters(case, self.scan, self.index):
            if not predicate.wildcard:
                continue
            node = waste.scans[0]
            kind = "ILIKE" if predicate.operator == "~~*" else "LIKE"
            yield case.finding(
                self,
                waste.node,
                f"{kind} with a leading wildcard on {node.relation}.{predicate.column} reads every row",
                f"Index {predicate.column} with trigrams (extension pg_trgm, GIN, gin_trgm_ops), "
                "or search from the start of the text.",
                share=waste.share,
                need=_alone(self.scan.need(case, waste), predicate),
                column=predicate.column,
            )


@dataclass(frozen=True, slots=True)
class SeqScanJoin:
    """A join reads a whole large table to match a few rows.

    Args:
        scanned: rows of the large side (ours).
        other: rows of the small side, at most (ours).
        fraction: output rows of the scanned ones, at most (ours).
    """

    slug: ClassVar[str] = "seq-scan-join"
    scanned: int = 100_000
    other: int = 1_000
    fraction: float = 0.01

    def __call__(self, case: Case) -> Iterator[Finding]:
        for scans, join, condition in self.hits(case):
            rows, output = sum(_rows(scan) for scan in scans), _rows(join)
            node = scans[0]
            columns = ", ".join(sorted({item.column for item in condition if item.column}))
            yield case.finding(
                self,
                node if len(scans) == 1 else case.append_above(node),
                f"{count(rows)} rows of {_target(case, node)} read for a join that returns {count(output)}",
                f"Index the join column ({columns or 'the foreign key'}): a nested loop can then read the few "
                "matching rows only.",
                share=sum(scan.share for scan in scans),
                need=self.need(case, scans, condition),
                rows_read=rows,
                rows_joined=output,
            )

    def hits(self, case: Case) -> Iterator[tuple[tuple[PlanNode, ...], PlanNode, tuple[Predicate, ...]]]:
        """Scans over the line with their join and its condition, seen from the scan."""
        for scans in _grouped(case, [node for node in case.of("Seq Scan") if "Filter" not in node.facts]):
            join = _join_above(case, scans[0])
            if join is None or sum(_rows(scan) for scan in scans) < self.scanned:
                continue
            other = [child for child in join.children if child.role in ("Outer", "Inner")]
            other = [child for child in other if scans[0].id not in {item.id for item in walk(child)}]
            small = len(other) == 1 and 0 < _rows(other[0]) <= self.other
            if small and _rows(join) <= self.fraction * sum(_rows(scan) for scan in scans):
                text = join.facts.get("Hash Cond") or join.facts.get("Merge Cond")
                condition = predicates(text, scans[0].alias or scans[0].relation)
                yield scans, join, tuple(item for item in condition if item.others)

    def need(self, case: Case, scans: tuple[PlanNode, ...], condition: Sequence[Predicate]) -> Need | None:
        """The access path by the join's columns."""
        need = case.need(scans[0], condition, siblings=scans if len(scans) > 1 else ())
        join = _join_above(case, scans[0])
        return replace(need, kept=_rows(join)) if need and join else need


@dataclass(frozen=True, slots=True)
class LossyBitmap:
    """A bitmap outgrew work_mem and remembers pages instead of rows.

    Args:
        blocks: lossy heap blocks (pganalyze: any).
    """

    slug: ClassVar[str] = "lossy-bitmap"
    blocks: int = 1

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Bitmap Heap Scan"):
            lossy = number(node.facts.get("Lossy Heap Blocks"))
            lossy += sum(number(entry.get("Lossy Heap Blocks")) for entry in case.workers(node))
            if lossy >= self.blocks:
                yield case.finding(
                    self,
                    node,
                    f"The bitmap for {node.relation} did not fit work_mem: {count(lossy)} pages rechecked row by row",
                    "Raise work_mem for this statement (SET LOCAL), or use a more selective index.",
                    share=node.share,
                    lossy_blocks=lossy,
                    rows_rechecked=case.total(node, "Rows Removed by Index Recheck"),
                )


@dataclass(frozen=True, slots=True)
class IndexRecheck:
    """An index returns many rows that do not match when looked at.

    Args:
        removed: rows removed by the recheck, over all loops (ours).
    """

    slug: ClassVar[str] = "index-recheck"
    removed: int = 10_000

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Bitmap Heap Scan", "Index Scan", "Index Only Scan"):
            removed = case.total(node, "Rows Removed by Index Recheck")
            kept = (node.rows or 0.0) + case.removed(node)
            lossy = any(number(value) for value in case.everywhere(node, "Lossy Heap Blocks"))
            if removed >= self.removed and removed > kept and not lossy:
                yield case.finding(
                    self,
                    node,
                    f"The index returns {count(removed)} rows of {node.relation} that do not match",
                    "Use an operator class that stores more (jsonb_ops, longer trigram patterns, a btree on the "
                    "value), or a longer search text.",
                    share=_with_bitmaps(node),
                    rows_rechecked=removed,
                    rows_kept=kept,
                )


@dataclass(frozen=True, slots=True)
class HeapFetches:
    """An index-only scan goes to the table after all.

    Args:
        fetches: heap fetches, over all loops (ours).
        fraction: of the rows returned (ours; pev2 marks 0.4).
        share: own part of the statement's time or cost (ours).
    """

    slug: ClassVar[str] = "heap-fetches"
    fetches: int = 1_000
    fraction: float = 0.1
    share: float = 0.2

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Index Only Scan"):
            fetches = number(node.facts.get("Heap Fetches"))
            rows = (node.rows or 0.0) + case.removed(node)
            if fetches >= self.fetches and fetches >= self.fraction * rows and node.share >= self.share:
                yield case.finding(
                    self,
                    node,
                    f"The index-only scan of {node.relation} fetched {count(fetches)} rows from the table",
                    f"VACUUM {node.relation}, and let autovacuum come earlier: lower "
                    "autovacuum_vacuum_scale_factor and autovacuum_vacuum_insert_scale_factor of the table.",
                    share=node.share,
                    heap_fetches=fetches,
                    rows=rows,
                )


def _shared(case: Case, scans: Sequence[PlanNode]) -> float:
    """Share of the scans together, the wait for their workers counted once."""
    waiting = case.share(scans[0]) - scans[0].share
    return min(1.0, sum(scan.share for scan in scans) + waiting)


def _rows(node: PlanNode) -> float:
    return node.estimated_rows if node.rows is None else node.rows


def _with_bitmaps(node: PlanNode) -> float:
    """The heap scan's share with that of the bitmaps it reads."""
    return sum(item.share for item in walk(node)) if node.kind == "Bitmap Heap Scan" else node.share


def _target(case: Case, node: PlanNode) -> str:
    table = case.table(node)
    return (table.parent if table and table.parent else node.relation) or "a table"


def _part(node: PlanNode) -> str | None:
    """The alias that PostgreSQL numbered to name a partition (`orders_1`), without the number."""
    match = re.fullmatch(r"(.+)_\d+", node.alias or "")
    return match[1] if match and node.relation != node.alias else None


def _grouped(case: Case, scans: Sequence[PlanNode]) -> list[tuple[PlanNode, ...]]:
    """Scans of the partitions of one table under one Append together, every other scan alone."""
    groups: dict[object, list[PlanNode]] = {}
    numbered: dict[int, Counter[str | None]] = {}
    for node in scans:
        groups.setdefault(_family(case, node, numbered), []).append(node)
    return [tuple(group) for group in groups.values()]


def _family(case: Case, node: PlanNode, numbered: dict[int, Counter[str | None]]) -> object:
    parent = case.parents.get(node.id)
    if parent is None or parent.kind not in ("Append", "Merge Append"):
        return node.id
    table = case.table(node)
    if table is not None:
        return (parent.id, table.parent) if table.parent else node.id
    if parent.id not in numbered:
        numbered[parent.id] = Counter(_part(item) for item in parent.children)
    mine = _part(node)
    return (parent.id, mine) if mine and numbered[parent.id][mine] > 1 else node.id


def _join_above(case: Case, node: PlanNode) -> PlanNode | None:
    for parent in case.ancestors(node):
        if parent.kind in JOINS:
            return parent if parent.kind != "Nested Loop" else None
        if parent.kind not in (*PASSING, "Hash", "Sort", "Append"):
            return None
    return None


def _guessed_rows(node: PlanNode) -> float:
    """Rows of the table, guessed from the scan's cost at PostgreSQL's default cost settings."""
    per_page = max(1.0, 8_168 / (number(node.facts.get("Plan Width"), 100.0) + 28))
    workers = node.estimated_rows / max(1.0, number(node.facts.get("Plan Rows"), 1.0))
    return node.cost / (1 / per_page + 0.0125 / max(1.0, workers))


def _scan_advice(case: Case, node: PlanNode, need: Need | None) -> str:
    index = suggest(need, case.catalog) if need else None
    if index:
        return f"Create the index: {index.summary}."
    terms = case.filters(node)
    table = case.table(node)
    for term in terms:
        column = table.column(term.column) if table and term.column else None
        if cast_at_fault(term, column.type if column else None):
            return f"{term.column} is cast in the filter: bind the value with the column's type, no index is missing."
        if term.column and _computed(term):
            return f"The filter computes on {term.column}: compare the bare column with a range, then index it."
    columns = sorted({term.column for term in terms if term.column and term.bare})
    if not columns:
        return "Rewrite the filter so that a column is compared with a value; then index that column."
    return f"Check why no index on {', '.join(columns)} is used: its operator, its validity, outdated statistics."


def _index_advice(case: Case, node: PlanNode, need: Need | None) -> str:
    if index := suggest(need, case.catalog) if need else None:
        return f"Create the index: {index.summary}."
    columns = sorted({term.column for term in case.filters(node) if term.column})
    added = ", ".join(columns) or "the filtered column"
    if case.wanted_order(node)[1] and "Index Cond" not in node.facts:
        return f"One index with {added} first and the ORDER BY column after it finds the rows already in order."
    return f"Extend the index by {added}, so that the filter is decided in the index."
