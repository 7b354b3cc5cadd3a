"""The queries of each route as a file: what fails, what may be lowered, and the difference that people read."""

from __future__ import annotations

import pytest

from querytoll.errors import ConfigurationError
from querytoll.suite.lock import Lock
from querytoll.suite.results import Traffic, Use
from tests.suite.running import APP, Runner, line_of

pytest_plugins = ["pytester"]

TESTS = """
def test_early(client):
    client.get("/early")

def test_lazy(client):
    client.get("/lazy")
"""
LOCK = "--querytoll-lock=queries.lock"
UPDATE = "--querytoll-update"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester)


def use(name: str, summary: str, count: int) -> Use:
    return Use(f"{name:0>16}", summary, count, "app/orders.py", 41)


def items(name: str, count: int) -> Use:
    return use(name, "SELECT items", count)


def traffic(*uses: Use, name: str = "GET /orders") -> dict[str, Traffic]:
    return {name: Traffic(name, uses={each.fingerprint: each for each in uses})}


def locked(run: Runner) -> list[str]:
    lines = (run.path / "queries.lock").read_text().splitlines()
    return [line.rpartition("  ")[0] if line.startswith(" ") else line for line in lines if not line.startswith("#")]


# In a run


def test_the_same_queries_pass(run: Runner) -> None:
    """A lock lists the routes and their shapes; the run that made it passes."""
    result = run(TESTS, LOCK, UPDATE)
    assert result.ret == 0
    assert locked(run) == [
        "",
        "GET /early",
        "  1  SELECT items",
        "  1  SELECT orders",
        "",
        "GET /lazy",
        "  5  SELECT items",
        "  1  SELECT orders",
    ]
    result = run.again(LOCK)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*queries.lock*")


def test_more_queries_fail(run: Runner) -> None:
    """One more row is one more query where there is an N+1: the difference names route, shape, line and numbers."""
    run(TESTS, LOCK, UPDATE)
    (run.path / "app.py").write_text(APP.read_text().replace("count: int = 5", "count: int = 6"))
    result = run.again(LOCK)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    more = f"  GET /lazy: +1 SELECT items (app.py:{line_of('lazy')}), 5 -> 6"
    result.stdout.fnmatch_lines(["queries.lock: 1 route with more queries", more])


def test_fewer_queries_pass(run: Runner) -> None:
    """Less is told and never fails; an update lowers it."""
    run(TESTS, LOCK, UPDATE)
    (run.path / "app.py").write_text(APP.read_text().replace("count: int = 5", "count: int = 4"))
    result = run.again(LOCK)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["queries.lock: differs", "  GET /lazy: -1 SELECT items, 5 -> 4: you can lower it"])
    run.again(LOCK, UPDATE)
    assert "  4  SELECT items" in locked(run)


def test_a_route_that_is_not_in_the_lock_fails(run: Runner) -> None:
    """Its queries are to be committed, too."""
    run("def test_early(client):\n    client.get('/early')\n", LOCK, UPDATE)
    result = run(TESTS, LOCK)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["  GET /lazy: is not in the lock: 6 queries (5 SELECT items, 1 SELECT orders)"])


def test_a_part_of_the_tests_lowers_nothing(run: Runner) -> None:
    """A partial run neither tells of what it did not see nor removes it, but what it adds is written."""
    run("def test_early(client):\n    client.get('/early')\n", LOCK, UPDATE)
    result = run(TESTS, LOCK, UPDATE, "-k", "lazy")
    assert result.ret == 0
    assert [line for line in locked(run) if line.startswith("GET")] == ["GET /early", "GET /lazy"]


def test_a_lock_by_test(run: Runner) -> None:
    """Tests without requests have queries as well."""
    tests = "from app import count_items\ndef test_direct():\n    count_items()\n"
    run(TESTS + tests, LOCK, UPDATE, "--querytoll-lock-per=test")
    assert locked(run)[:4] == ["", "test_app.py::test_direct", "  5  SELECT items", "  1  SELECT orders"]
    assert len(locked(run)) == 12
    assert run.again(LOCK, "--querytoll-lock-per=test").ret == 0


# Differences


@pytest.mark.parametrize(
    ("before", "after", "told", "kind"),
    [
        (
            [items("a", 3)],
            [items("a", 4)],
            "+1 SELECT items (app/orders.py:41), 3 -> 4",
            "more",
        ),
        ([], [items("a", 2)], "+2 SELECT items (app/orders.py:41), 0 -> 2", "more"),
        ([items("a", 3)], [], "-3 SELECT items, 3 -> 0: you can lower it", "fewer"),
        (
            [items("a", 1)],
            [items("b", 1)],
            "another SELECT items than in the lock",
            "changed",
        ),
        ([items("a", 1)], [items("a", 1)], None, None),
    ],
    ids=["more", "one more shape", "fewer", "a column more", "equal"],
)
def test_differences(before: list[Use], after: list[Use], told: str | None, kind: str | None) -> None:
    """A change is one line; another column in a model is not another query."""
    changes = Lock.of(traffic(*before)).changes(traffic(*after), complete=True)
    assert [(str(change), change.kind) for change in changes] == (
        [] if told is None else [(f"GET /orders: {told}", kind)]
    )


def test_routes_that_come_and_go() -> None:
    """A new route fails, one that is gone does not; a partial run knows of neither being gone."""
    lock = Lock.of(traffic(items("a", 1), name="GET /old"))
    now = traffic(items("a", 1), name="GET /new")
    assert [(change.name, change.kind) for change in lock.changes(now, complete=True)] == [
        ("GET /new", "new"),
        ("GET /old", "gone"),
    ]
    assert [change.kind for change in lock.changes(now, complete=False)] == ["new"]


def test_the_text_is_read_again() -> None:
    """What is written is read, sorted by route and shape."""
    routes = {**traffic(use("b", "SELECT a", 2), use("a", "INSERT z", 10)), **traffic(name="GET /a")}
    lock = Lock.of(routes)
    again = Lock.parse(str(lock))
    assert str(again) == str(lock)
    assert not again.changes(routes, complete=True)
    assert str(lock).index("GET /a\n") < str(lock).index("GET /orders\n")


def test_both_sides_of_a_merge_can_be_kept() -> None:
    """A route or shape that is there twice has the higher number."""
    text = f"GET /a\n  1  SELECT x  {'a' * 16}\nGET /a\n  3  SELECT x  {'a' * 16}\n"
    assert Lock.parse(text).routes["GET /a"]["a" * 16].count == 3


@pytest.mark.parametrize("line", ["<<<<<<< ours", "=======", "  one  SELECT x", f"  1 SELECT x  {'a' * 16}"])
def test_a_line_that_is_none(line: str) -> None:
    """A conflict that was not settled, or a slip of the hand, is told with its line."""
    with pytest.raises(ConfigurationError, match=r"queries\.lock:2: not a line of a lock"):
        Lock.parse(f"GET /a\n{line}\n")
