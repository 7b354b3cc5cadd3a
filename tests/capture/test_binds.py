"""Digests of bind values tell equal from different, and give no value away."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json, Jsonb

from querytoll.capture.binds import NONE, binds_of

integers = st.integers(-(2**40), 2**40)
KINDS: tuple[st.SearchStrategy[Any], ...] = (
    integers,
    st.text(max_size=5),
    st.binary(max_size=5),
    st.decimals(-9, 9),
    st.datetimes(),
    st.uuids(),
    st.lists(integers, max_size=3),
    st.lists(st.lists(st.text(max_size=2), max_size=2), max_size=3),
    st.dictionaries(st.text(max_size=3), integers | st.lists(integers, max_size=2), max_size=3),
    st.sets(integers, max_size=4),
)
values = st.none() | st.one_of(KINDS)
# The values that one column is compared with are of one type.
alike = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.lists(kind, max_size=4), st.lists(kind, max_size=4)))


@settings(deadline=None)
@given(st.lists(values, max_size=20))
def test_equal_values_have_equal_digests(parameters: list[Any]) -> None:
    """Copies, and dictionaries and sets that were filled in another order, are equal."""
    assert binds_of(tuple(parameters)) == binds_of(tuple(_refilled(copy.deepcopy(parameters))))
    named = {f"p{n}": value for n, value in enumerate(parameters)}
    assert binds_of(named) == binds_of(copy.deepcopy(named)) == binds_of(tuple(parameters))


@settings(deadline=None)
@given(alike)
@example(([-1], [-2]))
@example(([-1, -2], [-2, -1]))
@example(([[-1]], [[-2]]))
@example(([{"a": -1}], [{"a": -2}]))
@example(([*range(20), -1], [*range(20), -2]))
@example(([[1, 2], 3], [[1], 2, 3]))
@example(([bytearray(b"a")], [bytearray(b"b")]))
@example(([None], [0]))
@example((["1"], [1]))
def test_different_values_have_different_digests(pair: tuple[list[Any], list[Any]]) -> None:
    one, other = pair
    assert (binds_of(tuple(one))[0] == binds_of(tuple(other))[0]) is (one == other)


@settings(deadline=None)
@given(st.lists(values, max_size=15), alike, st.integers(0, 15))
def test_each_value_has_a_digest_of_its_own(
    others: list[Any], pair: tuple[list[Any], list[Any]], position: int
) -> None:
    """One value changed changes one digest, whatever the types of the rest."""
    parameters, changed = [*others], [*others]
    parameters.insert(position, pair[0])
    changed.insert(position, pair[1])
    before, after = binds_of(tuple(parameters))[1], binds_of(tuple(changed))[1]
    assert len(before) == len(parameters)
    differences = [n for n, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]
    assert differences == [n for n, (one, two) in enumerate(zip(parameters, changed, strict=True)) if one != two]


def test_many_values_have_one_digest_only() -> None:
    """Promise 3: what is kept of one statement is bounded."""
    assert len(binds_of(tuple(range(16)))[1]) == 16
    assert binds_of(tuple(range(17)))[1] == ()
    assert binds_of((*range(17), []))[1] == ()


@pytest.mark.parametrize(
    ("parameters", "total"),
    [((), 0), ({}, 0), ((1, "a", None), 3), (([1, 2, 3],), 3), ((1, [2, 3], (4,)), 4), (tuple(range(50)), 50)],
)
def test_values_inside_of_arrays_are_counted(parameters: Any, total: int) -> None:
    assert binds_of(parameters)[2] == total


def test_unhashable_values_are_told_apart_by_content() -> None:
    """A buffer's digest is its content's, not its address', which is used again once the buffer is gone."""
    assert len({binds_of((bytearray(str(n).encode()),))[0] for n in range(100)}) == 100
    assert binds_of((memoryview(bytearray(b"x")),)) == binds_of((memoryview(bytearray(b"x")),))


@pytest.mark.parametrize("wrap", [Json, Jsonb])
def test_documents_that_a_driver_wraps_are_told_apart_by_content(wrap: type[Json | Jsonb]) -> None:
    """psycopg's wrapper compares by address, and the next one of a loop has the same address."""
    assert len({binds_of((wrap({"n": n}),))[0] for n in range(100)}) == 100
    assert binds_of((wrap({"n": [1, -1]}), 1)) == binds_of((wrap({"n": [1, -1]}), 1))
    assert binds_of((wrap([-1]),)) != binds_of((wrap([-2]),))


class Wrapped:
    """Compares by address."""


@dataclass(frozen=True)
class Frozen:
    inside: list[int]


def test_values_that_cannot_be_compared_are_different() -> None:
    """What a digest cannot tell is never called a duplicate, and never a fault."""
    assert len({binds_of((Wrapped(),))[0] for _ in range(100)}) == 100
    assert len({binds_of((Frozen([n]),))[0] for n in range(100)}) == 100
    assert len({binds_of(([Frozen([])],))[0] for n in range(100)}) == 100


def test_no_values_are_none() -> None:
    assert NONE[2] == 0
    assert NONE[1] == binds_of(())[1]


def test_a_digest_holds_nothing_of_its_value() -> None:
    """The key is random: hashes that everybody can compute appear nowhere."""
    for value in (7, 2**40, "ada", b"ada"):
        assert {hash(value), hash((value,)), value}.isdisjoint({*binds_of((value,))[1], binds_of((value,))[0]})


def _refilled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _refilled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [_refilled(each) for each in value]
    if isinstance(value, set):
        return {each for each in sorted(value, reverse=True)}  # noqa: C416 - the order of filling matters
    return value
