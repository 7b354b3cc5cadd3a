"""Measurements of querytoll to verdicts: the limits that it has set itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.cells import Footprint
from benchmarks.contestants import BARE, DISABLED, PROFILED
from benchmarks.report import KILOBYTES, MICROSECONDS, MILLISECONDS, PERCENT, THOUSANDS, Unit, Verdict
from benchmarks.rounds import Costs, slope

STATEMENT_INSTRUCTIONS: Final = 15_000
REQUEST_INSTRUCTIONS: Final = 100_000
DISABLED_INSTRUCTIONS: Final = 1_000
SHARE_OF_REQUEST: Final = 0.02
"""Of the wall time of a request with ten statements on PostgreSQL."""
JUDGE_SECONDS: Final = {100: 0.5e-3, 10_000: 50e-3}
SINK_SECONDS: Final = 15e-6
"""Of the Prometheus sink per request, statements excepted."""
SINK_STATEMENT_SECONDS: Final = 0.5e-6
GROWN_BYTES: Final = 1 << 20
"""Noise of the allocator, not an allowance: 20,000 requests that keep 53 bytes each exceed it."""
GROWN_OBJECTS: Final = 1_000


def of_instructions(found: dict[str, Costs]) -> Iterator[Verdict]:
    """Per statement and per request, for each workload."""
    for workload in dict.fromkeys(cell.workload for cell in found.get(PROFILED, ())):
        split = slope(found[PROFILED], workload)
        if split is not None:
            yield Verdict(f"{workload}: per statement", split.statement, STATEMENT_INSTRUCTIONS, THOUSANDS)
            yield Verdict(f"{workload}: per request on top, of 10", split.request, REQUEST_INSTRUCTIONS, THOUSANDS)
        off = slope(found.get(DISABLED, {}), workload)
        if off is not None:
            yield Verdict(f"{workload}: per statement when disabled", off.statement, DISABLED_INSTRUCTIONS, THOUSANDS)


def of_postgres(wall: dict[str, Costs]) -> Iterator[Verdict]:
    """The share of a request's wall time."""
    for cell in wall.get(PROFILED, {}):
        if cell.statements == 10:
            share = wall[PROFILED][cell].ratio - 1
            yield Verdict(f"{cell} on PostgreSQL", share, SHARE_OF_REQUEST, PERCENT, exact=False)


def of_memory(found: dict[str, list[Footprint]]) -> Iterator[Verdict]:
    """Growth after the warm-up, less what the bare application grew by."""
    for name, marks in found.items():
        if name == PROFILED:
            own = found.get(BARE, [marks[0], marks[0]])
            grown = marks[-1].resident - marks[0].resident - max(0, own[-1].resident - own[0].resident)
            objects = marks[-1].objects - marks[0].objects
            yield Verdict("resident memory grown", grown, GROWN_BYTES, KILOBYTES)
            yield Verdict("objects grown", objects, GROWN_OBJECTS, Unit("objects", 1, 0))


def of_judging(seconds: dict[tuple[str, int], float]) -> Iterator[Verdict]:
    """Time of judging one trace."""
    for (kind, size), taken in seconds.items():
        yield Verdict(f"judging {size:,} {kind} statements", taken, JUDGE_SECONDS[size], MILLISECONDS, exact=False)


def of_counting(seconds: dict[int, float]) -> Iterator[Verdict]:
    """Processor time of the Prometheus sink, split into what a request takes and what each statement adds."""
    few, many = min(seconds), max(seconds)
    statement = (seconds[many] - seconds[few]) / (many - few)
    request = seconds[few] - few * statement
    yield Verdict("Prometheus sink, per request", request, SINK_SECONDS, MICROSECONDS, exact=False)
    yield Verdict("Prometheus sink, per statement", statement, SINK_STATEMENT_SECONDS, MICROSECONDS, exact=False)
