"""`querytoll explain`: a statement, a fingerprint or a plan in a file, to a plan tree with what is wrong in it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from querytoll.advise.index import Suggestion
from querytoll.errors import QuerytollError
from querytoll.explain.catalog import Catalog
from querytoll.explain.document import Analysis, analyse
from querytoll.explain.inquiry import RefusedError, inquire, server_of, setup_script
from querytoll.explain.render import ASCII, Glyphs, render
from querytoll.settings import Settings

FOUND = 1
"""Exit code: something is wrong in the plan."""
UNUSABLE = 2
"""Exit code: a file, a database or an argument cannot be used."""
REFUSED = 3
"""Exit code: the statement was to be executed, and is not proven to be a read."""
_STANDARD_INPUT = Path("-")


def explain(
    statement: Annotated[
        str | None, typer.Argument(help="A statement, with its values or with $1, or the fingerprint of one.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", "-u", envvar="QUERYTOLL_DATABASE_URL", help="The database.")
    ] = None,
    analyze: Annotated[bool, typer.Option("--analyze", help="Execute it, if it is proven to be a read.")] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Try suggested indexes: with HypoPG, else by making them in a transaction that is "
            "rolled back, for which writers wait. Not in production.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, errors too.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Read a plan, EXPLAIN (FORMAT JSON), from it; - for standard input."),
    ] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="JSON with facts about the file's tables.")] = None,
    setup: Annotated[bool, typer.Option("--setup", help="Print what a DBA may run to let querytoll see more.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0 whatever was found.")] = False,
) -> None:
    """Show how PostgreSQL executes a statement, what is wrong with that, and the index that would help.

    Ends with 0 where nothing is wrong, with 1 where something is, with 2 where a file, the database or an argument
    cannot be used, and with 3 where a statement was to be executed that may write.
    """
    try:
        if setup:
            typer.echo(_setup(url), nl=False)
            return
        analysis = _analysed(statement, url, analyze, verify, file, catalog)
    except (QuerytollError, OSError) as error:
        typer.echo(f"querytoll explain: {_reason(error)}", err=True)
        if as_json:
            typer.echo(json.dumps({"error": _reason(error)}))
        raise typer.Exit(REFUSED if isinstance(error, RefusedError) else UNUSABLE) from error
    typer.echo(json.dumps(analysis.to_json(), indent=2, default=str) + "\n" if as_json else _drawn(analysis), nl=False)
    if analysis.findings and not exit_zero:
        raise typer.Exit(FOUND)


def _analysed(
    statement: str | None, url: str | None, analyze: bool, verify: bool, file: Path | None, catalog: Path | None
) -> Analysis:
    if (statement is None) == (file is None):
        raise _UsageError(
            'pass a statement or --file: querytoll explain "SELECT ...", querytoll explain --file plan.json'
        )
    if file is not None:
        if analyze or verify:
            raise _UsageError("--analyze and --verify need a database: pass the statement instead of --file")
        known = Catalog.from_json(catalog.read_bytes()) if catalog is not None else None
        content = sys.stdin.buffer.read() if file == _STANDARD_INPUT else file.read_bytes()
        return analyse(content, known)
    assert statement is not None
    if catalog is not None:
        raise _UsageError("--catalog goes with --file: a database has its own catalog")
    if url is None:
        raise _UsageError("no database: pass --url postgresql://user@host/database, or set QUERYTOLL_DATABASE_URL")
    return inquire(url, statement, analyze=analyze, verify=verify).analysis


def _reason(error: QuerytollError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read: {error.strerror}; pass a file with EXPLAIN (FORMAT JSON) output, or -"
    return str(error)


def _setup(url: str | None) -> str:
    if url is None:
        raise _UsageError("--setup asks the server for its version: pass --url, or set QUERYTOLL_DATABASE_URL")
    version, role = server_of(url)
    return setup_script(version, role, Settings().slow_statement_seconds)


def _drawn(analysis: Analysis) -> str:
    encoding = (sys.stdout.encoding or "ascii").lower()
    glyphs = Glyphs() if encoding.startswith("utf") else ASCII
    width = shutil.get_terminal_size((100, 24)).columns
    exact = [f"\n{_script(suggestion)}" for suggestion in analysis.suggestions]
    return render(analysis.plan, analysis.findings, width, glyphs) + "".join(exact)


def _script(suggestion: Suggestion) -> str:
    """What to run, line by line."""
    return "".join(f"{line};\n" for line in (suggestion.preparation, *suggestion.statements) if line)


class _UsageError(QuerytollError):
    """Arguments that do not go together; says which do."""
