"""Results that are larger than a request needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.detect.rule import ROWS, SIZE, Rule, Signs
from querytoll.model import Finding, Statement, new_finding

_LIMITED: Final = re.compile(r"\b(?:LIMIT|FETCH\s+(?:FIRST|NEXT))\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LargeResult(Rule):
    """`large-result`: a read without LIMIT that brought very many rows, or very many bytes, into memory.

    Args:
        rows: rows that are too many.
        size: bytes of text and binary values that are too many, limited or not.
    """

    rows: int = 1_000
    size: int = 10_000_000

    def find(self, index: Index) -> Iterator[Finding]:
        if index.most_rows() < self.rows and index.largest() < self.size:
            return
        seen: set[str] = set()
        for statement in index.statements:
            if self._is_large(statement) and statement.fingerprint not in seen:
                seen.add(statement.fingerprint)
                yield _large(statement)

    def signs(self) -> Signs:
        return {ROWS: self.rows, SIZE: self.size}

    def _is_large(self, statement: Statement) -> bool:
        if statement.streamed or statement.shape.writes or ignores(statement, "large-result"):
            return False
        if (statement.size or 0) >= self.size:
            return True
        return (
            (statement.rows or 0) >= self.rows
            and statement.entities is None
            and statement.load is None
            and statement.bind_count < self.rows / 10
            and not _LIMITED.search(statement.shape.text)
        )


@dataclass(frozen=True, slots=True)
class RowExplosion(Rule):
    """`row-explosion`: joined eager loads of several collections, whose rows multiply.

    Args:
        rows: rows from which on it matters.
        times: rows per distinct row of the most frequent entity that are too many.
    """

    rows: int = 200
    times: float = 3.0

    def find(self, index: Index) -> Iterator[Finding]:
        if index.most_rows() < self.rows:
            return
        seen: set[str] = set()
        for statement in index.statements:
            rows, entities = statement.rows or 0, statement.entities or 0
            if not entities or rows < self.rows or rows < self.times * entities or statement.fingerprint in seen:
                continue
            if ignores(statement, "row-explosion"):
                continue
            seen.add(statement.fingerprint)
            yield new_finding(
                rule="row-explosion",
                title=f"{statement.summary} returned {rows} rows for at most {entities} different ones of a table",
                advice="Joined collections multiply each other: keep one joinedload at most, selectinload the others.",
                site=statement.site,
                fingerprint=statement.fingerprint,
                summary=statement.summary,
                cost=statement.elapsed * (1 - entities / rows),
                evidence={"statement": statement.shape.text, "rows": rows, "distinct": entities},
            )

    def signs(self) -> Signs:
        return {ROWS: self.rows}


def _large(statement: Statement) -> Finding:
    size = f", about {statement.size / 1e6:.0f} MB" if statement.size else ""
    return new_finding(
        rule="large-result",
        title=f"{statement.summary} brought {statement.rows} rows{size} into memory",
        advice="Page it: ORDER BY a key and .limit(n); for an export, session.stream() with yield_per(500).",
        site=statement.site,
        fingerprint=statement.fingerprint,
        summary=statement.summary,
        cost=statement.elapsed,
        evidence={"statement": statement.shape.text, "rows": statement.rows, "bytes": statement.size},
    )
