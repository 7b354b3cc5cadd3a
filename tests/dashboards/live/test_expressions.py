"""Queries and rules are PromQL about metrics that exist, and every rule of the linter finds what breaks it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from dashboards.src.expressions import board_complaints, rule_complaints, target_complaints
from dashboards.src.files import ROOT, built

RULES = [
    rule
    for name in ("recording", "alerts")
    for group in yaml.safe_load((ROOT / f"prometheus/{name}.yml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = [rule for rule in RULES if "alert" in rule]
TARGET = 'job=~"$job", instance=~"$instance"'
COUNTER, GAUGE = "querytoll_findings_total", "querytoll_build_info"


@pytest.mark.parametrize("board", built().values(), ids=lambda board: board["uid"])
def test_the_queries_of_a_dashboard_have_no_faults(board: dict[str, Any]) -> None:
    """The rules of Grafana's own linter, and ours about names of metrics and labels."""
    assert board_complaints(board) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_has_no_faults(rule: dict[str, Any]) -> None:
    """It reads what is exported or recorded, and keeps the labels that the scrape adds."""
    assert rule_complaints(rule["expr"], RECORDED) == []


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_series_is_named_level_metric_operations(name: str) -> None:
    """As Prometheus' own conventions ask."""
    level, metric, operations = name.split(":")
    assert level
    assert metric.startswith("querytoll_")
    assert operations


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_series_is_read_by_a_rule(name: str) -> None:
    """A series that nobody reads costs for nothing; those for people are named in the docs."""
    readers = [rule["expr"] for rule in RULES if name in rule["expr"]]
    assert readers or name in (ROOT.parent / "docs/production.md").read_text()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary, description and the path of its runbook."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    path = rule["annotations"]["runbook_url"].removeprefix("/")
    assert (ROOT.parent / path).stem == rule["alert"]
    assert (ROOT.parent / path).is_file()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (f"rate({COUNTER}{{{TARGET}}}[$__rate_interval]", "unclosed"),
        (f"sum(rate(querytoll_requests_total{{{TARGET}}}[$__rate_interval]))", "no metric is named"),
        (f"sum({COUNTER}{{{TARGET}}})", "wrap it in rate()"),
        (f"sum(rate({GAUGE}{{{TARGET}}}[$__rate_interval]))", "is a gauge"),
        (f"sum(rate({COUNTER}{{{TARGET}}}[5m]))", "must use $__rate_interval"),
        (f"sum(increase({COUNTER}{{{TARGET}}}[5m]))", "has a fixed range"),
        (f"sum(increase({COUNTER}{{{TARGET}}}[$__range]))", "belongs into an instant query"),
        (f'sum(rate({COUNTER}{{job=~"$job"}}[$__rate_interval]))', "is not matched by instance"),
        (f'sum(rate({COUNTER}{{job="$job", instance=~"$instance"}}[$__rate_interval]))', "is not matched by job"),
        (f'sum(rate({COUNTER}{{{TARGET}, pool="main"}}[$__rate_interval]))', "has no label pool"),
        (f"sum(rate({COUNTER}{{{TARGET}}}[$__rate_interval]))", "the legend shows rule"),
        (
            f"histogram_quantile(0.9, sum(rate(querytoll_request_statements_bucket{{{TARGET}}}[$__rate_interval])))",
            "needs the label le",
        ),
    ],
)
def test_a_fault_in_a_query_is_found(query: str, complaint: str) -> None:
    """Each rule, on a graph whose legend shows the label `rule`."""
    target = {"expr": query, "instant": False, "legendFormat": "{{rule}}", "format": "time_series"}
    found = target_complaints({"type": "timeseries"}, target)
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        (f"sum by (job) (rate({COUNTER}[5m]))", "use without"),
        (f"rate({COUNTER}[5m]) / on (job) rate({COUNTER}[5m])", "use without"),
        ("job:querytoll_unknown:rate5m > 1", "no metric is named"),
        (f"{COUNTER} > 1", "wrap it in rate()"),
    ],
)
def test_a_fault_in_a_rule_is_found(expression: str, complaint: str) -> None:
    """Each rule about recording and alerting rules."""
    assert any(complaint in found for found in rule_complaints(expression, RECORDED))
