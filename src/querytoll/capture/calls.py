"""Statements as they are seen; what can wait is done when their window closes."""

from __future__ import annotations

import copy
from typing import Final, NamedTuple

from querytoll.capture.binds import Binds
from querytoll.capture.orm import Subject, relation
from querytoll.capture.stays import Span, Tap
from querytoll.capture.stream import Stream
from querytoll.fingerprint import shape
from querytoll.model import Ignore, Load, Shape, Site


class Call:
    """A statement as one line sends it to one engine; made once, however often it is sent.

    Attributes:
        sql: the text sent to the driver.
        many: an executemany or insertmanyvalues batch.
        stack: the application's frames.
        subject: what SQLAlchemy loads by it.
        tap: its engine.
        blocking: a synchronous driver on the thread of a running event loop.
        detached: its request had ended.
        shape, relation, load: as in `Statement`, once it is read.
    """

    __slots__ = (
        "blocking",
        "detached",
        "load",
        "many",
        "relation",
        "shape",
        "sql",
        "stack",
        "subject",
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
        self.subject = subject
        self.blocking = blocking
        self.detached = detached
        self.relation: str | None = None
        self.load: Load | None = None

    def read(self) -> Shape:
        """Find out what it says; left until its window has closed."""
        self.shape = what = shape(self.sql)
        if self.subject is not None:
            self.relation = relation(self.subject)
            self.load = self.subject[1] if self.relation is not None else None
        return what

    def outliving(self) -> Call:
        """Return the same, sent after the request had ended."""
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
SPAN: Final = 6
"""Place of the transaction."""
