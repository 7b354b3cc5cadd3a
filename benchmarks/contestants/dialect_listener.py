"""One empty dialect listener: the hook that querytoll uses."""

from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Listen to the event, and leave the statement to the dialect."""
    event.listen(engine.sync_engine, "do_execute", _nothing)


def _nothing(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    """Do nothing."""
