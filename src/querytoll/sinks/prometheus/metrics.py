"""The names, labels and buckets of what is exported."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from querytoll.errors import ConfigurationError

STATEMENT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUEST_BUCKETS = STATEMENT_BUCKETS[1:]
COUNT_BUCKETS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 35.0, 50.0, 100.0, 200.0, 500.0)
TRANSACTION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
POOL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metric objects, registered nowhere yet."""

    def __init__(self) -> None:
        counter = partial(Counter, namespace="querytoll", registry=None)
        histogram = partial(Histogram, namespace="querytoll", registry=None)
        summary = partial(Summary, namespace="querytoll", registry=None)
        gauge = partial(Gauge, namespace="querytoll", registry=None, multiprocess_mode="livesum")
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
        self.pool_connections = gauge("pool_connections", "Open connections, by what they do.", ("pool", "state"))
        self.pool_connections_max = gauge("pool_connections_max", "Connections that a pool may open.", ("pool",))
        self.pool_pending = gauge("pool_pending_requests", "Checkouts that wait for a connection.", ("pool",))
        self.pool_wait = histogram(
            "pool_wait_seconds", "Time that checkouts waited for the pool.", ("pool",), buckets=POOL_BUCKETS
        )
        self.pool_use = histogram(
            "pool_use_seconds", "Time from checkout to return.", ("pool",), buckets=TRANSACTION_BUCKETS
        )
        self.pool_connect = histogram(
            "pool_connect_seconds", "Time of opening connections.", ("pool",), buckets=POOL_BUCKETS
        )
        self.pool_timeouts = counter("pool_timeouts", "Checkouts that got no connection in time.", ("pool",))
        self.pool_timeout_holders = counter(
            "pool_timeout_holders", "Connections that a route held when a checkout timed out.", ("pool", *route)
        )
        self.folded = counter("label_sets_folded", "Observations without series of their own.", ("label",))
        self.profiler_seconds = counter("profiler_seconds", "Time that the profiler itself took.", ("part",))
        self.internal_errors = counter("internal_errors", "Faults of the profiler itself.", ("part",))
        self.dropped = counter("dropped", "What the profiler could not keep.", ("part",))
        self.sample_ratio = Gauge(
            "querytoll_sample_ratio",
            "Share of requests that is profiled; less than configured while the profiler takes too much time itself.",
            multiprocess_mode="livemin",
            registry=None,
        )
        self.build_info = Gauge(
            "querytoll_build_info",
            "Versions at work; always 1.",
            ("version", "sqlalchemy"),
            multiprocess_mode="livemax",
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
