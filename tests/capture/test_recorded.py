"""Statements that are made when somebody asks, against the tuple of them."""

from __future__ import annotations

import copy
import pickle
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.capture.calls import Call
from querytoll.capture.recorded import Odd, Recorded
from querytoll.capture.stays import Tap
from querytoll.fingerprint import shape
from querytoll.model import Ignore, Site, Statement

TAP: Final = Tap("shop", is_async=True)
HERE: Final = Site("/app/orders.py", 7, "show")
SESSION: Final = Site("/app/session.py", 3, "get_session")
TEXTS: Final = ("SELECT * FROM orders", "UPDATE orders SET n = 1", "SELECT 1")


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Recorded, tuple[Statement, ...]]:
    """A recording, and its statements as they are known from elsewhere."""
    known = [_call(draw) for _ in range(draw(st.integers(1, 4)))]
    size = draw(st.integers(1, 12))
    recorded = Recorded({(SESSION.file, SESSION.function)}, 10)
    while len(recorded.calls) < size:
        number, ignores = draw(st.sampled_from([None, 0, 1])), draw(st.sampled_from([(), (Ignore("r", "why"),)]))
        run = draw(st.sampled_from(known)), draw(st.integers(1, 3)), number, ignores, draw(st.integers(1, 2))
        recorded.runs.append(run)
        recorded.calls += [run[0]] * run[1]
    size = len(recorded.calls)
    runs = [run for run in recorded.runs for _ in range(run[1])]
    recorded.started += [draw(st.floats(0, 9)) for _ in range(size)]
    recorded.elapsed += [draw(st.floats(0, 9)) for _ in range(size)]
    recorded.counts += [draw(st.integers(-1, 3)) for _ in range(size)]
    recorded.binds += [(draw(st.integers()), (1, 2), 2) for _ in range(size)]
    recorded.uniform = len(set(map(id, recorded.calls))) == 1
    odd = draw(st.sets(st.integers(0, size - 1), max_size=3))
    for place in odd:
        recorded.odd[place] = Odd("response", 0.5, streamed=True, error="42P01", entities=3, size=40)
    expected = [
        Statement(
            sql=call.sql[:10],
            shape=shape(call.sql),
            started=recorded.started[place],
            elapsed=recorded.elapsed[place],
            stall=0.5 if place in odd else 0.0,
            rows=recorded.counts[place] if recorded.counts[place] >= 0 else None,
            many=call.many,
            streamed=place in odd,
            stack=call.stack,
            relation=call.relation,
            load=call.load,
            binds=recorded.binds[place][0],
            transaction=runs[place][2],
            phase="response" if place in odd else "dependency" if SESSION in call.stack else "endpoint",
            error="42P01" if place in odd else None,
            engine="shop",
            blocking=call.blocking,
            detached=False,
            ignored=runs[place][3],
            window=runs[place][4],
            bind_digests=(1, 2),
            bind_count=2,
            entities=3 if place in odd else None,
            size=40 if place in odd else None,
        )
        for place, call in enumerate(recorded.calls)
    ]
    return recorded, tuple(expected)


def _call(draw: st.DrawFn) -> Call:
    call = Call(
        draw(st.sampled_from(TEXTS)),
        draw(st.sampled_from([(), (HERE,), (SESSION, HERE)])),
        TAP,
        many=draw(st.booleans()),
        blocking=draw(st.booleans()),
    )
    call.read()
    call.relation, call.load = draw(st.sampled_from([(None, None), ("Order.items", "lazy")]))
    return call


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
