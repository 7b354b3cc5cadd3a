"""querytoll as one line of middleware brings it: every detector, the log and Prometheus."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import ProfilerMiddleware


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware."""
    app.add_middleware(ProfilerMiddleware)
