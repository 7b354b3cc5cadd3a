"""Statements whose text changes though their shape does not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.fingerprint import literals
from querytoll.model import Finding, Statement, Trace


class Texts:
    """Count the different texts of each shape over the life of the process, as hashes, bounded.

    Args:
        max_shapes: shapes that are remembered, those with the oldest new text first to go.
        max_texts: texts counted per shape.
    """

    def __init__(self, *, max_shapes: int = 1_000, max_texts: int = 64) -> None:
        self._max_shapes = max_shapes
        self._max_texts = max_texts
        self._seen: OrderedDict[str, set[int]] = OrderedDict()
        self._lock = Lock()

    def add(self, fingerprint: str, text: int) -> int:
        """Note the hash of a text and return how many different ones its shape has had."""
        known = self._seen.get(fingerprint)
        if known is not None and text in known:
            return len(known)
        with self._lock:
            texts = self._seen.setdefault(fingerprint, set())
            self._seen.move_to_end(fingerprint)
            if len(texts) < self._max_texts:
                texts.add(text)
            while len(self._seen) > self._max_shapes:
                self._seen.popitem(last=False)
            return len(texts)


@dataclass(frozen=True, slots=True)
class InlinedLiterals:
    """`inlined-literals`: SQL built from strings: many texts of one shape, with the values in them.

    Args:
        texts: different texts of one shape that are too many; constants have one.
    """

    texts: int = 3
    memory: Texts = field(default_factory=Texts, compare=False)

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        for statement, count in _latest(index, self.memory, inlined=True, rule="inlined-literals").values():
            if count >= self.texts:
                yield Finding(
                    rule="inlined-literals",
                    title=f"{statement.summary} was sent as {count} texts with the values written into the SQL",
                    advice="Pass values as parameters: text('... WHERE id = :id'), {'id': value}; else each text is "
                    "planned anew, and a value from outside is an SQL injection.",
                    severity="error",
                    site=statement.site,
                    fingerprint=statement.fingerprint,
                    summary=statement.summary,
                    count=count,
                    evidence={"statement": statement.shape.text, "texts": count},
                )


@dataclass(frozen=True, slots=True)
class StatementChurn:
    """`statement-churn`: a shape with so many texts that it fills the driver's cache of prepared statements.

    Args:
        texts: different texts of one shape that are too many; asyncpg and SQLAlchemy keep 100 statements.
    """

    texts: int = 20
    memory: Texts = field(default_factory=Texts, compare=False)

    def __call__(self, trace: Trace) -> Iterator[Finding]:
        return self.find(Index(trace))

    def find(self, index: Index) -> Iterator[Finding]:
        """Judge an indexed trace."""
        for statement, count in _latest(index, self.memory, inlined=False, rule="statement-churn").values():
            if count >= self.texts:
                yield Finding(
                    rule="statement-churn",
                    title=f"{statement.summary} has had {count} different texts; each is prepared anew",
                    advice="Send one text: = ANY(:keys) with an array, or unnest(:rows) for VALUES of changing length.",
                    site=statement.site,
                    fingerprint=statement.fingerprint,
                    summary=statement.summary,
                    count=count,
                    evidence={"statement": statement.shape.text, "texts": count},
                )


def _latest(index: Index, memory: Texts, *, inlined: bool, rule: str) -> dict[str, tuple[Statement, int]]:
    """Return the last statement of each shape of the wanted kind, with the number of texts seen so far."""
    latest: dict[str, tuple[Statement, int]] = {}
    for fingerprint, group in index.shapes.items():
        texts: set[str] = set()
        for statement in group:
            shape = statement.shape
            if statement.sql in texts or shape.inlined is not inlined or not shape.tables:
                continue
            if statement.many or statement.load is not None or ignores(statement, rule):
                continue
            texts.add(statement.sql)
            text = literals(statement.sql) if inlined else hash(statement.sql)
            latest[fingerprint] = (statement, memory.add(fingerprint, text))
    return latest
