"""The application: routers, engine and profiler put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, status
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError

from querytoll import Profiler, ProfilerMiddleware
from shop.carrier import create_carrier
from shop.db.config import ShopSettings
from shop.db.session import create_engine, create_sessions
from shop.routers import categories, customers, faults, health, inventory, orders, products, reviews


def create_app(settings: ShopSettings | None = None, profiler: Profiler | None = None) -> FastAPI:
    """Make the application; nothing connects before its lifespan begins."""
    settings = settings or ShopSettings()
    profiler = profiler or Profiler()
    app = FastAPI(title="querytoll example shop", lifespan=lambda app: lifespan(app, settings))
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    app.add_route("/metrics", profiler.metrics_endpoint)
    app.add_exception_handler(IntegrityError, conflict)
    for module in (health, categories, customers, products, inventory, orders, reviews, faults):
        app.include_router(module.router)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI, settings: ShopSettings) -> AsyncIterator[None]:
    """Hold the engine and the carrier's client while the application runs."""
    engine = create_engine(settings)
    carrier = httpx.ASGITransport(app=create_carrier(settings.carrier_seconds))
    async with httpx.AsyncClient(transport=carrier, base_url="http://carrier") as client:
        app.state.engine, app.state.sessions, app.state.carrier = engine, create_sessions(engine), client
        try:
            yield
        finally:
            await engine.dispose()


async def conflict(request: Request, error: Exception) -> JSONResponse:
    """Answer what the database's constraints refuse."""
    return JSONResponse({"detail": "refused by a constraint"}, status.HTTP_409_CONFLICT)
