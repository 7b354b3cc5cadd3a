"""The examples of docs/testing.md are run, in its order, in one project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from typer.testing import CliRunner

from querytoll.cli.app import app
from tests.suite.running import Runner

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
FAILURES = Path(__file__).parent / "failures"
ADD_ORDERS = """
def add_orders(count):
    with Session(engine) as session:
        last = session.query(Order).count()
        session.add_all([Order(id=n, items=[Item(id=n)]) for n in range(last + 1, last + count + 1)])
        session.commit()
"""
FAULTY = """
def test_lazy(client):
    client.get("/lazy")

def test_again(client):
    client.get("/again")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    runner = Runner(pytester)
    with (runner.path / "app.py").open("a") as file:
        file.write(ADD_ORDERS)
    ini = runner.path / "pytest.ini"
    ini.write_text(ini.read_text().replace("asyncio_mode = strict", "asyncio_mode = auto"))
    return runner


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is said to write."""
    for block in blocks("console"):
        for part in block.split("$ ")[1:]:
            command, *lines = part.splitlines()
            yield command, [line for line in lines if line != "..."]


def test_the_python_examples_pass(run: Runner) -> None:
    """All of them together are a test module that passes."""
    run("\n".join(blocks("python"))).assert_outcomes(passed=len(re.findall(r"def test_", "".join(blocks("python")))))


def test_the_commands_do_what_is_said(run: Runner) -> None:
    """Each command of the page succeeds, one after the other, and writes the lines that the page shows."""
    run(FAULTY)
    for command, lines in commands():
        program, *arguments = shlex.split(command)
        if program == "pytest":
            result = run.again(*arguments)
            code, written = int(result.ret), [str(line) for line in result.outlines]
        else:
            done = CliRunner().invoke(app, arguments)
            code, written = done.exit_code, done.output.splitlines()
        assert code == 0, command
        for line in lines:
            assert any(fnmatch(each, line) for each in written), (command, line, written)


@pytest.mark.parametrize("shown", [block for block in blocks("text") if block.startswith("expected")])
def test_the_failures_are_real(shown: str) -> None:
    """The texts of failures are those that the tests keep, with an application's path and without the tests' lines."""
    kept = [file.read_text().replace("tests/suite/app.py", "app/orders.py") for file in FAILURES.iterdir()]
    assert shown in [re.sub(r" *from tests/test_failures.*\n", "", text) for text in kept]
