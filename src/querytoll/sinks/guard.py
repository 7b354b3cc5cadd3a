"""A label's values to as many of them as may have series of their own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock

OTHER = "other"
"""Label value of everything that a guard folds."""
ABSENT = "-"
"""Label value where there is nothing to tell: a finding without a fingerprint, a request without a status."""
MAX_LABEL_LENGTH = 200
"""Characters of one label value."""


class Guard:
    """Admits the first values of a label, and counts every further occurrence as folded, where somebody counts."""

    def __init__(self, limit: int, folded: Callable[[int], object] | None = None) -> None:
        self.limit = limit
        self._folded = folded
        self._known: set[Hashable] = set()
        self._lock = Lock()

    def admits(self, value: Hashable) -> bool:
        """The value is among the first `limit` ones."""
        if value in self._known:
            return True
        with self._lock:
            if len(self._known) < self.limit:
                self._known.add(value)
            admitted = value in self._known
        if not admitted and self._folded is not None:
            self._folded(1)
        return admitted

    def fold(self, value: str) -> str:
        """The value if it is admitted, else `other`."""
        return value if self.admits(value) else OTHER


def label(value: str) -> str:
    """Return a value that a scrape can encode: one lone surrogate would fail the whole of it."""
    return value[:MAX_LABEL_LENGTH].encode("utf-8", "replace").decode("utf-8") or ABSENT
