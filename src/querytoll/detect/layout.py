"""How the statements of a trace repeat, whatever their times and values; a route's requests have it in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, count
from operator import is_
from typing import Final, NamedTuple

from querytoll.fingerprint.cache import Recent
from querytoll.model import Shape, Site

Path = tuple[int, ...]
Reads = tuple[int, list[int], bool]
"""Reads that belong together: the order of their shape in the trace, their places, and whether these ascend."""
_SETTING: Final = ("SET", "RESET", "LISTEN")
_MAX_LAYOUTS: Final = 1_000
_MAX_STATEMENTS: Final = 200
"""Of a layout that is remembered."""


class Calls:
    """Executions that have the very same shape and stack, and equal relations: those of one line, most often.

    Attributes:
        shape, stack, relation: what they have in common.
        places: where they are in `Trace.statements`, ascending.
    """

    __slots__ = ("places", "relation", "shape", "stack")

    def __init__(self, shape: Shape, stack: tuple[Site, ...], relation: str | None) -> None:
        self.shape = shape
        self.stack = stack
        self.relation = relation
        self.places: list[int] = []

    def path(self) -> Path:
        """Return the call path, recursion collapsed; a site is one object per instruction."""
        return tuple(dict.fromkeys(map(id, self.stack)))


class Told(NamedTuple):
    """What a rule tells of the same reads every time.

    Attributes:
        title, advice: the finding's.
        issued, looped: the line that sent the reads; that which loops.
        source: the summary and the line of the statement that fetched the rows.
        kept: its shape and stack, by whose ids the texts are found: no other object may get these.
    """

    title: str
    advice: str
    issued: str | None
    looped: str | None
    source: tuple[str, str] | None
    kept: tuple[Shape, tuple[Site, ...]] | None


class Layout:
    """The statements by shape and call path. Whoever gets a list from here leaves it as it is.

    Args:
        shapes, stacks, relations: a column of the trace each.

    Attributes:
        repeated: a fingerprint has more than one statement.
        inlined: a shape's text held literals.
        written: statements that write.
        reads: those of plain traces that were grouped already, by the least that is looked for.
        told: texts about reads, by what else they depend on.
        quiet_in: the epoch of `Texts` in which `StatementChurn` last had seen all texts, if of plain statements.
    """

    __slots__ = (
        "_calls", "_claims", "_relations", "_resets", "_same", "_shapes", "_stacks", "inlined", "quiet_in", "reads",
        "repeated", "told", "written",
    )  # fmt: skip

    def __init__(
        self, shapes: Sequence[Shape], stacks: Sequence[tuple[Site, ...]], relations: Sequence[str | None]
    ) -> None:
        self._shapes, self._stacks, self._relations = shapes, stacks, relations
        self._calls: list[Calls] | None = None
        self._same: dict[str, list[Calls]] = {}
        self._resets: list[int] = []
        self._claims: list[int] = []
        self.reads: dict[int, list[Reads]] = {}
        self.told: dict[Hashable, Told] = {}
        self.quiet_in: object = None
        fingerprints: set[str] = set()
        last: Shape | None = None
        writes: tuple[str, ...] = ()
        inlined, written = False, 0
        for shape in shapes:
            if shape is not last:
                last = shape
                fingerprints.add(shape.fingerprint)
                writes = shape.writes
                if shape.inlined:
                    inlined = True
            if writes:
                written += 1
        self.inlined, self.written = inlined, written
        self.repeated = len(fingerprints) < len(shapes)

    def fits(
        self, shapes: Sequence[Shape], stacks: Sequence[tuple[Site, ...]], relations: Sequence[str | None]
    ) -> bool:
        """Tell whether it is the layout of these columns, as long as its own.

        Stacks have to be the same objects: sites of two instructions of a line are equal, and two call paths.
        """
        return self._shapes == shapes and self._relations == relations and all(map(is_, self._stacks, stacks))

    def calls(self) -> list[Calls]:
        """Return the statements by shape, stack and relation, in order of the first of each."""
        if self._calls is None:
            found = _calls(self._shapes, self._stacks, self._relations)
            same: dict[str, list[Calls]] = {}
            resets: list[int] = []
            claims: list[int] = []
            for calls in found:
                shape = calls.shape
                same.setdefault(shape.fingerprint, []).append(calls)
                if not shape.writes and (shape.locking or not shape.tables):
                    if "SKIP LOCKED" in shape.text:
                        claims += calls.places
                    elif shape.operation in _SETTING or "set_config" in shape.text or "advisory" in shape.text:
                        resets += calls.places
            self._same, self._resets, self._claims = same, resets, claims
            self._calls = found  # the last, because other threads may ask
        return self._calls

    def shapes(self) -> dict[str, list[Calls]]:
        """Return the calls by fingerprint."""
        self.calls()
        return self._same

    def resets(self) -> list[int]:
        """Return the places of what may change the answers of later reads: SET, set_config, advisory locks."""
        self.calls()
        return self._resets

    def claims(self) -> list[int]:
        """Return the places of reads that lock what no other worker has locked."""
        self.calls()
        return self._claims


_layouts: Final[Recent[tuple[str, ...], Layout]] = Recent(_MAX_LAYOUTS)


def layout_of(
    sqls: tuple[str, ...],
    shapes: Sequence[Shape],
    stacks: Sequence[tuple[Site, ...]],
    relations: Sequence[str | None],
) -> Layout:
    """Return the layout of columns; to find that of an earlier request costs a tenth of making one of ten statements.

    Texts with literals are not remembered: they never come again.
    """
    layout = _layouts.get(sqls) or _layouts.old.get(sqls)
    if layout is not None and layout.fits(shapes, stacks, relations):
        return layout
    layout = Layout(shapes, stacks, relations)
    if len(sqls) <= _MAX_STATEMENTS and not layout.inlined:
        _layouts.remember(sqls, layout, sum(map(len, set(sqls))))
    return layout


def _calls(shapes: Iterable[Shape], stacks: Iterable[tuple[Site, ...]], relations: Iterable[str | None]) -> list[Calls]:
    known: dict[tuple[int, int, str | None], Calls] = {}
    last_shape = last_stack = last_relation = places = None
    first = place = 0
    # Most statements are of the line of the one before; that they are the same objects is the cheapest to see.
    for place, shape, stack, relation in zip(count(), shapes, stacks, relations):
        if shape is not last_shape or stack is not last_stack or relation is not last_relation or places is None:
            if place - first > 1 and places is not None:
                places += range(first + 1, place)
            first, last_shape, last_stack, last_relation = place, shape, stack, relation
            key = id(shape), id(stack), relation
            calls = known.get(key)
            if calls is None:
                calls = known[key] = Calls(shape, stack, relation)
            places = calls.places
            places.append(place)
    if places is not None:
        places += range(first + 1, place + 1)
    return list(known.values())


def places_of(same: Sequence[Calls]) -> list[int]:
    """Return the places of calls from several places of the code, ascending."""
    return same[0].places if len(same) == 1 else sorted(chain.from_iterable(calls.places for calls in same))
