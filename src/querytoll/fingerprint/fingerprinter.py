"""Statement texts to remembered shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from querytoll.fingerprint.cache import Recent, Texts
from querytoll.fingerprint.shapes import MAX_LENGTH, hash_of_literals, read
from querytoll.model import Shape


class Fingerprinter:
    """Reads a statement's text once, and remembers its shape.

    Args:
        max_entries: texts, and shapes, that are remembered; their characters are bounded by a thousand times as many.
        max_length: characters of a shape's text. What would follow is not read, long lists of values excepted: these
            are skipped at the speed of a regular expression, up to two million characters.
    """

    def __init__(self, *, max_entries: int = 10_000, max_length: int = MAX_LENGTH) -> None:
        self._max_length = max_length
        self._shapes: Recent[tuple[str, bool], Shape] = Recent(max_entries)
        self._texts = Texts(self._read, max_entries)
        self.shape: Callable[[str], Shape] = self._texts.__getitem__
        """Return the shape of a statement's text; a dictionary lookup where the text is known. Never raises."""

    def __len__(self) -> int:
        """Return the number of texts remembered."""
        return self._texts.size

    def __call__(self, sql: str) -> Shape:
        """Return the shape of a statement's text."""
        return self.shape(sql)

    def _read(self, sql: str) -> Shape:
        new = read(sql, self._max_length)
        key = (new.text, new.inlined)
        known = self._shapes.get(key)
        if known is None:
            known = self._shapes.old.get(key, new)
            self._shapes.remember(key, known, len(new.text))
        return known


shape: Final = Fingerprinter().shape
"""Return the shape of a statement's text, remembered for the whole process. Never raises."""

literals: Final[Callable[[str], int]] = Texts(hash_of_literals, 2_000).__getitem__
"""Return a hash of the literals of its own that a text holds; comparable within one process."""
