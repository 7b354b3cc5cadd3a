"""Runs of pytest inside of tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import querytoll.middleware
import querytoll.suite.run
import querytoll.suite.summary
import querytoll.testing  # noqa: F401 - loaded here, for a run inside forgets what it loads itself
from tests.suite import app

with app.TestClient(app.app) as client:
    for _ in app.fill():
        client.get("/lazy")
        client.get("/early")

APP = Path(__file__).with_name("app.py")
HEAD = """
import pytest
from app import TestClient, app, fill

@pytest.fixture(autouse=True)
def rows():
    yield from fill()

@pytest.fixture
def client():
    return TestClient(app)
"""
INI = """
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:Unclosed <MemoryObject:ResourceWarning
"""


def line_of(comment: str) -> int:
    """The line of the application that ends with a comment."""
    lines = APP.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {comment}"))


class Runner:
    """A project with the application and tests of it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path = pytester.path
        self._pytester = pytester
        shutil.copy(APP, pytester.path / "app.py")
        pytester.makefile(".ini", pytest=INI)
        pytester.syspathinsert()

    def __call__(self, tests: str, *options: str) -> pytest.RunResult:
        """Run tests, of which the common head is left out."""
        self._pytester.makepyfile(test_app=HEAD + tests)
        return self.again(*options)

    def again(self, *options: str) -> pytest.RunResult:
        """Run the tests that are there."""
        return self._pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options)
