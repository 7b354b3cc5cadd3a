"""Reports to Prometheus metrics, and metrics to the answer to a scrape."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from math import inf
from threading import Lock
from typing import NamedTuple, TypeVar, get_args
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import ValueClass

from querytoll.errors import ConfigurationError, Part
from querytoll.model import Checkout, Finding, Kind, Report, Statement, Trace, Transaction

OTHER = "other"
"""Label value of everything that a guard folds."""
ABSENT = "-"
"""Label value where there is nothing to tell: a finding without a fingerprint, a request without a status."""
MAX_POOLS = 20
MAX_OPERATIONS = 20
MAX_SQLSTATES = 50
MAX_RULES = 50
MAX_PAIRS = 1_000
"""Combinations of route and query with series of their own; the rest has `query="other"`."""
MAX_LABEL_LENGTH = 200
"""Characters of one label value."""

STATEMENT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUEST_BUCKETS = STATEMENT_BUCKETS[1:]
COUNT_BUCKETS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 35.0, 50.0, 100.0, 200.0, 500.0)
TRANSACTION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", *get_args(Kind)})
_UNKNOWN_METHOD = "_OTHER"
_STATUSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_WASTEFUL = frozenset({"n-plus-one", "duplicate-query", "write-loop", "commit-loop"})
_EXPLAIN_OUTCOMES = ("captured", "cached", "refused", "budget", "timeout", "error")
_FOLDABLE = ("route", "query", "pool", "operation", "sqlstate", "rule", "pair")

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_Add = Callable[[float], None]
_AddSum = Callable[[float, float], None]
_AddAll = Callable[[Sequence[float]], None]


class PrometheusSink:
    """Count reports into Prometheus metrics named `querytoll_*`.

    Sinks on one registry share its metrics, their guards and the larger of their limits. In multiprocess mode all
    sinks of a process do, because the client's files know no registry; the limits then hold for each process.
    Traces of tests are not exported; tasks and blocks have their kind as method and their name as route.

    Args:
        registry: None: the client's default registry.
        max_routes: pairs of method and route with series of their own; the rest has `route="other"`.
        max_fingerprints: fingerprints with series of their own; the rest has `query="other"`.

    Raises:
        ConfigurationError: another metric in the registry has one of the names, or the folder of the multiprocess
            mode cannot be written.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, max_routes: int = 300, max_fingerprints: int = 200
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self._series = _series_of(self.registry)
        self._series.widen(max_routes, max_fingerprints)

    def __call__(self, report: Report) -> None:
        trace = report.trace
        if trace.kind == "test":
            return
        series = self._series
        route = series.route(*_place(trace))
        if report.plans:  # what came after the trace's own report, which has been counted
            for finding in report.findings:
                series.count_finding(route, finding)
            return
        series.count_request(route, trace)
        held = series.count_transactions(trace.transactions) if trace.transactions else {}
        busy = series.count_statements(trace.statements, held) if trace.statements else 0.0
        if held and not trace.dropped:
            route.idle(len(held), max(sum(held.values()) - busy, 0.0))
        for finding in report.findings:
            series.count_finding(route, finding)
        self.dropped("capture", trace.dropped)

    def internal_error(self, part: Part) -> None:
        """Count a fault of the profiler itself."""
        self._series.internal_errors[part](1)

    def dropped(self, part: Part, n: int = 1) -> None:
        """Count what the profiler lost, except `Trace.dropped`, which is counted with its trace."""
        if n > 0:
            self._series.dropped[part](n)

    def explained(self, outcome: str, seconds: float) -> None:
        """Count what became of an EXPLAIN of a slow statement, and its seconds where it ran."""
        self._series.count_explain(outcome, seconds)

    def spent(self, part: Part, seconds: float) -> None:
        """Count seconds that the profiler itself took."""
        if seconds > 0:
            self._series.spent[part](seconds)


def exposition(registry: CollectorRegistry | None, accept: str | None, names: Iterable[str] = ()) -> tuple[bytes, str]:
    """Encode the metrics for a scrape: tens of milliseconds for thousands of series, so call it in a thread.

    Args:
        registry: None: the client's default registry. Not looked at in multiprocess mode.
        accept: the request's `Accept` header; OpenMetrics where it asks for it.
        names: only the series of these names (Prometheus' `name[]` parameter); empty: all.

    Returns:
        The body and its content type.
    """
    source = REGISTRY if registry is None else registry
    if _multiprocess():
        source = CollectorRegistry(auto_describe=bool(names))
        MultiProcessCollector(source)  # type: ignore[no-untyped-call]
    try:
        encode, content_type = choose_encoder(accept or "")
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    return encode(source.restricted_registry(names) if names else source), content_type


@dataclass(frozen=True, slots=True)
class _Route:
    """The series of one pair of method and route."""

    method: str
    route: str
    database: _AddAll
    statements: _AddAll
    pool_wait: _Add
    excess_statements: _Add
    excess_seconds: _Add
    idle: _AddSum
    held: _Add
    busy: _Add
    durations: dict[str, _AddSum] = field(default_factory=dict)


class _Query(NamedTuple):
    """The series of one fingerprint."""

    query: str
    summary: str
    durations: _AddSum
    rows: _Add


class _Guard:
    """Admits the first values of a label, and counts every further occurrence as folded."""

    def __init__(self, limit: int, folded: _Add) -> None:
        self.limit = limit
        self._folded = folded
        self._known: set[Hashable] = set()
        self._lock = Lock()

    def admits(self, value: Hashable) -> bool:
        """The value is among the first `limit` ones."""
        if value in self._known:
            return True
        with self._lock:
            if len(self._known) < self.limit:
                self._known.add(value)
            admitted = value in self._known
        if not admitted:
            self._folded(1)
        return admitted

    def fold(self, value: str) -> str:
        """The value if it is admitted, else `other`."""
        return value if self.admits(value) else OTHER


class _Metrics:
    """The metric objects, registered nowhere yet."""

    def __init__(self) -> None:
        counter = partial(Counter, namespace="querytoll", registry=None)
        histogram = partial(Histogram, namespace="querytoll", registry=None)
        summary = partial(Summary, namespace="querytoll", registry=None)
        route, query, pool = ("method", "route"), ("query", "summary"), ("pool", "operation")
        self.request_duration = summary("request_duration_seconds", "Time of requests.", (*route, "status"))
        self.request_db = histogram(
            "request_db_seconds", "Time of requests in the database.", route, buckets=REQUEST_BUCKETS
        )
        self.request_statements = histogram(
            "request_statements", "Statements per request.", route, buckets=COUNT_BUCKETS
        )
        self.request_pool_wait = counter("request_pool_wait_seconds", "Time waited for a pooled connection.", route)
        self.statement_duration = histogram(
            "statement_duration_seconds", "Time of statements.", pool, buckets=STATEMENT_BUCKETS
        )
        self.statement_errors = counter("statement_errors", "Failed statements.", (*pool, "sqlstate"))
        self.query_duration = summary("query_duration_seconds", "Time of the statements of one shape.", query)
        self.query_rows = counter("query_rows", "Rows returned or changed by the statements of one shape.", query)
        self.slow_statements = counter("slow_statements", "Statements found to be slow.", (*route, *query))
        self.findings = counter("findings", "Faults found, by rule and place.", ("rule", *route, *query))
        self.excess_statements = counter(
            "excess_statements", "Statements that fixing N+1s, duplicates and loops would save.", route
        )
        self.excess_seconds = counter(
            "excess_statement_seconds", "Time that fixing N+1s, duplicates and loops would save.", route
        )
        self.explains = counter("explains", "What became of the EXPLAINs of slow statements.", ("outcome",))
        self.explain_duration = summary("explain_duration_seconds", "Time of the EXPLAINs of slow statements.")
        self.plan_changes = counter("plan_changes", "Statements that were found with another plan than before.", query)
        self.transaction_duration = histogram(
            "transaction_duration_seconds", "Time of transactions.", ("pool", "outcome"), buckets=TRANSACTION_BUCKETS
        )
        self.transaction_idle = summary(
            "transaction_idle_seconds", "Time of transactions in which no statement ran.", route
        )
        self.connection_held = counter("connection_held_seconds", "Time that connections were held.", route)
        self.connection_busy = counter("connection_busy_seconds", "Time that held connections were in use.", route)
        self.folded = counter("label_sets_folded", "Observations without series of their own.", ("label",))
        self.profiler_seconds = counter("profiler_seconds", "Time that the profiler itself took.", ("part",))
        self.internal_errors = counter("internal_errors", "Faults of the profiler itself.", ("part",))
        self.dropped = counter("dropped", "What the profiler could not keep.", ("part",))
        self.build_info = Gauge(
            "querytoll_build_info",
            "Versions at work; always 1.",
            ("version", "sqlalchemy"),
            multiprocess_mode="max",
            registry=None,
        )

    def restore(self, registry: CollectorRegistry) -> None:
        """Put back what somebody took out of the registry."""
        for metric in vars(self).values():
            with suppress(ValueError):
                registry.register(metric)

    def register(self, registry: CollectorRegistry) -> None:
        """Put every metric into the registry, or none."""
        registered: list[MetricWrapperBase] = []
        try:
            for metric in vars(self).values():
                registry.register(metric)
                registered.append(metric)
        except ValueError as error:
            for metric in registered:
                registry.unregister(metric)
            raise ConfigurationError(
                f"the Prometheus registry has metrics of these names already: {error}; "
                "give PrometheusSink a CollectorRegistry of its own"
            ) from error


class _Series:
    """Children of the metrics, made when first needed and kept, as far as the guards admit them."""

    def __init__(self) -> None:
        self.metrics = metrics = _Metrics()
        folded = {label: _adder(metrics.folded.labels(label)) for label in _FOLDABLE}
        self._guard_routes = _Guard(0, folded["route"])
        self._guard_queries = _Guard(0, folded["query"])
        self._guard_pools = _Guard(MAX_POOLS, folded["pool"])
        self._guard_operations = _Guard(MAX_OPERATIONS, folded["operation"])
        self._guard_sqlstates = _Guard(MAX_SQLSTATES, folded["sqlstate"])
        self._guard_rules = _Guard(MAX_RULES, folded["rule"])
        self._guard_pairs = _Guard(MAX_PAIRS, folded["pair"])
        self._routes: dict[tuple[str, str], _Route] = {}
        self._queries: dict[str, _Query] = {}
        self._statements: dict[tuple[str, str], _AddAll] = {}
        self._transactions: dict[tuple[str, str], _AddAll] = {}
        self._counters: dict[tuple[Counter, tuple[str, ...]], _Add] = {}
        self.explains = {outcome: _adder(metrics.explains.labels(outcome)) for outcome in _EXPLAIN_OUTCOMES}
        self._explain_seconds = _summary_adder(metrics.explain_duration)
        self.spent = _by_part(metrics.profiler_seconds)
        self.internal_errors = _by_part(metrics.internal_errors)
        self.dropped = _by_part(metrics.dropped)
        metrics.build_info.labels(_version("querytoll"), _version("sqlalchemy")).set(1)

    def widen(self, max_routes: int, max_fingerprints: int) -> None:
        """Raise the limits to these."""
        self._guard_routes.limit = max(self._guard_routes.limit, max_routes)
        self._guard_queries.limit = max(self._guard_queries.limit, max_fingerprints)

    def route(self, method: str, route: str) -> _Route:
        """The series of a route."""
        found = self._routes.get((method, route))
        if found is not None:
            return found
        if not self._guard_routes.admits((method, route)):
            method, route = method if method in _METHODS else _UNKNOWN_METHOD, OTHER
        return _kept(self._routes, (method, route), self._make_route)

    def count_request(self, route: _Route, trace: Trace) -> None:
        """Count the request itself and its connections."""
        status = ABSENT if trace.status is None else _STATUSES.get(trace.status // 100, ABSENT)
        durations = route.durations.get(status)
        if durations is None:
            child = self.metrics.request_duration.labels(route.method, route.route, status)
            durations = route.durations.setdefault(status, _summary_adder(child))
        durations(1, trace.elapsed)
        route.database((trace.database_seconds,))
        route.statements((len(trace.statements) + trace.dropped,))
        if trace.connections:
            _count_connections(route, trace.connections)

    def count_statements(self, statements: Sequence[Statement], inside: Container[int]) -> float:
        """Count statements; seconds of those in the transactions with these ordinals."""
        groups = _grouped(statements, inside)
        for fingerprint, (count, seconds, rows) in groups.shapes.items():
            query = self._queries.get(fingerprint) or self._query(fingerprint, groups.summaries[fingerprint])
            query.durations(count, seconds)
            if rows > 0:
                query.rows(rows)
        for engine, operations in groups.engines.items():
            for operation, durations in operations.items():
                self._statement(engine, operation)(durations)
        for statement in groups.failed:
            self._count_error(statement)
        return groups.busy

    def count_transactions(self, transactions: Sequence[Transaction]) -> dict[int, float]:
        """Count transactions; seconds that each was open before its end, by ordinal, autocommit excepted."""
        held: dict[int, float] = {}
        groups: dict[tuple[str, str], list[float]] = {}
        for ordinal, transaction in enumerate(transactions):
            groups.setdefault((transaction.engine, transaction.outcome), []).append(transaction.elapsed)
            if transaction.outcome != "autocommit":
                held[ordinal] = transaction.elapsed - transaction.ending
        for (engine, outcome), durations in groups.items():
            self._transaction(engine, outcome)(durations)
        return held

    def count_finding(self, route: _Route, finding: Finding) -> None:
        """Count a finding and what its fix would save."""
        place = self._pair(route, finding)
        self._counter(self.metrics.findings, (self._guard_rules.fold(finding.rule), *place))(1)
        if finding.rule == "slow-query":
            self._counter(self.metrics.slow_statements, place)(finding.count)
        if finding.rule == "plan-flip":
            self._counter(self.metrics.plan_changes, place[2:])(1)
        if finding.rule in _WASTEFUL:
            if finding.count > 1:
                route.excess_statements(finding.count - 1)
            if finding.cost > 0:
                route.excess_seconds(finding.cost)

    def count_explain(self, outcome: str, seconds: float) -> None:
        """Count what became of an EXPLAIN; 0 seconds: none was run."""
        self.explains[outcome](1)
        if seconds > 0:
            self._explain_seconds(1, seconds)

    def _count_error(self, statement: Statement) -> None:
        sqlstate = self._guard_sqlstates.fold(statement.error or ABSENT)
        self._counter(self.metrics.statement_errors, (*self._pool(statement.engine, statement.operation), sqlstate))(1)

    def _pair(self, route: _Route, finding: Finding) -> tuple[str, str, str, str]:
        """Labels of a route and a query, the query folded when there are too many pairs."""
        query, summary = ABSENT, ABSENT
        if finding.fingerprint is not None:
            known = self._query(finding.fingerprint, finding.summary or ABSENT)
            query, summary = known.query, known.summary
        if not self._guard_pairs.admits((route.method, route.route, query)):
            query, summary = OTHER, OTHER
        return route.method, route.route, query, summary

    def _pool(self, engine: str, operation: str) -> tuple[str, str]:
        return self._guard_pools.fold(engine), self._guard_operations.fold(operation)

    def _query(self, fingerprint: str, summary: str) -> _Query:
        found = self._queries.get(fingerprint)
        if found is not None:
            return found
        if not self._guard_queries.admits(fingerprint):
            fingerprint, summary = OTHER, OTHER
        return _kept(self._queries, fingerprint, partial(self._make_query, summary))

    def _statement(self, engine: str, operation: str) -> _AddAll:
        found = self._statements.get((engine, operation))
        return found or _kept(self._statements, self._pool(engine, operation), self._make_statement)

    def _transaction(self, engine: str, outcome: str) -> _AddAll:
        found = self._transactions.get((engine, outcome))
        return found or _kept(self._transactions, (self._guard_pools.fold(engine), outcome), self._make_transaction)

    def _counter(self, metric: Counter, labels: tuple[str, ...]) -> _Add:
        return _kept(self._counters, (metric, labels), _make_counter)

    def _make_route(self, place: tuple[str, str]) -> _Route:
        metrics = self.metrics
        labels = method, route = _label(place[0]), _label(place[1])
        return _Route(
            method=method,
            route=route,
            database=_histogram_adder(metrics.request_db.labels(*labels), REQUEST_BUCKETS),
            statements=_histogram_adder(metrics.request_statements.labels(*labels), COUNT_BUCKETS),
            pool_wait=_adder(metrics.request_pool_wait.labels(*labels)),
            excess_statements=_adder(metrics.excess_statements.labels(*labels)),
            excess_seconds=_adder(metrics.excess_seconds.labels(*labels)),
            idle=_summary_adder(metrics.transaction_idle.labels(*labels)),
            held=_adder(metrics.connection_held.labels(*labels)),
            busy=_adder(metrics.connection_busy.labels(*labels)),
        )

    def _make_query(self, summary: str, fingerprint: str) -> _Query:
        labels = query, summary = _label(fingerprint), _label(summary)
        durations = _summary_adder(self.metrics.query_duration.labels(*labels))
        return _Query(query, summary, durations, _adder(self.metrics.query_rows.labels(*labels)))

    def _make_statement(self, pool: tuple[str, str]) -> _AddAll:
        return _histogram_adder(self.metrics.statement_duration.labels(*map(_label, pool)), STATEMENT_BUCKETS)

    def _make_transaction(self, pool: tuple[str, str]) -> _AddAll:
        return _histogram_adder(self.metrics.transaction_duration.labels(*map(_label, pool)), TRANSACTION_BUCKETS)


class _Groups(NamedTuple):
    """Statements as their metrics want them."""

    shapes: dict[str, list[float]]
    summaries: dict[str, str]
    engines: dict[str, dict[str, list[float]]]
    failed: list[Statement]
    busy: float


def _grouped(statements: Sequence[Statement], inside: Container[int]) -> _Groups:
    """Statements by shape (count, seconds, rows) and by engine and operation (durations).

    One pass without a call in it: it runs for every statement of the application.
    """
    shapes: dict[str, list[float]] = {}
    summaries: dict[str, str] = {}
    failed: list[Statement] = []
    busy = 0.0
    engine, operations = statements[0].engine, dict[str, list[float]]()
    engines = {engine: operations}
    for statement in statements:
        shape, elapsed = statement.shape, statement.elapsed
        if statement.engine is not engine:
            engine = statement.engine
            operations = engines.setdefault(engine, {})
        durations = operations.get(shape.operation)
        if durations is None:
            operations[shape.operation] = [elapsed]
        else:
            durations.append(elapsed)
        sums = shapes.get(shape.fingerprint)
        if sums is None:
            shapes[shape.fingerprint] = [1, elapsed, statement.rows or 0]
            summaries[shape.fingerprint] = shape.summary
        else:
            sums[0] += 1
            sums[1] += elapsed
            sums[2] += statement.rows or 0
        if statement.transaction in inside:
            busy += elapsed
        if statement.error is not None:
            failed.append(statement)
    return _Groups(shapes, summaries, engines, failed, busy)


def _count_connections(route: _Route, connections: Iterable[Checkout]) -> None:
    wait = hold = busy = 0.0
    for checkout in connections:
        wait += checkout.wait
        hold += checkout.hold
        busy += checkout.busy
    if wait > 0:
        route.pool_wait(wait)
    if hold > 0:
        route.held(hold)
    if busy > 0:
        route.busy(busy)


def _place(trace: Trace) -> tuple[str, str]:
    """Method and route of a trace; a raw path never becomes a label."""
    if trace.kind == "request":
        return trace.method or _UNKNOWN_METHOD, trace.route or ABSENT
    if trace.kind == "websocket":
        return trace.method or trace.kind, trace.route or ABSENT
    return trace.kind, trace.name


def _label(value: str) -> str:
    """A value that a scrape can encode: one lone surrogate would fail the whole of it."""
    return value[:MAX_LABEL_LENGTH].encode("utf-8", "replace").decode("utf-8") or ABSENT


def _kept(cache: dict[_K, _V], key: _K, make: Callable[[_K], _V]) -> _V:
    """The cache's value; made where it is missing, perhaps twice, because the client hands out one child only."""
    found = cache.get(key)
    return cache.setdefault(key, make(key)) if found is None else found


def _make_counter(key: tuple[Counter, tuple[str, ...]]) -> _Add:
    metric, labels = key
    return _adder(metric.labels(*map(_label, labels)))


def _by_part(counter: Counter) -> dict[Part, _Add]:
    """Every part's counter, from 0."""
    return {part: _adder(counter.labels(part)) for part in get_args(Part)}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


# The functions below reach the numbers behind a child, which halves the price of `inc` and `observe` and takes several
# values at once. Where a version of the client keeps its numbers elsewhere, the public methods serve.


def _inner(owner: object, name: str) -> _Add | None:
    """The increment of a number that a child keeps under this name."""
    add: _Add | None = getattr(getattr(owner, name, None), "inc", None)
    return add


def _adder(child: Counter) -> _Add:
    """A function that adds to a counter; the amount must not be negative."""
    return _inner(child, "_value") or child.inc


def _summary_adder(child: Summary) -> _AddSum:
    """A function that adds a number of observations by their sum."""
    count, total = _inner(child, "_count"), _inner(child, "_sum")
    if count is None or total is None:
        return partial(_observe_sum, child)

    def add(n: float, seconds: float) -> None:
        count(n)
        total(seconds)

    return add


def _observe_sum(child: Summary, n: float, seconds: float) -> None:
    for _ in range(int(n)):
        child.observe(seconds / n)


def _histogram_adder(child: Histogram, bounds: Sequence[float]) -> _AddAll:
    """A function that adds observations, touching each bucket once."""
    total = _inner(child, "_sum")
    buckets: list[_Add] = [bucket.inc for bucket in getattr(child, "_buckets", ()) if hasattr(bucket, "inc")]
    if total is None or len(buckets) != len(bounds) + 1:
        return partial(_observe_all, child)
    pairs = tuple(zip((*bounds, inf), buckets, strict=True))

    def add(values: Sequence[float]) -> None:
        total(sum(values))
        if len(values) == 1:
            buckets[bisect_left(bounds, values[0])](1)
            return
        ascending, below = sorted(values), 0
        for bound, bucket in pairs:
            upto = bisect_right(ascending, bound, below)
            if upto > below:
                bucket(upto - below)
                if upto == len(ascending):
                    return
                below = upto

    return add


def _observe_all(child: Histogram, values: Sequence[float]) -> None:
    for value in values:
        child.observe(value)


_SHARED: WeakKeyDictionary[CollectorRegistry, _Series] = WeakKeyDictionary()
_SHARING = Lock()


def _multiprocess() -> bool:
    """The client keeps its numbers in files, as it decided when it was imported."""
    return bool(getattr(ValueClass, "_multiprocess", "PROMETHEUS_MULTIPROC_DIR" in os.environ))


def _series_of(registry: CollectorRegistry) -> _Series:
    """The registry's series, with their metrics registered."""
    with _SHARING:
        series = _SHARED.get(registry)
        if series is not None:
            series.metrics.restore(registry)
            return series
        # Two objects for one entry of the client's files would overwrite each other's numbers.
        series = next(iter(_SHARED.values()), None) if _multiprocess() else None
        series = series or _new_series()
        series.metrics.register(registry)
        _SHARED[registry] = series
        return series


def _new_series() -> _Series:
    try:
        return _Series()
    except OSError as error:
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR={os.environ.get('PROMETHEUS_MULTIPROC_DIR')} cannot be written: {error}; "
            "create the folder before the first worker starts, and empty it"
        ) from error
