"""PromQL to complaints: unknown metrics and labels, missing matchers, counters outside rate; needs promql-parser."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from dashboards.src.grafana import Json
from dashboards.src.metrics import SERIES
from dashboards.src.structure import panels

RATE_INTERVAL = "7919s"
RANGE = "7907s"
"""Stand-ins for Grafana's variables, told apart by being primes."""
TARGET_LABELS = ("job", "instance")
_RATES = ("rate", "irate")
_OVER_TIME = (*_RATES, "increase")


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector, the calls and operators around it (outermost first), and the range that it reads."""

    series: str
    matchers: dict[str, str]
    around: tuple[str, ...]
    range: str = ""


def parse(text: str) -> promql.Expr:
    """Return the tree of a query, with Grafana's variables replaced.

    Raises:
        ValueError: it is no PromQL.
    """
    text = text.replace("$__rate_interval", RATE_INTERVAL).replace("$__range_s", RANGE.removesuffix("s"))
    return promql.parse(text.replace("$__range", RANGE))


def selections(node: promql.Expr, around: tuple[str, ...] = ()) -> Iterator[Selection]:
    """Yield every selector below a node."""
    if isinstance(node, promql.VectorSelector):
        yield _selection(node, around)
    elif isinstance(node, promql.MatrixSelector):
        yield _selection(node.vector_selector, around, f"{node.range.total_seconds():.0f}s")
    else:
        for child in _children(node):
            yield from selections(child, (*around, _name(node)))


def labels_of(node: promql.Expr) -> frozenset[str]:
    """Return the labels of a result: what an aggregation groups by, what the left side of an operator has."""
    if isinstance(node, promql.AggregateExpr) and str(node.op) not in ("topk", "bottomk"):
        return frozenset(_grouped(node)) - {"le"}
    if isinstance(node, promql.VectorSelector):
        return frozenset((*_own_labels(node.name or ""), *TARGET_LABELS))
    return next((labels for child in _children(node) if (labels := labels_of(child))), frozenset())


def board_complaints(board: Json) -> list[str]:
    """Return what is wrong with the queries of a dashboard, its annotations included."""
    found = []
    for panel in panels(board):
        for target in panel["targets"]:
            place = f"{board['title']}: {panel['title']}: {target['refId']}: "
            found += [place + complaint for complaint in target_complaints(panel, target)]
    for annotation in board["annotations"]["list"]:
        place = f"{board['title']}: annotation {annotation['name']}: "
        found += [place + complaint for complaint in _parsed(annotation["target"]["expr"], SERIES)]
    return found


def target_complaints(panel: Json, target: Json) -> list[str]:
    """Return what is wrong with a query of a panel."""
    found = list(_parsed(target["expr"], SERIES))
    if found:
        return found
    query = parse(target["expr"])
    for selection in selections(query):
        found += _matched(selection)
        found += _ranged(selection, instant=target["instant"] or panel["type"] == "stat")
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"le"}
    found += [f"the legend shows {label}, which the result does not have" for label in shown - labels_of(query)]
    if target["format"] == "table":
        found += _table(panel, query)
    return found


def rule_complaints(text: str, known: Collection[str]) -> list[str]:
    """Return what is wrong with the expression of a rule, `known` being the names of recorded series."""
    found = list(_parsed(text, {*SERIES, *known}))
    if re.search(r"\bon\s*\(|\bby\s*\(", text):
        found.append("use without (...): on and by drop the labels that the scrape adds")
    return found


def _parsed(text: str, known: Collection[str]) -> Iterator[str]:
    try:
        query = parse(text)
    except ValueError as error:
        yield f"{error}: {text}"
        return
    for selection in selections(query):
        if selection.series not in known:
            yield f"no metric is named {selection.series}"
        elif selection.series in SERIES:
            yield from _used(selection)
    for node in _nodes(query):
        yield from _quantile(node)


def _used(selection: Selection) -> Iterator[str]:
    labels = _own_labels(selection.series)
    for label in selection.matchers:
        if label not in labels and label not in TARGET_LABELS:
            yield f"{selection.series} has no label {label}"
    counter = SERIES[selection.series].kind != "gauge"
    rated = any(name in selection.around for name in _OVER_TIME)
    if counter and not rated and "unless" not in selection.around:
        yield f"{selection.series} counts up for ever: wrap it in rate() or increase()"
    if not counter and rated:
        yield f"{selection.series} is a gauge, which rate() does not fit"


def _matched(selection: Selection) -> Iterator[str]:
    for label in TARGET_LABELS:
        if selection.matchers.get(label) != f"=~${label}":
            yield f'{selection.series} is not matched by {label}=~"${label}"'


def _ranged(selection: Selection, *, instant: bool) -> Iterator[str]:
    if selection.range and any(name in selection.around for name in _RATES) and selection.range != RATE_INTERVAL:
        yield f"rate({selection.series}) must use $__rate_interval"
    if selection.range and selection.range not in (RATE_INTERVAL, RANGE):
        yield f"{selection.series} has a fixed range: use $__rate_interval or $__range"
    if selection.range == RANGE and not instant:
        yield f"{selection.series} over $__range belongs into an instant query"


def _quantile(node: promql.Expr) -> Iterator[str]:
    if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
        inner = node.args[1]
        if isinstance(inner, promql.AggregateExpr) and "le" not in _grouped(inner):
            yield "histogram_quantile needs the label le"


def _table(panel: Json, query: promql.Expr) -> list[str]:
    """The keys of a table are the labels of every one of its queries."""
    organize = panel["transformations"][1]["options"]
    keys = {name for name in organize["renameByName"] if not name.startswith("Value")}
    missing, extra = keys - labels_of(query), labels_of(query) - keys
    return [f"the table has no column for {label}" for label in extra] + [
        f"the query has no label for column {label}" for label in missing
    ]


def _selection(node: promql.VectorSelector, around: tuple[str, ...], range: str = "") -> Selection:
    matchers = {each.name: f"{_operator(each.op)}{each.value}" for each in node.matchers.matchers}
    return Selection(node.name or matchers.get("__name__", ""), matchers, around, range)


def _operator(op: Any) -> str:
    return {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}[str(op).rpartition(".")[2]]


def _name(node: promql.Expr) -> str:
    if isinstance(node, promql.Call):
        return str(node.func.name)
    return str(node.op) if isinstance(node, promql.AggregateExpr | promql.BinaryExpr) else ""


def _nodes(node: promql.Expr) -> Iterator[promql.Expr]:
    yield node
    for child in _children(node):
        yield from _nodes(child)


def _children(node: promql.Expr) -> list[promql.Expr]:
    if isinstance(node, promql.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, promql.Call):
        return list(node.args)
    inner = getattr(node, "expr", None)
    return [] if inner is None else [inner]


def _grouped(node: promql.AggregateExpr) -> list[str]:
    return list(node.modifier.labels) if node.modifier is not None else []


def _own_labels(series: str) -> tuple[str, ...]:
    labels = SERIES[series].labels
    return (*labels, "le") if series.endswith("_bucket") else labels
