"""A plan with what its rules ask of it: parents, shares, totals, conditions, the table's facts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Protocol

from querytoll.advise.index import Need, suggest
from querytoll.explain.catalog import Catalog, Table
from querytoll.explain.plan import label, number, texts_of, walk
from querytoll.explain.predicates import Predicate, Ref, SortKey, predicates, qualifiers, sort_keys, words
from querytoll.explain.redact import redact_text
from querytoll.model import Finding, Plan, PlanNode, Severity

PASSING = words("Gather|Gather Merge|Materialize|Memoize|Result|Subquery Scan|LockRows|Limit", "|")
"""Steps that hand on the rows of their child."""
READING_ALL = words("Sort|Incremental Sort|Hash|Aggregate|WindowAgg|Hash Join|ModifyTable", "|")
"""Steps that read all of their child, or all of one, before a LIMIT above them can stop it."""
JOINS = frozenset({"Nested Loop", "Hash Join", "Merge Join"})
CONDITIONS = ("Index Cond", "Recheck Cond", "TID Cond", "Filter")


class Rule(Protocol):
    """Finds one fault in a plan; adding one is one class and one line in the registry."""

    slug: ClassVar[str]

    def __call__(self, case: Case, /) -> Iterator[Finding]: ...


class Case:
    """A plan that is being judged.

    Args:
        plan: the tree with the server's own fields, literals included; it is not kept.
        catalog: facts about its tables, where there are any.
        observed: seconds that the statement itself took, where the plan is of a second run.
    """

    def __init__(self, plan: Plan, catalog: Catalog | None = None, observed: float | None = None) -> None:
        self.plan = plan
        self.catalog = catalog
        self.observed = observed
        self.nodes = tuple(walk(plan.tree))
        self._conditions: dict[int, tuple[Predicate, ...]] = {}
        self._filters: dict[int, tuple[Predicate, ...]] = {}
        self._tables: dict[tuple[str | None, str | None], Table | None] = {}
        self.parents: dict[int, PlanNode] = {child.id: node for node in self.nodes for child in node.children}

    @property
    def analyzed(self) -> bool:
        """The plan was executed."""
        return self.plan.tree.loops is not None

    @cached_property
    def seconds(self) -> float:
        """Execution time; 0 where the plan does not tell."""
        return max(self.plan.elapsed or 0.0, self.plan.tree.seconds or 0.0)

    def of(self, *kinds: str) -> Iterator[PlanNode]:
        """Steps of these kinds that were executed, or may be."""
        return (node for node in self.nodes if node.kind in kinds and node.loops != 0)

    def ancestors(self, node: PlanNode) -> Iterator[PlanNode]:
        """Parents up to the root."""
        parent = self.parents.get(node.id)
        while parent is not None:
            yield parent
            parent = self.parents.get(parent.id)

    def lineage(self, node: PlanNode) -> Iterator[tuple[PlanNode, PlanNode]]:
        """Each parent with the child through which it is reached."""
        below = node
        for parent in self.ancestors(node):
            yield parent, below
            below = parent

    def total(self, node: PlanNode, key: str) -> float:
        """A per-loop counter over all loops."""
        return number(node.facts.get(key)) * (1.0 if node.loops is None else node.loops)

    def removed(self, node: PlanNode) -> float:
        """Rows read and thrown away by the step's filter, over all loops."""
        return self.total(node, "Rows Removed by Filter")

    def inclusive(self, node: PlanNode) -> float:
        """Share of the statement's time, or cost, that the step takes with everything below it."""
        if node.seconds is not None and self.seconds:
            return min(1.0, node.seconds / self.seconds)
        whole = self.plan.tree.cost
        return min(1.0, node.cost / whole) if whole else 0.0

    def share(self, node: PlanNode) -> float:
        """Own share, with that of a Gather directly above: its own time is the wait for this step's workers."""
        parent = self.parents.get(node.id)
        while parent is not None and parent.kind in ("Append", "Merge Append"):
            parent = self.parents.get(parent.id)
        waiting = parent is not None and parent.kind in ("Gather", "Gather Merge")
        return min(1.0, node.share + (parent.share if waiting and parent else 0.0))

    def saving(self, share: float) -> float:
        """Seconds that stand for a share of the statement; 0 where it was not timed."""
        return round(share * self.seconds, 6)

    def own(self, node: PlanNode, key: str) -> float:
        """A counter that includes the children, without them."""
        below = sum(number(child.facts.get(key)) for child in node.children if child.role != "InitPlan")
        if node.kind == "CTE Scan":
            source = self.cte(node)
            below += number(source.facts.get(key)) if source else 0.0
        return max(0.0, number(node.facts.get(key)) - below)

    def cte(self, scan: PlanNode) -> PlanNode | None:
        """The plan of the CTE that a CTE Scan reads."""
        name = f"CTE {scan.facts.get('CTE Name')}"
        return next((node for node in self.nodes if node.facts.get("Subplan Name") == name), None)

    def workers(self, node: PlanNode) -> Iterator[Mapping[str, object]]:
        """The step's own entries of its parallel workers."""
        entries = node.facts.get("Workers")
        for entry in entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ():
            if isinstance(entry, Mapping):
                yield entry

    def everywhere(self, node: PlanNode, key: str) -> list[object]:
        """A field of the step and of each of its workers."""
        return [entry[key] for entry in (node.facts, *self.workers(node)) if key in entry]

    def in_subplan(self, node: PlanNode) -> PlanNode | None:
        """The outermost SubPlan, executed per row, that holds the step."""
        found = None
        for item in (node, *self.ancestors(node)):
            if item.role == "SubPlan" and "hashed" not in (item.name or ""):
                found = item
        return found

    def inner_of(self, node: PlanNode) -> PlanNode | None:
        """The nested loop that executes the step once per row of its outer side."""
        for parent, below in self.lineage(node):
            if parent.kind == "Nested Loop" and below.role == "Inner":
                return parent
            if below.role in ("SubPlan", "InitPlan"):
                return None
        return None

    def limit_above(self, node: PlanNode) -> PlanNode | None:
        """A LIMIT that can stop the step early: no step between them reads everything first."""
        for parent in self.ancestors(node):
            if parent.kind == "Limit":
                return parent
            if parent.kind in READING_ALL:
                return None
        return None

    def append_above(self, node: PlanNode) -> PlanNode:
        """The Append that collects the partition scans of which this is one; the step itself where there is none."""
        return next((item for item in self.ancestors(node) if item.kind in ("Append", "Merge Append")), node)

    def table(self, node: PlanNode) -> Table | None:
        """The catalog's facts about the table that the step reads."""
        key = (node.relation, node.schema)
        if key not in self._tables:
            found = self.catalog.table(*key) if self.catalog and node.relation else None
            self._tables[key] = found or self._partition(node)
        return self._tables[key]

    def _partition(self, node: PlanNode) -> Table | None:
        """A partition that the catalog does not list, told by its parent's name and its numbered alias."""
        name = node.relation or ""
        for parent in self.catalog.tables if self.catalog else ():
            numbered = re.fullmatch(r".+_\d+", node.alias or "") and node.alias != name
            if parent.partition_key and numbered and name.startswith(f"{parent.name}_"):
                return Table(name, parent.schema, "partition", parent=parent.name, columns=parent.columns)
        return None

    def conditions(self, node: PlanNode) -> tuple[Predicate, ...]:
        """Every condition that the step puts on its table, its own and that of the index below it."""
        if node.id not in self._conditions:
            self._conditions[node.id] = self._read_conditions(node)
        return self._conditions[node.id]

    def _read_conditions(self, node: PlanNode) -> tuple[Predicate, ...]:
        found = [item for key in CONDITIONS for item in predicates(node.facts.get(key), node.alias or node.relation)]
        if node.kind == "Bitmap Heap Scan" and "Recheck Cond" not in node.facts:
            for child in walk(node):
                found += predicates(child.facts.get("Index Cond"), node.alias or node.relation)
        return tuple(dict.fromkeys(found))

    def filters(self, node: PlanNode) -> tuple[Predicate, ...]:
        """The terms of the step's filter."""
        if node.id not in self._filters:
            self._filters[node.id] = predicates(node.facts.get("Filter"), node.alias or node.relation)
        return self._filters[node.id]

    def aliases(self, node: PlanNode) -> set[str]:
        """Aliases of everything that is read in and below the step."""
        return {name for item in walk(node) for name in (item.alias, item.relation) if name}

    def mentioned(self, node: PlanNode) -> set[str]:
        """Aliases that the conditions in and below the step mention."""
        return {
            name
            for item in walk(node)
            for key, value in item.facts.items()
            if key.endswith(("Cond", "Filter", "Key", "Call", "Keys"))
            for source in texts_of({key: value})
            for name in qualifiers(source)
        }

    def output(self, node: PlanNode) -> tuple[str, ...]:
        """Columns that the step returns; empty where the plan does not tell or they are no bare columns."""
        listed = node.facts.get("Output")
        names: list[str] = []
        for item in listed if isinstance(listed, Sequence) and not isinstance(listed, str) else ():
            parts = str(item).split(".")
            if not re.fullmatch(r"[\w$]+", parts[-1]) or len(parts) > 2:
                return ()
            names.append(parts[-1])
        return tuple(names)

    def need(
        self,
        node: PlanNode,
        extra: Sequence[Predicate] = (),
        *,
        siblings: Sequence[PlanNode] = (),
    ) -> Need | None:
        """The access path that the step lacks, with the order that a LIMIT above it wants."""
        if not node.relation:
            return None
        conditions = (*self.conditions(node), *extra)
        loops = node.loops or 1.0
        processes = self.processes(node)
        group = siblings or (node,)
        kept = sum(item.estimated_rows if item.rows is None else item.rows for item in group) * processes / loops
        removed = sum(self.removed(item) for item in group) * processes / loops
        table = self.table(node)
        root = self.catalog.root(table) if self.catalog and table else table
        known = root.rows if root and root.rows is not None else 0.0
        order, limited = self.wanted_order(node)
        return Need(
            node=node.id,
            relation=node.relation,
            schema=node.schema,
            predicates=conditions,
            order=order,
            limited=limited,
            scanned=kept + removed if self.analyzed else max(known, kept),
            kept=kept,
            output=self.output(node),
            partitions=tuple(item.relation for item in siblings if item.relation),
            index=node.index,
            table=root,
        )

    def processes(self, node: PlanNode) -> float:
        """Workers and leader that share the step, 1 outside a Gather."""
        for parent, below in self.lineage(node):
            if parent.kind in ("Gather", "Gather Merge"):
                return max(1.0, min(node.loops or 1.0, (below.loops or 1.0) / max(1.0, parent.loops or 1.0)))
        return 1.0

    def wanted_order(self, node: PlanNode) -> tuple[tuple[SortKey, ...], bool]:
        """The order in which a LIMIT above the step takes its rows, where the step alone decides it."""
        order: tuple[SortKey, ...] = ()
        if node.kind.startswith("Index"):
            order = self.index_order(node)
        for parent in self.ancestors(node):
            if parent.kind in ("Sort", "Incremental Sort"):
                keys = sort_keys(parent.facts.get("Sort Key"))
                own = {None, node.alias, node.relation}
                mine = all(key.column is None or key.column.qualifier in own for key in keys)
                order = keys if mine else ()
            elif parent.kind == "Limit":
                return order, bool(order)
            elif parent.kind not in (*PASSING, "Append", "Merge Append"):
                break
        return (), False

    def index_order(self, node: PlanNode) -> tuple[SortKey, ...]:
        """The order that the scanned index gives, where no condition narrows it."""
        table = self.table(node)
        index = table.index(node.index) if table and node.index else None
        if "Index Cond" in node.facts or node.index is None:
            return ()
        backward = node.facts.get("Scan Direction") == "Backward"
        if index is not None:
            flags = index.descending or (False,) * len(index.keys)
            pairs = zip(index.keys, flags, strict=False)
            return tuple(SortKey(key, Ref(None, key), down != backward, "") for key, down in pairs)
        column = _named_column(node.index, node.relation or "")
        return (SortKey(column, Ref(None, column), backward, ""),) if column else ()

    def finding(
        self,
        rule: Rule,
        node: PlanNode,
        title: str,
        advice: str,
        *,
        severity: Severity = "warning",
        share: float | None = None,
        need: Need | None = None,
        confidence: float = 1.0,
        **evidence: object,
    ) -> Finding:
        """Make a finding about a step; nothing in it holds a literal of the statement."""
        facts: dict[str, object] = {"node": label(node), "node_id": node.id, **evidence}
        if share is not None:
            facts["share"] = round(share, 4)
        if index := suggest(need, self.catalog) if need else None:
            facts["index"] = index.public
            if index.extension:
                facts["extension"] = index.extension
                advice = f"{advice} {index.first}"
        return Finding(
            rule=rule.slug,
            title=title,
            advice=advice,
            severity=severity,
            fingerprint=self.plan.fingerprint,
            cost=self.saving(share or 0.0),
            confidence=confidence,
            evidence={key: _round(value) for key, value in facts.items()},
        )


def shown(condition: object) -> str:
    """A condition as a finding may show it."""
    return redact_text(condition) if isinstance(condition, str) else ""


def count(value: float) -> str:
    """`12 345`, or `0.3` for a mean below ten."""
    short = round(value, 1)
    return f"{value:,.0f}".replace(",", " ") if short >= 10 or short == int(short) else f"{short:.1f}"


def percent(share: float) -> str:
    """`83 %`."""
    return f"{share * 100:.0f} %" if share < 0.995 or share >= 1 else f"{share * 100:.1f} %"


def duration(seconds: float) -> str:
    """Milliseconds or seconds for people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _round(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _named_column(index: str, relation: str) -> str | None:
    """`created_at` out of `ix_orders_created_at`, where the usual naming conventions were followed."""
    name = re.sub(r"^(ix|idx)_|_(idx|index|key)\d*$", "", index)
    name = name.removeprefix(f"{relation}_")
    return name if name != index and re.fullmatch(r"[a-z_]+", name) and not name.endswith("pkey") else None
