"""Writes that one request sends row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from querytoll.detect.common import has_beat, ignores, loop, overlap
from querytoll.detect.index import Group, Index
from querytoll.detect.layout import Calls, Path
from querytoll.detect.rule import WRITTEN, Rule, Signs
from querytoll.model import Finding, new_finding

_BEAT_SECONDS: Final = 0.04
_VERBS: Final = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE"))


@dataclass(frozen=True, slots=True)
class WriteLoop(Rule):
    """`write-loop`: single-row writes to one table, in a loop, that one statement could do.

    A flush that sends one statement per row is no loop: the loop must be in the application's code.

    Args:
        times: writes that are too many.
    """

    times: int = 3

    def find(self, index: Index) -> Iterable[Finding]:
        found: list[Finding] = []
        committed = _committed_alone(index)
        for group in _single_rows(index, "write-loop"):
            alone = sum(place in committed for place in group.places) if committed else 0
            if group.size >= self.times and alone < self.times:
                title = f"{group.first.summary} ran {group.size} times {_how(group)}"
                found.append(_finding("write-loop", group, title, _batch(group)))
        return found

    def signs(self) -> Signs:
        return {WRITTEN: self.times}


@dataclass(frozen=True, slots=True)
class CommitLoop(Rule):
    """`commit-loop`: transactions that hold one single-row write each, from one place.

    Args:
        times: commits that are too many.
    """

    times: int = 3

    def find(self, index: Index) -> Iterable[Finding]:
        found: list[Finding] = []
        committed = _committed_alone(index)
        if len(committed) < self.times:
            return found
        for candidates in _single_rows(index, "commit-loop"):
            places = [place for place in candidates.places if place in committed]
            if len(places) >= self.times:
                group = Group(index, places)
                title = f"{group.first.summary} was committed row by row, {group.size} times {_how(group)}"
                advice = f"Commit once for all rows, or per chunk of some hundred. {_batch(group)}"
                found.append(_finding("commit-loop", group, title, advice))
        return found

    def signs(self) -> Signs:
        return {WRITTEN: self.times}


def _single_rows(index: Index, rule: str) -> list[Group]:
    """Group single-row writes by verb, table and call path; a worker's own bookkeeping of claimed rows is by design."""
    claimed = {
        table for calls in index.layout.calls() if "SKIP LOCKED" in calls.shape.text for table in calls.shape.tables
    }
    parts: dict[tuple[str, str, Path], list[list[int]]] = {}
    for calls in index.layout.calls():
        shape = calls.shape
        if shape.writes and shape.operation in _VERBS and claimed.isdisjoint(shape.writes):
            places = _single(index, calls, rule)
            if places:
                parts.setdefault((shape.operation, shape.writes[0], calls.path()), []).append(places)
    groups = [Group(index, places[0] if len(places) == 1 else sorted(chain(*places))) for places in parts.values()]
    groups.sort(key=lambda group: group.places[0])
    batches = _batches(index) if groups and any(index.many) else {}
    return [group for group in groups if _is_loop(group, batches)]


def _single(index: Index, calls: Calls, rule: str) -> list[int]:
    """Return the places of writes of one row that succeeded."""
    rows = index.rows
    wanted = (None, 1, 0) if calls.shape.operation == "INSERT" else (None, 1)
    places = [place for place in calls.places if rows[place] in wanted]
    if index.plain:
        return places
    statements, many, errors = index.statements, index.many, index.errors
    return [
        place for place in places if errors[place] is None and not many[place] and not ignores(statements[place], rule)
    ]


def _is_loop(group: Group, batches: Mapping[str, int]) -> bool:
    """Tell whether writes are a loop over rows: no heartbeat, and no bookkeeping beside a batch sent each time."""
    site = loop(group.first)
    if site is None and not overlap(group):
        return False
    return not (site is not None and batches.get(site.function, 0) >= group.size) and not has_beat(
        group, _BEAT_SECONDS, 2
    )


def _batches(index: Index) -> Mapping[str, int]:
    """Count batches by the function that loops around them."""
    sites = [loop(statement) for statement, many in zip(index.statements, index.many, strict=True) if many]
    return Counter(site.function for site in sites if site is not None)


def _committed_alone(index: Index) -> set[int]:
    """Return the places of writes that were the only one of a committed transaction."""
    writes: dict[int, int] = {}
    for calls in index.layout.calls():
        if calls.shape.writes:
            for place in calls.places:
                ordinal = index.transactions[place]
                if ordinal is not None:
                    writes[ordinal] = -1 if ordinal in writes else place
    transactions = index.trace.transactions
    return {place for ordinal, place in writes.items() if place >= 0 and transactions[ordinal].outcome == "committed"}


def _how(group: Group) -> str:
    return "in a loop" if loop(group.first) is not None else "side by side"


def _batch(group: Group) -> str:
    statement = group.first
    table = statement.shape.writes[0]
    if statement.operation == "INSERT":
        return (
            f"Insert all rows at once: session.add_all([...]) and one flush, or execute(insert({table}), [rows]); "
            "ON CONFLICT takes many rows too."
        )
    if statement.operation == "DELETE":
        return (
            f"Delete them with one statement: delete({table}).where(key.in_(keys)), or = ANY(...) where their number "
            "changes."
        )
    return (
        f"Update all rows at once: execute(update({table}), [rows]) by primary key, one UPDATE ... FROM (VALUES ...), "
        "or one UPDATE with WHERE key IN (...); where their number changes, FROM unnest(...) and = ANY(...)."
    )


def _finding(rule: str, group: Group, title: str, advice: str) -> Finding:
    first = group.first
    looped = loop(first)
    return new_finding(
        rule=rule,
        title=title,
        advice=advice,
        site=looped or first.site,
        fingerprint=first.fingerprint,
        summary=first.summary,
        count=group.size,
        cost=group.saved(),
        evidence={
            "statement": first.shape.text,
            "issued_at": str(first.site) if first.site else None,
            "looped_at": str(looped) if looped else None,
        },
    )
