"""What is requested, and the plain numbers that come back from a measuring process."""

from __future__ import annotations

from typing import Final, NamedTuple

WORKLOADS: Final = ("orm", "core", "distinct")
COUNTS: Final = (0, 1, 10, 100)


class Cell(NamedTuple):
    """A kind of request: one of the application's endpoints, asked for so many statements."""

    workload: str
    statements: int

    def path(self, number: int) -> str:
        """Path of the request of that number; each reads other rows."""
        return f"/{self.workload}/{self.statements}/{number * 7 % 1_000}"

    def __str__(self) -> str:
        return f"{self.workload}/{self.statements}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read `orm/10`."""
        workload, statements = text.split("/")
        return cls(workload, int(statements))


class Times(NamedTuple):
    """Seconds of one request: the process' own, and on the wall."""

    cpu: float
    wall: float


class Footprint(NamedTuple):
    """What a process holds: bytes of resident memory, and objects that the garbage collector knows."""

    resident: int
    objects: int


def cells(workloads: tuple[str, ...] = WORKLOADS, counts: tuple[int, ...] = COUNTS) -> list[Cell]:
    """Every combination."""
    return [Cell(workload, count) for workload in workloads for count in counts]
