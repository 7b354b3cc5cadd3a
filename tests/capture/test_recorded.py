"""Statements that are made when somebody asks, against the tuple of them."""

from __future__ import annotations

import copy
import pickle
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.capture.recorded import Batch, Odd, Recorded
from querytoll.fingerprint import shape
from querytoll.model import Site, Statement

HERE: Final = Site("/app/orders.py", 7, "show")
TEXTS: Final = ("SELECT * FROM orders", "UPDATE orders SET n = 1", "SELECT 1")


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Recorded, tuple[Statement, ...]]:
    """A recording, and its statements as they are known from elsewhere."""
    batches = [_batch(draw, number) for number in range(draw(st.integers(1, 4)))]
    odd: dict[int, Odd] = {}
    expected = []
    size = draw(st.integers(1, 12))
    for place in range(size):
        batch = draw(st.sampled_from(batches))
        started, elapsed, rows = draw(st.floats(0, 9)), draw(st.floats(0, 9)), draw(st.integers(-1, 3))
        binds = (draw(st.integers()), (1, 2), 2)
        batch.places.append(place)
        batch.started.append(started)
        batch.elapsed.append(elapsed)
        batch.rows.append(rows)
        batch.binds.append(binds)
        if draw(st.integers(0, 3)) == 0:
            odd[place] = Odd("response", 0.5, streamed=True, error="42P01", entities=3, size=40)
        expected.append(_statement(batch, started, elapsed, rows, binds, odd.get(place) or Odd(batch.phase)))
    return Recorded([batch for batch in batches if batch.places], size, odd), tuple(expected)


def _batch(draw: st.DrawFn, number: int) -> Batch:
    sql = draw(st.sampled_from(TEXTS))
    return Batch(
        sql,
        shape(sql),
        many=draw(st.booleans()),
        stack=draw(st.sampled_from([(), (HERE,)])),
        relation=draw(st.sampled_from([None, "Order.items"])),
        load=draw(st.sampled_from([None, "lazy"])),
        transaction=draw(st.sampled_from([None, number])),
        phase="endpoint",
        engine="shop",
        blocking=draw(st.booleans()),
        detached=False,
        ignored=(),
        window=number,
        places=[],
        started=[],
        elapsed=[],
        rows=[],
        binds=[],
    )


def _statement(
    batch: Batch, started: float, elapsed: float, rows: int, binds: tuple[int, tuple[int, ...], int], odd: Odd
) -> Statement:
    return Statement(
        sql=batch.sql,
        shape=batch.shape,
        started=started,
        elapsed=elapsed,
        stall=odd.stall,
        rows=rows if rows >= 0 else None,
        many=batch.many,
        streamed=odd.streamed,
        stack=batch.stack,
        relation=batch.relation,
        load=batch.load,
        binds=binds[0],
        transaction=batch.transaction,
        phase=odd.phase,
        error=odd.error,
        engine=batch.engine,
        blocking=batch.blocking,
        detached=batch.detached,
        ignored=batch.ignored,
        window=batch.window,
        bind_digests=binds[1],
        bind_count=binds[2],
        entities=odd.entities,
        size=odd.size,
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
