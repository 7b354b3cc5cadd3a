"""The corpus: what a senior engineer would find in ordinary code on real PostgreSQL, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.detect.corpus.bench import Bench
from tests.detect.corpus.scenario import RULES, Scenario, marks, scenarios
from tests.detect.corpus.score import judge

ALL = scenarios()
CLEAN = [one for one in ALL if not one.expect]


@pytest.fixture(scope="module")
def bench(postgres_url: str) -> Iterator[Bench]:
    """The corpus' database, and an event loop for all scenarios of the module."""
    made = Bench(postgres_url)
    yield made
    made.close()


@pytest.mark.parametrize("scenario", ALL, ids=lambda one: one.id)
def test_finds_what_is_there_and_nothing_else(scenario: Scenario, bench: Bench) -> None:
    """Each fault is found once, at the line to change; code without fault gives no finding."""
    verdict = judge(scenario, bench.run(scenario))
    for seconds in (0.2, 1, 5):  # a busy machine makes anything slow, for a time; a fault of the rule is there again
        if verdict.only_time:
            time.sleep(seconds)
            verdict = judge(scenario, bench.run(scenario))
    assert not verdict.faults, "\n".join((scenario.about, *verdict.faults))


def test_half_of_the_corpus_is_clean() -> None:
    """Silence is tested as much as speech."""
    assert len(ALL) >= 150
    assert 0.4 <= len(CLEAN) / len(ALL) <= 0.6


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_fault(rule: str) -> None:
    """No rule goes without a scenario in which it is the finding."""
    assert [one for one in ALL for expect in one.expect if rule in expect.rules]


def test_every_line_expected_exists_and_every_line_named_is_expected() -> None:
    """The names of lines and the expectations belong to each other."""
    expected = {
        name
        for one in ALL
        for expect in one.expect
        for name in ((expect.at,) if isinstance(expect.at, str) else expect.at)
    }
    assert expected == set(marks())
