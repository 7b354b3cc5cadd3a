"""The rules, and which of them a trace gives something to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from querytoll.detect.index import Index
from querytoll.detect.rule import (
    BLOCKING,
    DATABASE_SECONDS,
    FAILED,
    HELD_SECONDS,
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
from querytoll.model import Detector, Finding

Question = tuple[Detector, Callable[[Index], Iterable[Finding]]]

_MEASURED: Final = (
    STATEMENTS, SECONDS, ROWS, SIZE, WRITTEN, DATABASE_SECONDS, TRANSACTION_SECONDS, HELD_SECONDS, WAIT_SECONDS
)  # fmt: skip
_MAX_PANELS: Final = 8


class Panel:
    """Detectors, made ready to be asked only where they may find something.

    To ask seventeen rules of which none has anything to say would cost more than all else of an ordinary request.

    Args:
        detectors: our own rules tell what they look for, the application's are always asked.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = detectors
        self.members = list(detectors)
        signs = [_signs(detector) for detector in detectors]
        self._questions = [(_question(detector), sum(each)) for detector, each in zip(detectors, signs, strict=True)]
        self._least = tuple(min((each[sign] for each in signs if sign in each), default=inf) for sign in _MEASURED)
        self._asked: dict[int, tuple[Question, ...]] = {}

    def asked(self, index: Index) -> tuple[Question, ...]:
        """Return what to ask about a trace, in the detectors' order."""
        shown = self._shown(index)
        asked = self._asked.get(shown)
        if asked is None:
            asked = self._asked[shown] = tuple(
                question for question, signs in self._questions if signs & shown or not signs
            )
        return asked

    def _shown(self, index: Index) -> int:
        """Return the signs that a trace shows."""
        trace = index.trace
        statements, seconds, rows, size, written, database, transaction, held, wait = self._least
        shown = 0
        if trace.statements:
            shown = SENT
            if index.repeated:
                shown |= REPEATED
            if index.seconds >= seconds:
                shown |= SECONDS
            if index.total_rows >= rows:
                shown |= ROWS
            if index.total_size >= size:
                shown |= SIZE
            if index.written >= written:
                shown |= WRITTEN
            if index.failing:
                shown |= FAILED
            if index.blocking:
                shown |= BLOCKING
            if index.inlined:
                shown |= INLINED
        if len(trace.statements) + trace.dropped >= statements:
            shown |= STATEMENTS
        if trace.database_seconds >= database:
            shown |= DATABASE_SECONDS
        if trace.loads or trace.unread:
            shown |= LOADED
        for span in trace.transactions:
            if span.elapsed >= transaction:
                shown |= TRANSACTION_SECONDS
        for checkout in trace.connections:
            if checkout.hold - checkout.busy >= held:
                shown |= HELD_SECONDS
            if checkout.wait >= wait:
                shown |= WAIT_SECONDS
            if checkout.error is not None:
                shown |= FAILED
        return shown


_panels: dict[int, Panel] = {}


def panel_of(detectors: Sequence[Detector]) -> Panel:
    """Return the panel of detectors, remembered for as long as they are the same objects."""
    panel = _panels.get(id(detectors))
    if panel is None or panel.detectors is not detectors or panel.members != list(detectors):
        panel = Panel(detectors)
        if len(_panels) >= _MAX_PANELS:
            _panels.clear()
        _panels[id(detectors)] = panel
    return panel


def _signs(detector: Detector) -> Signs:
    """Return what a rule looks for; nothing of one that is always asked: a subclass may look for more."""
    return detector.signs() if isinstance(detector, Rule) and "signs" in vars(type(detector)) else {}


def _question(detector: Detector) -> Question:
    """Return how to ask: our own rules share the index, a detector of the application's takes the trace."""
    return detector, detector.find if isinstance(detector, Rule) else lambda index: detector(index.trace)
