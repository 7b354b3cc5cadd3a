"""A plan tree to the digest of its shape: equal over bind values, partitions, workers and ANALYZE."""

from __future__ import annotations

import hashlib
import re

from querytoll.model import PlanNode

_VARIABLE = re.compile(r"_?(?:part|default|p|y|m|q|w|d)?_?\d+|_default\b")
_TRANSPARENT = frozenset({"Gather", "Gather Merge"})
_SETS = frozenset({"Append", "Merge Append", "BitmapOr", "BitmapAnd"})


def shape_of(tree: PlanNode) -> str:
    """Digest of the tree's shape, 16 hexadecimal digits.

    Kept: kinds of steps, joins, strategies, directions, presence of filters, names of tables and indexes without
    digits and partition suffixes. Not kept: costs, rows, buffers, widths, workers, and how many partitions there are.
    """
    return hashlib.blake2b(_outline(tree).encode(), digest_size=8).hexdigest()


def _outline(node: PlanNode) -> str:
    node = _serial(node)
    below = [_outline(child) for child in node.children]
    if node.kind in _SETS:
        below = sorted(set(below))
        if len(below) == 1:
            return below[0]
    role = None if node.role in ("Member", "Outer", "Subquery") else node.role
    parts = (
        node.kind,
        node.join,
        node.strategy,
        node.facts.get("Operation"),
        _stem(node.relation or (node.name if node.kind.endswith("Scan") else None)),
        _stem(node.index),
        node.facts.get("Scan Direction"),
        "filter" if "Filter" in node.facts else None,
        "hashed" if role == "SubPlan" and "hashed" in (node.name or "") else role,
    )
    return f"{'|'.join(str(part or '') for part in parts)}({','.join(below)})"


def _serial(node: PlanNode) -> PlanNode:
    """The step that stands here in the serial form of the plan."""
    while node.children:
        if node.kind in _TRANSPARENT:
            node = _main(node)
        elif node.kind == "Aggregate" and node.facts.get("Partial Mode") == "Finalize":
            below = _main(node)
            while below.children and (below.kind in _TRANSPARENT or below.kind in ("Sort", "Append")):
                below = _main(below)
            if below.facts.get("Partial Mode") != "Partial":
                return node
            node = below
        else:
            return node
    return node


def _main(node: PlanNode) -> PlanNode:
    return next((child for child in node.children if child.role not in ("InitPlan", "SubPlan")), node.children[0])


def _stem(name: str | None) -> str:
    return _VARIABLE.sub("", name) if name else ""
