"""What querytoll exports: the names that dashboards, rules and their checks may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "summary", "histogram"]

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "summary": ("_sum", "_count"),
    "histogram": ("_bucket", "_sum", "_count"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family: its name without the suffixes of its series, its type and its own labels."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()


_ROUTE = ("method", "route")
_QUERY = ("query", "summary")

TABLE = (
    Metric("querytoll_request_duration_seconds", "summary", (*_ROUTE, "status")),
    Metric("querytoll_request_db_seconds", "histogram", _ROUTE),
    Metric("querytoll_request_statements", "histogram", _ROUTE),
    Metric("querytoll_request_pool_wait_seconds", "counter", _ROUTE),
    Metric("querytoll_statement_duration_seconds", "histogram", ("pool", "operation")),
    Metric("querytoll_statement_errors", "counter", ("pool", "operation", "sqlstate")),
    Metric("querytoll_query_duration_seconds", "summary", _QUERY),
    Metric("querytoll_query_rows", "counter", _QUERY),
    Metric("querytoll_slow_statements", "counter", (*_ROUTE, *_QUERY)),
    Metric("querytoll_findings", "counter", ("rule", *_ROUTE, *_QUERY)),
    Metric("querytoll_excess_statements", "counter", _ROUTE),
    Metric("querytoll_excess_statement_seconds", "counter", _ROUTE),
    Metric("querytoll_explains", "counter", ("outcome",)),
    Metric("querytoll_explain_duration_seconds", "summary"),
    Metric("querytoll_plan_changes", "counter", _QUERY),
    Metric("querytoll_transaction_duration_seconds", "histogram", ("pool", "outcome")),
    Metric("querytoll_transaction_idle_seconds", "summary", _ROUTE),
    Metric("querytoll_connection_held_seconds", "counter", _ROUTE),
    Metric("querytoll_connection_busy_seconds", "counter", _ROUTE),
    Metric("querytoll_pool_connections", "gauge", ("pool", "state")),
    Metric("querytoll_pool_connections_max", "gauge", ("pool",)),
    Metric("querytoll_pool_pending_requests", "gauge", ("pool",)),
    Metric("querytoll_pool_wait_seconds", "histogram", ("pool",)),
    Metric("querytoll_pool_use_seconds", "histogram", ("pool",)),
    Metric("querytoll_pool_connect_seconds", "histogram", ("pool",)),
    Metric("querytoll_pool_timeouts", "counter", ("pool",)),
    Metric("querytoll_pool_timeout_holders", "counter", ("pool", *_ROUTE)),
    Metric("querytoll_label_sets_folded", "counter", ("label",)),
    Metric("querytoll_profiler_seconds", "counter", ("part",)),
    Metric("querytoll_internal_errors", "counter", ("part",)),
    Metric("querytoll_dropped", "counter", ("part",)),
    Metric("querytoll_sample_ratio", "gauge"),
    Metric("querytoll_build_info", "gauge", ("version", "sqlalchemy")),
)

PENDING: frozenset[str] = frozenset()
"""Families that the code does not export yet; the checks fail once one of them is exported and still listed here."""

SERIES = {metric.name + suffix: metric for metric in TABLE for suffix in SUFFIXES[metric.kind]}
"""Each series' name to its family."""

REQUEST_RULES = (
    "n-plus-one",
    "duplicate-query",
    "write-loop",
    "commit-loop",
    "slow-query",
    "too-many-queries",
    "too-much-db-time",
    "large-result",
    "row-explosion",
    "unused-eager-load",
    "over-fetch",
    "missing-greenlet",
    "blocking-driver",
    "long-transaction",
    "idle-in-transaction",
    "connection-held",
    "pool-wait",
    "inlined-literals",
    "statement-churn",
)
"""Rules that judge requests; every other rule judges a plan."""
