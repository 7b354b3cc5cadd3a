"""Requests that cost more than they may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import Final, Generic, TypeVar

from querytoll.detect.index import Index
from querytoll.detect.rule import DATABASE_SECONDS, STATEMENTS, Rule, Signs
from querytoll.model import Finding, Shape, Site, new_finding

_T = TypeVar("_T")
_times: Final = itemgetter(1)


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
        shapes, top, site = _most(index)
        found = new_finding(
            rule="too-many-queries",
            title=f"{trace.name} sent {count} statements of {shapes} shapes; the budget is {budget}",
            advice=f"Begin with the most frequent: {', '.join(f'{shape.summary} x{times}' for shape, times in top)}.",
            site=site,
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
        found = new_finding(
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


def _most(index: Index) -> tuple[int, list[tuple[Shape, int]], Site | None]:
    """Return how many shapes there are, the three most frequent with their numbers, and the most frequent line."""
    shapes = _Tally[Shape]()
    sites = _Tally[Site]()
    for calls in index.layout.calls():
        shapes.add(calls.shape, len(calls.places))
        if calls.stack:
            sites.add(calls.stack[0], len(calls.places))
    kinds = shapes.pairs(distinct=len(index.layout.shapes()))
    lines = sites.pairs()
    site = max(lines, key=_times)[0] if lines else None
    return len(kinds), nlargest(3, kinds, key=_times), site


class _Tally(Generic[_T]):
    """Counts objects by identity first: to hash one that is frozen costs as much as to hash a hundred integers."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[_T, list[int]]] = {}

    def add(self, one: _T, times: int) -> None:
        known = self._seen.get(id(one))
        if known is None:
            self._seen[id(one)] = one, [times]
        else:
            known[1].append(times)

    def pairs(self, distinct: int = 0) -> list[tuple[_T, int]]:
        """Return the objects with their numbers, in order of the first; equal ones as one.

        Args:
            distinct: how many are known to be different.
        """
        pairs = [(one, sum(times)) for one, times in self._seen.values()]
        if len(pairs) == distinct:
            return pairs
        equal: dict[_T, int] = {}
        for one, times in pairs:
            equal[one] = equal.get(one, 0) + times
        return list(equal.items())
