"""The statements of a closed window by their calls; a `Statement` is made of one when somebody asks for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, overload

from querytoll.capture.binds import Binds
from querytoll.model import Ignore, Load, Phase, Shape, Site, Statement

new: Final = tuple.__new__
"""To call a named tuple's class, names and all, costs five times as much; the fields are in the class's order."""

_MAX_ASKED: Final = 8
"""Statements that are made one by one; who asks for more is given one of all that are made at once."""


class Batch(NamedTuple):
    """The statements of one call: what they share, and by columns what they do not.

    Args:
        sql, shape, many, stack, relation, load, transaction, engine, blocking, detached, ignored, window: of every
            `Statement`.
        phase: of those that are not `Odd`.
        places: of the statements in the trace, ascending.
        started, elapsed: of each.
        rows: of each; -1 where they are not known.
        binds: of each.
    """

    sql: str
    shape: Shape
    many: bool
    stack: tuple[Site, ...]
    relation: str | None
    load: Load | None
    transaction: int | None
    phase: Phase
    engine: str
    blocking: bool
    detached: bool
    ignored: tuple[Ignore, ...]
    window: int
    places: list[int]
    started: list[float]
    elapsed: list[float]
    rows: list[int]
    binds: list[Binds]


_SHARED: Final = Batch._fields.index("places")
_PLACES: Final = {
    **{name: at for at, name in enumerate(Batch._fields) if name != "places"},
    **dict.fromkeys(("bind_digests", "bind_count"), Batch._fields.index("binds")),
}
"""Fields of `Statement` that are in a batch."""
_PARTS: Final = {"binds": 0, "bind_digests": 1, "bind_count": 2}


class Odd(NamedTuple):
    """What a statement has that most have not; as in `Statement`."""

    phase: Phase
    stall: float = 0.0
    streamed: bool = False
    error: str | None = None
    entities: int | None = None
    size: int | None = None


_USUAL: Final = Odd("endpoint")


class Recorded(Sequence[Statement]):
    """The statements of a trace, in the order in which they ended.

    Most of a request's statements are counted and judged by their batches, and nobody asks for one: to make it costs a
    fifth of recording it.

    Attributes:
        batches: in the order of their first statements.
        odd: by place.
    """

    __slots__ = ("_asked", "_made", "_owners", "_size", "batches", "odd")

    def __init__(self, batches: Sequence[Batch], size: int, odd: dict[int, Odd]) -> None:
        self.batches = batches
        self.odd = odd
        self._size = size
        self._made: tuple[Statement, ...] | None = None
        self._asked = 0
        self._owners: list[Batch] | None = None

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> Statement: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Statement, ...]: ...
    def __getitem__(self, at: int | slice) -> Statement | tuple[Statement, ...]:
        if self._made is None and isinstance(at, int) and self._asked < _MAX_ASKED:
            self._asked += 1
            place = at + self._size if at < 0 else at
            for batch in self.batches:
                number = bisect_left(batch.places, place)
                if number < len(batch.places) and batch.places[number] == place:
                    return _statement(batch, number, self.odd.get(place))
        return self.all()[at]

    def __iter__(self) -> Iterator[Statement]:
        return iter(self.all())

    def __eq__(self, other: object) -> bool:
        return self.all() == (other.all() if isinstance(other, Recorded) else other)

    def __hash__(self) -> int:
        return hash(self.all())

    def __repr__(self) -> str:
        return repr(self.all())

    def __reduce__(self) -> Any:
        return tuple, (self.all(),)

    def column(self, name: str) -> tuple[Any, ...]:
        """Return one field of all statements."""
        size = self._size
        if self.odd or self._made is not None:
            return tuple(map(attrgetter(name), self.all()))
        at = _PLACES.get(name)
        if at is None:
            return (getattr(_USUAL, name),) * size
        if at < _SHARED:
            if len(self.batches) == 1:
                return (self.batches[0][at],) * size
            return tuple(map(itemgetter(at), self._whose()))
        column = self._own(at)
        if name == "rows":
            return tuple([None if count < 0 else count for count in column]) if -1 in column else tuple(column)
        part = _PARTS.get(name)
        return tuple(column) if part is None else tuple(map(itemgetter(part), column))

    def _whose(self) -> list[Batch]:
        """Return the batch of each statement."""
        if self._owners is None:
            self._owners = owners = [self.batches[0]] * self._size
            for batch in self.batches:
                for place in batch.places:
                    owners[place] = batch
        return self._owners

    def _own(self, at: int) -> list[Any]:
        """Return a column of the batches in the order of the statements."""
        if len(self.batches) == 1:
            own: list[Any] = self.batches[0][at]  # type: ignore[assignment]
            return own
        found: list[Any] = [None] * self._size
        for batch in self.batches:
            for place, value in zip(batch.places, batch[at]):  # type: ignore[arg-type]  # noqa: B905
                found[place] = value
        return found

    def all(self) -> tuple[Statement, ...]:
        """Return them, made now if nobody has asked before."""
        if self._made is None:
            made: list[Any] = [None] * self._size
            for batch in self.batches:
                for number, place in enumerate(batch.places):
                    made[place] = _statement(batch, number, self.odd.get(place))
            self._made = tuple(made)
        return self._made


def _statement(batch: Batch, number: int, odd: Odd | None) -> Statement:
    phase, stall, streamed, error, entities, size = odd or (batch.phase, 0.0, False, None, None, None)
    rows = batch.rows[number]
    digest, digests, values = batch.binds[number]
    return new(
        Statement,
        (
            batch.sql,
            batch.shape,
            batch.started[number],
            batch.elapsed[number],
            stall,
            rows if rows >= 0 else None,
            batch.many,
            streamed,
            batch.stack,
            batch.relation,
            batch.load,
            digest,
            batch.transaction,
            phase,
            error,
            batch.engine,
            batch.blocking,
            batch.detached,
            batch.ignored,
            batch.window,
            digests,
            values,
            entities,
            size,
        ),
    )
