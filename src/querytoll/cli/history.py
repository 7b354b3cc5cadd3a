"""`querytoll history`: make the tables of a history, or take them away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from querytoll.errors import QuerytollError
from querytoll.history import commands

UNUSABLE = 2
"""Exit code: the database or an argument cannot be used."""
URL = Annotated[str, typer.Option("--url", "-u", envvar="QUERYTOLL_HISTORY_URL", help="The history's database.")]

history = typer.Typer(name="history", help="Make or remove the tables of HistorySink.", no_args_is_help=True)


@history.command()
def upgrade(
    url: URL, revision: Annotated[str, typer.Argument(help="Of the history's migrations, not of yours.")] = "head"
) -> None:
    """Make the tables, or bring them to this version; several processes may do so at once."""
    _run(commands.upgrade, url, revision)


@history.command()
def downgrade(
    url: URL, revision: Annotated[str, typer.Argument(help="Of the history's migrations, not of yours.")] = "base"
) -> None:
    """Take the tables back to an older version; to `base`: remove them, with all that was recorded."""
    _run(commands.downgrade, url, revision)


def _run(command: Callable[[str, str], None], url: str, revision: str) -> None:
    try:
        command(url, revision)
    except QuerytollError as error:
        typer.echo(f"querytoll history: {error}", err=True)
        raise typer.Exit(UNUSABLE) from error
    typer.echo(f"The history's tables are at {revision}.")
