"""Statements to what their metrics want of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from querytoll.capture.recorded import Recorded
from querytoll.model import Statement

_FIELDS: Final = tuple(map(Statement._fields.index, ("shape", "engine", "elapsed", "rows", "error")))


def grouped(statements: Sequence[tuple[Any, ...]]) -> tuple[list[list[Any]], list[Any]]:
    """Return statements, at least one, by shape and engine, and those that failed.

    This runs for every statement of the application. Each field is read once, by its place, which saves a seventh of
    what names cost; shapes are told apart by identity, and most statements follow one of their own kind.

    Returns:
        Of each group its shape, its engine, the seconds of each statement, and the rows of all.
    """
    if isinstance(statements, Recorded):
        return _of_columns(statements)
    of_shape, of_engine, of_elapsed, of_rows, of_error = _FIELDS
    shape, engine, rows = statements[0][of_shape], statements[0][of_engine], 0
    elapsed: list[float] = []
    group: list[Any] = [shape, engine, elapsed, 0]
    groups = [group]
    failed: list[Any] = []
    known: dict[tuple[int, str], list[Any]] | None = None
    for statement in statements:
        if statement[of_shape] is not shape or statement[of_engine] is not engine:
            if known is None:  # it is not made where nothing is looked up in it
                known = {(id(shape), engine): group}
            group[3] += rows
            shape, engine, rows = statement[of_shape], statement[of_engine], 0
            key = (id(shape), engine)
            if key in known:
                group = known[key]
            else:
                group = known[key] = [shape, engine, [], 0]
                groups.append(group)
            elapsed = group[2]
        elapsed.append(statement[of_elapsed])
        rows += statement[of_rows] or 0
        if statement[of_error] is not None:
            failed.append(statement)
    group[3] += rows
    return groups, failed


def _of_columns(recorded: Recorded) -> tuple[list[list[Any]], list[Any]]:
    """Do the same for statements that are not made yet."""
    groups: list[list[Any]] = []
    known: dict[tuple[int, str], list[Any]] = {}
    elapsed, counts, at = recorded.elapsed, recorded.counts, 0
    for call, size, _, _, _ in recorded.runs:
        shape, engine = call.shape, call.tap.name
        if size == 1:
            seconds, rows = [elapsed[at]], counts[at]
        else:
            seconds, rows = elapsed[at : at + size], sum(counts[at : at + size])
        if rows < 0 or (size > 1 and -1 in counts):
            rows = sum([count for count in counts[at : at + size] if count > 0]) if size > 1 else 0
        key = (id(shape), engine)
        if key in known:
            group = known[key]
            group[2] += seconds
            group[3] += rows
        else:
            group = known[key] = [shape, engine, seconds, rows]
            groups.append(group)
        at += size
    failed = [recorded[place] for place, odd in recorded.odd.items() if odd.error is not None] if recorded.odd else []
    return groups, failed
