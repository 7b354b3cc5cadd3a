"""Rules are asked only where they may find something, of a trace that was looked through once."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytoll.detect import Ignoring, default_detectors, judge
from querytoll.detect.index import Index
from querytoll.detect.layout import _layouts
from querytoll.detect.repeats import NPlusOne
from querytoll.errors import Faults
from querytoll.model import (
    Checkout,
    Detector,
    Finding,
    Ignore,
    Loaded,
    Shape,
    Site,
    Statement,
    Trace,
    Transaction,
    new_finding,
)
from querytoll.settings import Settings

SITES = tuple(Site(f"/app/{name}.py", line, name, looping=line == 2) for line, name in enumerate(("a", "b", "c")))
STACKS = ((), SITES[:1], SITES[1:], (SITES[0], SITES[2]), SITES)
SHAPES = (
    Shape("0" * 16, "SELECT id FROM items WHERE id = ?", "SELECT", "SELECT items", ("items",)),
    Shape("1" * 16, "SELECT id FROM orders WHERE id > ? LIMIT ?", "SELECT", "SELECT orders", ("orders",), inlined=True),
    Shape("2" * 16, "SELECT id FROM jobs FOR UPDATE SKIP LOCKED", "SELECT", "SELECT jobs", ("jobs",), locking=True),
    Shape("3" * 16, "INSERT INTO items VALUES (?)", "INSERT", "INSERT items", ("items",), ("items",)),
    Shape("4" * 16, "UPDATE jobs SET a = ?", "UPDATE", "UPDATE jobs", ("jobs",), ("jobs",)),
    Shape("5" * 16, "SET search_path = ?", "SET", "SET"),
)
ERRORS = (None, None, None, "40001", "MissingGreenlet")
RULES = ("n-plus-one", "duplicate-query", "write-loop", "slow-query", "statement-churn", "large-result")


@st.composite
def statements(draw: st.DrawFn) -> tuple[Statement, ...]:
    """Up to a dozen statements, one after the other or side by side, alike more often than not."""
    shapes, stacks = (
        draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3)),
        draw(st.lists(st.sampled_from(STACKS), min_size=1, max_size=2)),
    )
    odd = draw(st.booleans())
    made = []
    for number in range(draw(st.integers(0, 12))):
        binds = draw(st.integers(0, 5))
        plain = Statement(
            sql=draw(st.sampled_from(shapes)).text.replace("?", "$1"),
            shape=draw(st.sampled_from(shapes)),
            started=number * draw(st.sampled_from((1e-3, 5e-3))),
            elapsed=draw(st.sampled_from((1e-4, 4e-3, 0.2))),
            rows=draw(st.sampled_from((None, 0, 1, 1, 400, 2_000))),
            stack=draw(st.sampled_from(stacks)),
            binds=binds,
            transaction=draw(st.sampled_from((None, 0, 0, 1))),
            bind_digests=(binds, 7),
            bind_count=draw(st.sampled_from((1, 1, 30))),
        )
        made.append(plain._replace(**draw(_ODD)) if odd else plain)
    return tuple(made)


_ODD: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "many": st.booleans(),
        "relation": st.sampled_from((None, "Order.items")),
        "load": st.sampled_from((None, "lazy", "eager", "refresh")),
        "error": st.sampled_from(ERRORS),
        "blocking": st.booleans(),
        "ignored": st.sampled_from(((), *(((Ignore(rule, "why"),)) for rule in RULES))),
        "entities": st.sampled_from((None, 10)),
        "size": st.sampled_from((None, 20_000_000)),
        "window": st.integers(0, 1),
    }
)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """A trace with whatever the rules look at."""
    sent = draw(statements())
    spans = st.sampled_from((0.001, 0.3, 2.0))
    return Trace(
        id="0" * 32,
        kind=draw(st.sampled_from(("request", "request", "websocket", "test"))),
        name="GET /",
        began=datetime.now(UTC),
        elapsed=2.0,
        status=200,
        statements=sent,
        transactions=tuple(Transaction("e", 0.0, draw(spans), 0.0, "committed", len(sent), SITES[0]) for _ in range(2)),
        connections=tuple(
            Checkout("e", 0.0, draw(spans), draw(spans), 0.0, SITES[0], draw(st.sampled_from(ERRORS)), holders=("x",))
            for _ in range(draw(st.integers(0, 1)))
        ),
        dropped=draw(st.sampled_from((0, 0, 60))),
        database_seconds=draw(spans),
        loads=tuple(Loaded("Order.items", each, True, True, 2, 1, 0.1) for each in sent[: draw(st.integers(0, 1))]),
        endpoint=draw(st.sampled_from((None, SITES[2]))),
    )


def unsparing(rule: Detector) -> Detector:
    """The rule as a function, of which nothing is known: it is always asked."""
    return lambda trace: rule(trace)


@settings(max_examples=200, deadline=None)
@given(st.lists(traces(), min_size=1, max_size=4))
def test_a_rule_that_is_not_asked_has_nothing_to_say(some: list[Trace]) -> None:
    """Findings are those of every rule asked about every trace, with an index of its own."""
    sparing, faults = default_detectors(Settings(watch_loads=True)), Faults()
    always = [unsparing(rule) for rule in default_detectors(Settings(watch_loads=True))]
    for trace in some:
        assert judge(trace, sparing, faults, Ignoring()) == judge(trace, always, faults, Ignoring())
    assert not faults.counts


def test_columns_hold_the_fields_of_their_names() -> None:
    """A field that moves within Statement takes its column with it, or this fails."""
    fields = {"sqls": "sql", "binds": "binds", "errors": "error", "many": "many", "engines": "engine", "sizes": "size"}
    fields |= {"bind_counts": "bind_count", "transactions": "transaction", "rows": "rows", "loads": "load"}
    fields |= {"started": "started", "elapsed": "elapsed"}
    filled = {name: f"{name} {{}}" for name in Statement._fields} | {
        "rows": 3,
        "size": 4,
        "started": 0.1,
        "elapsed": 0.2,
    }
    sent = tuple(Statement(**(filled | {"shape": SHAPES[0], "bind_count": number})) for number in range(2))
    index = Index(Trace("0" * 32, "request", "GET /", datetime.now(UTC), 1.0, sent))
    for column, field in fields.items():
        assert getattr(index, column) == tuple(getattr(each, field) for each in sent)
    assert [(calls.shape, calls.stack, calls.relation) for calls in index.layout.calls()] == [
        (each.shape, each.stack, each.relation) for each in sent[:1]
    ]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_what_the_application_adds_is_always_asked(size: int) -> None:
    """Its detectors see every trace; so does a rule of ours that it made look for more."""
    asked: list[str] = []

    class Mine:
        def __call__(self, trace: Trace) -> Iterable[Finding]:
            asked.append("mine")
            return ()

        def find(self, pattern: str) -> str:
            raise AssertionError("this is not for us to call")

    class More(NPlusOne):
        def find(self, index: Index) -> Iterable[Finding]:
            asked.append("more")
            return ()

    sent = tuple(Statement("SELECT 1", SHAPES[5], number, 1e-4) for number in range(size))
    faults = Faults()
    judge(Trace("0" * 32, "request", "GET /", datetime.now(UTC), 1.0, sent), [Mine(), More()], faults)
    assert asked == ["mine", "more"]
    assert not faults.counts


def test_an_execution_without_digests_does_not_silence_the_rule() -> None:
    """Of a group in which one execution has more values than are digested, nothing proves that it turns pages."""
    sql = "SELECT id FROM items WHERE a > $1 OR (a = $2 AND id > $3)"
    shape = Shape("6" * 16, sql, "SELECT", "SELECT items", ("items",))
    digests = ((1, 2, 3), (4, 5, 6), (), (7, 8, 9))
    sent = tuple(
        Statement(sql, shape, number / 100, 1e-3, stack=SITES, binds=number, bind_digests=each)
        for number, each in enumerate(digests)
    )
    faults = Faults()
    report = judge(
        Trace("0" * 32, "request", "GET /", datetime.now(UTC), 1.0, sent), default_detectors(Settings()), faults
    )
    assert [finding.rule for finding in report.findings] == ["n-plus-one"]
    assert not faults.counts


def read(number: int, text: str = SHAPES[0].text, stack: tuple[Site, ...] = SITES) -> Statement:
    """One of several reads with values of their own."""
    return Statement(text, SHAPES[0], number / 100, 1e-3, stack=stack, binds=number, bind_digests=(number,))


def trace_of(*sent: Statement) -> Trace:
    return Trace("0" * 32, "request", "GET /", datetime.now(UTC), 1.0, sent)


def test_a_layout_is_that_of_equal_texts_from_equal_lines() -> None:
    """Requests that send the same share what was found out of it; other lines, shapes or relations are another's."""
    sent = [read(number) for number in range(4)]
    layout = Index(trace_of(*sent)).layout
    assert Index(trace_of(*[read(number) for number in range(10, 14)])).layout is layout
    others = (
        [*sent, read(4)],
        [*sent[:3], read(3, stack=SITES[:1])],
        [*sent[:3], read(3, stack=tuple(map(copy.copy, SITES)))],  # two instructions of a line
        [*sent[:3], sent[3]._replace(shape=SHAPES[3])],
        [*sent[:3], sent[3]._replace(relation="Order.items")],
    )
    assert all(Index(trace_of(*other)).layout is not layout for other in others)


def test_findings_are_the_same_from_a_layout_that_was_seen_before() -> None:
    """Texts that are remembered are those of this request's reads, their number and what fetched the rows."""
    source = Statement("SELECT 1", SHAPES[1], -1.0, 1e-3, rows=9, stack=SITES[:1])
    faults = Faults()
    traces = [
        trace_of(*before, *[read(number)._replace(load=load) for number in range(size)])
        for size in (5, 6)
        for load in (None, "lazy", "refresh")
        for before in ((), (source,), (source._replace(rows=7),), (source._replace(stack=SITES[1:]),))
    ]

    def found(some: Iterable[Trace]) -> list[tuple[Finding, ...]]:
        return [judge(trace, default_detectors(Settings()), faults).findings for trace in some]

    def forget() -> None:
        _layouts.clear()
        _layouts.old.clear()

    apart = [found([trace])[0] for trace in traces if forget() is None]
    assert found(traces) == found(traces) == apart
    assert found(reversed(traces)) == apart[::-1]
    assert all(apart)
    assert not faults.counts


def test_a_shape_that_was_read_anew_is_no_other() -> None:
    """Of a text that the fingerprinter has forgotten: the reads are not the source of their own repetition."""
    anew = dataclasses.replace(SHAPES[0])
    assert anew is not SHAPES[0]
    before = read(0)._replace(shape=anew, started=-1.0, rows=9, stack=SITES[:1])
    (finding,) = judge(trace_of(before, *[read(number) for number in range(5)]), [NPlusOne()], Faults()).findings
    assert finding.evidence["source"] is None


def test_layouts_are_bounded() -> None:
    """Neither endless texts, nor long traces, nor texts with values in them are kept."""
    for number in range(3_000):
        Index(trace_of(*[read(place, f"SELECT {number} -- {'x' * 500}") for place in range(2)]))
    assert 0 < _layouts.size <= 1_000
    texts = {text for layouts in (_layouts, _layouts.old) for key in layouts for text in key if isinstance(text, str)}
    kept = sum(map(len, texts))
    assert kept <= 1_000_000
    _layouts.clear()
    _layouts.old.clear()
    Index(trace_of(*[read(number) for number in range(1_000)]))
    Index(trace_of(*[read(number)._replace(shape=SHAPES[1]) for number in range(2)]))
    assert not _layouts.size


def test_a_finding_of_a_rule_is_like_any_other() -> None:
    """It is frozen, equal to what its class makes of the same, and may be copied, replaced and pickled."""
    facts: dict[str, Any] = {"rule": "r", "title": "t", "advice": "a", "site": SITES[0], "evidence": {"rows": 1}}
    made, finding = new_finding(**facts), Finding(**facts)
    assert type(made) is Finding
    assert made == finding
    assert repr(made) == repr(finding)
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == finding
    assert dataclasses.replace(made, count=3) == Finding(**facts, count=3)
    assert dataclasses.asdict(made) == dataclasses.asdict(finding)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.count = 2  # type: ignore[misc]
