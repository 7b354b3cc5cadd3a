"""The dashboard of one query, or of several that are compared."""

from __future__ import annotations

from dashboards.src import common
from dashboards.src.common import BY_QUERY, BY_ROUTE, QUERY_UID, ROUTE_KEYS, TO_ROUTE
from dashboards.src.grafana import Column, Json, Key, Line, Section, dashboard, graph, stat, table, variable
from dashboards.src.promql import Scope, or_zero, share, total

_ALL = Scope()
_QUERY = Scope(("query",))
_SECONDS = "querytoll_query_duration_seconds_sum"
_CALLS = "querytoll_query_duration_seconds_count"
_ROWS = "querytoll_query_rows_total"
_FINDINGS = "querytoll_findings_total"
_SLOW = "querytoll_slow_statements_total"
_CHANGES = "querytoll_plan_changes_total"
_LEGEND = "{{summary}} ({{query}})"


def build() -> Json:
    """Return the dashboard."""
    known = f'label_join(count by ({BY_QUERY}) ({_ALL.select(_CALLS)}), "name", " ", "summary", "query")'
    shown = '/name="(?<text>[^"]+)",\\s*query="(?<value>[^"]+)"/'
    named = variable("query", "Query", f"query_result({known})", regex=shown)
    return dashboard(
        QUERY_UID,
        "querytoll / Query",
        "How often statements of one shape run, what they cost, and where they were found wanting.",
        [_glance(), _course(), _places()],
        variables=[common.JOB, common.INSTANCE, named],
        annotations=common.marks(_QUERY),
    )


def _glance() -> Section:
    return Section(
        "At a glance",
        [
            stat("Calls per second", "Statements of this shape.", total(_QUERY.rate(_CALLS)), "ops"),
            stat("Mean time", "Mean time of a call.", share(_QUERY.rate(_SECONDS), _QUERY.rate(_CALLS)), "s"),
            stat(
                "Rows per call",
                "Rows returned or changed.",
                share(_QUERY.rate(_ROWS), _QUERY.rate(_CALLS)),
                "short",
                decimals=1,
                limits=(1_000, 10_000),
            ),
            stat(
                "Database load",
                "Sessions that run this statement at a time, on average.",
                total(_QUERY.rate(_SECONDS)),
                "none",
                decimals=3,
            ),
            stat(
                "Share of load",
                "Part of the time of all statements.",
                share(_QUERY.rate(_SECONDS), _ALL.rate(_SECONDS)),
                "percentunit",
                decimals=0,
            ),
            stat(
                "Slow calls",
                "Part of the calls that took longer than slow_statement_seconds.",
                f"{or_zero(total(_QUERY.rate(_SLOW)))} / {total(_QUERY.rate(_CALLS))}",
                "percentunit",
                decimals=1,
                limits=(0.01, 0.1),
            ),
            stat(
                "Findings",
                "Findings in the time range shown.",
                or_zero(total(_QUERY.events(_FINDINGS))),
                "short",
                decimals=0,
            ),
            stat(
                "Plan changes",
                "Changes of plan in the time range shown.",
                total(_QUERY.events(_CHANGES)),
                "short",
                decimals=0,
                limits=(1,),
            ),
        ],
    )


def _course() -> Section:
    seconds, calls = _QUERY.rate(_SECONDS), _QUERY.rate(_CALLS)
    changes = _QUERY.events(_CHANGES, over="$__rate_interval")
    return Section(
        "Cost",
        [
            graph("Calls", "Calls per second.", [Line(total(calls, BY_QUERY), _LEGEND)], "ops"),
            graph(
                "Mean time",
                "Mean time of a call; plan changes are marked.",
                [Line(share(seconds, calls, BY_QUERY), _LEGEND)],
                "s",
            ),
            graph(
                "Database load",
                "Sessions that run this statement at a time, on average.",
                [Line(total(seconds, BY_QUERY), _LEGEND)],
                "none",
                width=8,
                stacked=True,
            ),
            graph(
                "Rows per call",
                "Rows returned or changed; growth without end asks for a LIMIT.",
                [Line(share(_QUERY.rate(_ROWS), calls, BY_QUERY), _LEGEND)],
                "short",
                width=8,
            ),
            graph(
                "Plan changes",
                "Changes of plan in the interval.",
                [Line(total(changes, BY_QUERY), _LEGEND)],
                "short",
                width=8,
            ),
        ],
    )


def _places() -> Section:
    found = total(_QUERY.events(_FINDINGS), f"rule, {BY_ROUTE}")
    return Section(
        "Where it was found",
        [
            table(
                "Findings by route",
                "How often a rule found a fault in this statement, in the time range shown.",
                (Key("rule", "Rule", 180), *ROUTE_KEYS),
                [Column("Findings", found, "short", 0)],
                sort="Findings",
                links=[TO_ROUTE],
                width=12,
                height=9,
            ),
            graph(
                "Slow calls by route",
                "Calls per second that took longer than slow_statement_seconds.",
                [Line(total(_QUERY.rate(_SLOW), BY_ROUTE), "{{method}} {{route}}")],
                "ops",
                height=9,
                links=[TO_ROUTE],
            ),
        ],
    )
