"""A URL and settings to a running shop whose reports can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import APIRouter

from querytoll import Profiler, Report, Settings
from shop import migrate
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.main import create_app
from shop.seed import seed
from shop.traffic import Call, send

ROOT = Path(__file__).parent.parent
ROWS = 200_000
PATIENT = Settings(  # a busy machine is not a finding
    project_root=ROOT,
    slow_statement_seconds=5.0,
    database_budget_seconds=10.0,
    idle_transaction_seconds=5.0,
    long_transaction_seconds=10.0,
    held_connection_seconds=5.0,
    pool_wait_seconds=5.0,
)


class Shop:
    """A running shop, and the reports of its requests."""

    def __init__(self, client: httpx.AsyncClient, profiler: Profiler, reports: list[Report]) -> None:
        self.client = client
        self.profiler = profiler
        self.reports = reports

    async def reports_of(self, *calls: Call) -> list[Report]:
        """Send the requests, eight at a time, and return what was reported."""
        self.reports.clear()
        waiting = iter(calls)

        async def send_some() -> None:
            for call in waiting:
                await send(self.client, call)

        await asyncio.gather(*(send_some() for _ in range(8)))
        await self.profiler.drain()
        return list(self.reports)

    async def answer(self, call: Call) -> tuple[httpx.Response, list[Report]]:
        """Send one request, and return the response and what was reported."""
        self.reports.clear()
        response = await self.client.request(call.method, call.path, json=call.json, headers=call.headers)
        await self.profiler.drain()
        return response, list(self.reports)


@asynccontextmanager
async def running(
    url: str, settings: Settings, *, carrier_seconds: float = 0.7, more: APIRouter | None = None
) -> AsyncIterator[Shop]:
    """Run the shop with a profiler of these settings, and with more endpoints than its own."""
    reports: list[Report] = []
    profiler = Profiler(settings, sinks=[reports.append])
    app = create_app(ShopSettings(database_url=url, carrier_seconds=carrier_seconds), profiler)
    if more is not None:
        app.include_router(more)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield Shop(client, profiler, reports)
    await profiler.aclose()


async def furnish(url: str) -> None:
    """Make the tables of the shop in an empty database, and its `ROWS` rows."""
    await migrate.upgrade(url)
    engine = create_engine(ShopSettings(database_url=url))
    await seed(engine, ROWS)
    await engine.dispose()
