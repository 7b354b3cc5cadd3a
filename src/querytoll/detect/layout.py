"""How the statements of a trace repeat, whatever their times and values; a route's requests have it in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
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
Run = tuple[str, Shape, tuple[Site, ...], str | None, int]
"""Text, shape, stack and relation of statements that follow one another, and how many there are."""


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
        runs: the statements, by what they are.

    Attributes:
        size: how many.
        repeated: a fingerprint has more than one statement.
        inlined: a shape's text held literals.
        written: statements that write.
        reads: those of plain traces that were grouped already, by the least that is looked for.
        told: texts about reads, by what else they depend on.
        quiet_in: the epoch of `Texts` in which `StatementChurn` last had seen all texts, if of plain statements.
    """

    __slots__ = (
        "_calls", "_claims", "_resets", "_runs", "_same", "inlined", "quiet_in", "reads",
        "repeated", "size", "told", "written",
    )  # fmt: skip

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._calls: list[Calls] | None = None
        self._same: dict[str, list[Calls]] = {}
        self._resets: list[int] = []
        self._claims: list[int] = []
        self.reads: dict[int, list[Reads]] = {}
        self.told: dict[Hashable, Told] = {}
        self.quiet_in: object = None
        fingerprints: set[str] = set()
        inlined, written, statements = False, 0, 0
        for _, shape, _, _, size in runs:
            fingerprints.add(shape.fingerprint)
            statements += size
            if shape.inlined:
                inlined = True
            if shape.writes:
                written += size
        self.inlined, self.written = inlined, written
        self.size = statements
        self.repeated = len(fingerprints) < statements

    def fits(self, runs: Sequence[Run]) -> bool:
        """Tell whether it is the layout of runs with the same texts and sizes.

        Stacks have to be the same objects: sites of two instructions of a line are equal, and two call paths.
        """
        for (_, shape, stack, relation, _), (_, other, path, loaded, _) in zip(self._runs, runs, strict=True):
            if stack is not path or (shape is not other and shape != other) or relation != loaded:
                return False
        return True

    def calls(self) -> list[Calls]:
        """Return the statements by shape, stack and relation, in order of the first of each."""
        if self._calls is None:
            found = _calls(self._runs)
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


_layouts: Final[Recent[tuple[str | int, ...], Layout]] = Recent(_MAX_LAYOUTS)


def layout_of(runs: Sequence[Run]) -> Layout:
    """Return the layout of runs; to find that of an earlier request costs a tenth of making one of ten statements.

    Texts with literals are not remembered: they never come again.
    """
    key: list[str | int] = []
    for sql, _, _, _, size in runs:
        key.append(sql)
        key.append(size)
    texts = tuple(key)
    layout = _layouts.get(texts) or _layouts.old.get(texts)
    if layout is not None and layout.fits(runs):
        return layout
    layout = Layout(runs)
    if layout.size <= _MAX_STATEMENTS and not layout.inlined:
        _layouts.remember(texts, layout, sum(map(len, {run[0] for run in runs})))
    return layout


def runs_of(
    sqls: Iterable[str],
    shapes: Iterable[Shape],
    stacks: Iterable[tuple[Site, ...]],
    relations: Iterable[str | None],
) -> list[Run]:
    """Return the runs of columns."""
    runs: list[Run] = []
    last: tuple[str, Shape, tuple[Site, ...], str | None] | None = None
    size = 0
    for each in zip(sqls, shapes, stacks, relations, strict=True):
        if last is not None and not all(map(is_, each, last)):
            runs.append((*last, size))
            size = 0
        last = each
        size += 1
    if last is not None:
        runs.append((*last, size))
    return runs


def _calls(runs: Sequence[Run]) -> list[Calls]:
    known: dict[tuple[int, int, str | None], Calls] = {}
    at = 0
    for _, shape, stack, relation, size in runs:
        key = id(shape), id(stack), relation
        calls = known.get(key)
        if calls is None:
            calls = known[key] = Calls(shape, stack, relation)
        calls.places += range(at, at + size)
        at += size
    return list(known.values())


def places_of(same: Sequence[Calls]) -> list[int]:
    """Return the places of calls from several places of the code, ascending."""
    return same[0].places if len(same) == 1 else sorted(chain.from_iterable(calls.places for calls in same))
