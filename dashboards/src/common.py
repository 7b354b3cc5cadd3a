"""What the dashboards share: their variables, annotations, links and labels."""

from __future__ import annotations

from dashboards.src.grafana import Json, Key, Link, annotation, variable
from dashboards.src.promql import Scope

ROUTE_UID = "querytoll-route"
QUERY_UID = "querytoll-query"

TO_ROUTE = Link("Open the route", ROUTE_UID, ("method", "route"))
TO_QUERY = Link("Open the query", QUERY_UID, ("query",))

ROUTE_KEYS = (Key("method", "Method", 90), Key("route", "Route"))
QUERY_KEYS = (Key("summary", "Statement"), Key("query", "Query", 160))
BY_ROUTE = "method, route"
BY_QUERY = "query, summary"

_BUILD = "querytoll_build_info"
JOB = variable("job", "Job", f"label_values({_BUILD}, job)")
INSTANCE = variable("instance", "Instance", f'label_values({_BUILD}{{job=~"$job"}}, instance)')


def of_labels(name: str, label: str, series: str) -> Json:
    """Return a variable with the values of a label of a series."""
    return variable(name, label, f"label_values({Scope().select(series)}, {name})")


def marks(scope: Scope) -> list[Json]:
    """Mark on every graph when a plan or the version of a library changed."""
    changes = scope.events("querytoll_plan_changes_total", over="2m")
    versions = f"count by (version, sqlalchemy) ({scope.select(_BUILD)})"
    before = f"count by (version, sqlalchemy) ({scope.select(_BUILD)} offset 5m)"
    present = f"{scope.select(_BUILD)} offset 5m"
    return [
        annotation(
            "Plan changes",
            f"sum by ({BY_QUERY}) ({changes}) > 0",
            "Plan changed",
            "{{summary}} ({{query}})",
            "purple",
        ),
        annotation(
            "Version changes",
            f"({versions} unless {before}) and on () {present}",
            "New version",
            "querytoll {{version}}, SQLAlchemy {{sqlalchemy}}",
            "blue",
        ),
    ]
