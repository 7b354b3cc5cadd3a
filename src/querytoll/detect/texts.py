"""Statements whose text changes though their shape does not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.detect.layout import Calls, places_of
from querytoll.detect.rule import INLINED, SENT, Rule, Signs
from querytoll.fingerprint import literals
from querytoll.model import Finding, Statement, new_finding

_MAX_QUIET: Final = 10_000


class Texts:
    """Count the different texts of each shape over the life of the process, as hashes, bounded.

    Args:
        max_shapes: shapes that are remembered, those with the oldest new text first to go.
        max_texts: texts counted per shape.

    Attributes:
        quiet: marks of statements that were looked at and gave no cause to say anything; forgotten with any new text.
        epoch: another object each time that these are forgotten.
    """

    def __init__(self, *, max_shapes: int = 1_000, max_texts: int = 64) -> None:
        self._max_shapes = max_shapes
        self._max_texts = max_texts
        self._seen: OrderedDict[str, set[int]] = OrderedDict()
        self._lock = Lock()
        self.quiet: set[int] = set()
        self.epoch = object()

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
                self.quiet = set()
                self.epoch = object()  # after the marks: whoever sees this one sees no older marks
            while len(self._seen) > self._max_shapes:
                self._seen.popitem(last=False)
            return len(texts)


@dataclass(frozen=True, slots=True)
class InlinedLiterals(Rule):
    """`inlined-literals`: SQL built from strings: many texts of one shape, with the values in them.

    Args:
        texts: different texts of one shape that are too many; constants have one.
    """

    texts: int = 3
    memory: Texts = field(default_factory=Texts, compare=False)

    def find(self, index: Index) -> Iterator[Finding]:
        for calls in index.layout.shapes().values():
            latest = _latest(index, calls, self.memory, inlined=True, rule="inlined-literals")
            if latest is not None and latest[1] >= self.texts:
                statement, count = latest
                yield new_finding(
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

    def signs(self) -> Signs:
        return {INLINED: 1}


@dataclass(frozen=True, slots=True)
class StatementChurn(Rule):
    """`statement-churn`: a shape with so many texts that it fills the driver's cache of prepared statements.

    Args:
        texts: different texts of one shape that are too many; asyncpg and SQLAlchemy keep 100 statements.
    """

    texts: int = 20
    memory: Texts = field(default_factory=Texts, compare=False)

    def find(self, index: Index) -> Iterator[Finding]:
        quiet = self.memory.quiet
        for calls in index.layout.shapes().values():
            latest = _latest(index, calls, self.memory, inlined=False, rule="statement-churn")
            if latest is None or latest[1] < self.texts:
                self._keep_quiet(index, calls, quiet)
            else:
                statement, count = latest
                yield new_finding(
                    rule="statement-churn",
                    title=f"{statement.summary} has had {count} different texts; each is prepared anew",
                    advice="Send one text: = ANY(:keys) with an array, or unnest(:rows) for VALUES of changing length.",
                    site=statement.site,
                    fingerprint=statement.fingerprint,
                    summary=statement.summary,
                    count=count,
                    evidence={"statement": statement.shape.text, "texts": count},
                )

    def signs(self) -> Signs:
        return {SENT: 1}

    def is_news(self, statement: Statement) -> bool:
        """Tell whether a statement, the only one of its trace, has to be looked at."""
        plain = statement.load is None and not statement.many
        return (hash(statement.sql) if plain else _mark(statement)) not in self.memory.quiet

    def has_news(self, index: Index) -> bool:
        """Tell whether a statement of several has to be looked at."""
        epoch, layout = self.memory.epoch, index.layout
        quiet = self.memory.quiet
        if not index.plain or index.loads.count(None) < index.size:
            return index.ignored or not quiet.issuperset(map(_mark, index.statements))
        if layout.quiet_in is not epoch:
            if not quiet.issuperset(map(hash, set(index.sqls))):
                return True
            layout.quiet_in = epoch
        return False

    def _keep_quiet(self, index: Index, same: list[Calls], quiet: set[int]) -> None:
        """Remember that statements say nothing, unless something new was seen meanwhile: then the set is another's."""
        if not index.ignored and len(quiet) < _MAX_QUIET:
            statements = index.statements
            quiet.update([_mark(statements[place]) for place in places_of(same)])


def _mark(statement: Statement) -> int:
    """Return what is equal for statements that mean the same to a rule of texts."""
    if statement.many or statement.load is not None:
        return hash((statement.sql, statement.many, statement.load))
    return hash(statement.sql)


def _latest(
    index: Index, same: list[Calls], memory: Texts, *, inlined: bool, rule: str
) -> tuple[Statement, int] | None:
    """Return the last statement of a shape, if of the wanted kind, that has another text than those before it.

    With it goes the number of texts seen so far.
    """
    latest = None
    texts: set[str] = set()
    statements = index.statements
    for place in places_of(same):
        statement = statements[place]
        sql, shape = statement.sql, statement.shape
        if sql in texts or shape.inlined is not inlined or not shape.tables:
            continue
        if statement.many or statement.load is not None or (statement.ignored and ignores(statement, rule)):
            continue
        texts.add(sql)
        latest = statement, memory.add(shape.fingerprint, literals(sql) if inlined else hash(sql))
    return latest
