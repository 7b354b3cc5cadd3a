"""Nothing at all."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Leave the application as it is."""
