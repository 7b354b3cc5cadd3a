"""querytoll switched off by its setting."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import Profiler, ProfilerMiddleware, Settings


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware, disabled."""
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(Settings(enabled=False)))
