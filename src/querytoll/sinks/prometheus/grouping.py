"""Statements to what their metrics want of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from querytoll.model import Shape, Statement


class Group:
    """Statements of one shape on one engine."""

    __slots__ = ("elapsed", "engine", "rows", "shape")

    def __init__(self, shape: Shape, engine: str) -> None:
        self.shape = shape
        self.engine = engine
        self.elapsed: list[float] = []
        self.rows = 0


def grouped(statements: Sequence[Statement]) -> tuple[Collection[Group], list[Statement]]:
    """Return the statements, at least one, by shape and engine, and those that failed.

    This runs for every statement of the application. Each field is read once, at 200 instructions; shapes are told
    apart by identity, and most statements follow one of their own kind.
    """
    groups: dict[tuple[int, str], Group] = {}
    failed: list[Statement] = []
    rows = 0
    shape, engine = statements[0].shape, statements[0].engine
    group = groups[id(shape), engine] = Group(shape, engine)
    append = group.elapsed.append
    for statement in statements:
        if statement.shape is not shape or statement.engine is not engine:
            group.rows += rows
            rows = 0
            shape, engine = statement.shape, statement.engine
            key = (id(shape), engine)
            group = groups.get(key) or groups.setdefault(key, Group(shape, engine))
            append = group.elapsed.append
        append(statement.elapsed)
        rows += statement.rows or 0
        if statement.error is not None:
            failed.append(statement)
    group.rows += rows
    return groups.values(), failed
