"""Plans as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from querytoll.explain.catalog import Catalog
from querytoll.explain.document import Analysis, analyse
from querytoll.explain.render import ASCII, render, short

PLANS = Path(__file__).parent / "plans"


def _analysis(name: str) -> Analysis:
    fixture = json.loads((PLANS / f"{name}.json").read_text())
    return analyse(fixture["document"], Catalog.from_json(fixture["catalog"]))


def test_the_insight_stands_below_its_step() -> None:
    """Bar, rows expected and seen, step, insight."""
    analysis = _analysis("cte-fence--materialized.18")
    lines = render(analysis.plan, analysis.findings).splitlines()
    assert lines[0].startswith("Executed plan, execution ")
    place = next(number for number, line in enumerate(lines) if "CTE Scan on c" in line)
    assert "→ 6" in lines[place]
    assert "▲ cte-fence: The CTE c computes 120 000 rows of which 6 are used" in lines[place + 1]


@pytest.mark.parametrize("width", [20, 60, 80, 140])
def test_nothing_but_statements_is_wider_than_asked(width: int) -> None:
    """Sixty columns at least."""
    for name in ("hash-batches--parallel.18", "partition-pruning--other-column.18"):
        analysis = _analysis(name)
        assert all(
            len(line) <= max(width, 60) + 20 for line in render(analysis.plan, analysis.findings, width).splitlines()
        )
        tree = render(analysis.plan, (), width).splitlines()
        assert all(len(line) <= max(width, 60) for line in tree)


def test_ascii_is_enough() -> None:
    """For terminals and files that know no more."""
    analysis = _analysis("hash-batches--parallel.18")
    assert render(analysis.plan, analysis.findings, 80, ASCII).isascii()


def test_an_estimate_shows_its_cost() -> None:
    """One number of rows, and no time."""
    analysis = _analysis("limit-sort--estimate.18")
    text = render(analysis.plan)
    assert text.startswith("Estimated plan, cost ")
    assert "→" not in text
    assert "cost " in text.splitlines()[2]


def test_a_step_that_never_ran_says_so() -> None:
    """Its numbers are not zeros of a run."""
    plan = analyse({"Plan": {"Node Type": "Result", "Actual Rows": 0, "Actual Loops": 0}}).plan
    assert "(never executed)" in render(plan)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.4, "0.4"), (7, "7"), (9999, "9999"), (34_000, "34.0k"), (1.2e6, "1.2M"), (None, "?")],
)
def test_numbers_are_short(value: float | None, expected: str) -> None:
    """Five characters or so."""
    assert short(value) == expected
