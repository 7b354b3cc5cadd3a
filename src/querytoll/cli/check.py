"""`querytoll check`: results of test runs, or a history, to a verdict, in the form that a CI server reads."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from querytoll.errors import ConfigurationError, QuerytollError
from querytoll.history import commands
from querytoll.suite.baseline import Baseline
from querytoll.suite.failure import plural
from querytoll.suite.lock import Lock
from querytoll.suite.outputs import FORMATS
from querytoll.suite.recorded import results_of
from querytoll.suite.results import Results
from querytoll.suite.verdict import Verdict, verdict

FAILED = 1
"""Exit code: there is a finding that is not in the baseline, or a route sends more than the lock has."""
UNUSABLE = 2
"""Exit code: a file or a history cannot be read or written, or an argument is none."""
NOTHING = 3
"""Exit code: the history holds no requests of that time and name, so that nothing is proven."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Format(StrEnum):
    """The names of `FORMATS`."""

    text = "text"
    json = "json"
    junit = "junit"
    sarif = "sarif"
    github = "github"


def check(
    context: typer.Context,
    results: Annotated[
        list[Path] | None, typer.Argument(help="Files of pytest --querytoll-results; several are merged.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(envvar="QUERYTOLL_HISTORY_URL", help="The database of a HistorySink.")
    ] = None,
    since: Annotated[str, typer.Option(help="Of the history: 30m, 24h, 7d, or a date and time; UTC.")] = "24h",
    name: Annotated[list[str] | None, typer.Option(help="Of the history: a route, as 'GET /orders*'.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Findings that are known; others fail.")] = None,
    lock: Annotated[Path | None, typer.Option(help="Queries of each route; more of them fail.")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.text,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; the terminal by default.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Write the baseline anew, with what was found.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0 whatever was found.")] = False,
) -> None:
    """Judge what test runs have recorded, or a deployment.

    Ends with 0 where nothing is new, with 1 where there are new findings or more queries than in the lock, with 2
    where a file or the history cannot be used, and with 3 where the history has no requests to judge.
    """
    if results and getattr(context.get_parameter_source("history"), "name", "") == "ENVIRONMENT":
        history = None
    try:
        found = _read(results or []) if history is None else _recorded(history, since, name or [], results, lock)
        if update:
            _update(found, baseline)
        reached = _verdict(found, baseline, lock)
        text = FORMATS[format.value](reached)
        if output is not None:
            output.write_text(text, encoding="utf-8")
    except (QuerytollError, OSError) as error:
        typer.echo(f"querytoll check: {error}", err=True)
        raise typer.Exit(UNUSABLE) from error
    if output is None:
        typer.echo(text, nl=False)
    if history is not None and not found.requests:
        what = f"requests of {' or '.join(name)}" if name else "requests"
        typer.echo(f"querytoll check: the history has no {what} since {since}", err=True)
        raise typer.Exit(NOTHING)
    if reached.failed and not exit_zero:
        raise typer.Exit(FAILED)


def _read(files: list[Path]) -> Results:
    if not files:
        raise ConfigurationError(
            "nothing to judge: pass files of pytest --querytoll-results, or --history URL (QUERYTOLL_HISTORY_URL)"
        )
    return functools.reduce(Results.merged, map(Results.read, files))


def _recorded(url: str, since: str, names: list[str], files: list[Path] | None, lock: Path | None) -> Results:
    if files:
        raise ConfigurationError("pass files or --history, not both")
    if lock is not None and any("::" in route for route in Lock.read(lock).routes):
        raise ConfigurationError(f"{lock} lists tests, of which a history knows nothing")
    return results_of(commands.read(url, _moment(since)), names)


def _moment(since: str) -> datetime:
    """Read how long ago, or a date and time."""
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", since.strip())
    now = datetime.now(UTC)
    try:
        moment = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(since.strip())
    except (ValueError, OverflowError):
        raise ConfigurationError(f"--since is 30m, 24h, 7d or 2026-01-31T12:00, not {since!r}") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise ConfigurationError(f"--since {since} is in the future")
    return moment


def _update(results: Results, baseline: Path | None) -> None:
    if baseline is None:
        raise ConfigurationError("--update writes the file of --baseline: pass that too")
    known = Baseline.read(baseline) if baseline.exists() else Baseline()
    complete = results.complete and bool(results.routes or results.tests)
    written = known.updated(results.findings.values(), complete=complete)
    baseline.write_text(str(written), encoding="utf-8")
    typer.echo(f"{baseline} written: {plural(len(written.entries), 'known finding')}", err=True)


def _verdict(results: Results, baseline: Path | None, lock: Path | None) -> Verdict:
    known = Baseline.read(baseline) if baseline is not None else None
    locked = Lock.read(lock) if lock is not None else None
    per_test = locked is not None and any("::" in name for name in locked.routes)
    return verdict(results, known, locked, per_test=per_test)
