"""Tasks to answers: processes that take turns, and what lies between a contestant and the bare application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

from benchmarks.callgrind import counted
from benchmarks.cells import Cell, Footprint, Times
from benchmarks.contestants import BARE
from benchmarks.worker import Task

Tell = Callable[[str], None]


class Cost(NamedTuple):
    """Of one request: what the bare application takes, what the contestant adds, and the ratio of the two totals."""

    bare: float
    added: float
    ratio: float


class Slope(NamedTuple):
    """What a contestant adds, split: per statement, and per request on top of its statements."""

    statement: float
    request: float


Costs = dict[Cell, Cost]


def answer(task: Task) -> Any:
    """Do a task in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why on stderr.
    """
    done = subprocess.run([sys.executable, *task.arguments()], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def times(names: Sequence[str], task: Task, rounds: int, tell: Tell) -> dict[str, tuple[Costs, Costs]]:
    """CPU and wall seconds, from rounds in which every contestant has its turn, forwards and backwards.

    Returns:
        CPU and wall costs by contestant, the bare application excepted: medians over the rounds, compared within each.
    """
    turns = list(dict.fromkeys((BARE, *names)))
    results: dict[str, list[dict[str, Times]]] = {name: [] for name in turns}
    for number in range(rounds):
        tell(f"times on {task.url.partition(':')[0]}: round {number + 1} of {rounds}")
        for name in turns if number % 2 == 0 else reversed(turns):
            found = answer(replace(task, contestant=name))
            results[name].append({text: Times(*pair) for text, pair in found.items()})
    return {
        name: (
            _costs(task, results, name, lambda taken: taken.cpu),
            _costs(task, results, name, lambda taken: taken.wall),
        )
        for name in turns[1:]
    }


def _costs(
    task: Task, results: dict[str, list[dict[str, Times]]], name: str, seconds: Callable[[Times], float]
) -> Costs:
    return {
        Cell.parse(text): _cost(
            (seconds(bare[text]), seconds(with_it[text]))
            for bare, with_it in zip(results[BARE], results[name], strict=True)
        )
        for text in task.cells
    }


def instructions(names: Sequence[str], task: Task, seeds: int, tell: Tell) -> dict[str, Costs]:
    """Instructions, from processes that differ in their hash seed; as many at once as there are processors."""
    tell(f"instructions: {len(names)} contestants, {seeds} processes each")
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        counts = list(pool.map(lambda job: _counts(replace(task, contestant=job[0]), job[1]), jobs))
    return {
        name: {
            Cell.parse(text): _cost(
                found[text] for (other, _), found in zip(jobs, counts, strict=True) if other == name
            )
            for text in task.cells
        }
        for name in names
    }


def _counts(task: Task, seed: int) -> dict[str, tuple[float, float]]:
    requests, totals = counted(task.arguments(), seed)
    return {text: (totals[f"bare {text}"] / n, totals[f"with {text}"] / n) for text, n in requests.items()}


def memory(names: Sequence[str], task: Task, tell: Tell) -> dict[str, list[Footprint]]:
    """What each contestant's process holds when warm, and after each quarter of the requests."""
    found = {}
    for name in names:
        tell(f"memory: {name}, {task.requests} requests")
        found[name] = [Footprint(*pair) for pair in answer(replace(task, contestant=name))]
    return found


def _cost(pairs: Iterable[tuple[float, float]]) -> Cost:
    both = list(pairs)
    return Cost(
        median(bare for bare, _ in both),
        median(with_it - bare for bare, with_it in both),
        median(with_it / bare for bare, with_it in both),
    )


def slope(costs: Costs, workload: str) -> Slope | None:
    """Split what is added: per statement from 10 to 100 of them, per request what a request with 10 has on top."""
    few, many = costs.get(Cell(workload, 10)), costs.get(Cell(workload, 100))
    if few is None or many is None:
        return None
    statement = (many.added - few.added) / 90
    return Slope(statement, few.added - 10 * statement)
