"""The files of the repository are what the code makes of them, and know what the code exports."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from dashboards.src.files import GRAFANA, ROOT, built, rendered, write
from dashboards.src.metrics import PENDING, REQUEST_RULES, TABLE
from querytoll.sinks.prometheus import PrometheusSink
from scripts.stack import DRILLS, drilled, faster

ALERTS = re.findall(r"- alert: (\w+)", (ROOT / "prometheus/alerts.yml").read_text())


def exported() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Types and labels of what the code registers, by name."""
    registry = CollectorRegistry()
    PrometheusSink(registry)
    metrics = [metric for metric in registry._collector_to_names if isinstance(metric, MetricWrapperBase)]
    return {metric._name: (str(metric._type), tuple(metric._labelnames)) for metric in metrics}


def test_the_json_files_are_up_to_date() -> None:
    """`make dashboards` would change nothing."""
    assert write(only_compare=True) == []


@pytest.mark.parametrize("path", sorted(GRAFANA.glob("*.json")), ids=lambda path: path.stem)
def test_rendering_does_not_depend_on_the_run(path) -> None:  # type: ignore[no-untyped-def]
    """The same code gives the same bytes."""
    assert rendered(built()[path]) == path.read_text()


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_a_metric_has_the_type_and_labels_that_dashboards_rely_on(metric) -> None:  # type: ignore[no-untyped-def]
    """What is not exported yet is listed as pending, and what is listed as pending is not exported."""
    code = exported().get(metric.name)
    assert (code is None) == (metric.name in PENDING), "PENDING in dashboards/src/metrics.py is out of date"
    if code is not None:
        assert code == (metric.kind, metric.labels)


def test_every_exported_metric_is_in_the_table() -> None:
    """No metric is exported without dashboards that know it."""
    assert set(exported()) <= {metric.name for metric in TABLE}


def test_every_metric_is_shown_somewhere() -> None:
    """A metric that no panel shows would be paid for without use."""
    text = "".join(path.read_text() for path in GRAFANA.glob("*.json"))
    assert [
        metric.name for metric in TABLE if not re.search(rf"\b{metric.name}(_total|_bucket|_sum|_count)?\{{", text)
    ] == []


def test_rules_of_requests_are_told_from_those_of_plans() -> None:
    """The panel of plan insights leaves out every rule that judges requests."""
    source = "".join(path.read_text() for path in (ROOT.parent / "src/querytoll/detect").glob("*.py"))
    rules = set(re.findall(r'\brule="([a-z-]+)"', source))
    assert "n-plus-one" in rules
    assert rules <= set(REQUEST_RULES)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_runbook_and_unit_tests(alert: str) -> None:
    """The runbook has the sections that a person woken at night looks for."""
    runbook = (ROOT / "runbooks" / f"{alert}.md").read_text()
    for heading in (f"# {alert}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"):
        assert f"{heading}\n" in runbook
    assert (ROOT / "prometheus/tests" / f"{alert}.yml").exists()


def test_there_is_no_runbook_without_an_alert() -> None:
    """A renamed alert takes its runbook with it."""
    assert {path.stem for path in (ROOT / "runbooks").glob("*.md")} == set(ALERTS)


def test_the_drills_are_alerts_of_ours() -> None:
    """The stack waits for no alert that cannot fire."""
    assert set(DRILLS) <= set(ALERTS)
    assert set(drilled()) == {alert for alert, metric in DRILLS.items() if metric not in PENDING}


def test_time_in_rules_can_run_faster() -> None:
    """Ranges, offsets and `for` shrink; nothing else does."""
    rules = 'expr: rate(a_5m{le="10.0"}[5m] offset 1d) > 5\nfor: 10m\nsummary: for 10m [of] 5m'
    quick = 'expr: rate(a_5m{le="10.0"}[10000ms] offset 2880000ms) > 5\nfor: 20000ms\nsummary: for 10m [of] 5m'
    assert faster(rules) == quick
