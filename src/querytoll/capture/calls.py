"""Statements as they are seen; what can wait is done when their window closes."""

from __future__ import annotations

import copy
import weakref
from typing import Any, Final, NamedTuple

from querytoll.capture.binds import Binds
from querytoll.capture.orm import Subject, relation
from querytoll.capture.stays import Span, Tap
from querytoll.capture.stream import Stream
from querytoll.fingerprint import shape
from querytoll.model import Ignore, Load, Shape, Site


class Call:
    """A statement as one line sends it to one engine, whatever its times, rows and values.

    Most are made once, however often they are sent: `Tap.calls`.

    Attributes:
        sql: the text sent to the driver.
        many: an executemany or insertmanyvalues batch.
        stack: the application's frames.
        tap: its engine.
        blocking: a synchronous driver on the thread of a running event loop.
        detached: its request had ended.
        shape, relation, load: as in `Statement`, once it is read.
    """

    __slots__ = (
        "_property",
        "_subject",
        "blocking",
        "detached",
        "load",
        "many",
        "relation",
        "shape",
        "sql",
        "stack",
        "tap",
    )

    shape: Shape

    def __init__(
        self,
        sql: str,
        stack: tuple[Site, ...],
        tap: Tap,
        many: bool = False,
        subject: Subject | None = None,
        blocking: bool = False,
        detached: bool = False,
    ) -> None:
        self.sql = sql
        self.stack = stack
        self.tap = tap
        self.many = many
        self.blocking = blocking
        self.detached = detached
        self.relation: str | None = None
        self.load: Load | None = None
        # What is loaded is the application's: a call that is remembered must not keep its classes.
        self._subject = subject
        self._property: weakref.ref[Any] | None = None
        if subject is not None and subject[1] != "refresh":
            self._property = weakref.ref(subject[0])

    def loads(self, subject: Subject | None) -> bool:
        """Tell whether it loads this; of a refresh that is not known."""
        if subject is None:
            return self._property is None
        return self._property is not None and self._property() is subject[0]

    def read(self) -> Shape:
        """Find out what it says; left until its window has closed."""
        what, subject = shape(self.sql), self._subject
        if subject is not None:
            self.relation = relation(subject)
            self.load = subject[1] if self.relation is not None else None
        self.shape = what  # the last: for another thread, what has a shape is read
        self._subject = None
        return what

    def outliving(self) -> Call:
        """Return the same, sent after the request had ended."""
        self.read()
        call = copy.copy(self)
        call.detached = True
        return call


class Rare(NamedTuple):
    """What few statements have.

    Args:
        stream: what became of the streamed result.
        error: SQLSTATE, or name of the exception's class.
        entities: distinct rows of the most frequent entity of a large joined eager load; 0 for others.
        size: bytes of text and binary values in the rows of a long statement; 0 for others.
    """

    stream: Stream | None = None
    error: str | None = None
    entities: int = 0
    size: int = 0


PLAIN: Final = Rare()

Row = tuple[Call, float, float, int, Binds, Rare, Span | None, tuple[Ignore, ...], int]
"""A statement as it was seen: its call, when it started and ended on the monotonic clock, its rows (-1: unknown), its
values, what few have, the transaction on a connection that is known, the rules that are ignored around it, and the
serial number of its unit of work.

A plain tuple: a named one costs as much again as the rest of its recording.
"""
CALL: Final = 0
SPAN: Final = 6
SERIAL: Final = 8
"""Places in a row: of the call, of the transaction, and of the serial number."""
