"""Relationships and columns that were loaded and never read; of `Settings.watch_loads`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.detect.rule import LOADED, Rule, Signs
from querytoll.model import Finding, Loaded, Unread, new_finding


@dataclass(frozen=True, slots=True)
class UnusedEagerLoad(Rule):
    """`unused-eager-load`: a relationship that was loaded with its parents, and that the request never read.

    Args:
        entities: parents from which on it matters.
    """

    entities: int = 1

    def find(self, index: Index) -> Iterator[Finding]:
        for load in index.trace.loads:
            if (
                load.entities >= self.entities
                and _is_proven(index)
                and not ignores(load.statement, "unused-eager-load")
            ):
                yield _unused(load)

    def signs(self) -> Signs:
        return {LOADED: 1}


@dataclass(frozen=True, slots=True)
class OverFetch(Rule):
    """`over-fetch`: columns that were loaded with an entity, and that the request neither read nor returned.

    Args:
        columns: unread columns of an entity that are too many.
        size: bytes of text and binary values in them that are too many, however few the columns.
    """

    columns: int = 5
    size: int = 10_000

    def find(self, index: Index) -> Iterator[Finding]:
        for unread in index.trace.unread:
            if (
                (len(unread.columns) >= self.columns or unread.size >= self.size)
                and _is_proven(index)
                and not ignores(unread.statement, "over-fetch")
            ):
                yield _over_fetched(unread)

    def signs(self) -> Signs:
        return {LOADED: 1}


def _is_proven(index: Index) -> bool:
    """Tell whether nothing else can have had a use for the objects: a flush, a retry, what was not kept."""
    trace = index.trace
    succeeded = trace.status is not None and trace.status < 300
    return trace.kind == "request" and succeeded and not (index.written or index.failing or trace.dropped)


def _unused(load: Loaded) -> Finding:
    advice = (
        f"Its mapping loads it always: .options(lazyload({load.relation})) or noload() on this statement, "
        "or lazy='select' in relationship()."
        if load.mapped
        else f"Take the option that loads {load.relation} off the statement; lazyload() or noload() keep it off."
    )
    return new_finding(
        rule="unused-eager-load",
        title=f"{load.relation} was loaded for {load.entities} {load.relation.partition('.')[0]} and never read",
        advice=advice,
        severity="info",
        site=load.statement.site,
        fingerprint=load.statement.fingerprint,
        summary=load.statement.summary,
        count=load.statements,
        cost=load.seconds,
        evidence={
            "statement": load.statement.shape.text,
            "relation": load.relation,
            "joined": load.joined,
            "entities": load.entities,
        },
    )


def _over_fetched(unread: Unread) -> Finding:
    kept = f".options(load_only(...)) the columns that are read, or defer() these: {', '.join(unread.columns[:8])}."
    many = f"{unread.entities} {unread.entity}"
    size = f", {unread.size / 1000:.0f} kB of text," if unread.size >= 1000 else ""
    return new_finding(
        rule="over-fetch",
        title=f"{len(unread.columns)} of {unread.loaded} columns of {many}{size} were never read",
        advice=kept,
        severity="info",
        site=unread.statement.site,
        fingerprint=unread.statement.fingerprint,
        summary=unread.statement.summary,
        evidence={
            "statement": unread.statement.shape.text,
            "entity": unread.entity,
            "columns": list(unread.columns),
            "entities": unread.entities,
            "bytes": unread.size,
        },
    )
