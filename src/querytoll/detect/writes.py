"""Writes that one request sends row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from querytoll.detect.common import Path, gaps, ignores, loop, overlap, path, saved
from querytoll.detect.index import Index
from querytoll.model import Finding, Statement, Trace

_BEAT_SECONDS: Final = 0.04
Group = list[Statement]
Groups = dict[tuple[str, Path], Group]


@dataclass(frozen=True, slots=True)
class WriteLoop:
    """`write-loop`: single-row writes to one table, in a loop, that one statement could do.

    A flush that sends one statement per row is no loop: the loop must be in the application's code.

    Args:
        times: writes that are too many.
    """

    times: int = 3

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        if len(index.writes) < self.times:
            return
        trace = index.trace
        committed = _committed_alone(trace)
        for group in _single_rows(trace, "write-loop").values():
            alone = sum(id(statement) in committed for statement in group)
            if len(group) >= self.times and alone < self.times:
                yield _finding(
                    "write-loop", group, f"{group[0].summary} ran {len(group)} times {_how(group)}", _batch(group)
                )


@dataclass(frozen=True, slots=True)
class CommitLoop:
    """`commit-loop`: transactions that hold one single-row write each, from one place.

    Args:
        times: commits that are too many.
    """

    times: int = 3

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        if len(index.writes) < self.times:
            return
        trace = index.trace
        committed = _committed_alone(trace)
        for candidates in _single_rows(trace, "commit-loop").values():
            group = [statement for statement in candidates if id(statement) in committed]
            if len(group) >= self.times:
                title = f"{group[0].summary} was committed row by row, {len(group)} times {_how(group)}"
                advice = f"Commit once for all rows, or per chunk of some hundred. {_batch(group)}"
                yield _finding("commit-loop", group, title, advice)


def _single_rows(trace: Trace, rule: str) -> Groups:
    """Group single-row writes by verb, table and call path; a worker's own bookkeeping of claimed rows is by design."""
    claimed = {table for statement in trace.statements if _claims(statement) for table in statement.shape.tables}
    groups: Groups = {}
    for statement in trace.statements:
        if not _is_single_row(statement) or claimed & set(statement.shape.writes) or ignores(statement, rule):
            continue
        groups.setdefault((f"{statement.operation} {statement.shape.writes[0]}", path(statement)), []).append(statement)
    return {
        key: group
        for key, group in groups.items()
        if (loop(group[0]) is not None or overlap(group)) and not _once_per_chunk(trace, group) and not _beats(group)
    }


def _once_per_chunk(trace: Trace, group: Group) -> bool:
    """Tell whether the loop sends a batch each time, beside which this is bookkeeping."""
    site = loop(group[0])
    if site is None:
        return False
    batches = [loop(statement) for statement in trace.statements if statement.many]
    return sum(at is not None and at.function == site.function for at in batches) >= len(group)


def _beats(group: Group) -> bool:
    """Tell whether the writes come at regular, long intervals: a heartbeat, not a loop over rows."""
    pauses = gaps(group)
    return bool(pauses) and min(pauses) >= _BEAT_SECONDS and max(pauses) <= 2 * min(pauses)


def _is_single_row(statement: Statement) -> bool:
    return (
        bool(statement.shape.writes)
        and statement.operation in ("INSERT", "UPDATE", "DELETE", "MERGE")
        and not statement.many
        and statement.error is None
        and (statement.rows is None or statement.rows == 1 or (statement.rows == 0 and statement.operation == "INSERT"))
    )


def _claims(statement: Statement) -> bool:
    return "SKIP LOCKED" in statement.shape.text


def _committed_alone(trace: Trace) -> set[int]:
    """Return the ids of writes that were the only one of a committed transaction."""
    writes: dict[int | None, Group] = {}
    for statement in trace.statements:
        if statement.shape.writes:
            writes.setdefault(statement.transaction, []).append(statement)
    return {
        id(group[0])
        for ordinal, group in writes.items()
        if ordinal is not None and len(group) == 1 and trace.transactions[ordinal].outcome == "committed"
    }


def _how(group: Group) -> str:
    return "in a loop" if loop(group[0]) is not None else "side by side"


def _batch(group: Group) -> str:
    statement = group[0]
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
    first = group[0]
    looped = loop(first)
    return Finding(
        rule=rule,
        title=title,
        advice=advice,
        site=looped or first.site,
        fingerprint=first.fingerprint,
        summary=first.summary,
        count=len(group),
        cost=saved(group),
        evidence={
            "statement": first.shape.text,
            "issued_at": str(first.site) if first.site else None,
            "looped_at": str(looped) if looped else None,
        },
    )
