"""Findings that nobody wants to hear of, and ignores that have nothing to do."""

from __future__ import annotations

import logging

import pytest

from querytoll.detect import Ignoring
from querytoll.errors import ConfigurationError
from querytoll.model import Finding, Site

FINDING = Finding(
    rule="n-plus-one",
    title="",
    advice="",
    site=Site("/srv/app/legacy/orders.py", 7, "Reports.monthly", "app/legacy/orders.py"),
    evidence={"relation": "Order.items"},
)


@pytest.mark.parametrize(
    ("pattern", "silent"),
    [
        ("n-plus-one", True),
        ("n-plus-one@Order.items", True),
        ("*@app/legacy/*", True),
        ("*@Reports.*", True),
        ("slow-query", False),
        ("n-plus-one@Order.notes", False),
        ("*@app/new/*", False),
    ],
)
def test_patterns_name_rules_relations_paths_and_functions(pattern: str, silent: bool) -> None:
    """A pattern silences what it names, and nothing else."""
    assert Ignoring([pattern]).apply([FINDING]) == ([] if silent else [FINDING])


def test_a_pattern_without_a_rule_is_refused() -> None:
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match="write rule@target"):
        Ignoring(["@Order.items"])


def test_an_ignore_that_matches_nothing_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """What was fixed long ago need not be ignored any more; what matched once is left alone."""
    ignoring = Ignoring(["slow-query", "n-plus-one"], after=3)
    with caplog.at_level(logging.WARNING, logger="querytoll"):
        ignoring.apply([FINDING])
        for _ in range(10):
            ignoring.apply([])
    assert [record.getMessage() for record in caplog.records] == [
        "ignore slow-query@* has matched nothing in 3 traces: remove it"
    ]
