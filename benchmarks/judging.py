"""Traces of many statements to the seconds that judging them takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from statistics import median
from typing import Final

from querytoll.detect import default_detectors, judge
from querytoll.errors import Faults
from querytoll.model import Shape, Site, Statement, Trace
from querytoll.settings import Settings

SIZES: Final = (100, 10_000)
_TABLES: Final = ("orders", "items", "customers", "products", "reviews")
_LOOPING: Final = (Site("/app/repository.py", 20, "Repository.get"), Site("/app/api.py", 7, "show", looping=True))
_ONCE: Final = _LOOPING[:1]


@cache
def _stack(number: int) -> tuple[Site, ...]:
    return _LOOPING[0], Site("/app/api.py", number, f"show_{number}")


@cache
def _shape(number: int, table: str) -> Shape:
    text = f"SELECT {table}.id, {table}.name, {number} FROM {table} WHERE {table}.id = ?"
    return Shape(f"{number:016x}", text, "SELECT", f"SELECT {table}", (table,))


def _statement(number: int, shape: Shape, stack: tuple[Site, ...], binds: int) -> Statement:
    return Statement(
        sql=shape.text.replace("?", "$1"),
        shape=shape,
        started=number * 1e-3,
        elapsed=5e-4,
        rows=1,
        stack=stack,
        binds=binds,
        transaction=0,
        engine="postgresql+asyncpg://localhost/shop",
        window=1,
        bind_digests=(binds,),
        bind_count=1,
    )


def repeated(number: int) -> Statement:
    """One read, from a loop, with other values each time."""
    return _statement(number, _shape(0, "items"), _LOOPING, number)


def varied(number: int) -> Statement:
    """Reads of two hundred shapes from as many places, each again and again with other values."""
    kind = number % 200
    return _statement(number, _shape(kind, _TABLES[kind % len(_TABLES)]), _stack(kind), number)


def duplicated(number: int) -> Statement:
    """Reads with the same values, over and over."""
    kind = number % 7
    return _statement(number, _shape(kind, _TABLES[kind % len(_TABLES)]), _ONCE, number % 3)


KINDS: Final[dict[str, Callable[[int], Statement]]] = {kind.__name__: kind for kind in (repeated, varied, duplicated)}


def trace_of(kind: Callable[[int], Statement], size: int) -> Trace:
    """A request that sent so many statements of that kind."""
    statements = tuple(map(kind, range(size)))
    return Trace(id="0" * 32, kind="request", name="GET /", began=datetime.now(UTC), elapsed=1.0, statements=statements)


def seconds(kind: str, size: int, repetitions: int = 15) -> float:
    """Time of judging such a trace by the default detectors: the median of some repetitions."""
    trace, detectors, faults = trace_of(KINDS[kind], size), default_detectors(Settings()), Faults()
    taken = []
    for _ in range(repetitions):
        began = time.perf_counter()
        judge(trace, detectors, faults)
        taken.append(time.perf_counter() - began)
    return median(taken)
