"""The dashboard of one route, or of several that are compared."""

from __future__ import annotations

from dashboards.src import common
from dashboards.src.common import BY_QUERY, BY_ROUTE, QUERY_KEYS, ROUTE_UID, TO_QUERY
from dashboards.src.grafana import Column, Json, Key, Line, Section, dashboard, graph, heatmap, stat, table
from dashboards.src.promql import Scope, or_zero, share, total

_ROUTE = Scope(("method", "route"))
_REQUESTS = "querytoll_request_duration_seconds_count"
_REQUEST_SECONDS = "querytoll_request_duration_seconds_sum"
_DB = "querytoll_request_db_seconds"
_STATEMENTS = "querytoll_request_statements"
_FINDINGS = "querytoll_findings_total"
_LEGEND = "{{method}} {{route}}"


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        ROUTE_UID,
        "querytoll / Route",
        "What one route costs the database, what is wasted, and what it holds.",
        [_glance(), _time(), _findings(), _holding()],
        variables=[
            common.JOB,
            common.INSTANCE,
            common.of_labels("method", "Method", _REQUESTS),
            common.of_labels("route", "Route", _REQUESTS),
        ],
        annotations=common.marks(_ROUTE),
    )


def _glance() -> Section:
    wasted = or_zero(total(_ROUTE.rate("querytoll_excess_statement_seconds_total")))
    errors = or_zero(total(_ROUTE.rate(_REQUESTS, 'status="5xx"')))
    return Section(
        "At a glance",
        [
            stat("Requests per second", "Requests of the route.", total(_ROUTE.rate(_REQUESTS)), "reqps"),
            stat(
                "Answered 5xx",
                "Part of the requests that the server failed.",
                f"{errors} / {total(_ROUTE.rate(_REQUESTS))}",
                "percentunit",
                decimals=1,
                limits=(0.001, 0.01),
            ),
            stat(
                "Request time",
                "Mean time of a request.",
                share(_ROUTE.rate(_REQUEST_SECONDS), _ROUTE.rate(_REQUESTS)),
                "s",
            ),
            stat(
                "Database time, p95",
                "95 of 100 requests spend less time than this in the database.",
                _ROUTE.quantile(0.95, _DB),
                "s",
                limits=(0.25, 1),
            ),
            stat(
                "Database share",
                "Part of the requests' time in which at least one statement ran.",
                share(_ROUTE.rate(f"{_DB}_sum"), _ROUTE.rate(_REQUEST_SECONDS)),
                "percentunit",
                decimals=0,
                limits=(0.5, 0.8),
            ),
            stat(
                "Statements per request",
                "Mean number of SQL statements that a request sends.",
                share(_ROUTE.rate(f"{_STATEMENTS}_sum"), _ROUTE.rate(f"{_STATEMENTS}_count")),
                "none",
                decimals=1,
                limits=(20, 50),
            ),
            stat(
                "Database load",
                "Sessions that run a statement of the route at a time, on average.",
                total(_ROUTE.rate(f"{_DB}_sum")),
                "none",
                decimals=3,
            ),
            stat(
                "Wasted database time",
                "Part of the route's database time that fixing N+1s, duplicates and loops would save.",
                f"{wasted} / {total(_ROUTE.rate(f'{_DB}_sum'))}",
                "percentunit",
                decimals=0,
                limits=(0.05, 0.2),
            ),
        ],
    )


def _time() -> Section:
    requests = _ROUTE.rate(_REQUESTS)
    return Section(
        "Time and statements",
        [
            graph(
                "Time per request",
                "Mean time of a request, and the part of it that the database took.",
                [
                    Line(share(_ROUTE.rate(_REQUEST_SECONDS), requests), "request"),
                    Line(share(_ROUTE.rate(f"{_DB}_sum"), _ROUTE.rate(f"{_DB}_count")), "database"),
                ],
                "s",
                width=8,
            ),
            graph(
                "Database time per request",
                "Quantiles of the time that a request spends in the database.",
                [Line(_ROUTE.quantile(q, _DB), name) for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))],
                "s",
                width=8,
            ),
            graph(
                "Requests by status",
                "Requests per second.",
                [Line(total(requests, "status"), "{{status}}")],
                "reqps",
                width=8,
                stacked=True,
            ),
            heatmap(
                "Statements per request",
                "How many requests sent how many statements. A band that rises with the data is an N+1.",
                total(f"increase({_ROUTE.select(f'{_STATEMENTS}_bucket')}[$__rate_interval])", "le"),
                "short",
            ),
            graph(
                "Statements that could be saved",
                "Statements per second that fixing N+1s, duplicates and loops would save, against all that are sent.",
                [
                    Line(total(_ROUTE.rate(f"{_STATEMENTS}_sum")), "sent"),
                    Line(total(_ROUTE.rate("querytoll_excess_statements_total")), "could be saved"),
                ],
                "ops",
            ),
        ],
    )


def _findings() -> Section:
    found = total(_ROUTE.events(_FINDINGS), f"rule, {BY_QUERY}")
    slow = total(_ROUTE.rate("querytoll_slow_statements_total"), BY_QUERY)
    return Section(
        "Findings",
        [
            graph(
                "Findings by rule",
                "Requests per second in which a rule found a fault.",
                [Line(total(_ROUTE.rate(_FINDINGS), "rule"), "{{rule}}")],
                "cps",
                stacked=True,
            ),
            graph(
                "Slow statements",
                "Statements per second that took longer than slow_statement_seconds.",
                [Line(slow, "{{summary}} ({{query}})")],
                "ops",
                links=[TO_QUERY],
            ),
            table(
                "Findings by statement",
                "How often a rule found a fault in a statement of the route, in the time range shown.",
                (Key("rule", "Rule", 200), *QUERY_KEYS),
                [Column("Findings", found, "short", 0)],
                sort="Findings",
                links=[TO_QUERY],
                height=8,
            ),
        ],
    )


def _holding() -> Section:
    held, busy = "querytoll_connection_held_seconds_total", "querytoll_connection_busy_seconds_total"
    idle, waited = "querytoll_transaction_idle_seconds", "querytoll_request_pool_wait_seconds_total"
    return Section(
        "Connections and transactions",
        [
            graph(
                "Connections held",
                "Connections that the route keeps checked out at a time, on average, and those that run a statement.",
                [Line(total(_ROUTE.rate(held)), "held"), Line(total(_ROUTE.rate(busy)), "busy")],
                "none",
                width=8,
            ),
            graph(
                "Wait for a connection",
                "Mean wait per request. The route suffers it; see the pool dashboard for who causes it.",
                [Line(share(_ROUTE.rate(waited), _ROUTE.rate(_REQUESTS), BY_ROUTE), _LEGEND)],
                "s",
                width=8,
            ),
            graph(
                "Idle in transaction",
                "Mean time of a transaction in which no statement runs while its locks are held.",
                [Line(share(_ROUTE.rate(f"{idle}_sum"), _ROUTE.rate(f"{idle}_count"), BY_ROUTE), _LEGEND)],
                "s",
                width=8,
            ),
        ],
    )
