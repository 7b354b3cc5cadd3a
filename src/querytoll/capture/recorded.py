"""The statements of a closed window by columns; a `Statement` is made of them when somebody asks for one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, overload

from querytoll.capture.binds import Binds
from querytoll.capture.calls import Call
from querytoll.model import Ignore, Phase, Site, Statement

new: Final = tuple.__new__
"""To call a named tuple's class, names and all, costs five times as much; the fields are in the class's order."""
_MAX_ASKED: Final = 8
"""Statements that are made one by one; who asks for more is given one of all that are made at once."""


Function = tuple[str, str]
"""File and qualified name."""
Run = tuple[Call, int, int | None, tuple[Ignore, ...], int]
"""Statements that follow one another: their call, how many, number of the transaction, ignores and window."""


class Odd(NamedTuple):
    """What a statement has that most have not; as in `Statement`."""

    phase: Phase
    stall: float = 0.0
    streamed: bool = False
    error: str | None = None
    entities: int | None = None
    size: int | None = None


_OF_CALLS: Final = {
    "shape": attrgetter("shape"),
    "many": attrgetter("many"),
    "stack": attrgetter("stack"),
    "relation": attrgetter("relation"),
    "load": attrgetter("load"),
    "engine": attrgetter("tap.name"),
    "blocking": attrgetter("blocking"),
    "detached": attrgetter("detached"),
}
_OF_RUNS: Final = {"transaction": 2, "ignored": 3, "window": 4}
_OF_BINDS: Final = {"binds": itemgetter(0), "bind_digests": itemgetter(1), "bind_count": itemgetter(2)}
_USUAL: Final = Odd("endpoint")


class Recorded(Sequence[Statement]):
    """The statements of a trace, in the order in which they ended.

    Most of a request's statements are counted and judged by columns, and nobody asks for one: to make it costs a fifth
    of recording it.

    Attributes:
        calls: of each.
        started, elapsed: of each.
        counts: rows of each; -1 where they are not known.
        binds: of each.
        odd: by place.
        runs: those that follow one another with the same call, transaction, ignores and window, as `Run`.
        uniform: all have the same call, and no transaction control lay between.
        plain: none, transaction control included, is a batch or an eager load, or has an ignore.
        ignored: one has an ignore.
        blocking: one is of a sync driver on an event loop.
    """

    __slots__ = (
        "_asked",
        "_dependencies",
        "_made",
        "_max_sql_length",
        "binds",
        "blocking",
        "calls",
        "counts",
        "elapsed",
        "ignored",
        "odd",
        "plain",
        "runs",
        "started",
        "uniform",
    )

    def __init__(self, dependencies: Collection[Function] = (), max_sql_length: int = 20_000) -> None:
        """Begin with none.

        Args:
            dependencies: functions that ran before the endpoint, for it.
            max_sql_length: characters that a `Statement` has of its text.
        """
        self.calls: list[Call] = []
        self.started: list[float] = []
        self.elapsed: list[float] = []
        self.counts: list[int] = []
        self.binds: list[Binds] = []
        self.odd: dict[int, Odd] = {}
        self.runs: list[Run] = []
        self.uniform = self.plain = True
        self.ignored = self.blocking = False
        self._dependencies = dependencies
        self._max_sql_length = max_sql_length
        self._made: tuple[Statement, ...] | None = None
        self._asked = 0

    def __len__(self) -> int:
        return len(self.calls)

    @overload
    def __getitem__(self, at: int) -> Statement: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Statement, ...]: ...
    def __getitem__(self, at: int | slice) -> Statement | tuple[Statement, ...]:
        if self._made is not None or isinstance(at, slice) or self._asked == _MAX_ASKED:
            return self.all()[at]
        if not -len(self.calls) <= at < len(self.calls):
            raise IndexError("there are not so many statements")
        self._asked += 1
        return self._statement(at, self._run_of(at % len(self.calls)))

    def __iter__(self) -> Iterator[Statement]:
        return iter(self.all())

    def __eq__(self, other: object) -> bool:
        return self.all() == (other.all() if isinstance(other, Recorded) else other)

    def __add__(self, other: tuple[Statement, ...]) -> tuple[Statement, ...]:
        return self.all() + tuple(other)

    def __radd__(self, other: tuple[Statement, ...]) -> tuple[Statement, ...]:
        return tuple(other) + self.all()

    def __hash__(self) -> int:
        return hash(self.all())

    def __repr__(self) -> str:
        return repr(self.all())

    def __reduce__(self) -> Any:
        return tuple, (self.all(),)

    def all(self) -> tuple[Statement, ...]:
        """Return them, made now if nobody has asked before."""
        if self._made is None:
            runs = (run for run in self.runs for _ in range(run[1]))
            self._made = tuple([self._statement(at, run) for at, run in enumerate(runs)])
        return self._made

    def _run_of(self, at: int) -> Run:
        """Return the run that a statement is of."""
        for run in self.runs:
            at -= run[1]
            if at < 0:
                return run
        raise IndexError

    def _of_runs(self, at: int) -> Sequence[Any]:
        """Return a field of each one's run."""
        if len(self.runs) == 1:
            return (self.runs[0][at],) * len(self.calls)
        return [run[at] for run in self.runs for _ in range(run[1])]

    def column(self, name: str) -> tuple[Any, ...]:
        """Return one field of all statements."""
        if name in _OF_CALLS:
            field = _OF_CALLS[name]
            return (field(self.calls[0]),) * len(self.calls) if self.uniform else tuple(map(field, self.calls))
        if name in _OF_BINDS:
            return tuple(map(_OF_BINDS[name], self.binds))
        if name == "started":
            return tuple(self.started)
        if name == "elapsed":
            return tuple(self.elapsed)
        if name == "rows":
            return tuple([count if count >= 0 else None for count in self.counts])
        if name in _OF_RUNS:
            return tuple(self._of_runs(_OF_RUNS[name]))
        if name in ("sql", "phase") or self.odd:
            return tuple(map(attrgetter(name), self.all()))
        return (getattr(_USUAL, name),) * len(self.calls)

    def rows(self) -> int:
        """Return the rows of all statements, as far as they are known."""
        return sum(self.counts) if -1 not in self.counts else sum([count for count in self.counts if count > 0])

    def _statement(self, at: int, run: Run) -> Statement:
        call, _, transaction, ignored, window = run
        count = self.counts[at]
        odd = self.odd.get(at % len(self.calls)) if self.odd else None
        phase, stall, streamed, error, entities, size = odd or (None, 0.0, False, None, None, None)
        digest, digests, values = self.binds[at]
        return new(
            Statement,
            (
                call.sql[: self._max_sql_length],
                call.shape,
                self.started[at],
                self.elapsed[at],
                stall,
                count if count >= 0 else None,
                call.many,
                streamed,
                call.stack,
                call.relation,
                call.load,
                digest,
                transaction,
                phase or phase_of(call.stack, self._dependencies, detached=call.detached),
                error,
                call.tap.name,
                call.blocking,
                call.detached,
                ignored,
                window,
                digests,
                values,
                entities,
                size,
            ),
        )


def phase_of(stack: tuple[Site, ...], dependencies: Collection[Function], *, detached: bool = False) -> Phase:
    """Tell in which part of a request a statement started before the response did."""
    if detached:
        return "background"
    if dependencies:
        for site in stack:
            if (site.file, site.function) in dependencies:
                return "dependency"
    return "endpoint"
