"""Requests that cost more than they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from querytoll.detect.index import Index
from querytoll.detect.rule import DATABASE_SECONDS, STATEMENTS, Rule, Signs
from querytoll.model import Finding, Shape, Site


@dataclass(frozen=True, slots=True)
class TooManyQueries(Rule):
    """`too-many-queries`: more statements than the budget allows.

    Args:
        budget: statements that a trace may send.
        routes: budgets of single routes (`GET /orders/{id}`), where they differ.
    """

    budget: int = 50
    routes: tuple[tuple[str, int], ...] = ()

    def find(self, index: Index) -> Iterable[Finding]:
        trace = index.trace
        count = len(trace.statements) + trace.dropped
        budget = dict(self.routes).get(trace.name, self.budget)
        if count <= budget:
            return ()
        shapes = Counter[Shape]()
        places = Counter[Site]()
        for calls in index.calls:
            shapes[calls.shape] += len(calls.places)
            if calls.stack:
                places[calls.stack[0]] += len(calls.places)
        top = shapes.most_common(3)
        found = Finding(
            rule="too-many-queries",
            title=f"{trace.name} sent {count} statements of {len(shapes)} shapes; the budget is {budget}",
            advice=f"Begin with the most frequent: {', '.join(f'{shape.summary} x{times}' for shape, times in top)}.",
            site=places.most_common(1)[0][0] if places else None,
            count=count,
            evidence={"budget": budget, "shapes": {shape.text: times for shape, times in top}},
        )
        return (found,)

    def signs(self) -> Signs:
        return {STATEMENTS: min((self.budget, *dict(self.routes).values())) + 1}


@dataclass(frozen=True, slots=True)
class TooMuchDbTime(Rule):
    """`too-much-db-time`: more time in the database than the budget allows.

    Args:
        seconds: time that a trace may spend, overlapping statements counted once.
        routes: budgets of single routes, where they differ.
    """

    seconds: float = 1.0
    routes: tuple[tuple[str, float], ...] = ()

    def find(self, index: Index) -> Iterable[Finding]:
        trace = index.trace
        budget = dict(self.routes).get(trace.name, self.seconds)
        stalled = sum(statement.stall for statement in trace.statements)
        if trace.database_seconds - stalled <= budget:
            return ()
        longest = max(trace.statements, key=lambda statement: statement.elapsed, default=None)
        where = f" ({longest.summary} took {longest.elapsed:.2f} s)" if longest is not None else ""
        found = Finding(
            rule="too-much-db-time",
            title=f"{trace.name} spent {trace.database_seconds:.2f} s in the database; the budget is {budget:g} s",
            advice=f"Begin with its longest statement{where}.",
            site=longest.site if longest is not None else None,
            count=len(trace.statements),
            cost=trace.database_seconds - budget,
            evidence={"seconds": trace.database_seconds, "budget": budget},
        )
        return (found,)

    def signs(self) -> Signs:
        return {DATABASE_SECONDS: min((self.seconds, *dict(self.routes).values()))}
