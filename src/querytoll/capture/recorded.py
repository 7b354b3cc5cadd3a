"""The statements of a closed window by columns; a `Statement` is made of them when somebody asks for one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, overload

from querytoll.capture.binds import Binds
from querytoll.model import Ignore, Load, Phase, Shape, Site, Statement

new: Final = tuple.__new__
"""To call a named tuple's class, names and all, costs five times as much; the fields are in the class's order."""
_MAX_ASKED: Final = 8
"""Statements that are made one by one; who asks for more is given one of all that are made at once."""


class Sent(NamedTuple):
    """What the statements of one call share; as in `Statement`."""

    sql: str
    shape: Shape
    many: bool
    stack: tuple[Site, ...]
    relation: str | None
    load: Load | None
    transaction: int | None
    engine: str
    blocking: bool
    detached: bool
    ignored: tuple[Ignore, ...]
    window: int


class Odd(NamedTuple):
    """What a statement has that most have not; as in `Statement`."""

    phase: Phase
    stall: float = 0.0
    streamed: bool = False
    error: str | None = None
    entities: int | None = None
    size: int | None = None


Function = tuple[str, str]
"""File and qualified name."""

_PLACES: Final = {name: at for at, name in enumerate(Sent._fields)}
_BINDS: Final = {name: at for at, name in enumerate(("binds", "bind_digests", "bind_count"))}
_USUAL: Final = Odd("endpoint")


class Recorded(Sequence[Statement]):
    """The statements of a trace, in the order in which they ended.

    Most of a request's statements are counted and judged by columns, and nobody asks for one: to make it costs a fifth
    of recording it.

    Args:
        sent: what each shares with others of its call, which have the same object.
        calls: these, each once, those of transaction control too.
        started, elapsed: of each.
        counts: rows of each; -1 where they are not known.
        binds: of each.
        odd: by place.
        dependencies: functions that ran before the endpoint, for it.
    """

    __slots__ = ("_asked", "_made", "binds", "calls", "counts", "dependencies", "elapsed", "odd", "sent", "started")

    def __init__(
        self,
        sent: list[Sent],
        calls: list[Sent],
        started: list[float],
        elapsed: list[float],
        counts: list[int],
        binds: list[Binds],
        odd: dict[int, Odd],
        dependencies: Collection[Function] = (),
    ) -> None:
        self.sent = sent
        self.calls = calls
        self.started = started
        self.elapsed = elapsed
        self.counts = counts
        self.binds = binds
        self.odd = odd
        self.dependencies = dependencies
        self._made: tuple[Statement, ...] | None = None
        self._asked = 0

    def __len__(self) -> int:
        return len(self.sent)

    @overload
    def __getitem__(self, at: int) -> Statement: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Statement, ...]: ...
    def __getitem__(self, at: int | slice) -> Statement | tuple[Statement, ...]:
        if self._made is not None or isinstance(at, slice) or self._asked == _MAX_ASKED:
            return self.all()[at]
        self._asked += 1
        odd = self.odd.get(at % len(self.sent)) if self.odd else None
        sent = self.sent[at]
        phase = phase_of(sent.stack, self.dependencies, detached=sent.detached)
        return _statement(sent, self.started[at], self.elapsed[at], self.counts[at], self.binds[at], phase, odd)

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

    def all(self) -> tuple[Statement, ...]:
        """Return them, made now if nobody has asked before."""
        if self._made is None:
            phases, odd = self._phases(), self.odd
            columns = zip(self.sent, self.started, self.elapsed, self.counts, self.binds, strict=True)
            self._made = tuple([_statement(*each, phases[place], odd.get(place)) for place, each in enumerate(columns)])
        return self._made

    def _phases(self) -> list[Phase]:
        """Return the phase of each, as far as it is not odd."""
        known = {id(call): phase_of(call.stack, self.dependencies, detached=call.detached) for call in self.calls}
        return [known[id(sent)] for sent in self.sent]

    def column(self, name: str) -> tuple[Any, ...]:
        """Return one field of all statements."""
        if name in _PLACES:
            return tuple(map(itemgetter(_PLACES[name]), self.sent))
        if name in _BINDS:
            return tuple(map(itemgetter(_BINDS[name]), self.binds))
        if name == "started":
            return tuple(self.started)
        if name == "elapsed":
            return tuple(self.elapsed)
        if name == "rows":
            return tuple([count if count >= 0 else None for count in self.counts])
        if self.odd:
            return tuple(map(attrgetter(name), self.all()))
        return tuple(self._phases()) if name == "phase" else (getattr(_USUAL, name),) * len(self.sent)

    def rows(self) -> int:
        """Return the rows of all statements, as far as they are known."""
        return sum(self.counts) if -1 not in self.counts else sum([count for count in self.counts if count > 0])


def phase_of(stack: tuple[Site, ...], dependencies: Collection[Function], *, detached: bool = False) -> Phase:
    """Tell in which part of a request a statement started before the response did."""
    if detached:
        return "background"
    if dependencies:
        for site in stack:
            if (site.file, site.function) in dependencies:
                return "dependency"
    return "endpoint"


def _statement(
    sent: Sent, started: float, elapsed: float, count: int, binds: Binds, usual: Phase, odd: Odd | None
) -> Statement:
    sql, shape, many, stack, relation, load, transaction, engine, blocking, detached, ignored, window = sent
    phase, stall, streamed, error, entities, size = odd or (usual, 0.0, False, None, None, None)
    digest, digests, values = binds
    rows = count if count >= 0 else None
    return new(
        Statement,
        (
            sql, shape, started, elapsed, stall, rows, many, streamed, stack, relation, load, digest, transaction,
            phase, error, engine, blocking, detached, ignored, window, digests, values, entities, size,
        ),
    )  # fmt: skip
