"""Children of the metrics, made when first needed and kept, as far as the guards admit them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import TypeVar, get_args

from prometheus_client import Counter

from querytoll.errors import Part
from querytoll.model import Finding, Kind, Report, Shape, Statement, Trace, Transaction
from querytoll.sinks.guard import ABSENT, OTHER, Guard, label
from querytoll.sinks.prometheus.cells import Bins, Cell, Cells, Sums
from querytoll.sinks.prometheus.grouping import grouped
from querytoll.sinks.prometheus.metrics import (
    COUNT_BUCKETS,
    REQUEST_BUCKETS,
    STATEMENT_BUCKETS,
    TRANSACTION_BUCKETS,
    Metrics,
)
from querytoll.sinks.prometheus.multiprocess import is_multiprocess
from querytoll.sinks.prometheus.pools import PoolSeries
from querytoll.sinks.tracing import current_trace_id

MAX_POOLS = 20
MAX_OPERATIONS = 20
MAX_SQLSTATES = 50
MAX_RULES = 50
MAX_PAIRS = 1_000
"""Combinations of route and query with series of their own; the rest has `query="other"`."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", *get_args(Kind)})
_UNKNOWN_METHOD = "_OTHER"
_MANY = int(COUNT_BUCKETS[-1]) + 1
_PLACES = tuple(bisect_left(COUNT_BUCKETS, number) for number in range(_MANY))
"""Bucket of each number of statements but the many that are in the last one."""
_STATUSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_WASTEFUL = frozenset({"n-plus-one", "duplicate-query", "write-loop", "commit-loop"})
_EXPLAIN_OUTCOMES = ("captured", "cached", "refused", "budget", "timeout", "error")
_FOLDABLE = ("route", "query", "pool", "operation", "sqlstate", "rule", "pair")

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Route:
    """The series of one pair of method and route."""

    method: str
    route: str
    database: Bins
    statements: Bins
    pool_wait: Cell
    excess_statements: Cell
    excess_seconds: Cell
    idle: Sums
    held: Cell
    busy: Cell
    durations: dict[int | None, Sums] = field(default_factory=dict)
    findings: dict[tuple[str, str | None], _Found] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Query:
    """The series of one fingerprint."""

    query: str
    summary: str
    durations: Sums
    rows: Cell


@dataclass(frozen=True, slots=True)
class _Found:
    """The series of findings of one rule about one route and fingerprint, and whether its fix saves statements."""

    count: Cell
    slow: Cell | None
    flips: Cell | None
    wasteful: bool


class Series:
    """All series of a registry."""

    def __init__(self) -> None:
        self.metrics = metrics = Metrics()
        self.cells = cells = Cells()
        self._lock = cells.lock
        folded = {name: cells.counter(metrics.folded.labels(name)) for name in _FOLDABLE}
        self._guard_routes = Guard(0, folded["route"].inc)
        self._guard_queries = Guard(0, folded["query"].inc)
        self._guard_pools = Guard(MAX_POOLS, folded["pool"].inc)
        self._guard_operations = Guard(MAX_OPERATIONS, folded["operation"].inc)
        self._guard_sqlstates = Guard(MAX_SQLSTATES, folded["sqlstate"].inc)
        self._guard_rules = Guard(MAX_RULES, folded["rule"].inc)
        self._guard_pairs = Guard(MAX_PAIRS, folded["pair"].inc)
        self._routes: dict[tuple[str, str], Route] = {}
        self._queries: dict[str, _Query] = {}
        self._statements: dict[tuple[str, str], Bins] = {}
        self._transactions: dict[tuple[str, str], Bins] = {}
        self._counters: dict[tuple[Counter, tuple[str, ...]], Cell] = {}
        self.explains = {outcome: cells.counter(metrics.explains.labels(outcome)) for outcome in _EXPLAIN_OUTCOMES}
        self._explain_seconds = cells.summary(metrics.explain_duration)
        self.spent = self._by_part(metrics.profiler_seconds)
        self.internal_errors = self._by_part(metrics.internal_errors)
        self.dropped = self._by_part(metrics.dropped)
        self.pools = PoolSeries(metrics, cells, self._guard_pools, self._count_blocked, in_files=is_multiprocess())
        metrics.sample_ratio.set(1)
        metrics.build_info.labels(_version("querytoll"), _version("sqlalchemy")).set(1)

    def widen(self, max_routes: int, max_fingerprints: int) -> None:
        """Raise the limits to these."""
        self._guard_routes.limit = max(self._guard_routes.limit, max_routes)
        self._guard_queries.limit = max(self._guard_queries.limit, max_fingerprints)

    def count(self, report: Report) -> None:
        """Count a report, unless it is a test's.

        This runs for every request: numbers are added to where they lie, which saves a call for each.
        """
        trace, findings, plans = report
        (
            _, kind, _, _, elapsed, statements, transactions, connections, method, template, _, status, _, dropped,
            database, _, _, _, _,
        ) = trace  # fmt: skip
        if kind == "test":
            return
        place = (method, template) if kind == "request" and method and template else _place(trace)
        route = self._routes.get(place) or self._route(place)
        trace_id = current_trace_id() if statements and not plans else None
        lock = self._lock
        lock.acquire()  # at half the price of `with`
        try:
            if not plans:  # they come after the trace's own report, which has been counted
                durations = route.durations.get(status) or self._durations(route, status)
                durations.count._value += 1.0
                durations.total._value += elapsed
                number = len(statements) + dropped
                counts, bins = route.statements, route.database
                counts.total._value += number
                counts.buckets[_PLACES[number] if number < _MANY else -1]._value += 1.0
                bins.total._value += database
                (bins.lowest if database <= bins.low else bins.bucket(database))._value += 1.0
                if dropped:
                    self.dropped["capture"]._value += dropped
                for checkout in connections:
                    route.pool_wait._value += checkout.wait
                    route.held._value += checkout.hold
                    route.busy._value += checkout.busy
                seconds = self._count_statements(statements, trace_id) if statements else 0.0
                if transactions:
                    self._count_transactions(route, transactions, statements, None if dropped else seconds)
                if trace_id is not None:
                    route.database.mark(database, trace_id)
            for finding in findings:
                self._count_finding(route, finding)
        finally:
            lock.release()

    def count_explain(self, outcome: str, seconds: float) -> None:
        """Count what became of an EXPLAIN; 0 seconds: none was run."""
        with self.cells.lock:
            self.explains[outcome]._value += 1
            if seconds > 0:
                self._explain_seconds.count._value += 1
                self._explain_seconds.total._value += seconds

    def _count_blocked(self, pool: str, place: tuple[str, str]) -> None:
        route = self._route(place)
        self._counter(self.metrics.pool_timeout_holders, (pool, route.method, route.route)).inc(1)

    def _count_statements(self, statements: Sequence[Statement], trace_id: str | None) -> float:
        """Count statements by shape, and by pool and operation; seconds of them all."""
        groups, failed = grouped(statements)
        if len(groups) == 1:
            shape, engine, elapsed, rows = groups[0]
            total = self._count_query(shape, elapsed, rows)
            self._count_pool((engine, shape.operation), elapsed, total, trace_id)
        else:
            total = 0.0
            pools: dict[tuple[str, str], list[float]] = {}
            for shape, engine, elapsed, rows in groups:
                total += self._count_query(shape, elapsed, rows)
                pool = (engine, shape.operation)
                if pool in pools:
                    pools[pool] += elapsed
                else:
                    pools[pool] = elapsed
            for pool, elapsed in pools.items():
                self._count_pool(pool, elapsed, total if len(pools) == 1 else sum(elapsed), trace_id)
        for statement in failed:
            self._count_error(statement)
        return total

    def _count_query(self, shape: Shape, elapsed: Sequence[float], rows: int) -> float:
        """Count statements of one shape; seconds of them all."""
        query = self._queries.get(shape.fingerprint) or self._query(shape.fingerprint, shape.summary)
        durations, number = query.durations, len(elapsed)
        seconds = elapsed[0] if number == 1 else sum(elapsed)
        durations.count._value += number
        durations.total._value += seconds
        if rows > 0:
            query.rows._value += rows
        return seconds

    def _count_pool(self, pool: tuple[str, str], elapsed: list[float], seconds: float, trace_id: str | None) -> None:
        """Count statements of one engine and operation by their durations, whose sum is known."""
        bins = self._statements.get(pool) or self._statement(*pool)
        if len(elapsed) == 1:
            bins.one(seconds)
        else:
            elapsed.sort()
            bins.many(elapsed, seconds)
        if trace_id is not None:
            bins.mark(elapsed[-1], trace_id)

    def _count_transactions(
        self,
        route: Route,
        transactions: Sequence[Transaction],
        statements: Sequence[Statement],
        seconds: float | None,
    ) -> None:
        """Count transactions, and the time that they were open with no statement running, autocommit excepted.

        Args:
            seconds: of all statements; None where some were dropped, of which nobody knows.
        """
        explicit, inside, idle = 0, 0, 0.0
        for engine, _, elapsed, ending, outcome, count, _ in transactions:
            pool = (engine, outcome)
            (self._transactions.get(pool) or self._transaction(*pool)).one(elapsed)
            if outcome != "autocommit":
                explicit += 1
                inside += count
                idle += elapsed - ending
        if explicit and seconds is not None:
            if inside == len(statements):
                idle -= seconds
            else:
                ordinals = [at for at, each in enumerate(transactions) if each.outcome != "autocommit"]
                idle -= sum(each.elapsed for each in statements if each.transaction in ordinals)
            route.idle.count._value += explicit
            route.idle.total._value += idle if idle > 0.0 else 0.0

    def _count_finding(self, route: Route, finding: Finding) -> None:
        """Count a finding and what its fix would save."""
        found = route.findings.get((finding.rule, finding.fingerprint)) or self._found(route, finding)
        found.count._value += 1
        if found.slow is not None:
            found.slow._value += finding.count
        if found.flips is not None:
            found.flips._value += 1
        if found.wasteful:
            if finding.count > 1:
                route.excess_statements._value += finding.count - 1
            if finding.cost > 0:
                route.excess_seconds._value += finding.cost

    def _count_error(self, statement: Statement) -> None:
        sqlstate = self._guard_sqlstates.fold(statement.error or ABSENT)
        labels = (*self._pool(statement.engine, statement.operation), sqlstate)
        self._counter(self.metrics.statement_errors, labels)._value += 1

    def _found(self, route: Route, finding: Finding) -> _Found:
        """Series of a finding, kept with its route where no guard folds any of it: those count what they fold."""
        rule, fingerprint = self._guard_rules.fold(finding.rule), finding.fingerprint
        query, summary = ABSENT, ABSENT
        if fingerprint is not None:
            known = self._query(fingerprint, finding.summary or ABSENT)
            query, summary = known.query, known.summary
        if not self._guard_pairs.admits((route.method, route.route, query)):
            query, summary = OTHER, OTHER
        place = (route.method, route.route, query, summary)
        metrics, counter = self.metrics, self._counter
        found = _Found(
            count=counter(metrics.findings, (rule, *place)),
            slow=counter(metrics.slow_statements, place) if finding.rule == "slow-query" else None,
            flips=counter(metrics.plan_changes, place[2:]) if finding.rule == "plan-flip" else None,
            wasteful=finding.rule in _WASTEFUL,
        )
        if OTHER not in (rule, query):
            route.findings[finding.rule, fingerprint] = found
        return found

    def _pool(self, engine: str, operation: str) -> tuple[str, str]:
        return self._guard_pools.fold(engine), self._guard_operations.fold(operation)

    def _route(self, place: tuple[str, str]) -> Route:
        found = self._routes.get(place)
        if found is not None:
            return found
        method, _ = place
        if not self._guard_routes.admits(place):
            place = method if method in _METHODS else _UNKNOWN_METHOD, OTHER
        return _kept(self._routes, place, self._make_route)

    def _query(self, fingerprint: str, summary: str) -> _Query:
        found = self._queries.get(fingerprint)
        if found is not None:
            return found
        if not self._guard_queries.admits(fingerprint):
            fingerprint, summary = OTHER, OTHER
        return _kept(self._queries, fingerprint, partial(self._make_query, summary))

    def _statement(self, engine: str, operation: str) -> Bins:
        return _kept(self._statements, self._pool(engine, operation), self._make_statement)

    def _transaction(self, engine: str, outcome: str) -> Bins:
        return _kept(self._transactions, (self._guard_pools.fold(engine), outcome), self._make_transaction)

    def _counter(self, metric: Counter, labels: tuple[str, ...]) -> Cell:
        return _kept(self._counters, (metric, labels), self._make_counter)

    def _durations(self, route: Route, status: int | None) -> Sums:
        """Series of a status, by its class; kept by the status itself, of those that there are."""
        name = ABSENT if status is None else _STATUSES.get(status // 100, ABSENT)
        sums = self.cells.summary(self.metrics.request_duration.labels(route.method, route.route, name))
        if status is None or name is not ABSENT:
            route.durations[status] = sums
        return sums

    def _make_route(self, place: tuple[str, str]) -> Route:
        metrics, cells = self.metrics, self.cells
        labels = method, route = label(place[0]), label(place[1])
        return Route(
            method=method,
            route=route,
            database=cells.histogram(metrics.request_db.labels(*labels), REQUEST_BUCKETS),
            statements=cells.histogram(metrics.request_statements.labels(*labels), COUNT_BUCKETS),
            pool_wait=cells.counter(metrics.request_pool_wait.labels(*labels)),
            excess_statements=cells.counter(metrics.excess_statements.labels(*labels)),
            excess_seconds=cells.counter(metrics.excess_seconds.labels(*labels)),
            idle=cells.summary(metrics.transaction_idle.labels(*labels)),
            held=cells.counter(metrics.connection_held.labels(*labels)),
            busy=cells.counter(metrics.connection_busy.labels(*labels)),
        )

    def _make_query(self, summary: str, fingerprint: str) -> _Query:
        labels = query, summary = label(fingerprint), label(summary)
        durations = self.cells.summary(self.metrics.query_duration.labels(*labels))
        return _Query(query, summary, durations, self.cells.counter(self.metrics.query_rows.labels(*labels)))

    def _make_statement(self, pool: tuple[str, str]) -> Bins:
        return self.cells.histogram(self.metrics.statement_duration.labels(*map(label, pool)), STATEMENT_BUCKETS)

    def _make_transaction(self, pool: tuple[str, str]) -> Bins:
        return self.cells.histogram(self.metrics.transaction_duration.labels(*map(label, pool)), TRANSACTION_BUCKETS)

    def _make_counter(self, key: tuple[Counter, tuple[str, ...]]) -> Cell:
        metric, labels = key
        return self.cells.counter(metric.labels(*map(label, labels)))

    def _by_part(self, counter: Counter) -> dict[Part, Cell]:
        """Every part's counter, from 0."""
        return {part: self.cells.counter(counter.labels(part)) for part in get_args(Part)}


def _place(trace: Trace) -> tuple[str, str]:
    """Method and route of a trace; a raw path never becomes a label."""
    if trace.kind == "request":
        return trace.method or _UNKNOWN_METHOD, trace.route or ABSENT
    if trace.kind == "websocket":
        return trace.method or trace.kind, trace.route or ABSENT
    return trace.kind, trace.name


def _kept(cache: dict[_K, _V], key: _K, make: Callable[[_K], _V]) -> _V:
    """The cache's value; made where it is missing, perhaps twice, because the client hands out one child only."""
    found = cache.get(key)
    return cache.setdefault(key, make(key)) if found is None else found


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
