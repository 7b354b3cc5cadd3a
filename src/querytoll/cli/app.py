"""The subcommands put together: adding one is one file and one line."""

from __future__ import annotations

from typing import Annotated

import typer

import querytoll
from querytoll.cli.check import check
from querytoll.cli.explain import explain
from querytoll.cli.history import history

app = typer.Typer(
    name="querytoll", help="What requests cost the database.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(check)
app.command()(explain)
app.add_typer(history)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Tell what requests cost the database, which part of it was waste, and what to change."""
    if show:
        typer.echo(querytoll.__version__)
        raise typer.Exit
