"""Real plans with fields taken away: rules fall silent, none fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from querytoll.explain.document import analyse
from querytoll.explain.plan import plan_from
from querytoll.explain.render import ASCII, render

FILES = sorted((Path(__file__).parent / "plans").glob("*.json"))
KEPT = {"Node Type", "Plans", "Parent Relationship"}


def _without(node: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in node.items() if key in KEPT or key not in keys}
    return {**kept, **({"Plans": [_without(child, keys) for child in node["Plans"]]} if "Plans" in node else {})}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(FILES), st.data())
def test_any_field_may_be_absent(file: Path, data: st.DataObject) -> None:
    """Options off, other versions, other tools."""
    document = json.loads(file.read_text())["document"]
    keys = sorted({key for node in _nodes(document["Plan"]) for key in node})
    gone = data.draw(st.sets(st.sampled_from(keys)))
    analysis = analyse({**document, "Plan": _without(document["Plan"], gone)})
    render(analysis.plan, analysis.findings, 80, ASCII)


def test_a_plan_without_actuals_gives_no_finding_that_needs_them() -> None:
    """Plain EXPLAIN of the same plans: only what an estimate can tell."""
    measured = {"Actual Rows", "Actual Loops", "Actual Total Time", "Actual Startup Time", "Rows Removed by Filter"}
    possible = {
        "seq-scan-filter", "seq-scan-join", "cartesian-join", "limit-sort", "missing-index", "partition-pruning",
        "function-on-column", "type-cast-on-column", "leading-wildcard",
    }  # fmt: skip
    for file in FILES:
        plan = _without(json.loads(file.read_text())["document"]["Plan"], measured | _measured(file))
        assert {finding.rule for finding in analyse({"Plan": plan}).findings} <= possible, file.name


def _measured(file: Path) -> set[str]:
    words = (
        "Blocks",
        "Sort Space",
        "Sort Method",
        "Batches",
        "Usage",
        "Cache",
        "Launched",
        "Workers",
        "Removed",
        "Fetches",
        "Groups",
    )
    document = json.loads(file.read_text())["document"]
    keys = {key for node in _nodes(document["Plan"]) for key in node}
    return {key for key in keys if any(word in key for word in words) and key != "Workers Planned"}


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(item for child in node.get("Plans", ()) for item in _nodes(child))]


def test_the_analysis_of_a_large_plan_is_quick() -> None:
    """A thousand partitions, in well under a second."""
    scans = [
        {"Node Type": "Seq Scan", "Relation Name": f"e_{number}", "Alias": f"e_{number}", "Filter": f"(id = {number})",
         "Parent Relationship": "Member", "Actual Rows": 1, "Actual Loops": 1, "Actual Total Time": 1.0, "Plan Rows": 1}
        for number in range(1000)
    ]  # fmt: skip
    root = {"Node Type": "Append", "Actual Rows": 1000, "Actual Loops": 1, "Actual Total Time": 1001.0, "Plans": scans}
    assert len(analyse({"Plan": root}).plan.tree.children) == 1000
    assert plan_from({"Plan": root}).shape
