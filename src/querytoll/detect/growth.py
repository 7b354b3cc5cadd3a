"""What a route's repetitions did over its last requests: grow with the rows, or always be the same few."""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Lock
from typing import Final

Key = tuple[str, str, str]

_REMEMBERED: Final = 20
_ENOUGH: Final = 5


class _Seen:
    """Counts and rows of the last repetitions; how many of the latest are equal."""

    __slots__ = ("equal", "last")

    def __init__(self) -> None:
        self.last: deque[tuple[int, int | None]] = deque(maxlen=_REMEMBERED)
        self.equal = 0

    def add(self, entry: tuple[int, int | None]) -> bool:
        """Note a repetition and tell whether all were like it: then nothing was learnt."""
        last = self.last
        self.equal = self.equal + 1 if last and last[-1] == entry else 1
        last.append(entry)
        return self.equal >= len(last)


class Growth:
    """Remember counts of repetitions per route and shape, the least recently seen first to go.

    Args:
        max_keys: pairs of route and shape that are remembered.
        fan_out: counts up to this that never change are taken for a fan-out by design.
    """

    def __init__(self, *, max_keys: int = 2_000, fan_out: int = 5) -> None:
        self._max_keys = max_keys
        self._fan_out = fan_out
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        self._lock = Lock()

    def confidence(self, key: Key, count: int, rows: int | None, base: float) -> float:
        """Note a repetition and return how sure it is that it is one per row.

        Args:
            key: route, shape and function.
            count: executions in this request.
            rows: rows of the statement that they were run for, where known.
            base: confidence from the request alone.
        """
        lock = self._lock
        lock.acquire()  # a `with` costs twice as much
        try:
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen()
                if len(self._seen) > self._max_keys:
                    self._seen.popitem(last=False)
            else:
                self._seen.move_to_end(key)
            if seen.add((count, rows)):
                return base
            history = list(seen.last)
        finally:
            lock.release()
        counts = {count for count, _ in history}
        if len(counts) > 1:
            return max(base, 0.95)
        if len(history) >= _ENOUGH and count <= self._fan_out and len({rows for _, rows in history}) > 1:
            return min(base, 0.3)
        return base
