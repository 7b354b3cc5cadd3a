"""Totals of a plan: loops, workers, subplans, limits, disabled steps."""

from __future__ import annotations

from typing import Any

import pytest

from querytoll.explain.plan import PlanDocumentError, label, plan_from, walk


def node(kind: str, *plans: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A step with PostgreSQL's names for its fields."""
    named = {key.replace("_", " ").title().replace("Cte ", "CTE "): value for key, value in facts.items()}
    return {"Node Type": kind, **named, **({"Plans": list(plans)} if plans else {})}


def ran(rows: float, milliseconds: float, loops: float = 1, **facts: Any) -> dict[str, Any]:
    """The fields of a step that was executed."""
    return {"plan_rows": rows, "actual_rows": rows, "actual_total_time": milliseconds, "actual_loops": loops, **facts}


def test_rows_and_time_are_totals_over_loops() -> None:
    """The inner side of a nested loop is printed per loop."""
    inner = node("Index Scan", parent_relationship="Inner", **ran(2, 0.5, 100))
    outer = node("Seq Scan", parent_relationship="Outer", **ran(100, 10))
    plan = plan_from({"Plan": node("Nested Loop", outer, inner, **ran(200, 65)), "Execution Time": 70.0})
    step = plan.tree.children[1]
    assert (step.rows, step.estimated_rows) == (200, 200)
    assert step.seconds == pytest.approx(0.05)
    assert plan.tree.own_seconds == pytest.approx(0.005)
    assert step.share == pytest.approx(50 / 70)


def test_parallel_time_is_divided_by_the_processes() -> None:
    """Loops below a Gather are workers and leader that run at once; rows are added up."""
    scan = node("Seq Scan", parent_relationship="Outer", parallel_aware=True, **ran(10, 30, 3))
    plan = plan_from({"Plan": node("Gather", scan, workers_planned=2, workers_launched=2, **ran(30, 35))})
    assert plan.tree.children[0].rows == 30
    assert plan.tree.children[0].seconds == pytest.approx(0.03)
    assert label(plan.tree.children[0]) == "Parallel Seq Scan"


def test_a_step_that_one_worker_ran_is_not_divided() -> None:
    """A whole subplan of a Parallel Append runs in one process."""
    one = node("Seq Scan", parent_relationship="Member", **ran(10, 30, 1))
    append = node("Append", one, parent_relationship="Outer", parallel_aware=True, **ran(4, 31, 3))
    plan = plan_from({"Plan": node("Gather", append, workers_planned=2, **ran(10, 40))})
    assert plan.tree.children[0].children[0].seconds == pytest.approx(0.03)


@pytest.mark.parametrize("name", ["InitPlan 1 (returns $0)", "InitPlan 1"])
def test_an_init_plan_is_charged_to_the_step_that_reads_it(name: str) -> None:
    """Before and after PostgreSQL 17's way to print it."""
    init = node("Aggregate", parent_relationship="InitPlan", subplan_name=name, **ran(1, 40))
    condition = "(total > $0)" if "$0" in name else "(total > (InitPlan 1).col1)"
    scan = node("Seq Scan", parent_relationship="Outer", filter=condition, **ran(5, 50))
    plan = plan_from({"Plan": node("Aggregate", init, scan, **ran(1, 51)), "Execution Time": 51.0})
    assert plan.tree.own_seconds == pytest.approx(0.001)
    assert plan.tree.children[1].own_seconds == pytest.approx(0.01)


def test_a_cte_is_charged_to_its_scan() -> None:
    """Its rows are computed while the scan asks for them."""
    cte = node("Seq Scan", parent_relationship="InitPlan", subplan_name="CTE c", **ran(100, 40))
    scan = node("CTE Scan", parent_relationship="Outer", cte_name="c", alias="c", **ran(100, 45))
    plan = plan_from({"Plan": node("Aggregate", cte, scan, **ran(1, 46))})
    assert plan.tree.children[1].own_seconds == pytest.approx(0.005)
    assert label(plan.tree.children[1]) == "CTE Scan on c"


def test_a_mean_printed_as_zero_gets_its_time_back() -> None:
    """0.000 ms times 60 000 loops is not nothing."""
    inner = node("Index Scan", parent_relationship="Inner", **ran(1, 0.0, 60_000))
    outer = node("Seq Scan", parent_relationship="Outer", **ran(60_000, 5))
    plan = plan_from({"Plan": node("Nested Loop", outer, inner, **ran(60_000, 20))})
    assert plan.tree.children[1].seconds == pytest.approx(0.015)


def test_cost_below_a_limit_is_what_the_limit_pays() -> None:
    """The child's cost is printed as if nothing stopped it."""
    scan = node("Seq Scan", parent_relationship="Outer", plan_rows=1000, total_cost=500.0)
    plan = plan_from({"Plan": node("Limit", scan, plan_rows=10, total_cost=5.0)})
    assert plan.tree.children[0].cost == pytest.approx(5.0)
    assert plan.tree.children[0].share == pytest.approx(1.0)
    assert plan.source == "estimate"


def test_the_cost_of_a_disabled_step_is_taken_away() -> None:
    """PostgreSQL up to 17 adds ten thousand millions to a step that a setting forbids."""
    plan = plan_from({"Plan": node("Seq Scan", startup_cost=1e10, total_cost=1e10 + 7, plan_rows=1)})
    assert plan.tree.cost == pytest.approx(7.0)


def test_a_step_that_never_ran_has_nothing() -> None:
    """Loops of zero, as below an empty hash."""
    plan = plan_from({"Plan": node("Seq Scan", plan_rows=10, actual_rows=0, actual_loops=0, actual_total_time=0.0)})
    assert (plan.tree.rows, plan.tree.loops, plan.tree.seconds) == (0, 0, 0)


def test_without_timing_shares_are_of_the_cost() -> None:
    """TIMING OFF leaves rows and loops."""
    scan = node("Seq Scan", parent_relationship="Outer", plan_rows=1, actual_rows=1, actual_loops=1, total_cost=80.0)
    plan = plan_from({"Plan": node("Sort", scan, plan_rows=1, actual_rows=1, actual_loops=1, total_cost=100.0)})
    assert plan.tree.own_seconds is None
    assert [step.share for step in walk(plan.tree)] == pytest.approx([0.2, 0.8])
    assert plan.source == "analyze"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "no 'Plan' object"),
        ({"Plan": {"Plans": []}}, "no 'Node Type'"),
        ({"Plan": {"Node Type": "Append", "Plans": {"a": 1}}}, "'Plans' is not a list"),
        ({"Plan": {"Node Type": "Append", "Plans": [3]}}, r"Plans\[0\]"),
    ],
)
def test_a_bad_plan_is_refused_with_its_place(document: dict[str, Any], message: str) -> None:
    """What, where, what to do."""
    with pytest.raises(PlanDocumentError, match=message) as caught:
        plan_from(document)
    assert "EXPLAIN (ANALYZE" in str(caught.value)


def test_a_plan_that_is_too_deep_is_refused() -> None:
    """No recursion error from a hostile document."""
    deep = node("Append")
    for _ in range(400):
        deep = node("Append", deep)
    with pytest.raises(PlanDocumentError, match="nested deeper"):
        plan_from({"Plan": deep})
