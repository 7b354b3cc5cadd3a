"""What a route's repetitions did over its last requests: grow with the rows, or always be the same few."""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Lock
from typing import Final

Key = tuple[str, str, str]

_REMEMBERED: Final = 20
_ENOUGH: Final = 5


class Growth:
    """Remember counts of repetitions per route and shape, the least recently seen first to go.

    Args:
        max_keys: pairs of route and shape that are remembered.
        fan_out: counts up to this that never change are taken for a fan-out by design.
    """

    def __init__(self, *, max_keys: int = 2_000, fan_out: int = 5) -> None:
        self._max_keys = max_keys
        self._fan_out = fan_out
        self._seen: OrderedDict[Key, deque[tuple[int, int | None]]] = OrderedDict()
        self._lock = Lock()

    def confidence(self, key: Key, count: int, rows: int | None, base: float) -> float:
        """Note a repetition and return how sure it is that it is one per row.

        Args:
            key: route, shape and function.
            count: executions in this request.
            rows: rows of the statement that they were run for, where known.
            base: confidence from the request alone.
        """
        with self._lock:
            seen = self._seen.setdefault(key, deque(maxlen=_REMEMBERED))
            self._seen.move_to_end(key)
            seen.append((count, rows))
            while len(self._seen) > self._max_keys:
                self._seen.popitem(last=False)
            history = list(seen)
        counts = {count for count, _ in history}
        if len(counts) > 1:
            return max(base, 0.95)
        if len(history) >= _ENOUGH and count <= self._fan_out and len({rows for _, rows in history}) > 1:
            return min(base, 0.3)
        return base
