"""Rules are asked only where they may find something, of a trace that was looked through once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytoll.detect import Ignoring, default_detectors, judge
from querytoll.detect.index import Index
from querytoll.detect.repeats import NPlusOne
from querytoll.errors import Faults
from querytoll.model import Checkout, Detector, Finding, Ignore, Loaded, Shape, Site, Statement, Trace, Transaction
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
