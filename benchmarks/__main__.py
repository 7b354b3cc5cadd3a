"""`python -m benchmarks`: measure what contestants add to a bare application, and print it beside the targets."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from benchmarks import contestants, counting, judging, report, rounds, targets
from benchmarks.callgrind import unavailable
from benchmarks.cells import COUNTS, WORKLOADS, Cell, cells
from benchmarks.databases import DATABASES, INSTANT, POSTGRES, started
from benchmarks.report import Verdict
from benchmarks.worker import Task
from scripts.postgres import ServerError

SECTIONS: Final = ("instructions", "times", "memory", "judge", "count")
_ALL: Final = "all"
_QUICK: Final = (contestants.PROFILED, contestants.DISABLED)
_MEMORY_CELL: Final = Cell("orm", 3)
_PACKAGES: Final = ("sqlalchemy", "fastapi", "starlette", "asyncpg", "aiosqlite")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        workloads: of the application.
        databases: of times.
        rounds: of times.
        seconds: of times, per kind of request and round.
        seeds: processes per contestant, of instructions.
        statements: of instructions, per kind of request.
        requests: of memory.
        repetitions: of judging each trace.
    """

    workloads: tuple[str, ...] = WORKLOADS
    databases: tuple[str, ...] = DATABASES
    rounds: int = 7
    seconds: float = 0.2
    seeds: int = 5
    statements: int = 400
    requests: int = 20_000
    repetitions: int = 15


FULL: Final = Effort()
QUICK: Final = Effort(
    ("orm",), (POSTGRES,), rounds=2, seconds=0.05, seeds=3, statements=100, requests=1_000, repetitions=3
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    options = _options(argv)
    names = _contestants(options.contestants, options.quick)
    effort = QUICK if options.quick else FULL
    print(_environment())
    verdicts: list[Verdict] = []
    for section in options.sections:
        verdicts += _SECTIONS[section](names, effort, options)
    print("\nTargets of querytoll")
    print(*verdicts, sep="\n")
    return int(options.check and not all(verdict.met for verdict in verdicts if verdict.exact))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "contestants",
        nargs="*",
        help=f"of {', '.join(contestants.names())}, or all; default: {', '.join(contestants.USUAL)}",
    )
    parser.add_argument("--quick", action="store_true", help="in less than a minute, for CI; coarse")
    parser.add_argument("--instructions", action="store_true", help="count instructions only; needs valgrind")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="default: all that can be measured here")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, help="of the times; default: all")
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL that runs already, as SQLAlchemy's asyncpg URL")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed that noise cannot miss")
    options = parser.parse_args(argv)
    unknown = set(options.contestants) - {*contestants.names(), _ALL}
    if unknown:
        parser.error(f"no contestant {', '.join(sorted(unknown))}; there are {', '.join(contestants.names())}")
    options.sections = ["instructions"] if options.instructions else options.sections or list(SECTIONS)
    if "instructions" in options.sections and (why := unavailable()):
        if options.instructions:
            parser.error(why)
        print(why, file=sys.stderr)
        options.sections.remove("instructions")
    return options


def _contestants(asked: Sequence[str], quick: bool) -> list[str]:
    found = []
    for name in contestants.names() if _ALL in asked else asked or (_QUICK if quick else contestants.USUAL):
        why = contestants.absent(name)
        if why is None:
            found.append(name)
        else:
            print(f"{name} does not take part: {why}", file=sys.stderr)
    return found


def _environment() -> str:
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}, {packages}"


def _instructions(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> list[Verdict]:
    task = Task("instructions", "", INSTANT, _texts(effort), statements=effort.statements)
    found = rounds.instructions(names, task, effort.seeds, _tell)
    print("\n" + report.costs("Instructions, a driver that answers at once", found, report.THOUSANDS))
    return list(targets.of_instructions(found))


def _times(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for database in options.databases or effort.databases:
        try:
            with started(database, options.postgres) as url:
                task = Task("times", "", url, _texts(effort), seconds=effort.seconds)
                found = rounds.times(names, task, effort.rounds, _tell)
        except ServerError as error:
            print(error, file=sys.stderr)
            continue
        cpu, wall = ({name: pair[at] for name, pair in found.items()} for at in (0, 1))
        print("\n" + report.costs(f"CPU time, {database}", cpu, report.MICROSECONDS))
        print("\n" + report.costs(f"Wall time, {database}", wall, report.MICROSECONDS))
        verdicts += targets.of_postgres(wall) if database == POSTGRES else ()
    return verdicts


def _memory(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> list[Verdict]:
    task = Task("memory", "", INSTANT, [str(_MEMORY_CELL)], requests=effort.requests)
    found = rounds.memory(names, task, _tell)
    print("\n" + report.footprints(found, effort.requests))
    return list(targets.of_memory(found))


def _judge(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> list[Verdict]:
    _tell("judging")
    sizes = [(kind, size) for kind in judging.KINDS for size in judging.SIZES]
    taken = {(kind, size): judging.seconds(kind, size, effort.repetitions) for kind, size in sizes}
    rows = [(f"{kind} {size:,}", report.MILLISECONDS.show(each)) for (kind, size), each in taken.items()]
    print("\n" + report.table([("Judging a trace of statements", report.MILLISECONDS.name), *rows]))
    return list(targets.of_judging(taken))


def _count(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> list[Verdict]:
    _tell("counting")
    taken = {size: counting.seconds(size, effort.repetitions) for size in counting.SIZES}
    rows = [
        (f"{size}", report.MICROSECONDS.show(each.sink), report.MICROSECONDS.show(each.judging))
        for size, each in taken.items()
    ]
    heads = ("CPU time per request of statements", f"Prometheus, {report.MICROSECONDS.name}", "judging")
    print("\n" + report.table([heads, *rows]))
    return list(targets.of_counting({size: each.sink for size, each in taken.items()}))


def _texts(effort: Effort) -> list[str]:
    return [str(cell) for cell in cells(effort.workloads, COUNTS)]


def _tell(what: str) -> None:
    print(f"... {what}", file=sys.stderr)


_SECTIONS: Final = {"instructions": _instructions, "times": _times, "memory": _memory, "judge": _judge, "count": _count}

if __name__ == "__main__":
    sys.exit(main())
