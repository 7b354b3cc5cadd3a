"""`querytoll explain` answers people and scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from querytoll.cli.app import app
from querytoll.fingerprint import shape
from scripts.postgres import Server
from tests.explain.sampling import fill
from tests.explain.servers import execute

PLANS = Path(__file__).parent / "explain" / "plans"
SLOW = "SELECT * FROM events WHERE kind = 4711"


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    plain = postgres_url.replace("+asyncpg", "")
    fill(plain)
    return plain


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments], **options)


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+psycopg"])
def test_a_statement_is_drawn_with_its_findings(url: str, driver: str) -> None:
    """The tree, the finding below its step, the index that would help; 1 says that something was found."""
    result = run(SLOW, "--url", url.replace("postgresql", f"postgresql{driver}"))
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Estimated plan")
    assert "Seq Scan on events" in result.output
    assert "seq-scan-filter" in result.output
    assert "CREATE INDEX CONCURRENTLY ix_events_kind ON events (kind);" in result.output


def test_analyze_executes_and_verify_tries(url: str) -> None:
    """Rows and times are real, and the index was tried; nothing of it stays."""
    result = run(SLOW, "--url", url, "--analyze", "--verify", "--json")
    assert result.exit_code == 1, result.output
    found = json.loads(result.stdout)
    assert found["plan"]["source"] == "analyze"
    (missing,) = [insight for insight in found["insights"] if insight["rule"] == "missing-index"]
    assert missing["evidence"]["verified"] == "index"
    assert missing["evidence"]["cost_after"] < missing["evidence"]["cost_before"] / 2
    assert missing["index"] == "CREATE INDEX CONCURRENTLY ix_events_kind ON events (kind)"
    assert execute(url, "SELECT count(*) FROM pg_indexes WHERE tablename = 'events'") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM events", "SELECT nextval('x')", "WITH d AS (DELETE FROM events RETURNING id) SELECT * FROM d"],
)
def test_analyze_refuses_what_may_write(url: str, statement: str) -> None:
    """3 says that nothing was executed, because it may write."""
    execute(url, "CREATE SEQUENCE IF NOT EXISTS x")
    result = run(statement, "--url", url, "--analyze")
    assert result.exit_code == 3
    assert "not executed" in result.output
    assert execute(url, "SELECT count(*) FROM events") == [(60_000,)]


def test_nothing_wrong_ends_with_0(url: str) -> None:
    """A script can tell a good plan."""
    assert run("SELECT * FROM events WHERE id = 7", "--url", url).exit_code == 0
    assert run(SLOW, "--url", url, "--exit-zero").exit_code == 0


def test_placeholders_are_planned_without_values(url: str) -> None:
    """A statement as it stands in a log, with $1, gets its generic plan."""
    result = run("SELECT * FROM events WHERE kind = $1", "--url", url)
    assert result.exit_code == 1, result.output
    assert "Seq Scan on events" in result.output
    assert run("SELECT * FROM events WHERE kind = $1", "--url", url, "--analyze").exit_code == 3


def test_a_fingerprint_without_statistics_says_what_to_do(url: str) -> None:
    """pg_stat_statements is not everywhere."""
    result = run(shape(SLOW).fingerprint, "--url", url)
    assert result.exit_code == 2
    assert "pg_stat_statements" in result.output


def test_a_fingerprint_is_looked_up(debian_server: Server) -> None:
    """The statement of a finding's fingerprint is found where pg_stat_statements has seen it."""
    server = debian_server.url(driver=None)
    execute(server, "DROP DATABASE IF EXISTS looked_up", "CREATE DATABASE looked_up")
    found = debian_server.url("looked_up", driver=None)
    try:
        fill(found)
        execute(found, "CREATE EXTENSION pg_stat_statements", SLOW)
        result = run(shape(SLOW).fingerprint, "--url", found)
        assert result.exit_code == 1, result.output
        assert "Seq Scan on events" in result.output
        assert "no statement of the fingerprint" in run("0123456789abcdef", "--url", found).output
    finally:
        execute(server, "DROP DATABASE looked_up WITH (FORCE)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "pass a statement or --file"),
        (["SELECT 1"], "--url"),
        (["SELECT 1; SELECT 2", "--url", "URL"], "not one statement"),
        (["SELECT * FROM absent", "--url", "URL"], "42P01"),
        (["SELECT 1", "--url", "sqlite://"], "PostgreSQL"),
        (["SELECT 1", "--url", "postgresql://nobody@127.0.0.1:1/x"], "connection"),
        (["--file", "/absent.json"], "absent.json"),
        (["--file", "/absent.json", "--analyze"], "need a database"),
    ],
)
def test_what_cannot_be_answered_ends_with_2(
    url: str, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence says why, and what to do."""
    monkeypatch.delenv("QUERYTOLL_DATABASE_URL", raising=False)
    result = run(*[url if argument == "URL" else argument for argument in arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_file_needs_no_database(tmp_path: Path) -> None:
    """A plan from psql, with facts about its tables."""
    plan = tmp_path / "plan.json"
    node = {"Node Type": "Seq Scan", "Relation Name": "orders", "Alias": "orders", "Filter": "(customer_id = 7)"}
    numbers = {"Startup Cost": 0, "Total Cost": 20_000, "Plan Rows": 10, "Plan Width": 8}
    actual = {"Actual Startup Time": 0.1, "Actual Total Time": 90.0, "Actual Rows": 10, "Actual Loops": 1}
    removed = {"Rows Removed by Filter": 500_000}
    plan.write_text(json.dumps([{"Plan": {**node, **numbers, **actual, **removed}, "Execution Time": 91.0}]))
    catalog = tmp_path / "catalog.json"
    catalog.write_text(json.dumps({"tables": [{"name": "orders", "rows": 500_010, "columns": ["id", "customer_id"]}]}))
    result = run("--file", str(plan), "--catalog", str(catalog), "--json")
    assert result.exit_code == 1, result.output
    insights = {insight["rule"]: insight for insight in json.loads(result.stdout)["insights"]}
    assert insights["seq-scan-filter"]["node"] == "Seq Scan on orders"
    assert (
        insights["missing-index"]["index"] == "CREATE INDEX CONCURRENTLY ix_orders_customer_id ON orders (customer_id)"
    )
    drawn = run("--file", "-", input=plan.read_text())
    assert "Executed plan, execution 91.00 ms" in drawn.output


@pytest.mark.parametrize("content", ["", "[]", "Seq Scan on a  (cost=0.00..1.00 rows=1 width=8)", None])
def test_errors_are_json_too_where_that_is_asked_for(tmp_path: Path, content: str | None) -> None:
    """One sentence, in the same words as for people, and the same exit code; None: there is no such file."""
    plan = tmp_path / "plan.json"
    if content is not None:
        plan.write_text(content)
    result = run("--file", str(plan), "--json")
    assert result.exit_code == 2
    assert result.stderr == f"querytoll explain: {json.loads(result.stdout)['error']}\n"


def test_numbers_that_json_has_not_are_left_out(tmp_path: Path) -> None:
    """Some tools write NaN and Infinity."""
    plan = tmp_path / "plan.json"
    numbers = '"Total Cost": NaN, "Plan Rows": Infinity, "Actual Rows": 1e400, "Actual Loops": 1'
    plan.write_text(f'[{{"Plan": {{"Node Type": "Seq Scan", {numbers}}}, "Execution Time": NaN}}]')
    result = run("--file", str(plan), "--json")
    assert result.exit_code == 0
    assert not {"NaN", "Infinity"} & set(result.stdout.replace(",", " ").split())


def test_setup_is_for_the_servers_version(url: str) -> None:
    """What a DBA may run, and how to undo it."""
    result = run("--setup", "--url", url)
    assert result.exit_code == 0, result.output
    ((number,),) = execute(url, "SELECT current_setting('server_version_num')::int / 10000")
    assert result.output.startswith(f"-- PostgreSQL {number}. ")
    assert ("auto_explain.log_parameter_max_length = 0" in result.output) == (number >= 16)
    assert "RESET auto_explain.log_level" in result.output
    for statement in [line for line in result.output.splitlines() if line.startswith("ALTER ROLE")]:
        execute(url, "BEGIN; LOAD 'auto_explain'; " + statement + " ROLLBACK")
