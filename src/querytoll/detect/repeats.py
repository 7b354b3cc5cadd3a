"""Reads that one request repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from querytoll.detect.common import (
    Path,
    counts,
    gaps,
    ignores,
    loop,
    moves_a_window,
    overlap,
    path,
    saved,
    source,
    values,
)
from querytoll.detect.growth import Growth
from querytoll.detect.index import Index, reads_tables
from querytoll.model import Finding, Statement, Trace

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
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        claims = [index.trace.statements[place].started for place in index.claims]
        groups: dict[tuple[str | None, str, Path], Group] = {}
        for shape in index.repeated:
            if reads_tables(shape[0].shape):
                for statement in shape:
                    if counts(statement) and not (statement.ignored and ignores(statement, "n-plus-one")):
                        relation = statement.relation
                        key = (relation, "" if relation else statement.fingerprint, path(statement))
                        groups.setdefault(key, []).append(statement)
        for group in groups.values():
            if len(group) >= self.lazy and self._repeats(group, claims):
                yield self._finding(index, group)

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

    def _finding(self, index: Index, group: Group) -> Finding:
        first = group[0]
        looped = loop(first)
        side_by_side = looped is None and overlap(group)
        distinct = len(set(map(values, group)))
        fetched = source(index, group, distinct)
        site = looped or (first.stack[-1] if side_by_side and first.stack else first.site)
        if site is None and fetched is not None:  # loaded while the response was written: the query is to be changed
            site = fetched.site
        key = (index.trace.name, first.fingerprint, site.function if site is not None else "")
        confidence = self.growth.confidence(
            key, distinct, fetched.rows if fetched else None, self._base(first, distinct)
        )
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

    def _base(self, first: Statement, distinct: int) -> float:
        if first.load is not None:
            return 0.95
        return 0.9 if distinct >= self.unlooped else 0.7


@dataclass(frozen=True, slots=True)
class DuplicateQuery:
    """`duplicate-query`: the same read with the same values again, nothing written to its tables in between.

    Args:
        times: executions from one place that are too many; from different places in one transaction two are.
        poll_seconds: pauses at least this long and alike between executions from one place are polling.
        across_transactions: equal reads from one place count in different transactions too; from different places they
            never do, because another transaction sees what others committed.
    """

    times: int = 3
    poll_seconds: float = 0.01
    across_transactions: bool = True

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        for shape in index.repeated:
            if not reads_tables(shape[0].shape):
                continue
            for group in self._equal(index, shape):
                together = [statement for statement in group if statement.transaction == group[0].transaction]
                if len({path(statement) for statement in together}) > 1:
                    yield _duplicate(together)
                elif self._loops(group):
                    yield _duplicate(group)

    def _loops(self, group: Group) -> bool:
        """Tell whether one place sends it again and again, and does not just poll."""
        places = Counter(path(statement) for statement in group)
        return max(places.values()) >= self.times and not self._polls(group)

    def _equal(self, index: Index, shape: Group) -> list[Group]:
        """Group reads with equal values; a write to one of their tables or a change of the session starts anew.

        Reads of transactions that failed are left out: they are done again.
        """
        failed = {statement.transaction for statement in index.failed if statement.transaction is not None}
        groups: dict[tuple[str, tuple[str, int], int | None], Group] = {}
        for statement in shape:
            if statement.transaction in failed or not counts(statement):
                continue
            if not (statement.ignored and ignores(statement, "duplicate-query")):
                transaction = None if self.across_transactions else statement.transaction
                groups.setdefault((statement.engine, values(statement), transaction), []).append(statement)
        equal = [group for group in groups.values() if len(group) > 1]
        if not equal or not (index.writes or index.resets):
            return equal
        return [part for group in equal for part in _split(index, group) if len(part) > 1]

    def _polls(self, group: Group) -> bool:
        pauses = gaps(group)
        return min(pauses) >= self.poll_seconds and max(pauses) <= 3 * min(pauses)


def _split(index: Index, group: Group) -> list[Group]:
    """Split where something between two executions may have changed the answer."""
    statements = index.trace.statements
    tables = set(group[0].shape.tables)
    changes = [statements[place].started for place in index.resets]
    changes += [statements[place].started for place in index.writes if tables & set(statements[place].shape.writes)]
    parts: dict[int, Group] = {}
    for statement in group:
        parts.setdefault(sum(change < statement.started for change in changes), []).append(statement)
    return list(parts.values())


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
        f"Ask once for all rows{place}: collect the keys and select from {table} with IN (...), "
        f"or = ANY(...) where their number changes, or join {table} to them."
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
