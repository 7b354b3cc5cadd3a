"""A PostgreSQL EXPLAIN (FORMAT JSON) document to a `Plan`, its totals corrected for loops and parallel workers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from querytoll.errors import QuerytollError
from querytoll.explain.shape import shape_of
from querytoll.model import Plan, PlanNode, PlanSource

MAX_DEPTH = 200
"""Levels of a plan that are read; a deeper one is refused (PostgreSQL's own limits lie far below)."""
DISABLE_COST = 1e10
"""PostgreSQL up to 17 adds it to a step that an `enable_*` setting forbids."""
ROUNDING_SECONDS = 0.000_000_5
"""Half of the last digit of a printed time, which is a mean per execution."""
MANY_LOOPS = 1_000
"""Executions from which that digit matters."""
_GATHER = frozenset({"Gather", "Gather Merge"})
_RETURNS = re.compile(r"\$\d+")
_CHILD_KEYS = frozenset({"Plans"})


class PlanDocumentError(QuerytollError, ValueError):
    """The document is no EXPLAIN (FORMAT JSON) output; says what is wrong, where, and how to make a good one."""


def number(value: object, default: float = 0.0) -> float:
    """Read a number that some tools write as a string."""
    if isinstance(value, bool):
        return default
    if isinstance(value, int | float):
        return _finite(value, default)
    if isinstance(value, str):
        try:
            return _finite(float(value), default)
        except ValueError:
            return default
    return default


def _finite(value: float, default: float) -> float:
    try:
        return float(value) if math.isfinite(value) else default
    except OverflowError:
        return default


def text(value: object) -> str | None:
    """The value, if it is a string with something in it."""
    return value if isinstance(value, str) and value else None


def walk(node: PlanNode) -> Iterator[PlanNode]:
    """Every step of the tree in preorder, the root first."""
    yield node
    for child in node.children:
        yield from walk(child)


def texts_of(facts: Mapping[str, object]) -> Iterator[str]:
    """Every string among a step's fields, lists included: its expressions and its names."""
    for value in facts.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Sequence):
            yield from (item for item in value if isinstance(item, str))


def label(node: PlanNode) -> str:
    """`Index Scan using ix_orders on orders o`, as psql would name the step."""
    parts = [_kind(node)]
    if node.index:
        parts.append(f"using {node.index}" if node.relation else f"on {node.index}")
    target = node.relation or (node.name if node.kind in ("CTE Scan", "Function Scan") else None)
    if target:
        parts.append(f"on {target}")
    if node.alias and node.alias != target:
        parts.append(node.alias)
    return " ".join(parts)


def _kind(node: PlanNode) -> str:
    kind = node.kind
    if kind == "Aggregate":
        prefix = {"Hashed": "Hash", "Sorted": "Group", "Mixed": "Mixed"}.get(node.strategy or "", "")
        mode = text(node.facts.get("Partial Mode"))
        kind = f"{mode + ' ' if mode in ('Partial', 'Finalize') else ''}{prefix}Aggregate"
    if provider := text(node.facts.get("Custom Plan Provider")):
        kind = f"{kind} ({provider})"
    if kind == "ModifyTable":
        kind = text(node.facts.get("Operation")) or kind
    if node.join and node.join != "Inner" and kind.endswith(("Join", "Loop")):
        kind = f"{kind.removesuffix(' Join')} {node.join} Join"
    return f"Parallel {kind}" if node.facts.get("Parallel Aware") is True else kind


def plan_from(
    document: Mapping[str, object],
    *,
    source: PlanSource | None = None,
    fingerprint: str | None = None,
    captured: datetime | None = None,
) -> Plan:
    """Build the tree of one document, the object that holds `Plan`.

    Raises:
        PlanDocumentError: the document has no `Plan`, or a step of it has no `Node Type`.
    """
    root = document.get("Plan")
    if not isinstance(root, Mapping):
        raise PlanDocumentError(_complaint("the document has no 'Plan' object", "$"))
    draft = _read(root, "$.Plan", processes=1.0, workers=0.0)
    everything = list(draft.walk())
    for position, item in enumerate(everything):
        item.id = position
    _settle_costs(draft, draft.raw_cost)
    _settle_times(everything)
    execution = _milliseconds(document.get("Execution Time"))
    total = max(execution or 0.0, draft.seconds or 0.0)
    timed = draft.seconds is not None
    tree = draft.freeze(total if timed else draft.cost, timed)
    analyzed = draft.loops is not None
    return Plan(
        tree=tree,
        shape=shape_of(tree),
        source=source or ("analyze" if analyzed else "estimate"),
        fingerprint=fingerprint,
        elapsed=(execution if execution is not None else draft.seconds) if analyzed else None,
        planning=_milliseconds(document.get("Planning Time")),
        captured=captured,
        settings=_settings(document.get("Settings")),
        facts={key: value for key, value in document.items() if key not in ("Plan", "Settings")},
    )


def _complaint(what: str, where: str) -> str:
    return f"{what} (at {where}); make the document with: EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) <statement>"


def _milliseconds(value: object) -> float | None:
    return None if value is None else number(value) / 1000


def _settings(value: object) -> dict[str, str]:
    return {str(name): str(setting) for name, setting in value.items()} if isinstance(value, Mapping) else {}


@dataclass(slots=True, eq=False)
class _Draft:
    raw: Mapping[str, object]
    children: list[_Draft] = field(default_factory=list)
    id: int = 0
    loops: float | None = None
    divisor: float = 1.0
    seconds: float | None = None
    own_seconds: float = 0.0
    cost: float = 0.0
    own_cost: float = 0.0

    @property
    def role(self) -> str | None:
        return text(self.raw.get("Parent Relationship"))

    @property
    def name(self) -> str | None:
        return text(self.raw.get("Subplan Name"))

    @property
    def detached(self) -> bool:
        """An InitPlan or CTE: its time lies in the step that reads its result, not in its parent."""
        return self.role == "InitPlan"

    @property
    def raw_cost(self) -> float:
        cost = number(self.raw.get("Total Cost"))
        return cost % DISABLE_COST if number(self.raw.get("Startup Cost")) >= DISABLE_COST else cost

    @property
    def estimate(self) -> float:
        return number(self.raw.get("Plan Rows"))

    def walk(self) -> Iterator[_Draft]:
        yield self
        for child in self.children:
            yield from child.walk()

    def freeze(self, total: float, timed: bool) -> PlanNode:
        raw = self.raw
        own = self.own_seconds if timed else self.own_cost
        many = self.divisor if self.loops is None else self.loops
        rows = None if self.loops is None else round(number(raw.get("Actual Rows")) * self.loops, 2)
        return PlanNode(
            id=self.id,
            kind=str(raw["Node Type"]),
            relation=text(raw.get("Relation Name")),
            schema=text(raw.get("Schema")),
            alias=text(raw.get("Alias")),
            index=text(raw.get("Index Name")),
            join=text(raw.get("Join Type")),
            strategy=text(raw.get("Strategy")),
            role=self.role,
            name=self.name or text(raw.get("CTE Name")) or text(raw.get("Function Name")),
            estimated_rows=self.estimate * many,
            rows=rows,
            loops=self.loops,
            cost=self.cost,
            own_cost=self.own_cost,
            seconds=self.seconds,
            own_seconds=self.own_seconds if self.seconds is not None else None,
            share=min(1.0, own / total) if total > 0 else 0.0,
            facts={key: value for key, value in raw.items() if key not in _CHILD_KEYS},
            children=tuple(child.freeze(total, timed) for child in self.children),
        )


def _read(raw: Mapping[str, object], where: str, *, processes: float, workers: float, depth: int = 0) -> _Draft:
    if depth > MAX_DEPTH:
        raise PlanDocumentError(_complaint(f"the plan is nested deeper than {MAX_DEPTH} levels", "$.Plan"))
    if not text(raw.get("Node Type")):
        raise PlanDocumentError(_complaint("a plan node has no 'Node Type'", where))
    draft = _Draft(raw)
    if raw.get("Parallel Aware") is True and workers:
        draft.divisor = workers + max(0.0, 1.0 - 0.3 * workers)
    if "Actual Loops" in raw or "Actual Rows" in raw:
        draft.loops = number(raw.get("Actual Loops"), 1.0)
        if "Actual Total Time" in raw or draft.loops == 0:
            share = min(processes, draft.loops) or 1.0
            draft.seconds = number(raw.get("Actual Total Time")) * draft.loops / share / 1000
    plans = raw.get("Plans", ())
    if not isinstance(plans, Sequence) or isinstance(plans, str):
        raise PlanDocumentError(_complaint("'Plans' is not a list", where))
    for position, child in enumerate(plans):
        place = f"{where}.Plans[{position}]"
        if not isinstance(child, Mapping):
            raise PlanDocumentError(_complaint("a plan node is not an object", place))
        below, planned = processes, workers
        if raw["Node Type"] in _GATHER:
            below = max(1.0, number(child.get("Actual Loops"), 1.0) / max(1.0, draft.loops or 1.0))
            planned = number(raw.get("Workers Planned"))
        draft.children.append(_read(child, place, processes=below, workers=planned, depth=depth + 1))
    return draft


def _settle_costs(draft: _Draft, cost: float) -> None:
    """Split a step's cost among itself and its children.

    The cost of the inner side of a nested loop and of a SubPlan is printed per execution, that below a LIMIT as if
    nothing stopped it: both are brought to what is part of the parent's own total.
    """
    draft.cost = cost
    wanted = [child.raw_cost * _executions(draft, child) for child in draft.children]
    fits = min(1.0, cost / total) if (total := sum(wanted)) > 0 else 1.0
    for child, asked in zip(draft.children, wanted, strict=True):
        _settle_costs(child, asked * fits)
    draft.own_cost = max(0.0, cost - sum(child.cost for child in draft.children))


def _executions(parent: _Draft, child: _Draft) -> float:
    if child.role == "SubPlan":
        return 1.0 if "hashed" in (child.name or "") else max(1.0, parent.estimate)
    if parent.raw["Node Type"] == "Nested Loop" and child.role == "Inner" and child.raw["Node Type"] != "Materialize":
        return max(1.0, parent.children[0].estimate)
    return 1.0


def _settle_times(drafts: Sequence[_Draft]) -> None:
    for draft in drafts:
        _restore_rounded(draft)
    for draft in drafts:
        below = sum(child.seconds or 0.0 for child in draft.children if not child.detached)
        draft.own_seconds = max(0.0, (draft.seconds or 0.0) - below)
    for parent in drafts:
        for child in parent.children:
            if child.detached and child.seconds:
                _charge(child, _readers(child, drafts) or [parent])


def _restore_rounded(parent: _Draft) -> None:
    """Give time back to a step that ran so often and so briefly that its mean was printed as 0.000 ms."""
    for child in parent.children:
        repeated = child.role == "SubPlan" or (child.role == "Inner" and parent.raw["Node Type"] == "Nested Loop")
        if repeated and child.seconds == 0 and (child.loops or 0) >= MANY_LOOPS and parent.seconds:
            others = sum(other.seconds or 0.0 for other in parent.children if not other.detached)
            child.seconds = max(0.0, min(parent.seconds - others, ROUNDING_SECONDS * (child.loops or 0)))


def _charge(plan: _Draft, readers: Sequence[_Draft]) -> None:
    left = plan.seconds or 0.0
    for reader in readers:
        part = min(left, reader.own_seconds)
        reader.own_seconds -= part
        left -= part


def _readers(plan: _Draft, drafts: Sequence[_Draft]) -> list[_Draft]:
    """The steps that read the result of an InitPlan or CTE, deepest first."""
    name = plan.name or ""
    if name.startswith("CTE "):
        return [draft for draft in drafts if draft.raw.get("CTE Name") == name[4:]]
    head, _, returns = name.partition(" (returns ")
    marks = [re.escape(mark) for mark in (_RETURNS.findall(returns) or ([head] if head else []))]
    if not marks:
        return []
    pattern = re.compile(rf"(?:{'|'.join(marks)})(?!\d)")
    inside = {id(draft) for draft in plan.walk()}
    found = [
        draft
        for draft in drafts
        if id(draft) not in inside
        and any(pattern.search(item) for item in texts_of({k: v for k, v in draft.raw.items() if k != "Subplan Name"}))
    ]
    return found[::-1]
