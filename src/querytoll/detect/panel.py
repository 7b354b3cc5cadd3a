"""The rules, and which of them a trace gives something to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Final

from querytoll.detect.index import Index
from querytoll.detect.rule import (
    BLOCKING,
    DATABASE_SECONDS,
    FAILED,
    HELD_SECONDS,
    IGNORED,
    INLINED,
    LOADED,
    REPEATED,
    ROWS,
    SECONDS,
    SENT,
    SIZE,
    STATEMENTS,
    TRANSACTION_SECONDS,
    WAIT_SECONDS,
    WRITTEN,
    Rule,
    Signs,
)
from querytoll.detect.texts import StatementChurn
from querytoll.model import Detector, Finding, Statement, Trace

Question = tuple[Detector, Callable[[Index], Iterable[Finding]]]

_MAX_PANELS: Final = 8
_EMPTY: Final = Trace("", "block", "", datetime.fromtimestamp(0, UTC), 0.0)


class Panel:
    """Detectors, made ready to be asked only where they may find something.

    To ask seventeen rules of which none has anything to say would cost more than all else of an ordinary request.

    Args:
        detectors: our own rules tell what they look for, the application's are always asked.

    Attributes:
        questions: what to ask about traces by the signs that they show, as far as `ask` was called.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = detectors
        self.size = len(detectors)
        signs = [_signs(detector) for detector in detectors]
        self._wanted = [(_question(detector), sum(each)) for detector, each in zip(detectors, signs, strict=True)]

        def least(sign: int) -> float:
            return min((each[sign] for each in signs if sign in each), default=inf)

        self._statements, self._seconds, self._rows = least(STATEMENTS), least(SECONDS), least(ROWS)
        self._size, self._written, self._database_seconds = least(SIZE), least(WRITTEN), least(DATABASE_SECONDS)
        self._transaction_seconds, self._held_seconds = least(TRANSACTION_SECONDS), least(HELD_SECONDS)
        self._wait_seconds = least(WAIT_SECONDS)
        self._churns = [detector for detector in detectors if isinstance(detector, StatementChurn)]
        self.questions: dict[int, tuple[Question, ...]] = {}
        self._always = bool(self.ask(self.signs(_EMPTY, None)))

    def passes(self, trace: Trace) -> bool:
        """Tell whether there is nothing in a trace to be asked about, at the cost of a few attributes."""
        return not (
            self._always
            or trace.statements
            or trace.connections
            or trace.dropped
            or trace.database_seconds >= self._database_seconds
        )

    def ask(self, signs: int) -> tuple[Question, ...]:
        """Return what to ask about a trace that shows some signs, in the detectors' order."""
        asked = self.questions[signs] = tuple(
            question for question, wanted in self._wanted if wanted & signs or not wanted
        )
        return asked

    def signs(self, trace: Trace, index: Index | None) -> int:
        """Return the signs that a trace shows; its index may be missing where it has one statement at most."""
        statements = trace.statements
        sent = len(statements)
        signs = 0
        if index is not None:
            signs = self._signs_of_several(index)
        elif sent:
            signs = self._signs_of_one(statements[0])
        if sent + trace.dropped >= self._statements:
            signs |= STATEMENTS
        if trace.database_seconds >= self._database_seconds:
            signs |= DATABASE_SECONDS
        if trace.loads or trace.unread:
            signs |= LOADED
        for transaction in trace.transactions:
            if transaction.elapsed >= self._transaction_seconds:
                signs |= TRANSACTION_SECONDS
        for checkout in trace.connections:
            if checkout.hold - checkout.busy >= self._held_seconds:
                signs |= HELD_SECONDS
            if checkout.wait >= self._wait_seconds:
                signs |= WAIT_SECONDS
            if checkout.error is not None:
                signs |= FAILED
        return signs

    def _signs_of_several(self, index: Index) -> int:
        signs = 0
        for churn in self._churns:
            if churn.has_news(index):
                signs = SENT
        if index.repeated:
            signs |= REPEATED
        if index.seconds >= self._seconds:
            signs |= SECONDS
        if index.total_rows >= self._rows:
            signs |= ROWS
        if index.total_size >= self._size:
            signs |= SIZE
        if index.written >= self._written:
            signs |= WRITTEN
        if index.failing:
            signs |= FAILED
        if index.blocking:
            signs |= BLOCKING
        if index.inlined:
            signs |= INLINED
        if index.ignored:
            signs |= IGNORED
        return signs

    def _signs_of_one(self, statement: Statement) -> int:
        shape = statement.shape
        signs = 0
        for churn in self._churns:
            if churn.is_news(statement):
                signs = SENT
        if statement.elapsed >= self._seconds:
            signs |= SECONDS
        if (statement.rows or 0) >= self._rows:
            signs |= ROWS
        if (statement.size or 0) >= self._size:
            signs |= SIZE
        if shape.writes and self._written <= 1:
            signs |= WRITTEN
        if statement.error is not None:
            signs |= FAILED
        if statement.blocking:
            signs |= BLOCKING
        if shape.inlined:
            signs |= INLINED
        if statement.ignored:
            signs |= IGNORED
        return signs


_panels: Final[list[Panel]] = []


def panel_of(detectors: Sequence[Detector]) -> Panel:
    """Return the panel of detectors, remembered for the sequence: what is in it may not be exchanged."""
    for panel in _panels:
        if panel.detectors is detectors and panel.size == len(detectors):
            return panel
    panel = Panel(detectors)
    # Another thread may look through the list meanwhile: it is never empty, and what is left out is made anew.
    _panels[:] = [*_panels[-_MAX_PANELS + 1 :], panel]
    return panel


def _signs(detector: Detector) -> Signs:
    """Return what a rule looks for; nothing of one that is always asked: a subclass may look for more."""
    return detector.signs() if isinstance(detector, Rule) and "signs" in vars(type(detector)) else {}


def _question(detector: Detector) -> Question:
    """Return how to ask: our own rules share the index, a detector of the application's takes the trace."""
    return detector, detector.find if isinstance(detector, Rule) else lambda index: detector(index.trace)
