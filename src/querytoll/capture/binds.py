"""Bind values to digests: comparable within this process, of no use outside of it."""

from __future__ import annotations

import itertools
import random
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

_KEY: Final = random.SystemRandom().getrandbits(62)
_MAX_SEPARATE: Final = 16
_PLAIN: Final = frozenset((int, str, float, bool, type(None), bytes, datetime, date, Decimal, UUID))
_BY_ADDRESS: Final[Any] = object.__hash__
# Python's hash of -1 is that of -2.
_AMBIGUOUS: Final = hash((_KEY, -1))
_MINUS_ONE: Final = hash((_KEY, "-1"))
_unequal: Final = itertools.count(1)


Binds = tuple[int, tuple[int, ...], int]
"""What is kept of a statement's bind values: the keyed hash of all of them; the keyed hash of each, in their order,
none where there are more than 16; how many there are, those inside of arrays counted."""

NONE: Final[Binds] = (0, (), 0)


def binds_of(parameters: Any) -> Binds:
    """Return the digests of one statement's parameters, positional or named.

    Equal values give equal digests. The values cannot be computed back: the key is secret and new in every process.
    """
    if type(parameters) is tuple and len(parameters) == 1 and type(parameters[0]) in _PLAIN:
        digest = hash((_KEY, parameters[0]))
        if digest == _AMBIGUOUS and parameters[0] == -1:
            digest = _MINUS_ONE
        return digest, (digest,), 1
    return _several(tuple(parameters.values() if isinstance(parameters, dict) else parameters))


def _several(values: tuple[Any, ...]) -> Binds:
    count = total = len(values)
    if not _PLAIN.issuperset(map(type, values)):
        total = sum(map(_size, values))
        values = tuple(map(_frozen, values))
    if count > _MAX_SEPARATE:
        return hash((_KEY, values, -1 in values)), (), total
    each = tuple([hash((_KEY, value)) for value in values])
    if _AMBIGUOUS in each:
        each = tuple(_MINUS_ONE if value == -1 else known for value, known in zip(values, each, strict=True))
    return each[0] if count == 1 else hash(each), each, total


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, set)) else 1


def _frozen(value: Any) -> Any:
    """Return a hashable that is equal for equal values, and for nothing else where equality cannot be known."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return dict, frozenset((key, _inside(each)) for key, each in value.items())
    if isinstance(value, (set, frozenset)):
        return set, frozenset(map(_inside, value))
    if isinstance(value, (list, tuple)):
        return list, tuple(map(_inside, value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if type(value).__hash__ is _BY_ADDRESS:
        # psycopg's Json and Jsonb; of others, an address tells nothing: it is used again for the next value.
        return (type(value), _inside(value.obj)) if hasattr(value, "obj") else next(_unequal)
    try:
        hash(value)
    except Exception:
        return next(_unequal)
    return value


def _inside(value: Any) -> Any:
    return _MINUS_ONE if type(value) in _PLAIN and value == -1 else _frozen(value)
