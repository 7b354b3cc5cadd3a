"""Statements that are made when somebody asks, against the tuple of them."""

from __future__ import annotations

import copy
import pickle
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.capture.recorded import Odd, Recorded, Sent
from querytoll.fingerprint import shape
from querytoll.model import Site, Statement

HERE: Final = Site("/app/orders.py", 7, "show")
TEXTS: Final = ("SELECT * FROM orders", "UPDATE orders SET n = 1", "SELECT 1")


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Recorded, tuple[Statement, ...]]:
    """A recording, and its statements as they are known from elsewhere."""
    calls = [_sent(draw, number) for number in range(draw(st.integers(1, 4)))]
    size = draw(st.integers(1, 12))
    sent = [draw(st.sampled_from(calls)) for _ in range(size)]
    started = [draw(st.floats(0, 9)) for _ in range(size)]
    elapsed = [draw(st.floats(0, 9)) for _ in range(size)]
    counts = [draw(st.integers(-1, 3)) for _ in range(size)]
    binds = [(draw(st.integers()), (1, 2), 2) for _ in range(size)]
    places = draw(st.sets(st.integers(0, size - 1), max_size=3))
    odd = {place: Odd("response", 0.5, streamed=True, error="42P01", entities=3, size=40) for place in places}
    expected = [
        Statement(
            sql=each.sql,
            shape=each.shape,
            started=started[place],
            elapsed=elapsed[place],
            stall=0.5 if place in odd else 0.0,
            rows=counts[place] if counts[place] >= 0 else None,
            many=each.many,
            streamed=place in odd,
            stack=each.stack,
            relation=each.relation,
            load=each.load,
            binds=binds[place][0],
            transaction=each.transaction,
            phase="response" if place in odd else "endpoint",
            error="42P01" if place in odd else None,
            engine=each.engine,
            blocking=each.blocking,
            detached=each.detached,
            ignored=each.ignored,
            window=each.window,
            bind_digests=(1, 2),
            bind_count=2,
            entities=3 if place in odd else None,
            size=40 if place in odd else None,
        )
        for place, each in enumerate(sent)
    ]
    return Recorded(sent, calls, started, elapsed, counts, binds, odd), tuple(expected)


def _sent(draw: st.DrawFn, number: int) -> Sent:
    sql = draw(st.sampled_from(TEXTS))
    return Sent(
        sql,
        shape(sql),
        many=draw(st.booleans()),
        stack=draw(st.sampled_from([(), (HERE,)])),
        relation=draw(st.sampled_from([None, "Order.items"])),
        load=draw(st.sampled_from([None, "lazy"])),
        transaction=draw(st.sampled_from([None, number])),
        engine="shop",
        blocking=draw(st.booleans()),
        detached=False,
        ignored=(),
        window=number,
    )


@given(recordings(), st.lists(st.integers(-14, 14), max_size=12))
def test_statements_are_those_of_a_tuple(recording: tuple[Recorded, tuple[Statement, ...]], asked: list[int]) -> None:
    recorded, expected = recording
    for at in asked:
        if -len(expected) <= at < len(expected):
            assert recorded[at] == expected[at]
        else:
            with pytest.raises(IndexError):
                recorded[at]
    assert len(recorded) == len(expected)
    assert list(reversed(recorded)) == list(reversed(expected))
    assert recorded[1:-1] == expected[1:-1]
    assert (*recorded,) == tuple(recorded) == expected


@given(recordings())
def test_a_recording_is_equal_to_its_tuple(recording: tuple[Recorded, tuple[Statement, ...]]) -> None:
    recorded, expected = recording
    assert recorded == expected
    assert recorded == copy.copy(recorded) == pickle.loads(pickle.dumps(recorded))
    assert hash(recorded) == hash(expected)
    assert repr(recorded) == repr(expected)
    assert recorded != expected[:-1]
    assert expected[0] in recorded


@given(recordings())
def test_a_statement_is_made_once(recording: tuple[Recorded, tuple[Statement, ...]]) -> None:
    """Who asks for all of them gets the same objects again."""
    recorded, _ = recording
    assert [id(each) for each in recorded] == [id(each) for each in recorded]


@given(recordings())
def test_a_column_is_a_field_of_all_statements(recording: tuple[Recorded, tuple[Statement, ...]]) -> None:
    recorded, expected = recording
    for name in Statement._fields:
        assert recorded.column(name) == tuple(getattr(each, name) for each in expected)
    assert recorded.rows() == sum(each.rows or 0 for each in expected)
