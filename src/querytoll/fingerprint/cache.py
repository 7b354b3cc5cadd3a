"""The entries used last, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
_CHARACTERS_PER_ENTRY: Final = 1_000


class Recent(dict[Key, Value], Generic[Key, Value]):
    """The entries used last, in two generations of which the older is dropped whole: a hit is a bare lookup.

    No lock: threads that meet in here do some work twice, no more.
    """

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self.old: dict[Key, Value] = {}
        self._max_entries = max(max_entries // 2, 1)
        self._max_characters = self._max_entries * _CHARACTERS_PER_ENTRY
        self._characters = 0

    @property
    def size(self) -> int:
        return len(self) + len(self.old)

    def remember(self, key: Key, value: Value, characters: int) -> None:
        if characters > self._max_characters:
            return
        if len(self) >= self._max_entries or self._characters + characters > self._max_characters:
            self.old = dict(self)
            self.clear()
            self._characters = 0
        self[key] = value
        self._characters += characters


class Texts(Recent[str, Value]):
    """What was read out of statements' texts."""

    def __init__(self, read: Callable[[str], Value], max_entries: int) -> None:
        super().__init__(max_entries)
        self._read = read

    def __missing__(self, sql: str) -> Value:
        found = self.old.get(sql)
        if found is None:
            found = self._read(sql)
        self.remember(sql, found, len(sql))
        return found
