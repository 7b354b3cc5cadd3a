"""The dashboard of all routes, queries and pools of a service."""

from __future__ import annotations

from dashboards.src import common
from dashboards.src.common import BY_QUERY, BY_ROUTE, QUERY_KEYS, ROUTE_KEYS, TO_QUERY, TO_ROUTE
from dashboards.src.grafana import Column, Json, Key, Line, Section, dashboard, graph, heatmap, stat, table
from dashboards.src.metrics import REQUEST_RULES
from dashboards.src.promql import Scope, or_zero, share, top, total

_ALL = Scope()
_REQUESTS = "querytoll_request_duration_seconds_count"
_REQUEST_SECONDS = "querytoll_request_duration_seconds_sum"
_DB = "querytoll_request_db_seconds"
_STATEMENTS = "querytoll_request_statements"
_WASTED = "querytoll_excess_statement_seconds_total"
_FINDINGS = "querytoll_findings_total"
_QUERIES = "querytoll_query_duration_seconds"
_TRANSACTIONS = "querytoll_transaction_duration_seconds"
_HELD = "querytoll_connection_held_seconds_total"
_BUSY = "querytoll_connection_busy_seconds_total"
_PLAN_RULES = f'rule!~"{"|".join(REQUEST_RULES)}"'


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "querytoll-overview",
        "querytoll / Overview",
        "What the requests of a service cost the database, and which part of it is waste.",
        [
            _glance(),
            _routes(),
            _findings(),
            _queries(),
            _plans(),
            _transactions(),
            _connections(),
            _pools(),
            _errors(),
            _profiler(),
        ],
        variables=[common.JOB, common.INSTANCE],
        annotations=common.marks(_ALL),
    )


def _glance() -> Section:
    n_plus_ones = or_zero(total(_ALL.rate(_FINDINGS, 'rule="n-plus-one"')))
    used = total(_ALL.select("querytoll_pool_connections", 'state="used"'), "job, instance, pool")
    size = total(_ALL.select("querytoll_pool_connections_max"), "job, instance, pool")
    return Section(
        "At a glance",
        [
            stat("Requests per second", "Requests that were profiled.", total(_ALL.rate(_REQUESTS)), "reqps"),
            stat(
                "Statements per request",
                "Mean number of SQL statements that a request sends.",
                share(_ALL.rate(f"{_STATEMENTS}_sum"), _ALL.rate(f"{_STATEMENTS}_count")),
                "none",
                decimals=1,
                limits=(20, 50),
            ),
            stat(
                "Database share",
                "Part of the requests' time in which at least one statement ran.",
                share(_ALL.rate(f"{_DB}_sum"), _ALL.rate(_REQUEST_SECONDS)),
                "percentunit",
                decimals=0,
                limits=(0.5, 0.8),
            ),
            stat(
                "Requests with an N+1",
                "N+1s found per request. A request with two of them counts twice.",
                f"{n_plus_ones} / {total(_ALL.rate(_REQUESTS))}",
                "percentunit",
                decimals=1,
                limits=(0.01, 0.1),
            ),
            stat(
                "Database time, p95",
                "95 of 100 requests spend less time than this in the database.",
                _ALL.quantile(0.95, _DB),
                "s",
                limits=(0.25, 1),
            ),
            stat(
                "Database load",
                "Sessions that run a statement at a time, on average.",
                total(_ALL.rate(f"{_DB}_sum")),
                "none",
                decimals=2,
            ),
            stat(
                "Wasted database time",
                "Part of the database time that fixing N+1s, duplicates and loops would save.",
                f"{or_zero(total(_ALL.rate(_WASTED)))} / {total(_ALL.rate(f'{_DB}_sum'))}",
                "percentunit",
                decimals=0,
                limits=(0.05, 0.2),
            ),
            stat(
                "Fullest pool",
                "Connections in use per connection that the pool may open, in the fullest pool of all instances.",
                f"max({used} / {size})",
                "percentunit",
                decimals=0,
                limits=(0.7, 0.9),
            ),
        ],
    )


def _routes() -> Section:
    requests = total(_ALL.growth(_REQUESTS), BY_ROUTE)
    seconds = total(_ALL.growth(f"{_DB}_sum"), BY_ROUTE)
    every = f"scalar({total(_ALL.growth(f'{_DB}_sum'))})"
    columns = [
        Column("Requests/s", f"{requests} / $__range_s", "reqps", 2),
        Column("Database load", f"{seconds} / $__range_s", "none", 3),
        Column("Share of load", f"{seconds} / {every}", "percentunit", 0, bar=True),
        Column(
            "Database time per request",
            share(_ALL.growth(f"{_DB}_sum"), _ALL.growth(f"{_DB}_count"), BY_ROUTE),
            "s",
        ),
        Column(
            "Statements per request",
            share(_ALL.growth(f"{_STATEMENTS}_sum"), _ALL.growth(f"{_STATEMENTS}_count"), BY_ROUTE),
            "none",
            1,
        ),
        Column(
            "Wasted by N+1s and loops",
            share(_ALL.growth(_WASTED), _ALL.growth(f"{_DB}_sum"), BY_ROUTE),
            "percentunit",
            0,
            bar=True,
        ),
    ]
    return Section(
        "Routes",
        [
            table(
                "Routes by database load",
                "Who keeps the database busy. Load is the number of sessions that run a statement of the route at a "
                "time, on average; wasted is the part of it that fixing N+1s, duplicates and loops would save.",
                ROUTE_KEYS,
                columns,
                sort="Database load",
                links=[TO_ROUTE],
            ),
            graph(
                "Database load by route",
                "Sessions that run a statement of the route at a time, on average; the ten routes with most.",
                [Line(top(10, total(_ALL.rate(f"{_DB}_sum"), BY_ROUTE)), "{{method}} {{route}}")],
                "none",
                stacked=True,
                links=[TO_ROUTE],
            ),
            heatmap(
                "Statements per request",
                "How many requests sent how many statements. A band that rises with the data is an N+1.",
                total(f"increase({_ALL.select(f'{_STATEMENTS}_bucket')}[$__rate_interval])", "le"),
                "short",
            ),
        ],
    )


def _findings() -> Section:
    keys = (Key("rule", "Rule", 180), *ROUTE_KEYS, *QUERY_KEYS)
    found = total(_ALL.events(_FINDINGS), f"rule, {BY_ROUTE}, {BY_QUERY}")
    return Section(
        "Findings",
        [
            graph(
                "Findings by rule",
                "Requests per second in which a rule found a fault.",
                [Line(total(_ALL.rate(_FINDINGS), "rule"), "{{rule}}")],
                "cps",
                stacked=True,
            ),
            graph(
                "Wasted database load by route",
                "Sessions kept busy by statements that fixing N+1s, duplicates and loops would save.",
                [Line(top(10, total(_ALL.rate(_WASTED), BY_ROUTE)), "{{method}} {{route}}")],
                "none",
                stacked=True,
                links=[TO_ROUTE],
            ),
            table(
                "Findings by place",
                "How often a rule found a fault in a route and a statement, in the time range shown.",
                keys,
                [Column("Findings", top(50, found), "short", 0)],
                sort="Findings",
                links=[TO_ROUTE, TO_QUERY],
                height=9,
            ),
        ],
    )


def _queries() -> Section:
    seconds, calls = _ALL.growth(f"{_QUERIES}_sum"), _ALL.growth(f"{_QUERIES}_count")
    every = f"scalar({total(seconds)})"
    columns = [
        Column("Calls/s", f"{total(calls, BY_QUERY)} / $__range_s", "ops", 2),
        Column("Database load", f"{total(seconds, BY_QUERY)} / $__range_s", "none", 3),
        Column("Share of load", f"{total(seconds, BY_QUERY)} / {every}", "percentunit", 0, bar=True),
        Column("Mean time", share(seconds, calls, BY_QUERY), "s"),
        Column("Rows per call", share(_ALL.growth("querytoll_query_rows_total"), calls, BY_QUERY), "short", 1),
    ]
    quantiles = [
        Line(_ALL.quantile(q, "querytoll_statement_duration_seconds"), name)
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    slow = total(_ALL.rate("querytoll_slow_statements_total"), BY_QUERY)
    return Section(
        "Queries",
        [
            graph(
                "Database load by query",
                "Sessions that run a statement of this shape at a time, on average; the ten shapes with most.",
                [Line(top(10, total(_ALL.rate(f"{_QUERIES}_sum"), BY_QUERY)), "{{summary}} ({{query}})")],
                "none",
                width=8,
                stacked=True,
                links=[TO_QUERY],
            ),
            graph(
                "Statement time",
                "Quantiles of all statements; exemplars carry the trace id where tracing is on.",
                quantiles,
                "s",
                width=8,
                exemplars=True,
            ),
            graph(
                "Slow statements",
                "Statements per second that took longer than slow_statement_seconds.",
                [Line(top(10, slow), "{{summary}} ({{query}})")],
                "ops",
                width=8,
                links=[TO_QUERY],
            ),
            table(
                "Queries by database load",
                "Statements of one shape, whatever their values: how often they run and what they cost.",
                QUERY_KEYS,
                columns,
                sort="Database load",
                links=[TO_QUERY],
            ),
        ],
    )


def _plans() -> Section:
    seconds = _ALL.rate("querytoll_explain_duration_seconds_sum")
    changes = _ALL.events("querytoll_plan_changes_total", over="$__rate_interval")
    return Section(
        "Plans",
        [
            graph(
                "Plan samples",
                "EXPLAINs per second by outcome. Refused statements could write; budget means that enough ran already.",
                [Line(total(_ALL.rate("querytoll_explains_total"), "outcome"), "{{outcome}}")],
                "ops",
                width=6,
                stacked=True,
            ),
            graph(
                "Cost of the samples",
                "Seconds per second that the profiler's own EXPLAINs keep a session busy.",
                [Line(total(seconds), "busy sessions")],
                "none",
                width=6,
            ),
            graph(
                "Plan insights",
                "Faults found in plans: missing indexes, sorts on disk, misestimates.",
                [Line(total(_ALL.rate(_FINDINGS, _PLAN_RULES), "rule"), "{{rule}}")],
                "cps",
                width=6,
            ),
            graph(
                "Plan changes",
                "Changes of plan per statement in the interval; also marked on every graph.",
                [
                    Line(
                        total(changes, BY_QUERY),
                        "{{summary}} ({{query}})",
                    )
                ],
                "short",
                width=6,
                links=[TO_QUERY],
            ),
        ],
    )


def _transactions() -> Section:
    idle = _ALL.rate("querytoll_transaction_idle_seconds_sum")
    explicit = 'outcome!="autocommit"'
    return Section(
        "Transactions",
        [
            graph(
                "Transaction time",
                "From begin to commit or rollback; autocommitted statements are left out.",
                [
                    Line(_ALL.quantile(q, _TRANSACTIONS, explicit), name)
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
                "s",
                width=6,
            ),
            graph(
                "Transactions by outcome",
                "Transactions per second. Rollbacks are normal for reads that never commit.",
                [Line(total(_ALL.rate(f"{_TRANSACTIONS}_count"), "outcome"), "{{outcome}}")],
                "ops",
                width=6,
                stacked=True,
            ),
            graph(
                "Idle in transaction by route",
                "Transactions open without a running statement at a time, on average: locks held for nothing.",
                [Line(top(10, total(idle, BY_ROUTE)), "{{method}} {{route}}")],
                "none",
                width=6,
                links=[TO_ROUTE],
            ),
            graph(
                "Idle share of transactions",
                "Part of the transactions' time in which no statement ran.",
                [Line(f"{total(idle)} / {total(_ALL.rate(f'{_TRANSACTIONS}_sum', explicit))}", "idle")],
                "percentunit",
                width=6,
                top=1,
            ),
        ],
    )


def _connections() -> Section:
    held, busy = total(_ALL.rate(_HELD), BY_ROUTE), total(_ALL.rate(_BUSY), BY_ROUTE)
    return Section(
        "Connections",
        [
            graph(
                "Connections held by route",
                "Connections that the route keeps checked out at a time, on average: what the pool must be sized for.",
                [Line(top(10, held), "{{method}} {{route}}")],
                "none",
                stacked=True,
                links=[TO_ROUTE],
            ),
            graph(
                "Connections held without use",
                "Held but not running a statement: what the route could give back to the pool.",
                [Line(top(10, f"clamp_min({held} - {busy}, 0)"), "{{method}} {{route}}")],
                "none",
                stacked=True,
                links=[TO_ROUTE],
            ),
        ],
    )


def _pools() -> Section:
    used = total(_ALL.select("querytoll_pool_connections", 'state="used"'), "pool")
    size = total(_ALL.select("querytoll_pool_connections_max"), "pool")
    return Section(
        "Pools",
        [
            graph(
                "Pool use",
                "Connections in use per connection that the pools of all instances may open.",
                [Line(f"{used} / {size}", "{{pool}}")],
                "percentunit",
                width=8,
                top=1,
            ),
            graph(
                "Wait for a connection, p95",
                "95 of 100 checkouts wait less than this. Anything above a millisecond is a queue.",
                [Line(_ALL.quantile(0.95, "querytoll_pool_wait_seconds", by="pool"), "{{pool}}")],
                "s",
                width=8,
            ),
            graph(
                "Checkouts that timed out",
                "Requests per second that got no connection in time and failed.",
                [Line(total(_ALL.rate("querytoll_pool_timeouts_total"), "pool"), "{{pool}}")],
                "ops",
                width=8,
            ),
        ],
    )


def _errors() -> Section:
    errors, statements = "querytoll_statement_errors_total", "querytoll_statement_duration_seconds_count"
    return Section(
        "Errors",
        [
            graph(
                "Failed statements by SQLSTATE",
                "Class 23 is a constraint that refused a row, 40 a conflict to retry, 57014 a timeout, 08, 53 and 57P0 "
                "an unavailable server; a name instead of a code is the driver's own error.",
                [Line(total(_ALL.rate(errors), "sqlstate"), "{{sqlstate}}")],
                "ops",
                stacked=True,
            ),
            graph(
                "Failed statements",
                "Failed statements per statement, by operation.",
                [Line(share(_ALL.rate(errors), _ALL.rate(statements), "operation"), "{{operation}}")],
                "percentunit",
            ),
        ],
    )


def _profiler() -> Section:
    spent = _ALL.rate("querytoll_profiler_seconds_total")
    requests = total(_ALL.rate(_REQUESTS))
    return Section(
        "The profiler itself",
        [
            graph(
                "Time per request",
                "What profiling costs per request, by part.",
                [Line(f"{total(spent, 'part')} / scalar({requests})", "{{part}}")],
                "s",
                width=8,
                stacked=True,
            ),
            graph(
                "Faults and losses",
                "Faults of the profiler itself, and statements, reports or plans that it could not keep.",
                [
                    Line(total(_ALL.rate("querytoll_internal_errors_total"), "part"), "fault in {{part}}"),
                    Line(total(_ALL.rate("querytoll_dropped_total"), "part"), "lost in {{part}}"),
                ],
                "cps",
                width=8,
            ),
            graph(
                "Folded labels",
                'Observations counted as "other" because a label has too many values.',
                [Line(total(_ALL.rate("querytoll_label_sets_folded_total"), "label"), "{{label}}")],
                "cps",
                width=8,
            ),
            graph(
                "Versions",
                "Instances by version of querytoll and SQLAlchemy.",
                [
                    Line(
                        f"count by (version, sqlalchemy) ({_ALL.select('querytoll_build_info')})",
                        "querytoll {{version}}, SQLAlchemy {{sqlalchemy}}",
                    )
                ],
                "short",
                width=16,
                height=5,
                stacked=True,
            ),
            graph(
                "Profiled share",
                "Share of requests that is profiled, of the instance with the least; it falls while profiling takes "
                "more than max_self_share.",
                [Line(f"min({_ALL.select('querytoll_sample_ratio')})", "profiled")],
                "percentunit",
                width=8,
                height=5,
            ),
        ],
        collapsed=True,
    )
