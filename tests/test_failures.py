"""What failures say, word for word, in a terminal of 80 columns: the texts are the files in tests/failures.

After a change that is meant: QUERYTOLL_WRITE_FAILURES=1 make test PYTEST_ARGS=tests/test_failures.py, and read them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from querytoll.errors import QueryAssertionError
from querytoll.testing import (
    Recording,
    assert_max_db_time,
    assert_max_queries,
    assert_no_findings,
    assert_no_n_plus_one,
    assert_no_slow_queries,
    assert_num_queries,
    assert_query_growth,
    assert_uses_index,
)
from tests.suite.app import Item, Order, TestClient, app, count_items, engine, fill
from tests.suite.running import APP, Runner

pytest_plugins = ["pytester"]

FOLDER = Path(__file__).parent / "failures"
WIDTH = 72
"""Columns of a message: pytest puts eight before each line."""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("QUERYTOLL_PROJECT_ROOT", str(Path(__file__).parents[1]))


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from fill(40 if "several" in request.node.name else 5)


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Any]:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    made = create_engine(url, poolclass=NullPool)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE parcels (id int PRIMARY KEY, status text, weight int)"))
    yield made
    with made.begin() as connection:
        connection.execute(text("DROP TABLE parcels"))
    made.dispose()


def compare(name: str, told: str, width: int = WIDTH) -> None:
    """Compare a text to the file of that name; times are zeros, lines of this module nines."""
    told = re.sub(r"\d+%", "0%", re.sub(r"\d+(\.\d+)? ms", "0.0 ms", told)).rstrip() + "\n"
    told = re.sub(r" {2,}(?=0\.0 ms)", "  ", told)
    told = re.sub(r"(  0\.0 ms.*\n)+", lambda rows: "".join(sorted(rows[0].splitlines(keepends=True))), told)
    told = re.sub(r"(tests/test_failures\.py):\d+", r"\1:9", told)
    # SQLAlchemy 2.0 names the columns of a lazy load, 2.1 does not.
    told = told.replace("SELECT items.id, ... FROM", "SELECT ... FROM")
    told = re.sub(r" AS items_\w+", "", told).replace("FROM\n  items", "FROM items")
    file = FOLDER / f"{name}.txt"
    if "QUERYTOLL_WRITE_FAILURES" in os.environ:
        file.write_text(told)
    assert max(map(len, told.splitlines())) <= width
    assert told == file.read_text()


def failure(recording: Recording, work: Callable[[], object]) -> str:
    with pytest.raises(QueryAssertionError) as caught:
        recording(work)()
    return str(caught.value)


def ask_in_a_loop() -> None:
    with Session(engine) as session:
        for number in session.scalars(select(Order.id)).all():
            session.scalars(select(Item.id).where(Item.order_id == number)).all()


def ask_badly() -> None:
    with engine.connect() as connection:
        for table in ("orders", "nowhere", "nowhere"):
            try:
                connection.execute(text(f"SELECT id FROM {table}"))
            except DBAPIError:
                connection.rollback()


def visit(*paths: str) -> None:
    client = TestClient(app)
    for path in paths:
        client.get(path)


CASES: dict[str, tuple[Callable[[], Recording], Callable[[], object]]] = {
    "too many": (lambda: assert_max_queries(3), count_items),
    "not as many": (lambda: assert_num_queries(2), lambda: visit("/orders/1")),
    "none seen": (lambda: assert_num_queries(1), lambda: None),
    "n plus one in core": (assert_no_n_plus_one, ask_in_a_loop),
    "several findings": (assert_no_findings, lambda: visit("/lazy", "/again")),
    "too long": (lambda: assert_max_db_time(0), lambda: visit("/again")),
    "a slow query": (lambda: assert_no_slow_queries(0.0000001), lambda: visit("/orders/1")),
    "too many of a table": (lambda: assert_max_queries(2, table="items", operation="SELECT"), count_items),
    "failed statements": (lambda: assert_num_queries(1), ask_badly),
}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", CASES)
def test_a_failure(name: str) -> None:
    """Expected and got, statements by shape and line, what to change."""
    recording, work = CASES[name]
    compare(name, failure(recording(), work))


def test_growth(rows: None) -> None:
    """Both counts of each growing shape."""
    numbers = iter(range(100, 200))

    def make(count: int) -> None:
        with Session(engine) as session:
            session.add_all([Order(id=number) for number, _ in zip(numbers, range(count), strict=False)])
            session.commit()

    with pytest.raises(QueryAssertionError) as caught:
        assert_query_growth(count_items, make, rows=5)
    compare("growth", str(caught.value))


def test_a_missing_index(postgres: Any) -> None:
    """The condition that no index serves."""

    def ask() -> None:
        with postgres.connect() as connection:
            connection.execute(text("SELECT weight FROM parcels WHERE status = 'late'"))

    compare("no index", failure(assert_uses_index("parcels"), ask))


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own, without the settings of this one."""
    monkeypatch.delenv("QUERYTOLL_PROJECT_ROOT")
    return Runner(pytester)


def between(result: pytest.RunResult, start: str, end: str) -> str:
    lines = [str(line) for line in result.outlines]
    first = next(number for number, line in enumerate(lines) if re.fullmatch(start, line))
    last = next(number for number, line in enumerate(lines) if number > first and re.fullmatch(end, line))
    return "\n".join(lines[first:last])


def test_a_marker(run: Runner) -> None:
    """A marker's failure as pytest shows it, with the whole SQL."""
    result = run("@pytest.mark.max_queries(2)\ndef test_it(client):\n    client.get('/lazy')\n", "-v")
    compare("a marker", between(result, "_+ test_it _+", "=+ short test summary info =+"), 80)


def test_a_block_with_the_whole_sql(run: Runner) -> None:
    """With `-v` a block tells its whole SQL, too, in a run that asks for nothing else."""
    tests = "def test_it(client):\n    with assert_max_queries(2):\n        client.get('/lazy')\n"
    result = run("from querytoll.testing import assert_max_queries\n" + tests, "-v")
    result.stdout.fnmatch_lines(["*- querytoll: full SQL -*", "5x SELECT items"])


def test_a_failure_in_colours(run: Runner) -> None:
    """A failure as a terminal of 80 columns shows it, with ESC as a sign that can be read."""
    tests = "def test_it(client):\n    with assert_max_queries(2):\n        client.get('/lazy')\n"
    result = run("from querytoll.testing import assert_max_queries\n" + tests, "--color=yes", "--tb=short")
    shown = between(result, ".*_ test_it _.*", ".* short test summary info .*").replace("\x1b", "␛")
    assert max(len(re.sub(r"␛\[[\d;]*m", "", line)) for line in shown.splitlines()) <= 80
    shown = re.sub(r"\n *\^+[^\n]*", "", shown)  # Python 3.13 points at the call
    compare("in colours", re.sub(r"[\d.]+ ms", "0.0 ms", shown), 120)


def test_a_run_with_new_findings(run: Runner) -> None:
    """What a run says that is compared to a baseline and a lock."""
    tests = "def test_it(client):\n    client.get('/{path}')\n\ndef test_other(client):\n    client.get('/{other}')\n"
    files = ("--querytoll-baseline=known.txt", "--querytoll-lock=queries.lock", "-p", "no:randomly")
    run(tests.format(path="again", other="orders/1"), *files, "--querytoll-update")
    result = run(tests.format(path="again", other="lazy"), *files)
    compare("a run", between(result, "=+ querytoll =+", "=+ 2 passed in .*"), 80)


def test_a_run_that_got_better(run: Runner) -> None:
    """What a run says when there is less than in the baseline and in the lock."""
    tests = "def test_it(client):\n    client.get('/again')\n\ndef test_other(client):\n    client.get('/lazy')\n"
    files = ("--querytoll-baseline=known.txt", "--querytoll-lock=queries.lock", "-p", "no:randomly")
    run(tests, *files, "--querytoll-update")
    (run.path / "app.py").write_text(APP.read_text().replace("range(4)", "range(1)").replace("int = 5", "int = 4"))
    result = run.again(*files)
    compare("a better run", between(result, "=+ querytoll =+", "=+ 2 passed in .*"), 80)
