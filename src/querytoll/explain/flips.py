"""The latest plan of every statement, so that another one is noticed: `plan-flip`."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final, NamedTuple

from querytoll.explain.plan import label, walk
from querytoll.explain.render import milliseconds, render
from querytoll.model import Finding, Plan, Severity, Site

_SHAPES: Final = 8
"""Shapes remembered per statement: one of them that comes back is no news."""
_SLOWER: Final = 2.0


class Seen(NamedTuple):
    """A plan and how long the statement took with it."""

    plan: Plan
    seconds: float


class Flips:
    """Remember plans by fingerprint and tell when their shape changes.

    Args:
        limit: statements that are remembered, the latest seen.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._seen: OrderedDict[str, OrderedDict[str, Seen]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, plan: Plan, seconds: float, site: Site | None, summary: str) -> Finding | None:
        """Take a plan; the finding where the statement had another one before.

        Args:
            plan: redacted, with its fingerprint.
            seconds: that the statement took.
        """
        fingerprint = plan.fingerprint or ""
        with self._lock:
            shapes = self._seen.setdefault(fingerprint, OrderedDict())
            self._seen.move_to_end(fingerprint)
            before = next(reversed(shapes.values()), None)
            known = plan.shape in shapes
            shapes[plan.shape] = Seen(plan, seconds)
            shapes.move_to_end(plan.shape)
            if len(shapes) > _SHAPES:
                shapes.popitem(last=False)
            if len(self._seen) > self._limit:
                self._seen.popitem(last=False)
        if before is None or before.plan.shape == plan.shape:
            return None
        return _finding(before, Seen(plan, seconds), known, site, summary)


def _finding(before: Seen, after: Seen, known: bool, site: Site | None, summary: str) -> Finding:
    slower = after.seconds >= _SLOWER * before.seconds
    severity: Severity = "warning" if slower and not known else "info"
    again = "again has the plan that it had" if known else "has another plan than"
    return Finding(
        rule="plan-flip",
        title=(
            f"{summary} {again} before: {milliseconds(before.seconds)} with {_outline(before.plan)}, "
            f"{milliseconds(after.seconds)} with {_outline(after.plan)}"
        ),
        advice=(
            "Look for what changed in between: an index dropped or made, ANALYZE, growth, a setting, a generic plan. "
            "Where the values alone decide, an index that serves both ends it."
        ),
        severity=severity,
        site=site,
        fingerprint=after.plan.fingerprint,
        summary=summary,
        cost=max(0.0, after.seconds - before.seconds),
        evidence={
            "seconds_before": before.seconds,
            "seconds_after": after.seconds,
            "shape_before": before.plan.shape,
            "shape_after": after.plan.shape,
            "plan_before": render(before.plan),
            "plan_after": render(after.plan),
            "known": known,
        },
        plan=after.plan,
    )


def _outline(plan: Plan) -> str:
    """How the tables are read: `Seq Scan on orders`."""
    scans = list(dict.fromkeys(label(node) for node in walk(plan.tree) if node.relation))
    shown = ", ".join(scans[:2]) or label(plan.tree)
    return f"{shown} and {len(scans) - 2} more" if len(scans) > 2 else shown
