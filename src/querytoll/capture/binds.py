"""Bind values to digests: comparable within this process, of no use outside of it."""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

_KEY: Final = random.SystemRandom().getrandbits(62)
_MAX_SEPARATE: Final = 16


class Binds(NamedTuple):
    """What is kept of a statement's bind values.

    Args:
        digest: keyed hash of all of them.
        each: keyed hash of each, in their order; empty where there are more than 16.
        total: values, those inside of arrays counted.
    """

    digest: int
    each: tuple[int, ...]
    total: int


NONE: Final = Binds(0, (), 0)


def binds_of(parameters: Any) -> Binds:
    """Return the digests of one statement's parameters, positional or named.

    Equal values give equal digests. The values cannot be computed back: the key is secret and new in every process.
    """
    values = tuple(parameters.values()) if isinstance(parameters, dict) else parameters
    count = len(values)
    try:
        if count > _MAX_SEPARATE:
            return Binds(hash((_KEY, values)), (), count)
        each = tuple([hash((_KEY, value)) for value in values])
        return Binds(hash(each), each, count)
    except TypeError:
        frozen = tuple(_hashable(value) for value in values)
        each = tuple(hash((_KEY, value)) for value in frozen) if count <= _MAX_SEPARATE else ()
        return Binds(hash((_KEY, frozen)), each, sum(_size(value) for value in values))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, set)) else 1


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _hashable(each)) for key, each in value.items())
    if isinstance(value, (list, tuple, set)):
        return tuple(_hashable(each) for each in value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
