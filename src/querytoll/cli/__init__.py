"""The command `querytoll`."""

from __future__ import annotations

import sys

from querytoll.errors import MissingExtraError


def main() -> None:
    """Run the command; without its extra, say what to install."""
    try:
        from querytoll.cli.app import app
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        sys.exit(str(MissingExtraError("typer", "cli")))
    app()
