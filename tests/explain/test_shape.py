"""What changes a plan's shape, and what does not."""

from __future__ import annotations

from typing import Any

from querytoll.explain.plan import plan_from


def _scan(relation: str, index: Any = None, **facts: Any) -> dict[str, Any]:
    kind = "Index Scan" if index else "Seq Scan"
    names = {"Index Name": index} if index else {}
    return {"Node Type": kind, "Relation Name": relation, "Parent Relationship": "Outer", **names, **facts}


def _shape(node: dict[str, Any]) -> str:
    return plan_from({"Plan": node}).shape


def _over(kind: str, *plans: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Plans": list(plans), **facts}


def test_values_costs_and_analyze_do_not_matter() -> None:
    """The same plan, estimated and executed, with other values."""
    plain = _scan("orders", Filter="(id = 1)", **{"Total Cost": 9.0})
    ran = _scan("orders", Filter="(id = 77)", **{"Total Cost": 4.0, "Actual Rows": 3, "Actual Loops": 1})
    assert _shape(plain) == _shape(ran)


def test_the_number_of_partitions_does_not_matter() -> None:
    """Twelve months, three months, or the one month that is left."""
    months = [_scan(f"events_2024_{month:02}", f"events_2024_{month:02}_at_idx") for month in range(1, 13)]
    many = _shape(_over("Append", *months))
    assert many == _shape(_over("Append", *months[:3])) == _shape(months[5])
    named = [_scan(f"events_y2024m{month:02}", f"events_y2024m{month:02}_at_idx") for month in range(1, 13)]
    assert _shape(_over("Append", *named)) == many


def test_workers_do_not_matter() -> None:
    """Serial and parallel, with and without a partial aggregate."""
    parallel = _over("Gather", _scan("orders", **{"Parallel Aware": True}))
    assert _shape(parallel) == _shape(_scan("orders"))
    partial = _over("Aggregate", _scan("orders"), Strategy="Plain", **{"Partial Mode": "Partial"})
    final = _over("Aggregate", _over("Gather", partial), Strategy="Plain", **{"Partial Mode": "Finalize"})
    serial = _over("Aggregate", _scan("orders"), Strategy="Plain", **{"Partial Mode": "Simple"})
    assert _shape(final) == _shape(serial)


def test_a_real_flip_changes_the_shape() -> None:
    """Another index, another join, another order of tables, another direction, a new filter."""
    shapes = [
        _shape(_scan("orders")),
        _shape(_scan("orders", "ix_orders_status")),
        _shape(_scan("orders", "ix_orders_customer")),
        _shape(_scan("orders", "ix_orders_customer", Filter="(a = 1)")),
        _shape(_scan("orders", "ix_orders_customer", **{"Scan Direction": "Backward"})),
        _shape(_over("Hash Join", _scan("orders"), _scan("items"))),
        _shape(_over("Hash Join", _scan("items"), _scan("orders"))),
        _shape(_over("Nested Loop", _scan("orders"), _scan("items"))),
        _shape(_over("Hash Join", _scan("orders"), _scan("items"), **{"Join Type": "Left"})),
    ]
    assert len(set(shapes)) == len(shapes)
