"""What a rule is, and the signs that make it worth asking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final

from querytoll.detect.index import Index
from querytoll.model import Finding, Trace

# Sums and maxima of a trace, as bits.
SENT: Final = 1 << 0
"""Statements with a text that `StatementChurn` has not seen."""
STATEMENTS: Final = 1 << 1
"""Statements, those that were not kept included."""
SECONDS: Final = 1 << 2
"""Seconds of all statements."""
ROWS: Final = 1 << 3
"""Rows of all statements."""
SIZE: Final = 1 << 4
"""Bytes of all results."""
REPEATED: Final = 1 << 5
"""Two statements of one shape."""
WRITTEN: Final = 1 << 6
"""Statements that write."""
FAILED: Final = 1 << 7
"""A statement or a checkout with an error."""
BLOCKING: Final = 1 << 8
"""A statement of a sync driver on an event loop."""
INLINED: Final = 1 << 9
"""A text with literals."""
DATABASE_SECONDS: Final = 1 << 10
"""The trace's."""
TRANSACTION_SECONDS: Final = 1 << 11
"""Seconds of the longest transaction."""
HELD_SECONDS: Final = 1 << 12
"""Seconds in which a connection was held and not busy."""
WAIT_SECONDS: Final = 1 << 13
"""Seconds of the longest wait for a connection."""
LOADED: Final = 1 << 14
"""A relationship or column that was loaded and not read."""
IGNORED: Final = 1 << 15
"""A statement within `querytoll.ignore`."""

Signs = Mapping[int, float]


class Rule(ABC):
    """A detector of our own: it shares the index with the others, and tells when it may have something to find."""

    __slots__ = ()

    def __call__(self, trace: Trace) -> Iterable[Finding]:
        return self.find(Index(trace))

    @abstractmethod
    def find(self, index: Index) -> Iterable[Finding]:
        """Judge an indexed trace."""

    @abstractmethod
    def signs(self) -> Signs:
        """Return what it looks for, each from which value on: a trace that shows none of them has no finding.

        A sum over all statements may stand for the value of one, which is never greater.
        """
