"""Queries are restricted by the variables of their dashboard, as far as the metric has such labels."""

from __future__ import annotations

import pytest

from dashboards.src.promql import Scope, share

EVERYTHING = 'job=~"$job", instance=~"$instance"'


def test_a_metric_is_restricted_by_the_labels_that_it_has() -> None:
    """A route's dashboard also shows metrics without a route."""
    scope = Scope(("method", "route"))
    restricted = f'querytoll_request_statements_sum{{{EVERYTHING}, method=~"$method", route=~"$route"}}'
    assert scope.select("querytoll_request_statements_sum") == restricted
    assert scope.select("querytoll_dropped_total") == f"querytoll_dropped_total{{{EVERYTHING}}}"


def test_an_unknown_series_cannot_be_queried() -> None:
    """A typing error in a name ends the generation."""
    with pytest.raises(KeyError):
        Scope().rate("querytoll_requests_total")


def test_a_share_keeps_the_labels_on_both_sides() -> None:
    """Otherwise the division would find no partners."""
    assert share("a", "b", "method, route") == "sum by (method, route) (a) / sum by (method, route) (b)"


def test_events_count_the_first_one_too() -> None:
    """A series that did not exist before counts from 0."""
    series = f'querytoll_plan_changes_total{{{EVERYTHING}, query="q"}}'
    expected = f"({series} unless {series} offset 5m) or increase({series}[5m])"
    assert Scope().events("querytoll_plan_changes_total", 'query="q"', over="5m") == expected
