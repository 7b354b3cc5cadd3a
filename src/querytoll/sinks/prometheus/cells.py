"""The numbers behind the client's metrics, several of which change at a time.

`inc` and `observe` cost 2,000 to 6,000 instructions each, most of them for a lock per number. Here the numbers of a
registry share one lock, which a whole report takes once, and are added to where they lie: `cell._value += amount`.
Where a version of the client keeps them elsewhere, or in files, their own increment serves behind the same words.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.samples import Exemplar


class Cell(Protocol):
    """A number; add to `_value` while the lock of its `Cells` is held, or by `inc` at any time."""

    _value: float

    def inc(self, amount: float, /) -> object: ...


class Distant:
    """A number that is reached through its increment only."""

    __slots__ = ("inc",)

    def __init__(self, inc: Callable[[float], object]) -> None:
        self.inc = inc

    @property
    def _value(self) -> float:
        return 0.0

    @_value.setter
    def _value(self, amount: float) -> None:
        self.inc(amount)


class Sums:
    """A summary: a number of observations and their sum; both are added to, in this order, while the lock is held."""

    __slots__ = ("count", "total")

    def __init__(self, count: Cell, total: Cell) -> None:
        self.count = count
        self.total = total


class Bins:
    """A histogram: its sum and its buckets, the last one without bound.

    Attributes:
        total: its sum.
        buckets: numbers of values, by their bounds.
        low: the lowest bound, below which most values of some histograms lie.
        lowest: the bucket of that bound.
    """

    __slots__ = ("_bounds", "buckets", "low", "lowest", "total")

    def __init__(self, bounds: Sequence[float], total: Cell, buckets: Sequence[Cell]) -> None:
        self._bounds = bounds
        self.buckets = buckets
        self.total = total
        self.low = bounds[0]
        self.lowest = buckets[0]

    def one(self, value: float) -> None:
        """Add a value; the lock is held."""
        self.total._value += value
        bucket = self.lowest if value <= self.low else self.buckets[bisect_left(self._bounds, value)]
        bucket._value += 1.0

    def bucket(self, value: float) -> Cell:
        """Return where a value counts."""
        return self.buckets[bisect_left(self._bounds, value)]

    def many(self, ascending: Sequence[float], total: float) -> None:
        """Add several values, sorted, whose sum is known, touching each bucket once; the lock is held."""
        self.total._value += total
        done, count, highest = 0, len(ascending), ascending[-1]
        if highest <= self.low:
            self.lowest._value += count
            return
        bounds = self._bounds
        while done < count:
            place = bisect_left(bounds, ascending[done])
            if place == len(bounds) or highest <= bounds[place]:
                upto = count
            else:
                upto = bisect_right(ascending, bounds[place], done)
            self.buckets[place]._value += upto - done
            done = upto

    def mark(self, value: float, trace_id: str) -> None:
        """Name the trace in which a value was seen."""
        bucket: Any = self.bucket(value)
        if hasattr(bucket, "set_exemplar"):
            bucket.set_exemplar(Exemplar({"trace_id": trace_id}, value, time.time()))


class ObservedSums(Sums):
    """A summary that is reached by its observations only: the count tells how many make the sum that follows."""

    __slots__ = ("_child", "_coming")

    def __init__(self, child: Summary) -> None:
        self._child = child
        self._coming = 0
        super().__init__(Distant(self._expect), Distant(self._observe))

    def _expect(self, count: float) -> None:
        self._coming = int(count)

    def _observe(self, total: float) -> None:
        for _ in range(self._coming):
            self._child.observe(total / self._coming)


class ObservedBins(Bins):
    """A histogram that is reached by its observations only: the sum of a single value is one, its bucket is nowhere."""

    __slots__ = ("_child",)

    def __init__(self, bounds: Sequence[float], child: Histogram) -> None:
        self._child = child
        nowhere = Distant(lambda amount: None)
        super().__init__(bounds, Distant(child.observe), [nowhere] * (len(bounds) + 1))

    def many(self, ascending: Sequence[float], total: float) -> None:
        for value in ascending:
            self._child.observe(value)

    def mark(self, value: float, trace_id: str) -> None:
        """An exemplar comes with its observation, and that has been made."""


class Cells:
    """Reaches the numbers of children.

    Attributes:
        lock: guards all of them; reentrant, because a finalizer that runs while it is held may end a profiled block.
    """

    def __init__(self) -> None:
        self.lock = RLock()

    def counter(self, child: Counter | Gauge) -> Cell:
        """Return the number of a counter or gauge."""
        return self._reach(child, "_value") or Distant(child.inc)

    def summary(self, child: Summary) -> Sums:
        """Return the numbers of a summary."""
        count, total = self._reach(child, "_count"), self._reach(child, "_sum")
        return ObservedSums(child) if count is None or total is None else Sums(count, total)

    def histogram(self, child: Histogram, bounds: Sequence[float]) -> Bins:
        """Return the numbers of a histogram with these upper bounds and one bucket above them."""
        total = self._reach(child, "_sum")
        buckets = [self._share(bucket) for bucket in getattr(child, "_buckets", ())]
        if total is None or len(buckets) != len(bounds) + 1:
            return ObservedBins(bounds, child)
        return Bins(bounds, total, buckets)

    def _reach(self, owner: object, name: str) -> Cell | None:
        found = getattr(owner, name, None)
        return self._share(found) if hasattr(found, "inc") else None

    def _share(self, number: Any) -> Cell:
        if isinstance(getattr(number, "_value", None), float) and hasattr(number, "_lock"):
            number._lock = self.lock
            shared: Cell = number
            return shared
        return Distant(number.inc)
