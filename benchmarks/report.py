"""Measurements to tables and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.cells import Cell, Footprint
from benchmarks.contestants import BARE
from benchmarks.rounds import Costs, slope


class Unit(NamedTuple):
    """How numbers are shown: multiplied, with so many decimals."""

    name: str
    factor: float
    decimals: int

    def show(self, value: float, *, added: bool = False) -> str:
        """A number; with its sign where it is a difference."""
        return f"{value * self.factor:{'+' if added else ''},.{self.decimals}f}"


class Verdict(NamedTuple):
    """A number beside its target.

    Args:
        exact: the number does not depend on what else the machine does.
    """

    what: str
    measured: float
    target: float
    unit: Unit
    exact: bool = True

    @property
    def met(self) -> bool:
        """The number is at most the target."""
        return self.measured <= self.target

    def __str__(self) -> str:
        met = "met" if self.met else "MISSED"
        number, target = self.unit.show(self.measured), self.unit.show(self.target)
        return f"  {met:7} {self.what}: {number} {self.unit.name}; target at most {target}"


THOUSANDS = Unit("thousand instructions", 1e-3, 1)
MICROSECONDS = Unit("microseconds", 1e6, 1)
MILLISECONDS = Unit("ms", 1e3, 2)
PERCENT = Unit("%", 100.0, 1)
KILOBYTES = Unit("kB", 1 / 1024, 0)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width each, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join((row[0].ljust(len(first)), *rest)))
    return "\n".join(lines)


def costs(title: str, found: dict[str, Costs], unit: Unit) -> str:
    """A table for each workload: the bare request's own, then what each contestant adds to it."""
    workloads = dict.fromkeys(cell.workload for each in found.values() for cell in each)
    return "\n\n".join(_workload(title, workload, found, unit) for workload in workloads)


def _workload(title: str, workload: str, found: dict[str, Costs], unit: Unit) -> str:
    counts = sorted({cell.statements for each in found.values() for cell in each if cell.workload == workload})
    some = next(iter(found.values()))
    head = [f"{workload}, {unit.name}", *map(str, counts), "per statement", "per request on top", "ratio of 10"]
    bare = [BARE, *(unit.show(some[Cell(workload, count)].bare) for count in counts), "", "", ""]
    rows = [_row(name, each, workload, counts, unit) for name, each in found.items()]
    return f"{title}\n{table([head, bare, *rows])}"


def _row(name: str, found: Costs, workload: str, counts: Iterable[int], unit: Unit) -> list[str]:
    split = slope(found, workload)
    ten = found.get(Cell(workload, 10))
    return [
        f"+ {name}" if name != BARE else "+ nothing (noise)",
        *(unit.show(found[Cell(workload, count)].added, added=True) for count in counts),
        *((unit.show(part, added=True) for part in split) if split else ("", "")),
        f"{ten.ratio:.3f}" if ten else "",
    ]


def footprints(found: dict[str, list[Footprint]], requests: int) -> str:
    """A table of what grew after the warm-up, quarter by quarter."""
    head = [f"{requests:,} requests", "resident when warm", "grown by quarters, kB", "objects grown by quarters"]
    return "Memory\n" + table([head, *(_grown(name, marks) for name, marks in found.items())])


def _grown(name: str, marks: Sequence[Footprint]) -> list[str]:
    warm, *rest = marks
    return [
        name,
        f"{KILOBYTES.show(warm.resident)} kB",
        " ".join(KILOBYTES.show(mark.resident - warm.resident, added=True) for mark in rest),
        " ".join(f"{mark.objects - warm.objects:+,}" for mark in rest),
    ]
