"""Known findings: what fails, what does not, and the text that a team commits."""

from __future__ import annotations

import random

import pytest

from querytoll.errors import ConfigurationError
from querytoll.suite.baseline import Baseline, Known
from querytoll.suite.results import Found
from tests.suite.running import APP, Runner

pytest_plugins = ["pytester"]

LAZY = "def test_lazy(client):\n    client.get('/lazy')\n"
AGAIN = "def test_again(client):\n    client.get('/again')\n"
KNOWN = "--querytoll-baseline=known.txt"
UPDATE = "--querytoll-update"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester)


def found(number: int, **changes: object) -> Found:
    values = {"rule": "n-plus-one", "path": "app/orders.py", "function": "listed", "summary": "SELECT items"}
    return Found(id=f"{number:016x}", title="", advice="", **{**values, **changes})  # type: ignore[arg-type]


def entries(run: Runner) -> list[str]:
    return [line.rpartition("  ")[0] for line in (run.path / "known.txt").read_text().splitlines() if line[0] != "#"]


def test_only_new_findings_fail(run: Runner) -> None:
    """What was there when the baseline was made passes; what comes later fails, and is told with its fix."""
    assert run(LAZY, KNOWN, UPDATE).ret == 0
    assert entries(run) == ["n-plus-one  app.py:count_items  SELECT items"]
    result = run.again(KNOWN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 known finding, none new"])
    result = run(LAZY + AGAIN, KNOWN)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["1 new finding, 1 known", "  duplicate-query: SELECT items ran 4 times*", "    fix: *"]
    )


def test_moved_lines_and_other_counts_are_known(run: Runner) -> None:
    """Code above the line, or more rows, make no new finding."""
    run(LAZY, KNOWN, UPDATE)
    (run.path / "app.py").write_text("# a new line\n" * 3 + APP.read_text().replace("count: int = 5", "count: int = 9"))
    assert run.again(KNOWN).ret == 0


def test_an_improvement_never_fails(run: Runner) -> None:
    """A fixed finding is told as gone; an update removes it."""
    run(LAZY + AGAIN, KNOWN, UPDATE)
    result = run(LAZY, KNOWN)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["1 known finding is gone; --querytoll-update removes them:", "  duplicate-query  app.py:again  SELECT items"]
    )
    assert run.again(KNOWN, UPDATE).ret == 0
    assert entries(run) == ["n-plus-one  app.py:count_items  SELECT items"]


@pytest.mark.parametrize(
    "options", [["-k", "lazy"], ["test_app.py"], ["test_app.py::test_lazy"], ["--deselect", "test_app.py::test_again"]]
)
def test_a_part_of_the_tests_removes_nothing(run: Runner, options: list[str]) -> None:
    """What a partial run did not show may be there: it is neither stale nor pruned."""
    run(LAZY + AGAIN, KNOWN, UPDATE)
    if options == ["test_app.py"]:
        run(LAZY)
    result = run.again(KNOWN, UPDATE, *options)
    assert len(entries(run)) == 2
    result.stdout.fnmatch_lines(["not every test ran and passed: nothing was removed or lowered"])
    result.stdout.no_fnmatch_line("*is gone*")


def test_a_failing_test_removes_nothing(run: Runner) -> None:
    """A test that failed may have shown more."""
    run(LAZY + AGAIN, KNOWN, UPDATE)
    run(LAZY + "def test_again(client):\n    assert False\n", KNOWN, UPDATE)
    assert len(entries(run)) == 2


def test_with_xdist(run: Runner) -> None:
    """Workers read no file: the controller compares, and writes."""
    run(LAZY + AGAIN, KNOWN, UPDATE)
    result = run(LAZY, KNOWN, "-n2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 known finding is gone;*", "1 known finding, none new"])


def test_the_text_is_sorted_and_read_again() -> None:
    """Equal findings give equal texts, whatever their order; lines are read in any order."""
    many = [found(number, path=f"app/{number % 3}.py", rule=("a", "b")[number % 2]) for number in range(9)]
    text = str(Baseline.of(many))
    assert str(Baseline.of(random.Random(1).sample(many, 9))) == text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert Baseline.parse("\n".join(reversed(lines))) == Baseline.of(many)
    assert max(map(len, text.splitlines()[:2])) <= 120


def test_names_with_spaces_are_read_again() -> None:
    """Paths, functions and summaries may hold spaces, or be missing."""
    odd = [found(1, path="my app/orders.py", function="f.<locals>.g"), found(2, path="", summary="")]
    assert Baseline.parse(str(Baseline.of(odd))) == Baseline.of(odd)


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "n-plus-one  app.py:f", "n-plus-one  app.py:f  SELECT x  123"])
def test_a_line_that_is_no_entry(line: str) -> None:
    """A conflict that was not settled is told with its line."""
    with pytest.raises(ConfigurationError, match=r"known\.txt:2: not an entry of a baseline"):
        Baseline.parse(f"# comment\n{line}\n", "known.txt")


def test_an_entry_is_what_its_id_says() -> None:
    """Renamed places do not make a finding new."""
    baseline = Baseline((Known("n-plus-one", "old.py:f", "SELECT x", f"{1:016x}"),))
    assert baseline.stale([found(1)]) == ()
    assert baseline.stale([found(2)]) == baseline.entries
