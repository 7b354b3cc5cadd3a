"""Two empty cursor listeners: what tools that listen to these events cannot go below."""

from typing import Any

from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Listen to both events, and do nothing."""
    event.listen(engine.sync_engine, "before_cursor_execute", _nothing)
    event.listen(engine.sync_engine, "after_cursor_execute", _nothing)


def _nothing(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    """Do nothing."""
