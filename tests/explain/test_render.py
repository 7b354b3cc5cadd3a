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


def _step(kind: str, **facts: object) -> dict[str, object]:
    return {"Node Type": kind, "Plan Rows": 1, "Total Cost": 1.0, **facts}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_name_is_told_whole_however_deep_its_step_lies(width: int) -> None:
    """Long names go on in the next line, and deep trees are indented less."""
    step = _step("Index Scan", **{"Relation Name": "t" * 63, "Index Name": "i" * 63, "Alias": "a" * 63})
    for _ in range(40):
        step = _step("Materialize", Plans=[step])
    lines = render(analyse({"Plan": step}).plan, (), width).splitlines()
    assert all(len(line) <= width for line in lines)
    written = "".join(line[34:].strip("│├└─ ") for line in lines[-30:])
    assert all(letter * 63 in written for letter in "tia")


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A plan in a file may come from anywhere."""
    step = _step("Seq Scan", **{"Relation Name": "x\x1b[31mred\nline", "Alias": "a\u202eb"})
    assert "Seq Scan on x?[31mred?line a?b" in render(analyse({"Plan": step}).plan)


def test_what_no_step_shows_is_told_above() -> None:
    """Triggers and compilation are parts of the execution; custom steps name their provider."""
    aside = {"Triggers": [{"Time": 30.5}, {"Time": 3}], "JIT": {"Timing": {"Total": 25.0}}, "Execution Time": 90.0}
    step = _step("Custom Scan", **{"Custom Plan Provider": "ChunkAppend", "Actual Loops": 1, "Actual Rows": 1})
    text = render(analyse({"Plan": step, **aside}).plan)
    assert text.startswith("Executed plan, execution 90.00 ms, triggers 33.50 ms, JIT 25.00 ms, cost")
    assert "Custom Scan (ChunkAppend)" in text
