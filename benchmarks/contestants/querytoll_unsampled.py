"""querytoll listening, on requests that its sample rate leaves out."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from querytoll import Profiler, ProfilerMiddleware, Settings


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware with a sample rate of zero."""
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(Settings(sample_rate=0.0)))
