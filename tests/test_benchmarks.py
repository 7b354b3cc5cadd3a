"""The benchmarks measure what they say, on a tiny scale."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import contestants, counting, judging, report, rounds, targets
from benchmarks.__main__ import main
from benchmarks.application import build
from benchmarks.cells import Cell, Footprint
from benchmarks.client import BadAnswer, Client
from benchmarks.databases import INSTANT, SQLITE, connect
from benchmarks.rounds import Cost, Slope
from benchmarks.worker import Task

TASK = Task("times", contestants.PROFILED, INSTANT, ["orm/3"], seconds=0.01)


def _tell(what: str) -> None:
    """Say nothing."""


def test_the_registry_names_every_module_of_the_folder_the_bare_application_first() -> None:
    names = contestants.names()
    assert names[:2] == [contestants.BARE, contestants.PROFILED]
    assert set(contestants.USUAL) < set(names)


@pytest.mark.parametrize("name", contestants.USUAL)
def test_contestants_of_our_own_need_nothing_that_is_not_installed(name: str) -> None:
    assert contestants.absent(name) is None


def test_an_unknown_contestant_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(contestants.UnknownContestant, match=contestants.PROFILED):
        contestants.load("nobody")


def test_a_profiled_round_in_processes_of_their_own_costs_time() -> None:
    taken = rounds.times([contestants.PROFILED], TASK, 1, _tell)
    cpu, wall = taken[contestants.PROFILED]
    assert cpu[Cell("orm", 3)].bare > 0
    assert wall[Cell("orm", 3)].ratio > 0


def test_the_threaded_driver_and_the_memory_measure_work_as_well() -> None:
    found = rounds.memory([contestants.BARE], replace(TASK, measure="memory", url=SQLITE, requests=40), _tell)
    assert [mark.resident > 0 and mark.objects > 0 for mark in found[contestants.BARE]] == [True] * 5


async def test_a_request_that_fails_is_not_measured() -> None:
    engine = connect(INSTANT)
    client = Client(build(engine, contestants.load(contestants.BARE)))
    with pytest.raises(BadAnswer, match="GET /nothing was answered with 404"):
        await client.get("/nothing")
    await engine.dispose()


def test_the_split_gives_the_price_of_a_statement_and_what_a_request_has_on_top() -> None:
    found = {Cell("orm", 10): Cost(0.0, 250.0, 1.0), Cell("orm", 100): Cost(0.0, 1_150.0, 1.0)}
    assert rounds.slope(found, "orm") == Slope(statement=10.0, request=150.0)
    assert rounds.slope(found, "core") is None


def test_verdicts_say_what_was_missed() -> None:
    found = {Cell("orm", 10): Cost(0.0, 250_000.0, 1.0), Cell("orm", 100): Cost(0.0, 1_150_000.0, 1.0)}
    statement, request = targets.of_instructions({contestants.PROFILED: found})
    assert (statement.met, request.met) == (True, False)
    assert "MISSED  orm: per request on top, of 10: 150.0 thousand instructions; target at most 100.0" in str(request)


def test_growth_that_the_bare_application_has_too_is_not_held_against_the_profiler() -> None:
    warm, grown = Footprint(10 << 20, 5_000), Footprint(12 << 20, 5_010)
    memory, objects = targets.of_memory({contestants.BARE: [warm, grown], contestants.PROFILED: [warm, grown]})
    assert (memory.measured, objects.measured, memory.met) == (0, 10, True)


@pytest.mark.parametrize("kind", judging.KINDS)
def test_traces_to_judge_are_as_large_as_asked(kind: str) -> None:
    assert len(judging.trace_of(judging.KINDS[kind], 100).statements) == 100
    assert judging.seconds(kind, 100, repetitions=1) > 0


def test_counting_is_split_into_request_and_statement() -> None:
    request, statement = targets.of_counting({10: 12e-6, 100: 30e-6})
    assert (round(request.measured, 9), round(statement.measured, 9)) == (10e-6, 0.2e-6)
    assert counting.seconds(10, repetitions=1).sink > 0


def test_tables_have_columns_of_one_width() -> None:
    assert report.table([("name", "n"), ("long name", "100")]) == "name         n\nlong name  100"


def test_the_command_prints_verdicts_beside_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--sections", "judge"]) == 0
    assert "judging 100 repeated statements" in capsys.readouterr().out
