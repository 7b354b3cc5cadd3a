"""Plans of live servers, oldest and newest: what each rule says of them, and of its near misses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from querytoll.explain.catalog import Catalog
from querytoll.explain.document import analyse
from querytoll.explain.insights import RULES, inspect
from querytoll.explain.plan import plan_from, walk
from querytoll.explain.redact import redact

FILES = sorted((Path(__file__).parent / "plans").glob("*.json"))


def _load(file: Path) -> tuple[dict[str, Any], Catalog | None]:
    fixture = json.loads(file.read_text())
    return fixture, Catalog.from_json(fixture["catalog"]) if fixture["catalog"] else None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_rules_say_what_is_true_of_the_plan(file: Path) -> None:
    """The planted fault is found, its near miss is not, and nothing unexpected is said."""
    fixture, catalog = _load(file)
    found = {finding.rule for finding in analyse(fixture["document"], catalog).findings}
    expected = {fixture["rule"]} if fixture["finds"] else set()
    assert expected <= found <= expected | set(fixture["also"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_redacted_plans_give_the_same_findings(file: Path) -> None:
    """Only redacted plans are kept; what is lost is what needs a value, and is listed here."""
    fixture, catalog = _load(file)
    raw = {finding.rule for finding in inspect(plan_from(fixture["document"]), catalog)}
    kept = {finding.rule for finding in inspect(plan_from(redact(fixture["document"])), catalog)}
    needs_values = {"missing-index"} if "LIKE" in fixture["sql"] else set()
    assert raw - kept <= needs_values
    assert kept <= raw


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_findings_are_complete_and_their_numbers_make_sense(file: Path) -> None:
    """Every finding names its step, saves no more than the statement took, and its shares are shares."""
    fixture, catalog = _load(file)
    analysis = analyse(fixture["document"], catalog)
    steps = list(walk(analysis.plan.tree))
    assert all(0 <= step.share <= 1 for step in steps)
    for finding in analysis.findings:
        assert finding.title
        assert finding.advice.endswith(".")
        assert finding.evidence["node"]
        assert steps[int(str(finding.evidence["node_id"]))]
        assert 0 <= finding.cost <= max(analysis.plan.elapsed or 0, analysis.plan.planning or 0) + 1e-6
        assert finding.plan == analysis.plan
        json.dumps(dict(finding.evidence))


def test_every_rule_has_fixtures_of_both_kinds() -> None:
    """One positive and two near misses at least."""
    kinds: dict[str, set[tuple[bool, str]]] = {}
    for file in FILES:
        fixture = json.loads(file.read_text())
        kinds.setdefault(fixture["rule"], set()).add((fixture["finds"], file.name.rsplit(".", 2)[0]))
    assert set(kinds) == {rule.slug for rule in RULES}
    for slug, found in kinds.items():
        assert sum(finds for finds, _ in found) >= 1, slug
        assert sum(not finds for finds, _ in found) >= 2, slug


def test_slugs_are_unique_and_documented() -> None:
    """Each rule has its section, under its slug."""
    slugs = [rule.slug for rule in RULES]
    assert len(set(slugs)) == len(slugs)
    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
    assert [line.removeprefix("## ") for line in page.splitlines() if line.removeprefix("## ") in slugs] == slugs
