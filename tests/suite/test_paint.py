"""Colours of failures: where they are, where they never are, and that they change nothing but colours."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from querytoll.suite.paint import painted, told
from tests.suite.running import Runner

pytest_plugins = ["pytester"]

FAILURES = sorted((Path(__file__).parents[1] / "failures").glob("*.txt"))
FAULTY = """
from querytoll.testing import assert_max_queries

def test_block(client):
    with assert_max_queries(2):
        client.get("/lazy")

@pytest.mark.max_queries(2)
def test_marker(client):
    client.get("/lazy")
"""
COUNT = "\x1b[1m5x\x1b[0m  SELECT items"
SCRIPT = """
from sqlalchemy import create_engine
from querytoll.testing import assert_num_queries

with create_engine("sqlite://").connect() as connection, assert_num_queries(1):
    for _ in range(2):
        connection.exec_driver_sql("SELECT 1")
"""


TEXT = "expected at most 2 queries, got 6\n\n  5x  SELECT items  app.py:58  0.1 ms"


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own, in an environment that says nothing of colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No run of pytest, and nothing said of colours."""
    for name in ("PYTEST_VERSION", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("file", FAILURES, ids=lambda file: file.stem)
def test_nothing_but_colours_is_added(file: Path) -> None:
    """Without its codes each failure is what it was, and its first line has none."""
    text = file.read_text()
    assert plain(painted(text)) == text
    assert painted(text) != text or file.stem == "none seen"
    assert painted(text).splitlines()[0] == text.splitlines()[0]


# Under pytest


def test_the_terminal_of_pytest_decides(run: Runner) -> None:
    """`--color=yes` paints blocks and markers, `no` and a pipe paint nothing; the text is the same."""
    coloured = run(FAULTY, "--color=yes", "-p", "no:randomly").stdout.str()
    assert coloured.count(COUNT) == 2
    for option in ("--color=no", "--color=auto"):
        bare = run.again(option, "-p", "no:randomly").stdout.str()
        assert "\x1b" not in bare
    same = [re.sub(r"\d+\.\d+ ?m?s|0x\w+", "", plain(text)) for text in (coloured, bare)]
    assert same[0].split("FAILURES")[1] == same[1].split("FAILURES")[1]


@pytest.mark.parametrize(("name", "colours"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_the_environment_decides(run: Runner, monkeypatch: pytest.MonkeyPatch, name: str, colours: bool) -> None:
    """`FORCE_COLOR` paints what goes to a pipe, `NO_COLOR` nothing."""
    monkeypatch.setenv(name, "1")
    assert (COUNT in run(FAULTY).stdout.str()) is colours


def test_xdist_paints_where_its_terminal_is(run: Runner) -> None:
    """Workers send plain text, which the controller paints."""
    result = run(FAULTY, "--color=yes", "-n", "2", "-p", "no:randomly")
    assert result.stdout.str().count(COUNT) == 2
    assert "\x1b" not in run.again("--color=no", "-n", "2", "-p", "no:randomly").stdout.str()


@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_files_are_plain(run: Runner, parallel: tuple[str, ...]) -> None:
    """XML, results and logs of a coloured run have the text without codes."""
    files = ("--junitxml=tests.xml", "--querytoll-results=results.json", "--log-file=run.log", "--log-level=DEBUG")
    assert COUNT in run(FAULTY, "--color=yes", *files, *parallel).stdout.str()
    cases = list(ET.parse(run.path / "tests.xml").iter("failure"))
    assert len(cases) == 2
    for case in cases:
        assert "5x  SELECT items" in (case.text or "")
        assert case.get("message", "").startswith("expected at most 2 queries, got 6")
    for name in ("tests.xml", "results.json", "run.log"):
        assert not re.search(r"\x1b|#x1B|\\u001b", (run.path / name).read_text())


def test_forced_colours_are_not_ours_in_xml(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `FORCE_COLOR` pytest takes the text for XML from a writer with markup: nothing of ours is added to that."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert COUNT in run(FAULTY, "--junitxml=tests.xml").stdout.str()
    for case in ET.parse(run.path / "tests.xml").iter("failure"):
        assert "  5x  SELECT items   app.py:58  " in (case.text or "")


def test_the_short_summary_has_room_for_what_was_expected(run: Runner) -> None:
    """The name of the class is left out there; older versions of pytest say nothing of a marker there."""
    run(FAULTY).stdout.fnmatch_lines_random(
        ["FAILED test_app.py::test_block - expected at most 2 queries, got 6", "FAILED test_app.py::test_marker*"]
    )


@pytest.mark.parametrize("style", ["auto", "long", "short", "line", "native", "no"])
def test_every_style_of_traceback(run: Runner, style: str) -> None:
    """Each one passes through the painted writer, those with `E` lines in colours."""
    result = run(FAULTY, "--color=yes", f"--tb={style}", "-l", "-p", "no:randomly")
    result.assert_outcomes(failed=2)
    rows = result.stdout.str().count(COUNT)
    # With "line", older versions show the first line only, and newer ones the rest as well.
    assert rows in {"line": (0, 2), "no": (0,), "native": (1,)}.get(style, (2,))


def test_other_errors_stay_red(run: Runner) -> None:
    """A failure that is not ours, even one that looks alike, is pytest's own business."""
    result = run("def test_it():\n    raise AssertionError('x\\n  5x  SELECT items')\n", "--color=yes")
    assert COUNT not in result.stdout.str()
    assert "\x1b[1m\x1b[31mE         5x  SELECT items\x1b[0m" in result.stdout.str()


# Outside of pytest


def test_a_terminal_without_pytest(outside: pytest.MonkeyPatch) -> None:
    """There the exception carries the colours, but for its first line."""
    outside.setattr(sys, "stderr", Terminal())  # not in the fixture: pytest puts its own there for the test
    first, _, row = told(TEXT).split("\n")
    assert first == "expected at most 2 queries, got 6"
    assert row == "  \x1b[1m5x\x1b[0m  SELECT items  \x1b[36mapp.py:58\x1b[0m  \x1b[2m0.1 ms\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("PYTEST_VERSION", "9.0")])
def test_a_terminal_that_wants_none(outside: pytest.MonkeyPatch, name: str, value: str) -> None:
    """`NO_COLOR`, a dumb terminal, and a run of pytest keep the text plain."""
    outside.setattr(sys, "stderr", Terminal())
    assert told(TEXT) != TEXT
    outside.setenv(name, value)
    assert told(TEXT) == TEXT


@pytest.mark.parametrize("stream", [io.StringIO(), None, object()], ids=["file", "none", "stand-in"])
def test_no_terminal(outside: pytest.MonkeyPatch, stream: object) -> None:
    """A file, no stream at all, and one without `isatty` get plain text, unless `FORCE_COLOR` says otherwise."""
    outside.setattr(sys, "stderr", stream)
    assert told(TEXT) == TEXT
    outside.setenv("FORCE_COLOR", "1")
    assert told(TEXT) != TEXT
    outside.setenv("NO_COLOR", "1")
    assert told(TEXT) == TEXT


def test_a_script_on_a_real_terminal(tmp_path: Path) -> None:
    """The traceback of a script that ends on a terminal is painted, the same one in a pipe is not."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    unset = ("PYTEST_VERSION", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm"}
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, script], env=environment, stderr=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    piped = subprocess.run([sys.executable, script], env=environment, capture_output=True, check=False).stderr.decode()
    assert "\x1b[1m2x\x1b[0m  SELECT" in shown
    assert "2x  SELECT" in piped
    assert "\x1b" not in piped
