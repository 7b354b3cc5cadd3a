"""What a scrape sees: names, numbers, guards, threads, processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from sqlalchemy import create_engine

from querytoll.capture import connections, pools
from querytoll.errors import ConfigurationError
from querytoll.model import Checkout, Finding, Outcome, Report, Shape, Statement, Trace, Transaction
from querytoll.sinks.guard import Guard
from querytoll.sinks.prometheus import PrometheusSink, exposition
from querytoll.sinks.prometheus.cells import Bins, Cells, Distant, Sums
from querytoll.sinks.prometheus.metrics import STATEMENT_BUCKETS
from querytoll.sinks.prometheus.series import MAX_PAIRS, MAX_POOLS, MAX_SQLSTATES

ORDERS = Shape("00000000000000aa", "SELECT * FROM orders", "SELECT", "SELECT orders", ("orders",))
ITEMS = Shape("00000000000000bb", "INSERT INTO items VALUES (?)", "INSERT", "INSERT items", ("items",))
ROUTE = {"method": "GET", "route": "/orders/{id}"}
QUERY = {"query": ORDERS.fingerprint, "summary": ORDERS.summary}
POOL = {"pool": "shop+asyncpg", "operation": "SELECT"}


def trace(**facts: object) -> Trace:
    known: dict[str, object] = {
        "id": "a" * 32,
        "kind": "request",
        "name": "GET /orders/{id}",
        "began": datetime(2026, 1, 1, tzinfo=UTC),
        "elapsed": 0.5,
        "path": "/orders/7",
        "status": 200,
        **ROUTE,
    }
    return Trace(**{**known, **facts})  # type: ignore[arg-type]


def statement(shape: Shape = ORDERS, elapsed: float = 0.004, **facts: object) -> Statement:
    known: dict[str, object] = {"rows": 2, "engine": "shop+asyncpg", "transaction": 0}
    return Statement(shape.text, shape, 0.0, elapsed, **{**known, **facts})  # type: ignore[arg-type]


def transaction(elapsed: float = 0.2, outcome: Outcome = "committed", ending: float = 0.01) -> Transaction:
    return Transaction("shop+asyncpg", 0.0, elapsed, ending, outcome, 1, None)


def finding(rule: str = "n-plus-one", count: int = 25, cost: float = 0.05, **facts: object) -> Finding:
    known: dict[str, object] = {
        "title": "t",
        "advice": "a",
        "fingerprint": ORDERS.fingerprint,
        "summary": ORDERS.summary,
    }
    return Finding(rule=rule, count=count, cost=cost, **{**known, **facts})  # type: ignore[arg-type]


class Scrape:
    """The samples of a registry, asked for without the prefix."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"querytoll_{name}", labels)

    def labels(self, name: str) -> list[dict[str, str]]:
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return [sample.labels for sample in samples if sample.name == f"querytoll_{name}"]

    def total(self, name: str) -> float:
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return sum(sample.value for sample in samples if sample.name == f"querytoll_{name}")

    def series(self) -> int:
        samples = (sample for metric in self.registry.collect() for sample in metric.samples)
        return sum(not sample.name.endswith("_created") for sample in samples)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sink(registry: CollectorRegistry) -> PrometheusSink:
    return PrometheusSink(registry)


@pytest.fixture
def scrape(registry: CollectorRegistry) -> Scrape:
    return Scrape(registry)


def test_a_request_is_counted(sink: PrometheusSink, scrape: Scrape) -> None:
    """A request counts its time by status, its time in the database and its statements."""
    sink(Report(trace(statements=(statement(), statement()), database_seconds=0.008)))
    assert scrape.value("request_duration_seconds_sum", **ROUTE, status="2xx") == 0.5
    assert scrape.value("request_duration_seconds_count", **ROUTE, status="2xx") == 1
    assert scrape.value("request_db_seconds_sum", **ROUTE) == 0.008
    assert scrape.value("request_db_seconds_bucket", **ROUTE, le="0.005") == 0
    assert scrape.value("request_db_seconds_bucket", **ROUTE, le="0.01") == 1
    assert scrape.value("request_statements_sum", **ROUTE) == 2
    assert scrape.value("request_statements_bucket", **ROUTE, le="2.0") == 1
    assert scrape.value("request_statements_bucket", **ROUTE, le="1.0") == 0


def test_a_request_without_statements_is_counted(sink: PrometheusSink, scrape: Scrape) -> None:
    """A request that asks nothing is in the lowest buckets, so that shares and quantiles are right."""
    sink(Report(trace()))
    assert scrape.value("request_statements_bucket", **ROUTE, le="0.0") == 1
    assert scrape.value("request_db_seconds_bucket", **ROUTE, le="0.001") == 1


@pytest.mark.parametrize(
    ("status", "label"), [(101, "1xx"), (204, "2xx"), (307, "3xx"), (404, "4xx"), (500, "5xx"), (None, "-"), (999, "-")]
)
def test_status_is_its_class(sink: PrometheusSink, scrape: Scrape, status: int | None, label: str) -> None:
    """A status becomes its class, a missing or impossible one a dash."""
    sink(Report(trace(status=status)))
    assert scrape.value("request_duration_seconds_count", **ROUTE, status=label) == 1


def test_statements_are_counted_by_pool_and_shape(sink: PrometheusSink, scrape: Scrape) -> None:
    """Statements are spread over their pool's buckets and summed for their shape."""
    mixed = (statement(elapsed=0.004), statement(elapsed=0.02), statement(ITEMS, 0.3, rows=None), statement(elapsed=20))
    sink(Report(trace(statements=(*mixed, statement(engine="log", elapsed=0.001)))))
    assert scrape.value("statement_duration_seconds_count", **POOL) == 3
    assert scrape.value("statement_duration_seconds_sum", **POOL) == pytest.approx(20.024)
    assert scrape.value("statement_duration_seconds_bucket", **POOL, le="0.005") == 1
    assert scrape.value("statement_duration_seconds_bucket", **POOL, le="0.025") == 2
    assert scrape.value("statement_duration_seconds_bucket", **POOL, le="10.0") == 2
    assert scrape.value("statement_duration_seconds_count", pool="shop+asyncpg", operation="INSERT") == 1
    assert scrape.value("statement_duration_seconds_count", pool="log", operation="SELECT") == 1
    assert scrape.value("query_duration_seconds_count", **QUERY) == 4
    assert scrape.value("query_duration_seconds_sum", **QUERY) == pytest.approx(20.025)
    assert scrape.value("query_rows_total", **QUERY) == 8
    assert scrape.value("query_rows_total", query=ITEMS.fingerprint, summary="INSERT items") == 0


def test_interleaved_engines_are_told_apart(sink: PrometheusSink, scrape: Scrape) -> None:
    """Statements of two engines in turn are counted for their own."""
    sink(Report(trace(statements=tuple(statement(engine=name) for name in ("a", "b", "a", "b", "b")))))
    counts = [scrape.value("statement_duration_seconds_count", pool=pool, operation="SELECT") for pool in "ab"]
    assert counts == [2, 3]


def test_errors_are_counted_by_sqlstate(sink: PrometheusSink, scrape: Scrape) -> None:
    """A failed statement is counted under its SQLSTATE, and still as a statement."""
    sink(Report(trace(statements=(statement(error="23505"), statement(error="23505"), statement()))))
    assert scrape.value("statement_errors_total", **POOL, sqlstate="23505") == 2
    assert scrape.value("statement_duration_seconds_count", **POOL) == 3


def test_transactions_are_counted(sink: PrometheusSink, scrape: Scrape) -> None:
    """Transactions are counted by outcome, their idle time by route: without statements, ends and autocommit."""
    transactions = (transaction(0.2), transaction(5.0, "autocommit"), transaction(0.1, "rolled back"))
    statements = (
        statement(elapsed=0.05),
        statement(elapsed=0.02, transaction=1),
        statement(elapsed=0.03, transaction=2),
    )
    sink(Report(trace(transactions=transactions, statements=statements)))
    assert scrape.value("transaction_duration_seconds_sum", pool="shop+asyncpg", outcome="committed") == 0.2
    assert scrape.value("transaction_duration_seconds_count", pool="shop+asyncpg", outcome="rolled back") == 1
    assert scrape.value("transaction_duration_seconds_bucket", pool="shop+asyncpg", outcome="autocommit", le="1.0") == 0
    assert scrape.value("transaction_idle_seconds_count", **ROUTE) == 2
    assert scrape.value("transaction_idle_seconds_sum", **ROUTE) == pytest.approx(0.19 + 0.09 - 0.08)


def test_idle_time_is_never_negative_nor_guessed(sink: PrometheusSink, scrape: Scrape) -> None:
    """Overlapping statements do not make idle time negative, and a trace with dropped statements tells none."""
    sink(Report(trace(transactions=(transaction(0.1),), statements=(statement(elapsed=0.3),))))
    sink(Report(trace(transactions=(transaction(9.0),), statements=(statement(),), dropped=5)))
    assert scrape.value("transaction_idle_seconds_count", **ROUTE) == 1
    assert scrape.value("transaction_idle_seconds_sum", **ROUTE) == 0


def test_connections_are_a_ledger(sink: PrometheusSink, scrape: Scrape) -> None:
    """Waiting for, holding and using connections add up by route."""
    checkouts = (Checkout("a", 0, 0.1, 0.4, 0.3, None), Checkout("b", 0, 0.2, 0.5, 0.1, None))
    sink(Report(trace(connections=checkouts)))
    assert scrape.value("request_pool_wait_seconds_total", **ROUTE) == pytest.approx(0.3)
    assert scrape.value("connection_held_seconds_total", **ROUTE) == pytest.approx(0.9)
    assert scrape.value("connection_busy_seconds_total", **ROUTE) == pytest.approx(0.4)


def test_findings_are_counted(sink: PrometheusSink, scrape: Scrape) -> None:
    """Findings are counted by rule, route and query; one without a query has a dash."""
    sink(
        Report(
            trace(statements=(statement(),)), (finding(), finding("too-many-queries", fingerprint=None, summary=None))
        )
    )
    assert scrape.value("findings_total", rule="n-plus-one", **ROUTE, **QUERY) == 1
    assert scrape.value("findings_total", rule="too-many-queries", **ROUTE, query="-", summary="-") == 1


@pytest.mark.parametrize(
    ("rule", "count", "statements", "seconds"),
    [
        ("n-plus-one", 25, 24, 0.05),
        ("duplicate-query", 3, 2, 0.05),
        ("write-loop", 2, 1, 0.05),
        ("commit-loop", 1, 0, 0.05),
        ("n-plus-one", 0, 0, 0.05),
        ("slow-query", 25, 0, 0),
        ("over-fetch", 25, 0, 0),
    ],
)
def test_waste_is_counted(
    sink: PrometheusSink, scrape: Scrape, rule: str, count: int, statements: int, seconds: float
) -> None:
    """What fixing loops and duplicates would save is counted, all but one statement each; other rules save none."""
    sink(Report(trace(), (finding(rule, count=count),)))
    assert scrape.value("excess_statements_total", **ROUTE) == statements
    assert scrape.value("excess_statement_seconds_total", **ROUTE) == seconds


def test_slow_statements_are_counted(sink: PrometheusSink, scrape: Scrape) -> None:
    """The statements of slow-query findings are counted, and only those."""
    sink(Report(trace(), (finding("slow-query", count=3), finding("n-plus-one"))))
    assert scrape.labels("slow_statements_total") == [{**ROUTE, **QUERY}]
    assert scrape.value("slow_statements_total", **ROUTE, **QUERY) == 3


def test_known_series_start_at_zero(sink: PrometheusSink, scrape: Scrape) -> None:
    """A rate needs a series before its first increment: parts, labels and a route's counters are there at once."""
    sink(Report(trace()))
    parts = ("capture", "detect", "sinks", "middleware", "explain")
    for name in ("profiler_seconds_total", "internal_errors_total", "dropped_total"):
        assert [scrape.value(name, part=part) for part in parts] == [0] * 5
    assert scrape.value("label_sets_folded_total", label="route") == 0
    for name in ("request_pool_wait", "excess_statement", "connection_held", "connection_busy"):
        assert scrape.value(f"{name}_seconds_total", **ROUTE) == 0
    assert scrape.value("excess_statements_total", **ROUTE) == 0


def test_the_profiler_counts_itself(sink: PrometheusSink, scrape: Scrape) -> None:
    """Own cost, faults and losses are counted by part; dropped statements of a trace are losses of the capture."""
    sink.spent("detect", 0.25)
    sink.internal_error("sinks")
    sink.dropped("explain", 3)
    sink(Report(trace(dropped=7)))
    sink.sampled(0.5)
    assert scrape.value("sample_ratio") == 0.5
    assert scrape.value("profiler_seconds_total", part="detect") == 0.25
    assert scrape.value("internal_errors_total", part="sinks") == 1
    assert scrape.value("dropped_total", part="explain") == 3
    assert scrape.value("dropped_total", part="capture") == 7
    assert scrape.value("request_statements_sum", **ROUTE) == 7


def test_versions_are_told(sink: PrometheusSink, scrape: Scrape) -> None:
    """build_info is 1 and names the versions at work."""
    (labels,) = scrape.labels("build_info")
    assert set(labels) == {"version", "sqlalchemy"}
    assert scrape.value("build_info", **labels) == 1


def test_tests_are_not_exported(sink: PrometheusSink, scrape: Scrape) -> None:
    """A trace of a test leaves no mark."""
    before = scrape.series()
    sink(Report(trace(kind="test", statements=(statement(),), dropped=1), (finding(),)))
    assert scrape.series() == before
    assert scrape.value("dropped_total", part="capture") == 0


@pytest.mark.parametrize(
    ("facts", "method", "route"),
    [
        ({"kind": "task", "name": "nightly", "method": None, "route": None}, "task", "nightly"),
        ({"kind": "block", "name": "import", "method": None, "route": None}, "block", "import"),
        ({"kind": "websocket", "name": "WS /feed", "method": None, "route": "/feed"}, "websocket", "/feed"),
        ({"kind": "request", "name": "GET /raw/7", "route": None}, "GET", "-"),
        ({"kind": "block", "name": "", "method": None, "route": None}, "block", "-"),
    ],
)
def test_every_kind_has_its_place(
    sink: PrometheusSink, scrape: Scrape, facts: dict[str, object], method: str, route: str
) -> None:
    """Tasks, blocks and websockets have a method and a route to stand under, and a raw path is never a label."""
    sink(Report(trace(**facts)))
    assert scrape.labels("request_statements_count") == [{"method": method, "route": route}]


def test_routes_are_bounded(sink: PrometheusSink, scrape: Scrape) -> None:
    """Of 1,000 routes 300 have their own series, the rest share one per method, and no request is lost."""
    for number in range(1_000):
        sink(Report(trace(route=f"/{number}", method="GET" if number % 2 else "BREW"), (finding(),)))
    routes = scrape.labels("request_db_seconds_count")
    assert len(routes) == 302
    assert {labels["method"] for labels in routes if labels["route"] == "other"} == {"GET", "_OTHER"}
    assert scrape.total("request_db_seconds_count") == 1_000
    assert scrape.total("findings_total") == 1_000
    assert scrape.value("label_sets_folded_total", label="route") == 700


def test_fingerprints_are_bounded(sink: PrometheusSink, scrape: Scrape) -> None:
    """Of 1,000 fingerprints 200 have their own series, the rest share one, and no statement is lost."""
    for number in range(1_000):
        shape = Shape(f"{number:016x}", "", "SELECT", f"SELECT t{number}")
        slow = finding("slow-query", 1, fingerprint=shape.fingerprint, summary=shape.summary)
        sink(Report(trace(statements=(statement(shape), statement(shape))), (slow,)))
    queries = scrape.labels("query_duration_seconds_count")
    assert len(queries) == 201
    assert queries[-1] == {"query": "other", "summary": "other"}
    assert scrape.total("query_duration_seconds_count") == 2_000
    assert scrape.total("query_rows_total") == 4_000
    assert scrape.total("slow_statements_total") == 1_000
    assert scrape.value("label_sets_folded_total", label="query") == 1_600


def test_a_query_has_one_summary(sink: PrometheusSink, scrape: Scrape) -> None:
    """The first summary of a fingerprint stays its only one, in every metric."""
    changed = finding(summary="SELECT elsewhere")
    sink(Report(trace(statements=(statement(),)), (changed,)))
    assert scrape.labels("findings_total") == [{"rule": "n-plus-one", **ROUTE, **QUERY}]


def test_pairs_of_route_and_query_are_bounded(registry: CollectorRegistry, scrape: Scrape) -> None:
    """Routes times queries does not explode: pairs over the limit keep their route and fold their query."""
    sink = PrometheusSink(registry, max_routes=60, max_fingerprints=60)
    for number in range(50 * 50):
        fault = finding("slow-query", 1, fingerprint=f"{number // 50:016x}", summary=f"SELECT t{number // 50}")
        sink(Report(trace(route=f"/{number % 50}"), (fault,)))
    assert len(scrape.labels("findings_total")) == MAX_PAIRS + 50
    assert len(scrape.labels("slow_statements_total")) == MAX_PAIRS + 50
    assert scrape.total("slow_statements_total") == 2_500
    assert scrape.value("label_sets_folded_total", label="pair") == 2_500 - MAX_PAIRS


def test_what_is_folded_is_counted_each_time(registry: CollectorRegistry, scrape: Scrape) -> None:
    """A finding that comes again adds to the series that it had, and to what was folded where it had none."""
    sink = PrometheusSink(registry, max_fingerprints=1)
    known, folded = finding("slow-query", 2), finding("slow-query", 3, fingerprint="f" * 16)
    for _ in range(4):
        sink(Report(trace(), (known, folded)))
    other = {"query": "other", "summary": "other"}
    assert scrape.value("slow_statements_total", **ROUTE, **QUERY) == 8
    assert scrape.value("slow_statements_total", **ROUTE, **other) == 12
    assert scrape.value("findings_total", rule="slow-query", **ROUTE, **other) == 4
    assert scrape.value("label_sets_folded_total", label="query") == 4


def test_pools_operations_and_sqlstates_are_bounded(sink: PrometheusSink, scrape: Scrape) -> None:
    """An engine per tenant, invented verbs and invented error classes fold, and none of them is lost."""
    for number in range(200):
        odd = Shape(ORDERS.fingerprint, "", f"VERB{number}", ORDERS.summary)
        statements = (statement(engine=f"tenant{number}"), statement(odd), statement(error=f"Error{number}"))
        sink(
            Report(
                trace(statements=statements, transactions=(Transaction(f"tenant{number}", 0, 1, 0, "open", 1, None),))
            )
        )
    assert len({labels["pool"] for labels in scrape.labels("statement_duration_seconds_count")}) == MAX_POOLS + 1
    assert len(scrape.labels("transaction_duration_seconds_count")) <= MAX_POOLS + 1
    assert len(scrape.labels("statement_errors_total")) == MAX_SQLSTATES + 1
    assert len({labels["operation"] for labels in scrape.labels("statement_duration_seconds_count")}) == 21
    assert scrape.total("statement_duration_seconds_count") == 600
    assert scrape.total("statement_errors_total") == 200
    assert all(
        (scrape.value("label_sets_folded_total", label=label) or 0) > 0 for label in ("pool", "operation", "sqlstate")
    )


def test_memory_is_bounded_with_the_series(sink: PrometheusSink) -> None:
    """What is folded leaves no entry in any cache or guard."""

    def kept() -> int:
        guards = [value._known for value in vars(sink._series).values() if isinstance(value, Guard)]
        caches = [value for value in vars(sink._series).values() if isinstance(value, dict)]
        routes = sink._series._routes.values()
        return sum(map(len, [*guards, *caches, *(route.durations for route in routes), *(r.findings for r in routes)]))

    def flood(numbers: range) -> None:
        for number in numbers:
            shape = Shape(f"{number:016x}", "", f"VERB{number}", f"SELECT t{number}")
            fault = finding(f"rule-{number}", fingerprint=shape.fingerprint, summary=shape.summary)
            statements = (statement(shape, engine=f"tenant{number}", error=f"Error{number}"),)
            sink(Report(trace(route=f"/{number}", statements=statements, status=number), (fault,)))

    flood(range(1_500))
    before = kept()
    flood(range(1_500, 3_000))
    assert kept() == before


def test_labels_cannot_break_a_scrape(registry: CollectorRegistry, sink: PrometheusSink) -> None:
    """Names that cannot be encoded, that hold newlines or that are very long still make a readable exposition."""
    for name in ("\udc80", 'a"b\nc\\', "x" * 10_000):
        sink(Report(trace(kind="block", name=name)))
    body, _ = exposition(registry, None)
    families = {family.name: family for family in text_families(body.decode())}
    routes = {sample.labels["route"] for sample in families["querytoll_request_statements"].samples}
    assert routes == {"?", 'a"b\nc\\', "x" * 200}


def test_two_sinks_share_a_registry(registry: CollectorRegistry, scrape: Scrape) -> None:
    """A second profiler on one registry adds to the same series, and the larger limit holds."""
    first, second = PrometheusSink(registry, max_routes=1), PrometheusSink(registry, max_routes=2)
    for number, sink in enumerate((first, second, first)):
        sink(Report(trace(route=f"/{number}")))
    assert [labels["route"] for labels in scrape.labels("request_db_seconds_count")] == ["/0", "/1", "other"]


def test_registries_are_apart(registry: CollectorRegistry, scrape: Scrape) -> None:
    """Sinks on two registries do not see each other."""
    PrometheusSink(CollectorRegistry())(Report(trace()))
    PrometheusSink(registry)
    assert scrape.labels("request_db_seconds_count") == []


def test_an_emptied_registry_is_filled_again(registry: CollectorRegistry, scrape: Scrape) -> None:
    """A test suite that unregisters every collector between tests gets metrics from its next application."""
    PrometheusSink(registry)
    for collector in list(registry._collector_to_names):
        registry.unregister(collector)
    PrometheusSink(registry)(Report(trace()))
    assert scrape.value("request_db_seconds_count", **ROUTE) == 1


def test_a_name_taken_by_others_is_a_configuration_error(registry: CollectorRegistry) -> None:
    """Another metric of one of the names fails at set-up, tells what to do, and leaves the registry as it was."""
    Counter("querytoll_findings", "someone else's", registry=registry)
    with pytest.raises(ConfigurationError, match="CollectorRegistry of its own"):
        PrometheusSink(registry)
    assert len(registry._collector_to_names) == 1


def test_threads_lose_nothing(sink: PrometheusSink, scrape: Scrape) -> None:
    """Requests that end in several threads at once, on series new to all of them, add up exactly."""

    def run(number: int) -> None:
        for turn in range(200):
            shape = Shape(f"{turn:016x}", "", "SELECT", f"SELECT t{turn}")
            fault = finding("slow-query", 2, fingerprint=shape.fingerprint, summary=shape.summary)
            statements = (statement(shape, 0.25), statement(shape, 0.5, error="40001"))
            sink(Report(trace(route=f"/{turn}", statements=statements, database_seconds=0.75), (fault,)))

    threads = [Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scrape.total("request_db_seconds_sum") == 1_200
    assert scrape.total("statement_duration_seconds_count") == 3_200
    assert scrape.total("statement_duration_seconds_sum") == 1_200
    assert scrape.total("query_duration_seconds_count") == 3_200
    assert scrape.total("query_rows_total") == 6_400
    assert scrape.total("statement_errors_total") == 1_600
    assert scrape.total("slow_statements_total") == 3_200
    assert len(scrape.labels("request_db_seconds_count")) == 200


def samples(metric: Counter | Summary | Histogram) -> list[tuple[str, float]]:
    return [
        (sample.name + sample.labels.get("le", ""), round(sample.value, 9))
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]


VALUES = [(0.0005,), (0.0006,), (99.0,), (0.3, 0.0001, 0.3, 0.0005, 12.0, 0.1, 10.0), (0.7, 0.2), (50.0, 60.0)]


def test_the_client_keeps_its_numbers_where_we_reach_for_them() -> None:
    """Contract with the installed client: the short way is in use; if this fails, reports cost three times as much."""
    cells = Cells()
    histogram, summary = Histogram("h", "h", registry=None, buckets=STATEMENT_BUCKETS), Summary("s", "s", registry=None)
    assert not isinstance(cells.counter(Counter("c", "c", registry=None)), Distant)
    assert type(cells.summary(summary)) is Sums
    assert type(cells.histogram(histogram, STATEMENT_BUCKETS)) is Bins
    assert not any(isinstance(bucket, Distant) for bucket in cells.histogram(histogram, STATEMENT_BUCKETS).buckets)


def test_the_short_way_agrees_with_the_public_one() -> None:
    """Contract with the installed client: adding inside gives the samples that `inc` and `observe` give."""
    cells = Cells()
    ours = Histogram("h", "h", registry=None, buckets=STATEMENT_BUCKETS)
    theirs = Histogram("h", "h", registry=None, buckets=STATEMENT_BUCKETS)
    our_sum, their_sum = Summary("s", "s", registry=None), Summary("s", "s", registry=None)
    our_count, their_count = Counter("c", "c", registry=None), Counter("c", "c", registry=None)
    for values in VALUES:
        bins = cells.histogram(ours, STATEMENT_BUCKETS)
        if len(values) == 1:
            bins.one(*values)
        else:
            bins.many(sorted(values), sum(values))
        sums = cells.summary(our_sum)
        sums.count._value += len(values)
        sums.total._value += sum(values)
        cells.counter(our_count)._value += sum(values)
        their_count.inc(sum(values))
        for value in values:
            theirs.observe(value)
            their_sum.observe(value)
    assert samples(ours) == samples(theirs)
    assert samples(our_sum) == samples(their_sum)
    assert samples(our_count) == samples(their_count)


def test_numbers_are_guarded_by_the_lock_that_a_report_holds() -> None:
    """The client's own increments and reads wait for a report: they would lose an addition, or tell half of it."""
    cells = Cells()
    counter = Counter("c", "c", registry=None)
    cell = cells.counter(counter)
    with cells.lock:
        thread = Thread(target=counter.inc)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        cell._value += 1
    thread.join()
    assert samples(counter) == [("c_total", 2)]


class Elsewhere:
    """A child of a client that keeps its numbers where nobody knows."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe(self, amount: float) -> None:
        self.seen.append(amount)

    inc = observe


def test_a_client_with_other_names_is_served_by_its_public_methods() -> None:
    """Where the numbers are not found, every observation goes through `inc` and `observe`."""
    cells = Cells()
    histogram, summary, counter = Elsewhere(), Elsewhere(), Elsewhere()
    bins = cells.histogram(histogram, STATEMENT_BUCKETS)  # type: ignore[arg-type]
    bins.many((0.1, 0.2), 0.3)
    bins.one(0.3)
    bins.mark(0.3, "a" * 32)
    sums = cells.summary(summary)  # type: ignore[arg-type]
    sums.count._value += 2
    sums.total._value += 0.5
    cell = cells.counter(counter)  # type: ignore[arg-type]
    cell._value += 3
    cell.inc(4)
    assert (histogram.seen, summary.seen, counter.seen) == ([0.1, 0.2, 0.3], [0.25, 0.25], [3, 4])


@pytest.mark.parametrize(
    ("accept", "content", "families"),
    [
        (None, "text/plain; version=0.0.4", text_families),
        ("*/*", "text/plain; version=0.0.4", text_families),
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text; version=1.0.0",
            openmetrics_families,
        ),
        ("text/plain; version=nonsense", "text/plain; version=0.0.4", text_families),
    ],
    ids=["none", "any", "openmetrics", "nonsense"],
)
def test_the_exposition_is_negotiated(
    registry: CollectorRegistry, sink: PrometheusSink, accept: str | None, content: str, families: Callable[..., object]
) -> None:
    """A scrape gets the format that it asks for, and both formats can be read back."""
    sink(Report(trace(statements=(statement(),)), (finding(),)))
    body, content_type = exposition(registry, accept)
    assert content_type.startswith(content)
    names = {family.name for family in families(body.decode())}  # type: ignore[attr-defined]
    assert {"querytoll_request_db_seconds", "querytoll_build_info"} <= names


def test_the_exposition_can_be_narrowed(registry: CollectorRegistry, sink: PrometheusSink) -> None:
    """`name[]` selects series by their name."""
    sink(Report(trace()))
    body, _ = exposition(registry, None, ["querytoll_request_db_seconds_count"])
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    assert lines == ['querytoll_request_db_seconds_count{method="GET",route="/orders/{id}"} 1.0']


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus")
def test_promtool_accepts_the_exposition(registry: CollectorRegistry, sink: PrometheusSink) -> None:
    """Names, units, types and help of every metric are as Prometheus' own tool wants them."""
    sink(Report(trace(statements=(statement(error="40001"),), transactions=(transaction(),)), (finding("slow-query"),)))
    engine = create_engine("sqlite://", logging_name="shop")
    pools.meter(sink, [sink.pool_meter])
    connections.watch_engine(engine)
    body, _ = exposition(registry, None)
    assert b"querytoll_pool_timeouts_total" in body
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


WORKERS = """
import json, os, sys
from datetime import UTC, datetime
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from querytoll.model import Finding, Report, Shape, Statement, Trace
from querytoll.sinks.prometheus import PrometheusSink, exposition

sinks = [PrometheusSink(CollectorRegistry()), PrometheusSink(CollectorRegistry())]
shape = Shape("a" * 16, "", "SELECT", "SELECT orders")

def report():
    statements = tuple(Statement("", shape, 0.0, elapsed, rows=2, engine="shop") for elapsed in (0.25, 0.5, 20.0))
    trace = Trace("b" * 32, "request", "GET /", datetime.now(UTC), 1.0, statements, method="GET", route="/", status=200)
    fault = Finding(rule="n-plus-one", title="", advice="", fingerprint="a" * 16, summary="SELECT orders", count=3)
    return Report(trace, (fault,))

for sink in sinks:
    sink(report())
children = []
for count in (10, 20):
    pid = os.fork()
    if not pid:
        for turn in range(count):
            sinks[turn % 2](report())
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
body, _ = exposition(sinks[0].registry, None)
narrow, _ = exposition(None, "application/openmetrics-text", ["querytoll_findings_total"])
found = {
    sample.name + sample.labels.get("le", ""): sample.value
    for family in text_string_to_metric_families(body.decode()) for sample in family.samples
}
print(json.dumps({"codes": codes, "found": found, "narrow": narrow.decode()}))
"""


def run_workers(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", WORKERS], env=environment, capture_output=True, text=True, timeout=60)


def test_processes_add_up(tmp_path: Path) -> None:
    """In multiprocess mode a parent and two forked workers, with two sinks each, make one exact sum."""
    done = run_workers(tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = answer["found"]
    assert answer["codes"] == [0, 0]
    assert found["querytoll_request_db_seconds_count"] == 32
    assert found["querytoll_request_duration_seconds_sum"] == 32
    assert found["querytoll_statement_duration_seconds_bucket0.25"] == 32
    assert found["querytoll_statement_duration_seconds_bucket10.0"] == 64
    assert found["querytoll_statement_duration_seconds_count"] == 96
    assert found["querytoll_statement_duration_seconds_sum"] == 32 * 20.75
    assert found["querytoll_query_rows_total"] == 192
    assert found["querytoll_excess_statements_total"] == 64
    assert found["querytoll_build_info"] == 1
    assert "querytoll_findings_total{" in answer["narrow"]
    assert "querytoll_query" not in answer["narrow"]


def test_a_missing_folder_of_the_multiprocess_mode_is_told(tmp_path: Path) -> None:
    """A multiprocess folder that does not exist fails at set-up with what to do."""
    done = run_workers(tmp_path / "absent")
    assert done.returncode == 1
    assert "create the folder before the first worker starts" in done.stderr
