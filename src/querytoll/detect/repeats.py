"""Reads that one request repeats."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from querytoll.detect.common import counts, has_beat, ignores, loop, moves_a_window, overlap, source
from querytoll.detect.growth import Growth
from querytoll.detect.index import Group, Index, reads_tables
from querytoll.detect.layout import Calls, Path, Reads, Told, places_of
from querytoll.detect.rule import REPEATED, Rule, Signs
from querytoll.model import Finding, Load, Shape, Site, Statement, new_finding

_MAX_TOLD: Final = 10
"""Texts that a layout keeps."""
_Member = tuple[int, Calls]
"""Reads, and the order of their shape in the trace."""


@dataclass(frozen=True, slots=True)
class NPlusOne(Rule):
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

    def find(self, index: Index) -> Iterable[Finding]:
        found: list[Finding] = []
        for _, places, ascending in _reads(index, self.lazy):
            group = Group(index, places, ascending)
            looped = loop(group.first)
            if self._repeats(group, looped):
                found.append(self._finding(group, looped))
        return found

    def signs(self) -> Signs:
        return {REPEATED: 1}

    def _repeats(self, group: Group, looped: Site | None) -> bool:
        index = group.index
        distinct = _most_per_claim(group) if index.layout.claims() else group.distinct()
        if group.first.load is not None:
            return distinct >= (self.lazy if looped is not None else self.repeated)
        if distinct < self.repeated:
            return False
        for count in group.of(index.bind_counts):  # costs half of max()
            if count >= self.chunk:
                return False
        if moves_a_window(group):
            return False
        return looped is not None or distinct >= self.unlooped or overlap(group)

    def _finding(self, group: Group, looped: Site | None) -> Finding:
        index, first, distinct = group.index, group.first, group.distinct()
        shape, relation, load, stack = first.shape, first.relation, first.load, first.stack
        side_by_side = looped is None and overlap(group)
        fetched = source(group)
        site = looped or (stack[-1 if side_by_side else 0] if stack else None)
        if site is None and fetched is not None:  # loaded while the response was written: the query is to be changed
            site = fetched.site
        fingerprint = shape.fingerprint
        rows = fetched.rows if fetched is not None else None
        key = (index.trace.name, fingerprint, site.function if site is not None else "")
        base = 0.95 if load is not None else 0.9 if distinct >= self.unlooped else 0.7
        confidence = self.growth.confidence(key, distinct, rows, base)
        told = _told(group, looped, side_by_side, fetched)
        return new_finding(
            rule="n-plus-one",
            title=told.title,
            advice=told.advice,
            severity="warning" if confidence >= 0.5 else "info",
            site=site,
            fingerprint=fingerprint,
            summary=shape.summary,
            count=group.size,
            cost=group.saved(),
            confidence=confidence,
            evidence={
                "statement": shape.text,
                "relation": relation,
                "load": load,
                "distinct": distinct,
                "issued_at": told.issued,
                "looped_at": told.looped,
                "source": f"{told.source[0]} ({rows} rows) at {told.source[1]}" if told.source is not None else None,
            },
        )


@dataclass(frozen=True, slots=True)
class DuplicateQuery(Rule):
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

    def find(self, index: Index) -> Iterable[Finding]:
        if index.all_differ():
            return ()
        found: list[Finding] = []
        for same in index.layout.shapes().values():
            places = places_of(same)
            if len(places) > 1 and reads_tables(same[0].shape):
                equal = self._equal(index, places)
                if equal:
                    paths = _paths(same)
                    for places in equal:
                        found += self._judge(Group(index, places), paths)
        return found

    def signs(self) -> Signs:
        return {REPEATED: 1}

    def _equal(self, index: Index, places: list[int]) -> list[list[int]]:
        """Group reads of a shape with equal values; what may have changed the answer in between starts anew.

        Reads of transactions that failed are left out: they are done again.
        """
        if not index.plain:
            places = _successful(index, places)
        if len(places) < 2:
            return []
        reads = Group(index, places)
        if reads.distinct() == reads.size:
            return []
        values = [reads.of(column) for column in (index.binds, index.sqls, index.engines)]
        if not self.across_transactions:
            values.append(reads.of(index.transactions))
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, key in zip(places, zip(*values, strict=True), strict=True):
            known = groups.get(key)
            if known is None:
                groups[key] = [place]
            else:
                known.append(place)
        equal = [group for group in groups.values() if len(group) > 1]
        if not equal or not (index.written or index.layout.resets()):
            return equal
        return [part for group in equal for part in _split(index, group)]

    def _judge(self, group: Group, paths: Mapping[int, Path]) -> Iterable[Finding]:
        """Judge reads with equal values; paths are those of all reads of the shape, where they have several."""
        if paths:
            transactions = group.of(group.index.transactions)
            together = [
                place for place, each in zip(group.places, transactions, strict=True) if each == transactions[0]
            ]
            if len({paths[place] for place in together}) > 1:
                return (_duplicate(Group(group.index, together)),)
        times = max(Counter(paths[place] for place in group.places).values()) if paths else group.size
        if times >= self.times and not has_beat(group, self.poll_seconds, 3):
            return (_duplicate(group),)
        return ()


def _reads(index: Index, least: int) -> list[Reads]:
    """Group the reads of each relation, or else shape, by call path; in order of the shapes, and then of the reads."""
    if not index.plain:
        return _grouped(index, least)
    known = index.layout.reads.get(least)
    if known is None:
        known = index.layout.reads[least] = _grouped(index, least)
    return known


def _grouped(index: Index, least: int) -> list[Reads]:
    groups: list[Reads] = []
    families: dict[str, list[_Member]] = {}
    for order, same in enumerate(index.layout.shapes().values()):
        calls = same[0]
        alone = len(same) == 1
        if (alone and len(calls.places) == 1) or not reads_tables(calls.shape):
            continue
        if alone and index.plain and not calls.relation:
            if len(calls.places) >= least:
                groups.append((order, calls.places, True))
            continue
        for calls in same:
            families.setdefault(calls.relation or calls.shape.fingerprint, []).append((order, calls))
    for family in families.values():
        for members in (family,) if len(family) == 1 else _by_path(family):
            order, places, ascending = _merged(index, members)
            if len(places) >= least:
                groups.append((order, places, ascending))
    groups.sort()
    return groups


def _by_path(family: list[_Member]) -> Iterable[list[_Member]]:
    paths: dict[Path, list[_Member]] = {}
    for member in family:
        paths.setdefault(member[1].path(), []).append(member)
    return paths.values()


def _merged(index: Index, members: list[_Member]) -> Reads:
    """Return the reads by order of their shapes."""
    first, calls = members[0]
    if len(members) == 1:
        return first, _own(index, calls), True
    places = sorted([(order, place) for order, calls in members for place in _own(index, calls)])
    if places:
        first = places[0][0]
    return first, [place for _, place in places], first == members[-1][0]


def _own(index: Index, calls: Calls) -> list[int]:
    """Return the places of reads that count as the application's own."""
    if index.plain:
        return calls.places
    statements = index.statements
    return [
        place
        for place in calls.places
        if counts(one := statements[place]) and not (one.ignored and ignores(one, "n-plus-one"))
    ]


def _successful(index: Index, places: list[int]) -> list[int]:
    """Return the reads that count as the application's own, and whose transactions did not fail."""
    failed = index.failed_transactions()
    statements = index.statements
    return [
        place
        for place in places
        if (one := statements[place]).transaction not in failed
        and counts(one)
        and not (one.ignored and ignores(one, "duplicate-query"))
    ]


def _paths(same: list[Calls]) -> dict[int, Path]:
    """Return the call path of each place, where there are several."""
    paths = [calls.path() for calls in same] if len(same) > 1 else []
    if len(set(paths)) < 2:
        return {}
    return {place: path for calls, path in zip(same, paths, strict=True) for place in calls.places}


def _split(index: Index, places: list[int]) -> list[list[int]]:
    """Split where something between two executions may have changed the answer, and leave out what is then single."""
    changes = index.changes(index.statements[places[0]].shape.tables)
    if not changes:
        return [places]
    parts: dict[tuple[int, ...], list[int]] = {}
    for place in places:
        moment = index.started[place]
        parts.setdefault(tuple([bisect_left(moments, moment) for moments in changes]), []).append(place)
    return [part for part in parts.values() if len(part) > 1]


def _most_per_claim(group: Group) -> int:
    """Return the most distinct executions between two claims of a queue's worker."""
    index = group.index
    claims = index.claims()
    between: dict[int, set[tuple[str, int]]] = {}
    for started, *values in zip(group.of(index.started), group.of(index.sqls), group.of(index.binds), strict=True):
        between.setdefault(bisect_left(claims, started), set()).add(tuple(values))
    return max(map(len, between.values()))


def _told(group: Group, looped: Site | None, side_by_side: bool, fetched: Statement | None) -> Told:
    """Return the texts about reads, remembered with the layout: to make them costs as much as ten statements do."""
    first = group.first
    shape, relation, load = first.shape, first.relation, first.load
    texts = group.index.layout.told
    # Their first place and number tell which reads of a layout they are; the stack goes with the place.
    key = group.places[0], group.size, load, side_by_side, fetched and (id(fetched.shape), id(fetched.stack))
    told = texts.get(key)
    if told is None:
        what = f"{relation} loaded" if relation else f"{shape.summary} ran"
        how = "in a loop" if looped is not None else "side by side" if side_by_side else "with other values each time"
        told = Told(
            title=f"{what} {group.size} times {how}",
            advice=_advice(shape, relation, load, fetched),
            issued=str(first.site) if first.site is not None else None,
            looped=str(looped) if looped is not None else None,
            source=(fetched.summary, str(fetched.site)) if fetched is not None else None,
            kept=(fetched.shape, fetched.stack) if fetched is not None else None,
        )
        if len(texts) < _MAX_TOLD:
            texts[key] = told
    return told


def _advice(shape: Shape, relation: str | None, load: Load | None, fetched: Statement | None) -> str:
    place = f" ({fetched.summary} at {fetched.site})" if fetched is not None and fetched.site is not None else ""
    if load == "refresh":
        relation = relation or ""
        if relation.endswith("*"):
            return (
                "A commit or expire() made each object load again: use expire_on_commit=False, or select them at once."
            )
        return f"Load it with the rows: .options(undefer({relation})) on their statement{place}."
    if relation:
        return f"Load it with its parents: .options(selectinload({relation})) on their statement{place}."
    table = shape.tables[0]
    return (
        f"Ask once for all rows{place}: collect the keys and select from {table} with IN (...), "
        f"or = ANY(...) where their number changes, or join {table} to them."
    )


def _duplicate(group: Group) -> Finding:
    statements = group.statements()
    first, second = statements[0], statements[1]
    places = _lines(statements)
    at = f"; it runs at {', '.join(places[:3])}" if places else ""
    return new_finding(
        rule="duplicate-query",
        title=f"{first.summary} ran {group.size} times with the same values and nothing written in between",
        advice=f"Read it once and pass the result on, or keep it for the request{at}.",
        site=loop(second) or second.site if len(places) == 1 else second.site,
        fingerprint=first.fingerprint,
        summary=first.summary,
        count=group.size,
        cost=group.saved(),
        evidence={"statement": first.shape.text, "places": places},
    )


def _lines(statements: Iterable[Statement]) -> list[str]:
    """Return the lines that sent statements, each once, in order."""
    sites: dict[int, Site] = {}
    for statement in statements:
        if stack := statement.stack:
            sites[id(stack[0])] = stack[0]
    return list(dict.fromkeys(map(str, sites.values())))
