"""querytoll without detectors and sinks: statements become traces, which nobody reads."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import Profiler, ProfilerMiddleware


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware with a profiler that has neither."""
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(detectors=[], sinks=[]))
