"""querytoll without detectors and sinks: statements become traces, which nobody reads."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import Profiler, ProfilerMiddleware, Settings


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware with a profiler that has neither."""
    profiler = Profiler(Settings(max_self_share=1.0), detectors=[], sinks=[])
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
