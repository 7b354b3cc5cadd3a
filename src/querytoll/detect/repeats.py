"""Reads that one request repeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from querytoll.detect.common import (
    changes_session,
    gaps,
    ignores,
    is_read,
    loop,
    moves_a_window,
    overlap,
    path,
    saved,
    source,
    values,
)
from querytoll.detect.growth import Growth
from querytoll.model import Finding, Site, Statement, Trace

Group = list[Statement]


@dataclass(frozen=True, slots=True)
class NPlusOne:
    """`n-plus-one`: the same read once per row of another, from one place, with other values each time.

    Thresholds count distinct sets of bind values; tools of the field use from 2 to 5.

    Args:
        lazy: relationship or column loads on attribute access, in a loop.
        repeated: other reads in a loop or side by side, and lazy loads without evidence of a loop.
        unlooped: other reads without evidence of a loop.
        chunk: bind values from which on a read is a chunk of many keys, not one row's.
        growth: what the process remembers of the routes.
    """

    lazy: int = 2
    repeated: int = 3
    unlooped: int = 5
    chunk: int = 20
    growth: Growth = field(default_factory=Growth, compare=False)

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        groups: dict[tuple[str, tuple[Site, ...]], Group] = {}
        claims: list[float] = []
        for statement in trace.statements:
            if is_read(statement):
                if not ignores(statement, "n-plus-one"):
                    groups.setdefault((statement.relation or statement.fingerprint, path(statement)), []).append(
                        statement
                    )
            elif "SKIP LOCKED" in statement.shape.text:
                claims.append(statement.started)
        for group in groups.values():
            if len(group) >= self.lazy and self._repeats(group, claims):
                yield self._finding(trace, group)

    def _repeats(self, group: Group, claims: list[float]) -> bool:
        first = group[0]
        distinct = len(set(map(values, group)))
        if claims:
            distinct = _most_per_claim(group, claims)
        looped = loop(first) is not None
        if first.load is not None:
            return distinct >= (self.lazy if looped else self.repeated)
        if distinct < self.repeated or max(statement.bind_count for statement in group) >= self.chunk:
            return False
        if moves_a_window(group):
            return False
        return looped or distinct >= self.unlooped or overlap(group)

    def _finding(self, trace: Trace, group: Group) -> Finding:
        first = group[0]
        looped = loop(first)
        side_by_side = looped is None and overlap(group)
        fetched = source(trace, group)
        distinct = len(set(map(values, group)))
        site = looped or (first.stack[-1] if side_by_side else first.site)
        key = (trace.name, first.fingerprint, site.function if site is not None else "")
        confidence = self.growth.confidence(key, distinct, fetched.rows if fetched else None, self._base(group))
        what = f"{first.relation} loaded" if first.relation else f"{first.summary} ran"
        how = "in a loop" if looped is not None else "side by side" if side_by_side else "with other values each time"
        return Finding(
            rule="n-plus-one",
            title=f"{what} {len(group)} times {how}",
            advice=_advice(first, fetched),
            severity="warning" if confidence >= 0.5 else "info",
            site=site,
            fingerprint=first.fingerprint,
            summary=first.summary,
            count=len(group),
            cost=saved(group),
            confidence=confidence,
            evidence={
                "statement": first.shape.text,
                "relation": first.relation,
                "load": first.load,
                "distinct": distinct,
                "issued_at": str(first.site) if first.site else None,
                "looped_at": str(looped) if looped else None,
                "source": f"{fetched.summary} ({fetched.rows} rows) at {fetched.site}" if fetched else None,
            },
        )

    def _base(self, group: Group) -> float:
        if group[0].load is not None:
            return 0.95
        return 0.9 if len(set(map(values, group))) >= self.unlooped else 0.7


@dataclass(frozen=True, slots=True)
class DuplicateQuery:
    """`duplicate-query`: the same read with the same values again, nothing written to its tables in between.

    Args:
        times: executions from one place that are too many; from different places two are.
        poll_seconds: pauses at least this long and alike between executions from one place are polling.
        across_transactions: equal reads in different transactions count too.
    """

    times: int = 3
    poll_seconds: float = 0.01
    across_transactions: bool = True

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        for group in self._unchanged(trace.statements):
            places = {path(statement) for statement in group}
            if len(places) > 1 or (len(group) >= self.times and not self._polls(group)):
                yield _duplicate(group)

    def _unchanged(self, statements: Iterable[Statement]) -> list[Group]:
        """Group equal reads; a write to one of their tables or a change of the session starts anew."""
        groups: list[Group] = []
        latest: dict[tuple[tuple[str, int], int | None], Group] = {}
        for statement in statements:
            if statement.shape.writes:
                written = set(statement.shape.writes)
                latest = {key: group for key, group in latest.items() if not written & set(group[0].shape.tables)}
            elif changes_session(statement):
                latest = {}
            elif is_read(statement) and not ignores(statement, "duplicate-query"):
                transaction = None if self.across_transactions else statement.transaction
                key = (values(statement), transaction)
                if key not in latest:
                    latest[key] = []
                    groups.append(latest[key])
                latest[key].append(statement)
        return [group for group in groups if len(group) > 1]

    def _polls(self, group: Group) -> bool:
        pauses = gaps(group)
        return min(pauses) >= self.poll_seconds and max(pauses) <= 3 * min(pauses)


def _most_per_claim(group: Group, claims: list[float]) -> int:
    """Return the most distinct executions between two claims of a queue's worker."""
    between: dict[int, set[tuple[str, int]]] = {}
    for statement in group:
        between.setdefault(sum(claim < statement.started for claim in claims), set()).add(values(statement))
    return max(map(len, between.values()))


def _advice(statement: Statement, fetched: Statement | None) -> str:
    place = f" ({fetched.summary} at {fetched.site})" if fetched is not None and fetched.site is not None else ""
    if statement.load == "refresh":
        relation = statement.relation or ""
        if relation.endswith("*"):
            return (
                "A commit or expire() made each object load again: use expire_on_commit=False, or select them at once."
            )
        return f"Load it with the rows: .options(undefer({relation})) on their statement{place}."
    if statement.relation:
        return f"Load it with its parents: .options(selectinload({statement.relation})) on their statement{place}."
    table = statement.shape.tables[0]
    return (
        f"Ask once for all rows{place}: collect the keys and select from {table} with IN (...) or = ANY(...), "
        f"or join {table} to them."
    )


def _duplicate(group: Group) -> Finding:
    first, second = group[0], group[1]
    places = list(dict.fromkeys(str(statement.site) for statement in group if statement.site is not None))
    at = f"; it runs at {', '.join(places[:3])}" if places else ""
    return Finding(
        rule="duplicate-query",
        title=f"{first.summary} ran {len(group)} times with the same values and nothing written in between",
        advice=f"Read it once and pass the result on, or keep it for the request{at}.",
        site=loop(second) or second.site if len(places) == 1 else second.site,
        fingerprint=first.fingerprint,
        summary=first.summary,
        count=len(group),
        cost=saved(group),
        evidence={"statement": first.shape.text, "places": places},
    )
