"""A process of its own that measures one contestant: `python -m benchmarks.worker TASK`, its answer one line of JSON.

The task is JSON too: what to measure (`times`, `instructions`, `memory`), of which contestant, on which database.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.application import build, seed
from benchmarks.callgrind import Counter
from benchmarks.cells import Cell, Footprint, Times
from benchmarks.client import Client
from benchmarks.contestants import BARE, load
from benchmarks.databases import connect

LOOK_SECONDS: Final = 30e-6
"""Under valgrind the clock moves by so much whenever somebody looks at it."""
_BLOCKS: Final = 5
_WARM: Final = 30


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does.

    Args:
        measure: `times`, `instructions` or `memory`.
        contestant: its name in the registry.
        url: as `databases.connect` takes it.
        cells: kinds of requests, in order.
        seconds: of `times`, for each cell.
        statements: of `instructions`, how many a cell's requests send at least; a request counts as three.
        requests: of `memory`, after as many as a tenth of them to warm up.
    """

    measure: str
    contestant: str
    url: str
    cells: list[str] = field(default_factory=list)
    seconds: float = 0.5
    statements: int = 400
    requests: int = 20_000

    def arguments(self) -> list[str]:
        """Arguments of the Python that does it."""
        return ["-m", "benchmarks.worker", json.dumps(asdict(self))]


async def measure_times(engine: AsyncEngine, task: Task) -> dict[str, Times]:
    """Seconds per request of every cell: the median of some blocks of requests."""
    client = Client(build(engine, load(task.contestant)))
    return {text: await _times(client, Cell.parse(text), task.seconds) for text in task.cells}


async def _times(client: Client, cell: Cell, seconds: float) -> Times:
    await _send(client, cell, 5)
    size = max(3, int(seconds / _BLOCKS / (await _block(client, cell, 5)).wall))
    gc.collect()
    blocks = [await _block(client, cell, size) for _ in range(_BLOCKS)]
    return Times(median(block.cpu for block in blocks), median(block.wall for block in blocks))


async def _block(client: Client, cell: Cell, size: int) -> Times:
    cpu, wall = time.process_time(), time.perf_counter()
    await _send(client, cell, size)
    return Times((time.process_time() - cpu) / size, (time.perf_counter() - wall) / size)


async def measure_instructions(engine: AsyncEngine, task: Task) -> dict[str, int]:
    """Requests of every cell; callgrind's dumps, `bare CELL` and `with CELL`, are to be divided by them.

    Where the interpreter's hash tables and attribute caches collide depends on addresses and moves a statement's price
    by two percent from process to process. Hence the bare application first and the contestant after it, in one.
    """
    counter = Counter()
    requests = {text: max(3, task.statements // (Cell.parse(text).statements + 3)) for text in task.cells}
    for label, name in (("bare", BARE), ("with", task.contestant)):
        client = Client(build(engine, load(name)))
        for text in task.cells:
            await _count(counter, client, f"{label} {text}", Cell.parse(text), requests[text])
    return requests


async def _count(counter: Counter, client: Client, label: str, cell: Cell, requests: int) -> None:
    await _send(client, cell, _WARM)
    gc.collect()
    gc.freeze()
    counter.start()
    await _send(client, cell, 2)
    counter.zero()
    await _send(client, cell, requests)
    counter.dump(label)
    counter.stop()


async def measure_memory(engine: AsyncEngine, task: Task) -> list[Footprint]:
    """What the process holds when it is warm, and after each quarter of the requests."""
    client = Client(build(engine, load(task.contestant)))
    (cell,) = map(Cell.parse, task.cells)
    await _send(client, cell, task.requests // 10)
    found = [_footprint()]
    for _ in range(4):
        await _send(client, cell, task.requests // 4)
        found.append(_footprint())
    return found


def _footprint() -> Footprint:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Footprint(pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects()))


async def _send(client: Client, cell: Cell, requests: int) -> None:
    for number in range(requests):
        await client.get(cell.path(number))


_MEASURES: Final[dict[str, Callable[[AsyncEngine, Task], Awaitable[Any]]]] = {
    "times": measure_times,
    "instructions": measure_instructions,
    "memory": measure_memory,
}


async def perform(task: Task) -> Any:
    """Measure on a database with fresh rows."""
    load(task.contestant)  # imported before anything is measured
    engine = connect(task.url)
    await seed(engine)
    answer = await _MEASURES[task.measure](engine, task)
    await engine.dispose()
    return answer


def _let_looks_pass_the_time() -> None:
    """Replace the clocks: under valgrind everything takes fifty times longer.

    What ticks by itself (the profiler's look-out for event-loop stalls) would tick fifty times more often per request.
    """
    clock = itertools.count(0.0, LOOK_SECONDS).__next__
    time.perf_counter = time.monotonic = clock


def main(argument: str) -> None:
    """Do a task and print its answer."""
    task = Task(**json.loads(argument))
    # Findings are formatted as for a real handler, and go nowhere.
    logging.basicConfig(stream=open(os.devnull, "w"), level=logging.INFO)  # noqa: SIM115 - until the process ends
    if task.measure == "instructions":
        _let_looks_pass_the_time()
    print(json.dumps(asyncio.run(perform(task))))


if __name__ == "__main__":
    main(sys.argv[1])
