"""Prometheus' own tools accept rules and configurations, and the unit tests of the rules notice every mutation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from dashboards.src.files import ROOT

PROMETHEUS = ROOT / "prometheus"
FILES = ("recording.yml", "alerts.yml")
ALERTS = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())

TURNED = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
MUTATIONS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("comparison turned round", r"(?<= )[<>](?= )", lambda found: "<" if found == ">" else ">"),
    ("threshold three times as large", r"(?<=[<>] )\d[\d.]*", lambda found: f"{float(found) * 3 or 50:g}"),
    ("threshold a third", r"(?<=[<>] )\d*[1-9][\d.]*", lambda found: f"{float(found) / 3:g}"),
    (
        "range or offset three times as long",
        r"(?<=\[)\d+[mhd](?=\])|(?<=offset )\d+[mhd]",
        lambda found: times(found, 3),
    ),
    ("range or offset a third", r"(?<=\[)\d+[mhd](?=\])|(?<=offset )\d+[mhd]", lambda found: times(found, 1 / 3)),
    ("waits three times as long", r"(?<=for: )\d+m", lambda found: times(found, 3)),
    ("does not wait", r"(?<=for: )\d+m", lambda found: "0m"),
    ("and to or", r"\band\b", lambda found: "or"),
    ("or to and", r"\bor\b", lambda found: "and"),
    ("unless to and", r"\bunless\b", lambda found: "and"),
    ("matcher turned round", r"(?<=[a-z])(=~|!~|!=|=)(?=\")", lambda found: TURNED[found]),
    ("operator turned round", r"(?<= )[-/](?= )", lambda found: "+" if found == "-" else "*"),
    ("aggregation", r"\b(sum|max)(?= without)", lambda found: "min"),
    ("labels kept", r"(?<=without \()[^)]+(?=\))", lambda found: found.rpartition(",")[0]),
    ("severity", r"(?<=severity: )\w+", lambda found: "none"),
)


def times(duration: str, factor: float) -> str:
    """A duration, longer or shorter."""
    seconds = int(duration[:-1]) * {"m": 60, "h": 3_600, "d": 86_400}[duration[-1]]
    return f"{round(seconds * factor)}s"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool, which must be installed."""
    assert shutil.which(command[0]), f"{command[0]} is missing: apt-get install prometheus prometheus-alertmanager"
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules`, with its lint."""
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *(PROMETHEUS / name for name in FILES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    """`promtool check config`, with the rules where the container has them."""
    text = (PROMETHEUS / "prometheus.yml").read_text().replace("/etc/prometheus/rules", str(PROMETHEUS))
    (tmp_path / "prometheus.yml").write_text(text)
    done = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_accepts_the_configuration() -> None:
    """`amtool check-config`."""
    done = run("amtool", "check-config", ROOT / "alertmanager/alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "pager"), ("warning", "tickets"), ("info", "digest")])
def test_alertmanager_routes_by_severity(severity: str, receiver: str) -> None:
    """A page for what fails requests, a ticket for what slows them, a digest for the rest."""
    config = f"--config.file={ROOT / 'alertmanager/alertmanager.yml'}"
    done = run("amtool", "config", "routes", "test", config, f"severity={severity}", "alertname=Any")
    assert done.stdout.strip() == receiver, done.stderr


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_the_rules_pass_their_unit_tests(path: Path) -> None:
    """`promtool test rules`."""
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_to_fire_and_to_stay_silent(alert: str) -> None:
    """A test in which it fires, and one in which it never does."""
    tests = yaml.safe_load((PROMETHEUS / "tests" / f"{alert}.yml").read_text())["tests"]
    outcomes = {any(case["exp_alerts"] for case in test["alert_rule_test"]) for test in tests}
    assert outcomes == {True, False}
    assert {case["alertname"] for test in tests for case in test["alert_rule_test"]} == {alert}


def rule_texts(name: str) -> Iterator[tuple[str, str]]:
    """Each rule of a file as its name and its text."""
    for text in re.split(r"(?=^      - (?:record|alert): )", (PROMETHEUS / name).read_text(), flags=re.M)[1:]:
        text = text.partition("\n  - name:")[0]
        yield re.search(r"(?:record|alert): (\S+)", text)[1], text  # type: ignore[index]


def mutants(name: str) -> Iterator[tuple[str, str]]:
    """Each way to break a rule of a file: what was done, and the whole file."""
    whole = (PROMETHEUS / name).read_text()
    for rule, text in rule_texts(name):
        head, annotations, tail = text.partition("        annotations:")
        for title, pattern, change in MUTATIONS:
            for number, found in enumerate(re.finditer(pattern, head), 1):
                broken = head[: found.start()] + change(found[0]) + head[found.end() :]
                yield f"{rule}: {title} ({number})", whole.replace(text, broken + annotations + tail)


def survives(folder: Path, name: str, number: int, mutant: tuple[str, str]) -> str | None:
    """What was done to the rules, if their unit tests did not notice."""
    title, text = mutant
    place = folder / f"{name}-{number}"
    shutil.copytree(PROMETHEUS / "tests", place / "tests")
    for file in FILES:
        (place / file).write_text(text if file == name else (PROMETHEUS / file).read_text())
    rule = title.partition(":")[0]
    tests = [place / "tests" / f"{rule}.yml"] if name == "alerts.yml" else [place / "tests/recording.yml"]
    survived = run("promtool", "test", "rules", *tests).returncode == 0
    shutil.rmtree(place)
    return title if survived else None


@pytest.mark.parametrize("name", FILES)
def test_the_unit_tests_notice_every_mutation(name: str, tmp_path: Path) -> None:
    """Whatever number, operator, label or wait of a rule changes, a test fails."""
    broken = list(mutants(name))
    assert len(broken) > 50
    with ThreadPoolExecutor(2) as pool:
        outcomes = pool.map(lambda each: survives(tmp_path, name, *each), enumerate(broken))
    assert [title for title in outcomes if title] == []
