"""What OpenTelemetry is told of reports: on the current span, below it, and in metrics."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, use_span

from querytoll import Profiler, Report, Settings
from querytoll.errors import Faults
from querytoll.model import Plan, PlanNode
from querytoll.sinks.otel import OpenTelemetrySink
from querytoll.sinks.otel.attributes import database_of
from querytoll.sinks.otel.metrics import DURATION_BUCKETS, MAX_ERRORS, MAX_POOLS, MAX_RULES, MAX_SETS
from querytoll.sinks.otel.spans import MAX_FINDINGS, MAX_REMEMBERED, MAX_STATEMENTS
from tests.sinks.signals import (
    BEGAN_NS,
    ENGINE,
    SECRET,
    SHAPE,
    SITE,
    Signals,
    attributes,
    below,
    checkout,
    finding,
    statement,
    trace,
)

DATABASE = {"db.system.name": "postgresql", "server.address": "db.internal", "db.namespace": "shop"}
CODE = {"code.file.path": "/srv/app/orders.py", "code.line.number": 41, "code.function.name": "list_orders"}
PLAN = Plan(tree=PlanNode(id=0, kind="Seq Scan"), fingerprint=SHAPE.fingerprint)


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The SDK has nothing to complain of: ended spans, conflicting instruments, attributes of wrong types."""
    yield
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@contextmanager
def server_span(signals: Signals, *, ended: bool = False) -> Iterator[Span]:
    """A server span that is current, recording or ended already, as most instrumentations leave it."""
    span = signals.tracer.start_span("GET /orders/{id}", kind=SpanKind.SERVER)
    if ended:
        span.end()
    with use_span(span, end_on_exit=not ended):
        yield span


# The span of the request


def test_the_server_span_gets_cost_and_findings(signals: Signals) -> None:
    """A span that records has what the request cost as attributes, and an event for each finding."""
    with server_span(signals):
        signals.sink()(Report(trace(statement(), statement(), dropped=3), (finding(),)))
    (span,) = signals.spans()
    assert attributes(span) == {
        "querytoll.trace_id": "a" * 32,
        "querytoll.statements": 5,
        "querytoll.database_seconds": 0.25,
        "querytoll.findings": 1,
    }
    (event,) = span.events
    assert (event.name, event.timestamp) == ("querytoll.finding", BEGAN_NS + 512_000_000)
    assert attributes(event) == {
        "querytoll.rule": "n-plus-one",
        "querytoll.severity": "warning",
        "querytoll.title": "Order.items loaded 25 times in a loop",
        "querytoll.advice": "load it with selectinload(Order.items)",
        "querytoll.count": 25,
        "querytoll.cost_seconds": 0.05,
        "querytoll.finding_id": finding().id,
        "querytoll.fingerprint": SHAPE.fingerprint,
        "querytoll.site": "app/orders.py:41",
        "db.query.summary": "SELECT users",
        **CODE,
    }


def test_a_finding_without_a_place_has_no_attributes_of_one(signals: Signals) -> None:
    """What a finding does not know is left out."""
    with server_span(signals):
        signals.sink()(Report(trace(), (finding(site=None, fingerprint=None, summary=None),)))
    (event,) = signals.spans()[0].events
    assert not attributes(event).keys() & {*CODE, "querytoll.site", "querytoll.fingerprint", "db.query.summary"}


def test_what_is_found_after_the_end_of_the_server_span_gets_a_span_below_it(signals: Signals) -> None:
    """Most instrumentations end the server span with the last byte, before querytoll has judged the request."""
    with server_span(signals, ended=True) as server:
        signals.sink()(Report(trace(statement()), (finding(), finding(rule="slow-query"))))
    server_ended, span = signals.spans()
    assert (span.name, span.kind) == ("querytoll.findings", SpanKind.INTERNAL)
    assert below(span) == server.get_span_context().span_id
    assert span.start_time == span.end_time == BEGAN_NS + 512_000_000
    assert attributes(span) == {"querytoll.trace_id": "a" * 32, "querytoll.findings": 2}
    assert [attributes(event)["querytoll.rule"] for event in span.events] == ["n-plus-one", "slow-query"]
    assert not server_ended.attributes
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "querytoll"
    assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"


def test_an_ended_span_without_findings_gets_nothing(signals: Signals) -> None:
    """No span is made for a request that nothing was found in."""
    with server_span(signals, ended=True):
        signals.sink()(Report(trace(statement())))
    assert len(signals.spans()) == 1


def test_the_cost_until_the_last_byte_is_told_before_it(signals: Signals) -> None:
    """What is known when the response ends is on the span, even if that ends with it."""
    sink = signals.sink()
    with server_span(signals):
        sink.answering(lambda: (7, 0.125))
    assert attributes(signals.spans()[0]) == {"querytoll.statements": 7, "querytoll.database_seconds": 0.125}


def test_without_a_span_no_span_is_made(signals: Signals) -> None:
    """Server spans are the framework's to make: without one, there are metrics only."""
    sink = signals.sink(statement_spans=True)
    sink(Report(trace(statement()), (finding(),)))
    sink.answering(lambda: pytest.fail("computed for nothing"))
    assert signals.spans() == []
    assert len(signals.points("querytoll.findings")) == 1


@pytest.mark.parametrize("ended", [False, True])
def test_a_request_that_is_not_sampled_costs_nothing(ended: bool) -> None:
    """Nothing is computed for a span that is thrown away."""
    signals = Signals(ALWAYS_OFF)
    sink = signals.sink(statement_spans=True)
    with server_span(signals, ended=ended):
        sink.answering(lambda: pytest.fail("computed for nothing"))
        sink(Report(trace(statement()), (finding(),)))
    assert signals.spans() == []


def test_spans_below_are_sampled_as_the_request_is() -> None:
    """A sampler that looks at ids decides once for the whole of a trace."""
    signals = Signals(ParentBased(TraceIdRatioBased(0.5)))
    sink = signals.sink(statement_spans=True)
    for _ in range(40):
        with server_span(signals, ended=True):
            sink(Report(trace(statement()), (finding(),)))
    served, told = signals.spans("GET /orders/{id}"), signals.spans("querytoll.findings")
    assert 0 < len(served) < 40
    assert len(served) == len(told) == len(signals.spans("SELECT users"))


def test_events_are_bounded(signals: Signals) -> None:
    """However much is found, a span stays of a size that can be sent; the number is the whole one."""
    with server_span(signals):
        signals.sink()(Report(trace(), tuple(finding(rule=f"rule-{n}") for n in range(MAX_FINDINGS + 10))))
    (span,) = signals.spans()
    assert len(span.events) == MAX_FINDINGS
    assert attributes(span)["querytoll.findings"] == MAX_FINDINGS + 10


def everything(signals: Signals) -> str:
    """All that was told, as one text."""
    spans = [span.to_json() for span in signals.spans()]
    data = signals._reader.get_metrics_data()
    return json.dumps(spans) + (data.to_json() if data is not None else "")


def test_neither_values_nor_text_of_statements_are_told(signals: Signals) -> None:
    """What the application sent to the database, and the path as requested, stay in the process."""
    with server_span(signals):
        failed = statement(error="23505", engine=f"{ENGINE}2")
        signals.sink(statement_spans=True)(Report(trace(statement(), failed), (finding(),)))
    told = everything(signals)
    assert "SELECT users" in told
    assert SECRET not in told
    assert "SELECT *" not in told


def test_long_and_broken_texts_are_made_fit(signals: Signals) -> None:
    """One lone surrogate would fail the export of everything."""
    broken = "x\ud800"
    shape = replace(SHAPE, summary=f"SELECT {broken}", text=broken)
    with server_span(signals):
        signals.sink(statement_spans=True, query_text=True)(
            Report(
                trace(
                    statement(shape=shape, engine=f"postgresql://{broken}/{broken}", relation=broken, error=broken),
                    connections=(checkout(engine=broken),),
                    route=broken,
                ),
                (finding(title="y" * 5_000, advice=broken, summary=broken, rule=broken),),
            )
        )
    told = [*signals.spans(), *(event for span in signals.spans() for event in span.events)]
    for metric in ("db.client.operation.duration", "db.client.connection.use_time", "querytoll.findings"):
        told += signals.points(metric)
    values = [value for one in told for value in attributes(one).values() if isinstance(value, str)]
    assert max(map(len, values)) == 1_000
    assert len([value for value in values if "x?" in value]) > 10
    for value in (*values, *(str(span.status.description) for span in signals.spans())):
        value.encode()


# Spans of statements


def test_spans_of_statements_are_off(signals: Signals) -> None:
    """They are many: who wants them says so."""
    with server_span(signals):
        signals.sink()(Report(trace(statement())))
    assert len(signals.spans()) == 1


@pytest.mark.parametrize("ended", [False, True])
def test_a_statement_is_a_client_span_in_its_time(signals: Signals, ended: bool) -> None:
    """Named by its summary, below the server span, when it ran, with what the conventions ask for."""
    with server_span(signals, ended=ended) as server:
        signals.sink(statement_spans=True)(Report(trace(statement(relation="Order.user"))))
    (span,) = signals.spans("SELECT users")
    assert span.kind == SpanKind.CLIENT
    assert below(span) == server.get_span_context().span_id
    assert (span.start_time, span.end_time) == (BEGAN_NS + 10_000_000, BEGAN_NS + 12_000_000)
    assert span.status.status_code == StatusCode.UNSET
    assert attributes(span) == {
        **DATABASE,
        **CODE,
        "db.query.summary": "SELECT users",
        "querytoll.fingerprint": SHAPE.fingerprint,
        "querytoll.relation": "Order.user",
    }


def test_the_normalised_text_is_told_to_who_asks(signals: Signals) -> None:
    """The text without its literals, for a backend that groups by it."""
    with server_span(signals):
        signals.sink(statement_spans=True, query_text=True)(Report(trace(statement())))
    assert attributes(signals.spans("SELECT users")[0])["db.query.text"] == SHAPE.text
    assert SECRET not in everything(signals)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("40P01", {"error.type": "40P01", "db.response.status_code": "40P01"}),
        ("CancelledError", {"error.type": "CancelledError"}),
        ("OSError", {"error.type": "OSError"}),
    ],
)
def test_a_failed_statement_is_an_error(signals: Signals, error: str, told: dict[str, str]) -> None:
    """The span's status says so, with the server's code or the kind of exception, never with the server's text."""
    with server_span(signals):
        signals.sink(statement_spans=True)(Report(trace(statement(error=error, stack=()))))
    (span,) = signals.spans("SELECT users")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, error)
    assert attributes(span).items() >= told.items()
    assert not attributes(span).keys() & CODE.keys()
    assert ("db.response.status_code" in attributes(span)) == ("db.response.status_code" in told)


def test_spans_of_statements_are_bounded(signals: Signals) -> None:
    """A loop of ten thousand statements does not fill the queue of the exporter."""
    with server_span(signals):
        signals.sink(statement_spans=True)(Report(trace(*[statement()] * (MAX_STATEMENTS + 50))))
    assert len(signals.spans("SELECT users")) == MAX_STATEMENTS
    assert attributes(signals.spans("GET /orders/{id}")[0])["querytoll.statements"] == MAX_STATEMENTS + 50


def instrument_sqlalchemy() -> Callable[[], None]:
    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    return SQLAlchemyInstrumentor().uninstrument


def instrument_asyncpg() -> Callable[[], None]:
    AsyncPGInstrumentor().instrument()
    return AsyncPGInstrumentor().uninstrument


def instrument_psycopg() -> Callable[[], None]:
    PsycopgInstrumentor().instrument()
    return PsycopgInstrumentor().uninstrument


@pytest.mark.parametrize(
    ("instrument", "engine", "left"),
    [
        (instrument_sqlalchemy, ENGINE, "sqlalchemy"),
        (instrument_sqlalchemy, "sqlite+aiosqlite:///shop.db", "sqlalchemy"),
        (instrument_asyncpg, ENGINE, "asyncpg"),
        (instrument_asyncpg, "a name of the application", "asyncpg"),
        (instrument_psycopg, "postgresql+psycopg://db/shop", "psycopg"),
        (instrument_asyncpg, "postgresql+psycopg://db/shop", None),
        (instrument_psycopg, ENGINE, None),
    ],
)
def test_no_statement_has_two_spans(
    signals: Signals,
    caplog: pytest.LogCaptureFixture,
    instrument: Callable[[], Callable[[], None]],
    engine: str,
    left: str | None,
) -> None:
    """What another instrumentation makes spans of is left to it, and said once; of other drivers' statements not."""
    sink = signals.sink(statement_spans=True)
    undo = instrument()
    try:
        for _ in range(3):
            with server_span(signals):
                sink(Report(trace(statement(engine=engine))))
    finally:
        undo()
    assert len(signals.spans("SELECT users")) == (3 if left is None else 0)
    warnings = [record.getMessage() for record in caplog.records if record.name == "querytoll"]
    assert len(warnings) == (left is not None)
    assert all(f"opentelemetry.instrumentation.{left} " in warning for warning in warnings)
    with server_span(signals):
        sink(Report(trace(statement(engine=engine))))
    assert len(signals.spans("SELECT users")) == (4 if left is None else 1)


@pytest.mark.parametrize(
    ("engine", "told", "driver"),
    [
        (ENGINE, DATABASE, "asyncpg"),
        ("postgresql://db/shop", {**DATABASE, "server.address": "db"}, None),
        ("postgresql+psycopg://db:6432/shop", {**DATABASE, "server.address": "db", "server.port": 6432}, "psycopg"),
        ("postgresql+asyncpg://::1/shop", {**DATABASE, "server.address": "::1"}, "asyncpg"),
        ("postgresql+asyncpg:///shop", {"db.system.name": "postgresql", "db.namespace": "shop"}, "asyncpg"),
        ("postgresql+asyncpg://db/", {"db.system.name": "postgresql", "server.address": "db"}, "asyncpg"),
        ("sqlite+aiosqlite:////srv/a.db", {"db.system.name": "sqlite", "db.namespace": "/srv/a.db"}, "aiosqlite"),
        ("mysql+aiomysql://db/shop", {**DATABASE, "db.system.name": "mysql", "server.address": "db"}, "aiomysql"),
        ("mssql+pyodbc:///x", {"db.system.name": "microsoft.sql_server", "db.namespace": "x"}, "pyodbc"),
        ("duckdb:///x", {"db.system.name": "other_sql", "db.namespace": "x"}, None),
        ("reports", {"db.system.name": "other_sql"}, None),
        ("", {"db.system.name": "other_sql"}, None),
    ],
)
def test_a_database_is_known_by_its_engines_name(engine: str, told: dict[str, Any], driver: str | None) -> None:
    """What the name tells, where it is a URL's; an application's own name for its engine tells nothing."""
    assert database_of(engine) == (told, driver)


# Metrics


def test_each_statement_is_measured(signals: Signals) -> None:
    """The conventions' duration, in their buckets, by database, summary and error."""
    statements = [statement(elapsed=0.002), statement(elapsed=0.03), statement(elapsed=20.0, error="57014")]
    signals.sink()(Report(trace(*statements)))
    succeeded, failed = signals.points("db.client.operation.duration")
    assert succeeded.explicit_bounds == DURATION_BUCKETS == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert (succeeded.count, succeeded.sum) == (2, pytest.approx(0.032))
    assert succeeded.bucket_counts == (0, 1, 0, 1, 0, 0, 0, 0, 0, 0)
    assert attributes(succeeded) == {**DATABASE, "db.query.summary": "SELECT users"}
    assert (failed.count, failed.bucket_counts[-1]) == (1, 1)
    assert attributes(failed) == {
        **attributes(succeeded),
        "error.type": "57014",
        "db.response.status_code": "57014",
    }


def test_each_checkout_is_measured(signals: Signals) -> None:
    """Wait and use of connections by pool; one that was not to be had in time is counted, one that failed is not."""
    failed = [checkout(error="TimeoutError", wait=30.0), checkout(error="OSError"), checkout(engine="")]
    signals.sink()(Report(trace(connections=(checkout(), checkout(wait=0.5), *failed))))
    pool = {**DATABASE, "db.client.connection.pool.name": ENGINE}
    (waits,), (uses,) = (
        signals.points("db.client.connection.wait_time"),
        signals.points("db.client.connection.use_time"),
    )
    assert (attributes(waits), waits.count, waits.sum) == (pool, 2, pytest.approx(0.503))
    assert (attributes(uses), uses.count, uses.sum) == (pool, 2, pytest.approx(0.04))
    assert signals.counts("db.client.connection.timeouts") == {tuple(sorted(pool.items())): 1}


def test_findings_are_counted_by_rule_and_place(signals: Signals) -> None:
    """A route with its method, or the name of a block."""
    sink = signals.sink()
    for _ in range(2):
        sink(Report(trace(), (finding(), finding(rule="slow-query", severity="error"))))
    sink(Report(trace(kind="block", name="nightly-import", method=None, route=None), (finding(),)))
    route = (("http.request.method", "GET"), ("http.route", "/orders/{id}"))
    assert signals.counts("querytoll.findings") == {
        (*route, ("querytoll.rule", "n-plus-one"), ("querytoll.severity", "warning")): 2,
        (*route, ("querytoll.rule", "slow-query"), ("querytoll.severity", "error")): 2,
        (
            ("querytoll.name", "nightly-import"),
            ("querytoll.rule", "n-plus-one"),
            ("querytoll.severity", "warning"),
        ): 1,
    }


def test_tests_are_not_told(signals: Signals) -> None:
    """A recording of a test is no traffic."""
    with server_span(signals):
        signals.sink(statement_spans=True)(Report(trace(statement(), kind="test"), (finding(),)))
    (span,) = signals.spans()
    assert not span.attributes
    assert signals.points("querytoll.findings") == signals.points("db.client.operation.duration") == []


def test_what_the_profiler_costs_is_measured(signals: Signals) -> None:
    """Its seconds, its faults and the share of requests that it profiles."""
    sink = signals.sink()
    sink.spent("detect", 0.25)
    sink.spent("detect", 0.5)
    sink.internal_error("capture")
    sink.sampled(1.0)
    sink.sampled(0.5)
    assert signals.counts("querytoll.profiler.time") == {(("querytoll.part", "detect"),): 0.75}
    assert signals.counts("querytoll.profiler.errors") == {(("querytoll.part", "capture"),): 1}
    for _ in range(2):
        assert signals.counts("querytoll.sample_rate") == {(): 0.5}


def test_a_profiler_finds_these_by_itself(signals: Signals) -> None:
    """The sink is given them without being told to ask."""
    profiler = Profiler(Settings(sample_rate=0.25, explain="off"), engines=[], sinks=[signals.sink()])
    assert isinstance(profiler.faults, Faults)
    profiler.faults.caught("detect", ValueError())
    assert signals.counts("querytoll.sample_rate") == {(): 0.25}
    assert signals.counts("querytoll.profiler.errors") == {(("querytoll.part", "detect"),): 1}


def values(signals: Signals, metric: str, attribute: str) -> list[Any]:
    return [attributes(point).get(attribute) for point in signals.points(metric)]


def test_summaries_are_limited(signals: Signals) -> None:
    """The first ones have series of their own, the rest is `other`, and nothing is lost."""
    shapes = [replace(SHAPE, summary=f"SELECT t{n}") for n in range(8)]
    signals.sink(max_fingerprints=5)(Report(trace(*[statement(shape=shape) for shape in shapes])))
    assert sorted(values(signals, "db.client.operation.duration", "db.query.summary")) == [
        *(f"SELECT t{n}" for n in range(5)),
        "other",
    ]
    assert sum(point.count for point in signals.points("db.client.operation.duration")) == 8


def test_errors_are_limited(signals: Signals) -> None:
    """An application may invent exceptions without end."""
    signals.sink()(Report(trace(*[statement(error=f"Error{n}") for n in range(MAX_ERRORS + 10)])))
    assert len(set(values(signals, "db.client.operation.duration", "error.type"))) == MAX_ERRORS + 1


def test_pools_are_limited(signals: Signals) -> None:
    """An application may make engines without end: beyond the limit neither pool nor database is told."""
    engines = [f"postgresql+asyncpg://db/tenant{n}" for n in range(MAX_POOLS + 10)]
    used = [checkout(engine=engine) for engine in engines]
    signals.sink()(Report(trace(*[statement(engine=engine) for engine in engines], connections=tuple(used))))
    assert len(signals.points("db.client.connection.use_time")) == MAX_POOLS + 1
    assert len(set(values(signals, "db.client.operation.duration", "db.namespace"))) == MAX_POOLS + 1


def test_combinations_are_limited(signals: Signals) -> None:
    """Each attribute may be within its limit while their combinations are not."""
    shapes = [replace(SHAPE, summary=f"SELECT t{n}") for n in range(200)]
    sent = [
        statement(shape=shape, engine=f"postgresql://db/{engine}", error=error)
        for engine in range(4)
        for error in (None, "40001")
        for shape in shapes
    ]
    signals.sink()(Report(trace(*sent)))
    points = signals.points("db.client.operation.duration")
    assert MAX_SETS <= len(points) <= MAX_SETS + 8
    assert sum(point.count for point in points) == len(sent)


def test_rules_and_places_are_limited(signals: Signals) -> None:
    """Detectors of the application may have rules without end, and blocks names."""
    sink = signals.sink(max_routes=5)
    for n in range(MAX_RULES + 10):
        sink(Report(trace(route=f"/{n}"), (finding(rule=f"rule-{n}"),)))
    rules, routes = (values(signals, "querytoll.findings", name) for name in ("querytoll.rule", "http.route"))
    assert len(set(rules)) == MAX_RULES + 1
    assert set(routes) == {*(f"/{n}" for n in range(5)), "other"}


def test_pairs_of_rule_and_place_are_limited(signals: Signals) -> None:
    """So are their combinations."""
    sink = signals.sink()
    for place in range(60):
        sink(Report(trace(route=f"/{place}"), tuple(finding(rule=f"rule-{n}") for n in range(20))))
    assert len(signals.points("querytoll.findings")) == MAX_SETS + 20


# Plans come later


def test_a_report_of_plans_is_not_counted_twice(signals: Signals) -> None:
    """The trace's own report has told statements and cost; this one adds its findings, in the trace of the request."""
    sink = signals.sink(statement_spans=True)
    with server_span(signals) as server:
        sink(Report(trace(statement(), connections=(checkout(),))))
    late = Report(trace(connections=(checkout(),)), (finding(rule="seq-scan-filter"),), (PLAN,))
    sink(late)
    (point,) = signals.points("db.client.operation.duration")
    assert point.count == signals.points("db.client.connection.use_time")[0].count == 1
    assert values(signals, "querytoll.findings", "querytoll.rule") == ["seq-scan-filter"]
    (span,) = signals.spans("querytoll.findings")
    assert below(span) == server.get_span_context().span_id
    assert [attributes(event)["querytoll.rule"] for event in span.events] == ["seq-scan-filter"]
    assert attributes(signals.spans("GET /orders/{id}")[0])["querytoll.findings"] == 0


def test_plans_without_findings_make_no_span(signals: Signals) -> None:
    """A plan with nothing wrong is no news."""
    sink = signals.sink()
    with server_span(signals):
        sink(Report(trace(statement())))
    sink(Report(trace(), (), (PLAN,)))
    assert len(signals.spans()) == 1


def test_plans_of_forgotten_traces_are_counted_only(signals: Signals) -> None:
    """What is remembered of traces is bounded; there is no span without its trace."""
    sink = signals.sink()
    for n in range(MAX_REMEMBERED + 1):
        with server_span(signals):
            sink(Report(trace(statement(), id=str(n))))
    for n in (0, 1, MAX_REMEMBERED):
        sink(Report(trace(id=str(n)), (finding(),), (PLAN,)))
    assert [attributes(span)["querytoll.trace_id"] for span in signals.spans("querytoll.findings")] == [
        "1",
        str(MAX_REMEMBERED),
    ]
    assert sum(signals.counts("querytoll.findings").values()) == 3


# Without OpenTelemetry


def test_an_absent_extra_says_what_to_install() -> None:
    """The error is an ImportError and one of querytoll's, and holds the line to run."""
    code = """
import sys
sys.modules["opentelemetry"] = None
from querytoll import Profiler, QuerytollError
assert Profiler.default_sinks()
try:
    import querytoll.sinks.otel
except ImportError as error:
    assert isinstance(error, QuerytollError)
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "opentelemetry-api is not installed; run: pip install 'querytoll[otel]'\n"


def test_the_api_alone_is_enough() -> None:
    """Without the SDK all instruments do nothing, and the sink does no harm."""
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
from datetime import UTC, datetime
from querytoll import Report, Trace
from querytoll.sinks.otel import OpenTelemetrySink
sink = OpenTelemetrySink(statement_spans=True)
sink(Report(Trace("a", "request", "GET /", datetime.now(UTC), 0.1)))
sink.sampled(1.0)
sink.spent("sinks", 0.1)
sink.internal_error("sinks")
sink.answering(lambda: 1 / 0)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sink_of_the_global_providers_waits_for_them(caplog: pytest.LogCaptureFixture) -> None:
    """Made at import time, before the application has configured anything, it is silent."""
    OpenTelemetrySink()(Report(trace(statement(), connections=(checkout(),)), (finding(site=SITE),)))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
