"""Two traces of one action, with few rows and with many, to the shapes whose number of statements grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from querytoll.model import Site, Statement, Trace

CHUNK: Final = 20
"""Bind values from which on a statement is for a chunk of many rows: as many of them as there are chunks is right."""


@dataclass(frozen=True, slots=True)
class Growing:
    """A shape of which the larger run sent more.

    Args:
        few: the statements of the smaller run.
        many: those of the larger run.
    """

    few: tuple[Statement, ...]
    many: tuple[Statement, ...]

    @property
    def fingerprint(self) -> str:
        """The shape's id."""
        return self.many[0].fingerprint

    @property
    def at(self) -> Statement:
        """A statement from the line whose number has grown most."""
        counts = _by_site(self.many)
        before = {site: len(group) for site, group in _by_site(self.few).items()}
        site = max(counts, key=lambda site: len(counts[site]) - before.get(site, 0))
        return counts[site][0]


def growing(few: Trace, many: Trace) -> list[Growing]:
    """Return the shapes that grow, the fastest first.

    Batches are none: eager loads in chunks, executemany, and statements for 20 bind values or more.
    """
    before, after = _by_shape(few.statements), _by_shape(many.statements)
    found = [
        Growing(tuple(before.get(key, ())), tuple(group))
        for key, group in after.items()
        if len(group) > len(before.get(key, ())) and not all(map(_is_batch, group))
    ]
    return sorted(found, key=lambda growing: len(growing.few) - len(growing.many))


def _is_batch(statement: Statement) -> bool:
    return statement.many or statement.load == "eager" or statement.bind_count >= CHUNK


def _by_shape(statements: Iterable[Statement]) -> dict[str, list[Statement]]:
    groups: dict[str, list[Statement]] = {}
    for statement in statements:
        groups.setdefault(statement.fingerprint, []).append(statement)
    return groups


def _by_site(statements: Iterable[Statement]) -> dict[Site | None, list[Statement]]:
    groups: dict[Site | None, list[Statement]] = {}
    for statement in statements:
        groups.setdefault(statement.site, []).append(statement)
    return groups
