"""The dashboard of the connection pools: use, saturation and errors."""

from __future__ import annotations

from dashboards.src import common
from dashboards.src.common import BY_ROUTE, ROUTE_KEYS, TO_ROUTE
from dashboards.src.grafana import Column, Json, Key, Line, Section, dashboard, graph, stat, table
from dashboards.src.promql import Scope, or_zero, share, total

_POOL = Scope(("pool",))
_CONNECTIONS = "querytoll_pool_connections"
_MAX = "querytoll_pool_connections_max"
_PENDING = "querytoll_pool_pending_requests"
_WAIT = "querytoll_pool_wait_seconds"
_USE = "querytoll_pool_use_seconds"
_CONNECT = "querytoll_pool_connect_seconds"
_TIMEOUTS = "querytoll_pool_timeouts_total"
_BLOCKED = "querytoll_pool_timeout_holders_total"
_STATEMENTS = "querytoll_statement_duration_seconds"
_ERRORS = "querytoll_statement_errors_total"
_TRANSACTIONS = "querytoll_transaction_duration_seconds"
_QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "querytoll-pool",
        "querytoll / Pool",
        "Whether there are enough connections, who waits for them and who keeps them.",
        [_glance(), _saturation(), _holders(), _work()],
        variables=[
            common.JOB,
            common.INSTANCE,
            common.of_labels("pool", "Pool", f"{_STATEMENTS}_count"),
        ],
        annotations=common.marks(_POOL),
    )


def _glance() -> Section:
    used = _POOL.select(_CONNECTIONS, 'state="used"')
    limited = f"{used} and ignoring (state) {_POOL.select(_MAX)}"
    errors = or_zero(total(_POOL.rate(_ERRORS)))
    return Section(
        "At a glance",
        [
            stat(
                "Use",
                "Connections in use per connection that the pools may open; pools without a limit are left out.",
                share(limited, _POOL.select(_MAX)),
                "percentunit",
                decimals=0,
                limits=(0.7, 0.9),
            ),
            stat(
                "In use",
                "Connections that are checked out.",
                total(used),
                "short",
            ),
            stat(
                "Waiting",
                "Requests that wait for a connection now.",
                total(_POOL.select(_PENDING)),
                "short",
                limits=(1, 10),
            ),
            stat(
                "Wait, p95",
                "95 of 100 checkouts wait less than this.",
                _POOL.quantile(0.95, _WAIT),
                "s",
                limits=(0.01, 0.1),
            ),
            stat(
                "Timeouts",
                "Checkouts per second that got no connection in time and failed.",
                total(_POOL.rate(_TIMEOUTS)),
                "ops",
                limits=(0.001, 0.1),
            ),
            stat("Connects per second", "Connections opened.", total(_POOL.rate(f"{_CONNECT}_count")), "ops"),
            stat(
                "Statements per second",
                "Statements sent over the pools' connections.",
                total(_POOL.rate(f"{_STATEMENTS}_count")),
                "ops",
            ),
            stat(
                "Failed statements",
                "Part of the statements that failed.",
                f"{errors} / {total(_POOL.rate(f'{_STATEMENTS}_count'))}",
                "percentunit",
                decimals=1,
                limits=(0.01, 0.1),
            ),
        ],
    )


def _saturation() -> Section:
    return Section(
        "Saturation",
        [
            graph(
                "Connections",
                "Connections by state, against the most that the pools may open.",
                [
                    Line(total(_POOL.select(_CONNECTIONS), "state"), "{{state}}"),
                    Line(total(_POOL.select(_MAX)), "most"),
                ],
                "short",
                width=8,
            ),
            graph(
                "Waiting for a connection",
                "Requests that wait, by instance. A queue in one instance alone is uneven load.",
                [Line(total(_POOL.select(_PENDING), "instance, pool"), "{{instance}} {{pool}}")],
                "short",
                width=8,
            ),
            graph(
                "Timeouts",
                "Checkouts per second that got no connection in time and failed.",
                [Line(total(_POOL.rate(_TIMEOUTS), "pool"), "{{pool}}")],
                "ops",
                width=8,
            ),
            graph(
                "Wait for a connection",
                "Quantiles of the time that a checkout waits for the pool.",
                [Line(_POOL.quantile(q, _WAIT), name) for q, name in _QUANTILES],
                "s",
                width=8,
            ),
            graph(
                "Time held",
                "Quantiles of the time from checkout to return.",
                [Line(_POOL.quantile(q, _USE), name) for q, name in _QUANTILES],
                "s",
                width=8,
            ),
            graph(
                "Time to connect",
                "Quantiles of the time that opening a connection takes.",
                [Line(_POOL.quantile(q, _CONNECT), name) for q, name in _QUANTILES],
                "s",
                width=8,
            ),
        ],
    )


def _holders() -> Section:
    held = _POOL.growth("querytoll_connection_held_seconds_total")
    busy = _POOL.growth("querytoll_connection_busy_seconds_total")
    waited = _POOL.growth("querytoll_request_pool_wait_seconds_total")
    requests = _POOL.growth("querytoll_request_duration_seconds_count")
    columns = [
        Column("Held", f"{total(held, BY_ROUTE)} / $__range_s", "none", 3),
        Column("Share", f"{total(held, BY_ROUTE)} / scalar({total(held)})", "percentunit", 0, bar=True),
        Column("Held per request", share(held, requests, BY_ROUTE), "s"),
        Column("In use while held", share(busy, held, BY_ROUTE), "percentunit", 0, bar=True),
        Column("Waited per request", share(waited, requests, BY_ROUTE), "s"),
    ]
    return Section(
        "Who holds connections",
        [
            table(
                "Routes by connections held",
                "Connections that a route keeps at a time, on average, over all pools. Long held and hardly in use is "
                "what starves the others.",
                ROUTE_KEYS,
                columns,
                sort="Held",
                links=[TO_ROUTE],
                height=9,
            ),
            table(
                "Routes that held connections when checkouts timed out",
                "Connections that a route held at the moment of a timeout, over all timeouts. Requests are told when "
                "they end; background work and requests that are not in the sample are in no row.",
                (Key("pool", "Pool", 160), *ROUTE_KEYS),
                [Column("Connections", total(_POOL.events(_BLOCKED), f"pool, {BY_ROUTE}"), "short", 0, bar=True)],
                sort="Connections",
                links=[TO_ROUTE],
                height=7,
            ),
        ],
    )


def _work() -> Section:
    explicit = 'outcome!="autocommit"'
    return Section(
        "Work",
        [
            graph(
                "Statements by operation",
                "Statements per second.",
                [Line(total(_POOL.rate(f"{_STATEMENTS}_count"), "operation"), "{{operation}}")],
                "ops",
                stacked=True,
            ),
            graph(
                "Statement time, p95",
                "95 of 100 statements take less than this.",
                [Line(_POOL.quantile(0.95, _STATEMENTS, by="operation"), "{{operation}}")],
                "s",
                exemplars=True,
            ),
            graph(
                "Transaction time",
                "From begin to commit or rollback; autocommitted statements are left out.",
                [Line(_POOL.quantile(q, _TRANSACTIONS, explicit), name) for q, name in _QUANTILES],
                "s",
            ),
            graph(
                "Failed statements by SQLSTATE",
                "Statements per second that failed.",
                [Line(total(_POOL.rate(_ERRORS), "sqlstate"), "{{sqlstate}}")],
                "ops",
                stacked=True,
            ),
        ],
    )
