"""`querytoll check`: results of test runs to a verdict, in the form that a CI server reads."""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from querytoll.errors import ConfigurationError
from querytoll.suite.baseline import Baseline
from querytoll.suite.lock import Lock
from querytoll.suite.outputs import FORMATS
from querytoll.suite.results import Results
from querytoll.suite.verdict import Verdict, verdict

FAILED = 1
"""Exit code: there is a finding that is not in the baseline, or a route sends more than the lock has."""
UNUSABLE = 2
"""Exit code: a file cannot be read or written, or an argument is none."""


class Format(StrEnum):
    """The names of `FORMATS`."""

    text = "text"
    json = "json"
    junit = "junit"
    sarif = "sarif"
    github = "github"


def check(
    results: Annotated[list[Path], typer.Argument(help="Files of pytest --querytoll-results; several are merged.")],
    baseline: Annotated[Path | None, typer.Option(help="Findings that are known; others fail.")] = None,
    lock: Annotated[Path | None, typer.Option(help="Queries of each route; more of them fail.")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.text,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; the terminal by default.")] = None,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0 whatever was found.")] = False,
) -> None:
    """Judge what test runs have recorded.

    Ends with 0 where nothing is new, with 1 where there are new findings or more queries than in the lock, and with 2
    where a file cannot be read or written.
    """
    try:
        reached = _verdict(results, baseline, lock)
        text = FORMATS[format.value](reached)
        if output is not None:
            output.write_text(text, encoding="utf-8")
    except (ConfigurationError, OSError) as error:
        typer.echo(f"querytoll check: {error}", err=True)
        raise typer.Exit(UNUSABLE) from error
    if output is None:
        typer.echo(text, nl=False)
    if reached.failed and not exit_zero:
        raise typer.Exit(FAILED)


def _verdict(results: list[Path], baseline: Path | None, lock: Path | None) -> Verdict:
    merged = functools.reduce(Results.merged, map(Results.read, results))
    known = Baseline.read(baseline) if baseline is not None else None
    locked = Lock.read(lock) if lock is not None else None
    per_test = locked is not None and any("::" in name for name in locked.routes)
    return verdict(merged, known, locked, per_test=per_test)
