"""The plugin of pytest: what each option, marker and fixture does, under every way to run async and parallel tests."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.suite.running import Runner, line_of

pytest_plugins = ["pytester"]

CLEAN = """
@pytest.mark.parametrize("turn", range(2))
def test_clean(client, turn):
    for number in (1, 2, 3, 4, 5, 1, 1, 1):
        client.get(f"/orders/{number}")
    client.get("/early")
    client.get("/nothing")
"""
FAULTY = """
@pytest.mark.parametrize("turn", range(2))
def test_lazy(client, turn):
    client.get("/lazy")

def test_again(client):
    client.get("/again")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project of its own, in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return Runner(pytester)


def findings(run: Runner, name: str = "results.json") -> list[tuple[str, str, int]]:
    found = json.loads((run.path / name).read_text())["findings"].values()
    return sorted((each["rule"], each["path"], each["line"]) for each in found)


PLANTED = [("duplicate-query", "app.py", line_of("again")), ("n-plus-one", "app.py", line_of("lazy"))]


# The whole suite


def test_without_the_option_nothing_is_watched(run: Runner) -> None:
    """A run that asks for nothing says nothing, and leaves applications alone."""
    result = run(FAULTY + "def test_stack():\n    assert not hasattr(app.build_middleware_stack, '__wrapped__')\n")
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*querytoll*findings*")


def test_a_clean_suite_gives_no_finding(run: Runner) -> None:
    """Many clean requests in a test are never added up, nor are the statements of fixtures counted."""
    result = run(CLEAN, "--querytoll", "--querytoll-fail", "--querytoll-results=results.json")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert findings(run) == []
    result.stdout.fnmatch_lines(["*= querytoll =*", "20 requests to 3 routes: 20 statements, *", "no findings"])


def test_planted_faults_are_found_once_each(run: Runner) -> None:
    """Each fault is told once, however many tests show it, with its line."""
    result = run(CLEAN + FAULTY, "--querytoll", "--querytoll-results=results.json")
    result.assert_outcomes(passed=5)
    assert result.ret == 0
    assert findings(run) == PLANTED
    result.stdout.fnmatch_lines(["2 findings", f"  n-plus-one  app.py:{line_of('lazy')}  Order.items loaded 5 times*"])


@pytest.mark.parametrize("option", ["--querytoll-fail", "--querytoll-rules=n-plus-one", "--querytoll-watch=tests"])
def test_an_option_that_makes_no_sense_alone_watches(run: Runner, option: str) -> None:
    """Nobody has to know that `--querytoll` is needed as well, above all where the run is expected to fail."""
    result = run(FAULTY, option)
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if option == "--querytoll-fail" else pytest.ExitCode.OK)
    result.stdout.fnmatch_lines(["*= querytoll =*"])


def test_findings_fail_on_request(run: Runner) -> None:
    """With `--querytoll-fail` tests that pass make a run that fails, and the text says what to change."""
    result = run(FAULTY, "--querytoll", "--querytoll-fail")
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["2 new findings", "  n-plus-one: Order.items loaded 5 times in a loop", "    fix: Load it with its parents:*"]
    )


def test_the_configuration_asks_as_well(run: Runner, pytester: pytest.Pytester) -> None:
    """Every option has an ini value; its files lie beside the configuration."""
    ini = (run.path / "pytest.ini").read_text()
    (run.path / "pytest.ini").write_text(
        f"{ini}\nquerytoll = true\nquerytoll_fail = true\nquerytoll_results = r.json\n"
    )
    assert run(FAULTY).ret == pytest.ExitCode.TESTS_FAILED
    assert findings(run, "r.json") == PLANTED


def test_only_the_rules_that_were_asked_for_count(run: Runner) -> None:
    """Rules can be named, with wildcards."""
    run(FAULTY, "--querytoll-results=results.json", "--querytoll-rules=n-plus-*,slow-query")
    assert findings(run) == PLANTED[1:]


def test_time_is_no_finding_unless_asked_for(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What depends on the machine's speed fails no run by itself."""
    monkeypatch.setenv("QUERYTOLL_SLOW_STATEMENT_SECONDS", "0.0000001")
    run(CLEAN, "--querytoll-results=results.json")
    assert findings(run) == []
    run.again("--querytoll-results=results.json", "--querytoll-rules=slow-query")
    assert {rule for rule, _, _ in findings(run)} == {"slow-query"}


def test_settings_ignore_findings(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings ignore is ignored here too."""
    monkeypatch.setenv("QUERYTOLL_IGNORE", '["n-plus-one@Order.items"]')
    run(FAULTY, "--querytoll-results=results.json")
    assert findings(run) == PLANTED[:1]


DIRECT = """
from app import count_items

def test_direct(client):
    client.get("/orders/1")
    count_items()
"""
SETUP = """
from app import count_items

@pytest.fixture
def warm(rows, client):
    client.get("/again")
    return count_items()

def test_nothing(warm, client):
    client.get("/orders/1")
"""


@pytest.mark.parametrize(
    ("tests", "watch", "expected"),
    [
        (DIRECT, "requests", []),
        (DIRECT, "tests", PLANTED[1:]),
        (SETUP, "requests", []),
        (SETUP, "tests", []),
        (SETUP, "all", PLANTED),
    ],
    ids=["direct", "direct-tests", "fixtures", "fixtures-tests", "fixtures-all"],
)
def test_what_is_watched(run: Runner, tests: str, watch: str, expected: list[tuple[str, str, int]]) -> None:
    """Statements of tests, and of fixtures with their requests, count when they are asked for."""
    run(tests, f"--querytoll-watch={watch}", "--querytoll-results=results.json")
    assert [each for each in findings(run) if each[0] != "write-loop"] == expected


def test_an_application_with_a_profiler_of_its_own(run: Runner) -> None:
    """The watch sees the same requests besides, and takes nothing from the application's own profiler."""
    tests = """
from querytoll import Profiler, ProfilerMiddleware
seen = []
app.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[seen.append]))

def test_both(client):
    for number in range(1, 6):
        assert "server-timing" not in client.get(f"/orders/{number}").headers
    client.get("/lazy")
    assert [report.trace.name for report in seen] == ["GET /orders/{number}"] * 5 + ["GET /lazy"]
    assert [finding.rule for report in seen for finding in report.findings] == ["n-plus-one"]
"""
    run(tests, "--querytoll", "--querytoll-results=results.json").assert_outcomes(passed=1)
    assert findings(run) == PLANTED[1:]


def test_applications_of_starlette(run: Runner) -> None:
    """Starlette's own applications are watched as FastAPI's are, mounted ones once."""
    tests = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from app import count_items

def listed(request):
    return PlainTextResponse(str(count_items()))

def test_starlette():
    shop = Starlette(routes=[Route("/listed", listed), Mount("/sub", app)])
    client = TestClient(shop)
    client.get("/listed")
    client.get("/sub/orders/1")
"""
    run(tests, "--querytoll-results=results.json").assert_outcomes(passed=1)
    results = json.loads((run.path / "results.json").read_text())
    assert {name: each["requests"] for name, each in results["routes"].items()} == {
        "GET /listed": 1,
        "GET /sub/orders/{number}": 1,
    }
    assert findings(run) == PLANTED[1:]


def test_the_summary_stays_under_one_screen(run: Runner) -> None:
    """With any number of faults, the end of the run is at most 24 lines of 80 columns."""
    tests = """
from fastapi import FastAPI
from sqlalchemy.orm import Session
from sqlalchemy import select
from app import Order, engine

def add(number):
    scope = {"Session": Session, "select": select, "Order": Order, "engine": engine}
    loop = ["with Session(engine) as session:", "  for order in session.scalars(select(Order)):", "    order.items"]
    source = "def endpoint():\\n  " + "\\n  ".join(loop)
    exec(compile(source, f"fault_{number}.py", "exec"), scope)
    app.add_api_route(f"/a/rather/long/path/for/a/route/of/an/application/fault/{number}", scope["endpoint"])

for number in range(30):
    add(number)

def test_all(client):
    for number in range(30):
        client.get(f"/a/rather/long/path/for/a/route/of/an/application/fault/{number}")
"""
    result = run(tests, "--querytoll", "--querytoll-fail")
    lines = [str(line) for line in result.outlines]
    start = next(number for number, line in enumerate(lines) if "= querytoll =" in line)
    shown = lines[start : next(n for n, line in enumerate(lines) if n > start and line.startswith("="))]
    assert 18 <= len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert any("30 new findings" in line for line in shown)
    assert shown[-1].startswith("  and ")


def test_properties_in_junit_xml(run: Runner) -> None:
    """The report of the run tells how much each test sent."""
    run(CLEAN, "--querytoll", "--junitxml=junit.xml")
    root = ET.parse(run.path / "junit.xml").getroot()
    properties = {each.get("name"): each.get("value") for each in next(root.iter("properties"))}
    assert properties == {"querytoll_requests": "10", "querytoll_statements": "10"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--querytoll", "--querytoll-watch=everything"], "watch is one of requests, tests, all, not 'everything'"),
        (["--querytoll", "--querytoll-lock-per=file"], "lock-per is one of route, test, not 'file'"),
        (["--querytoll-update"], "name what to write, by --querytoll-baseline or --querytoll-lock"),
        (["--querytoll-baseline=none.txt"], "none.txt: No such file or directory; make it with: pytest --querytoll-*"),
    ],
    ids=["watch", "per", "update", "baseline"],
)
def test_misuse_is_told_at_once(run: Runner, options: list[str], message: str) -> None:
    """A wrong option ends the run before its first test, with one line."""
    result = run(CLEAN, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *querytoll*: *{message}"])


# Other plugins


ASYNC = """
import asyncio
import anyio.to_thread
import httpx

def asgi():
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")

{mark}
async def test_lazy(queries):
    async with asgi() as client:
        await client.get("/lazy")
        assert (queries.count, [finding.rule for finding in queries.findings]) == (6, ["n-plus-one"])

{mark}
@pytest.mark.no_n_plus_one
@pytest.mark.max_queries(8)
async def test_clean():
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1  # of all endpoints, which share a connection
    async with asgi() as client:
        await asyncio.gather(*(client.get(f"/orders/{{number}}") for number in (1, 2, 3, 4, 5, 1, 2, 1)))

{mark}
@pytest.mark.max_queries(3)
async def test_many():
    async with asgi() as client:
        await client.get("/lazy")
"""
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_async_tests(run: Runner, plugin: str) -> None:
    """Fixture, markers and watch see what async tests do, whichever plugin runs them."""
    tests = ASYNC.format(mark=f"@pytest.mark.{plugin}") + (ANYIO if plugin == "anyio" else "")
    result = run(tests, "--querytoll-results=results.json")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["expected at most 3 queries, got 6"])
    assert findings(run) == PLANTED[1:]


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_a_decorator_has_no_traceback(run: Runner, plugin: str) -> None:
    """What a decorated test fails of is told with the test's line, without the lines of whatever ran it."""
    tests = ASYNC.format(mark=f"@pytest.mark.{plugin}\n@assert_max_queries(1)") + (ANYIO if plugin == "anyio" else "")
    result = run("from querytoll.testing import assert_max_queries\n" + tests)
    result.stdout.fnmatch_lines(["*_ test_lazy _*", "expected at most 1 query, got 6", "*", "test_app.py:*: Query*"])
    result.stdout.no_fnmatch_line("*event_loop*")
    result.stdout.no_fnmatch_line("*/anyio/*")


def test_a_rule_that_there_is_not(run: Runner) -> None:
    """Nothing would ever be found: the run ends before its first test."""
    result = run(FAULTY, "--querytoll-rules=slow-query,n+1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: querytoll: there is no rule 'n+1'; the rules are blocking-driver, *"])


def test_workers_of_xdist_are_merged(run: Runner) -> None:
    """The controller tells what all workers have seen, once, and fails the run."""
    result = run(CLEAN + FAULTY, "-n2", "--querytoll-fail", "--querytoll-results=results.json")
    result.assert_outcomes(passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert findings(run) == PLANTED
    results = json.loads((run.path / "results.json").read_text())
    assert (results["requests"], results["complete"]) == (23, True)
    assert [str(line) for line in result.outlines].count("2 new findings") == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_gives_the_same(run: Runner, seed: int) -> None:
    """Findings do not depend on the order of the tests."""
    run(CLEAN + FAULTY, f"--randomly-seed={seed}", "--querytoll-results=r.json")
    assert findings(run, "r.json") == PLANTED


def test_switched_off_it_is_gone(run: Runner) -> None:
    """`-p no:querytoll` leaves no option behind."""
    run(CLEAN, "-p", "no:querytoll").assert_outcomes(passed=2)
    assert run.again("-p", "no:querytoll", "--querytoll").ret == pytest.ExitCode.USAGE_ERROR


def test_unused_it_imports_nothing(tmp_path: Path) -> None:
    """A run that does not use it loads neither SQLAlchemy nor Starlette, and works without FastAPI."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    assert 'querytoll.plugin' in sys.modules\n"
        "    loaded = {'sqlalchemy', 'starlette', 'fastapi', 'pydantic', 'prometheus_client', 'typer', 'rich'}\n"
        "    assert not loaded & set(sys.modules)\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:anyio"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


# Fixture and markers


def test_the_fixture_counts_the_test_alone(run: Runner) -> None:
    """Statements of fixtures before and after are left out; `clear` forgets a preparation."""
    tests = """
from querytoll.testing import Queries

def test_it(client, queries: Queries):
    assert (queries.count, queries.statements, queries.findings) == (0, (), ())
    client.get("/orders/1")
    assert [statement.summary for statement in queries.statements] == ["SELECT orders"]
    client.get("/lazy")
    assert len(queries) == 7
    queries.clear()
    assert queries.count == 0
"""
    run(tests).assert_outcomes(passed=1)


def test_the_fixture_can_be_asked_for_later(run: Runner) -> None:
    """A test that asks for it by `getfixturevalue` sees what is sent from there on."""
    tests = """
@pytest.mark.no_n_plus_one
def test_it(client, request):
    client.get("/orders/1")
    queries = request.getfixturevalue("queries")
    client.get("/orders/1")
    assert queries.count == 1
"""
    run(tests).assert_outcomes(passed=1)


def test_the_fixture_is_not_for_fixtures(run: Runner) -> None:
    """A fixture that reads it too early is told so."""
    result = run("@pytest.fixture\ndef early(queries):\n    return queries.count\n\ndef test_it(early): ...\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*WindowError: queries are recorded from the beginning of the test*"])


def test_a_failing_test_shows_its_queries(run: Runner) -> None:
    """Whatever a test with the fixture fails of, its statements are in the report; all of their SQL with -v."""
    tests = "def test_it(client, queries):\n    client.get('/lazy')\n    assert queries.count == 2\n"
    run(tests).stdout.fnmatch_lines(
        ["*- querytoll: 6 queries so far -*", "  5x  SELECT items *app.py:*", "n-plus-one: *", "  fix: *"]
    )
    run.again("-v").stdout.fnmatch_lines(["5x SELECT items", "  at app.py:*", "  SELECT items.id*"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("max_queries(20)", None),
        ("max_queries(6)", "expected at most 6 queries, got 7"),
        ("max_queries(6, per='request')", None),
        ("max_queries(limit=5, per='request')", "expected at most 5 queries in a request, got 6"),
        ("max_queries(5, table='items')", None),
        ("max_queries(1, table='orders', operation='SELECT')", "expected at most 1 query (SELECT of orders), got 2"),
        ("no_n_plus_one", "expected no n-plus-one, got 1"),
    ],
)
def test_markers(run: Runner, marker: str, message: str | None) -> None:
    """A test that passes is held to its markers, without the option."""
    result = run(f"@pytest.mark.{marker}\ndef test_it(client):\n    client.get('/lazy')\n    client.get('/orders/1')\n")
    if message is None:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([message, "test_app.py:*: QueryAssertionError"])


def test_a_tests_own_failure_comes_first(run: Runner) -> None:
    """A marker never replaces the exception of a test."""
    result = run(
        "@pytest.mark.max_queries(0)\ndef test_it(client):\n    client.get('/lazy')\n    raise ValueError('mine')\n"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   *ValueError: mine"])
    result.stdout.no_fnmatch_line("*expected at most*")


@pytest.mark.parametrize("what", ["n-plus-one", "Order.items", "app.py", "n-plus-one@Order.*"])
def test_what_is_right_in_a_test_is_ignored(run: Runner, what: str) -> None:
    """A rule, a relation or a path is ignored in one test, for markers and for the watch."""
    tests = f"""
@pytest.mark.no_n_plus_one
@pytest.mark.queries_ignore({what!r}, reason="five rows")
def test_it(client, queries):
    client.get("/lazy")
    assert not queries.findings
"""
    run(tests, "--querytoll-results=results.json").assert_outcomes(passed=1)
    assert findings(run) == []


@pytest.mark.parametrize(
    "marker",
    [
        "queries_ignore('n-plus-one')",
        "queries_ignore(reason='x')",
        "max_queries",
        "max_queries('5')",
        "max_queries(5, per='requests')",
        "max_queries(5, tabel='orders')",
    ],
)
def test_a_marker_that_cannot_work(run: Runner, marker: str) -> None:
    """A mistake ends the run before its first test."""
    result = run(f"@pytest.mark.{marker}\ndef test_it(): ...\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: write @pytest.mark.*"])


def test_options_and_markers_are_described(run: Runner) -> None:
    """`--help` and `--markers` tell about everything."""
    shown = str(run.again("--help").stdout)
    for name in ("watch", "rules", "fail", "baseline", "lock", "lock-per", "update", "results"):
        assert f"--querytoll-{name}" in shown
    run.again("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.max_queries(limit, *", "@pytest.mark.no_n_plus_one: *", "@pytest.mark.queries_ignore(what, *"]
    )
