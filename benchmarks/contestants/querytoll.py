"""querytoll as one line of middleware brings it: every detector, the log and Prometheus."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import Profiler, ProfilerMiddleware, Settings


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware; the benchmark is what makes the profiler back off, which would hide its cost."""
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(Settings(max_self_share=1.0)))
