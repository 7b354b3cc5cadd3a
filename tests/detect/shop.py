"""An application with one route, watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import lazyload, load_only

from querytoll import Finding, Profiler, ProfilerMiddleware, Report, Settings
from querytoll.detect.loads import OverFetch, UnusedEagerLoad
from tests.detect.shelf import Order, OrderRead

Endpoint = Callable[[AsyncSession], Awaitable[Any]]


class Shop:
    """An application with one route, and what the profiler reports of it."""

    def __init__(self, engine: AsyncEngine, watch: bool = True) -> None:
        self.reports: list[Report] = []
        self.engine = engine
        settings = Settings(watch_loads=watch, explain="off")
        self.profiler = Profiler(settings, detectors=[*self.rules()], sinks=[self.reports.append])
        self.app = FastAPI()
        self.app.add_middleware(ProfilerMiddleware, profiler=self.profiler)

    @staticmethod
    def rules() -> list[Any]:
        return [UnusedEagerLoad(), OverFetch()]

    def serve(self, endpoint: Endpoint, model: Any) -> None:
        async def answer() -> Any:
            async with AsyncSession(self.engine) as session:
                return await endpoint(session)

        self.app.get("/orders", response_model=model)(answer)

    async def get(self, status: int = 200) -> list[Finding]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            response = await client.get("/orders")
        assert response.status_code == status, response.text
        await self.profiler.aclose()
        assert not self.profiler.faults.counts
        (report,) = self.reports
        return list(report.findings)


async def found(engine: AsyncEngine, endpoint: Endpoint, model: Any = list[OrderRead]) -> list[tuple[str, str]]:
    shop = Shop(engine)
    shop.serve(endpoint, model)
    return [(each.rule, str(each.evidence.get("relation", each.evidence.get("columns")))) for each in await shop.get()]


# A statement of orders whose parcels and contract are no matter.
ORDERS_ONLY = select(Order).options(lazyload(Order.parcels), load_only(Order.id, Order.number))


async def load_all(session: AsyncSession, *options: Any) -> list[Order]:
    return list((await session.scalars(ORDERS_ONLY.options(*options))).unique())


def sync(url: str) -> str:
    """Return the URL for psycopg."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
