"""The example shop under the profiler: each planted fault is found once, clean traffic is clean."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from querytoll import Profiler, Report, Settings
from shop import migrate
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.main import create_app
from shop.seed import seed
from shop.traffic import PLANTED, Call, Dice, Planted, Sizes, clean_requests, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = 200_000
ROOT = Path(__file__).parent.parent
FAULTS = ROOT / "examples/shop/shop/routers/faults"
CLEAN_REQUESTS = 10_000 if os.environ.get("CI") else 1_000

FOUND = {
    "lazy_load": ("n-plus-one", "await order.awaitable_attrs.items", "selectinload(Order.items)"),
    "core_loop": ("n-plus-one", "(await connection.execute(quantity)).scalar_one()", "inventory with IN"),
    "duplicate_reads": ("duplicate-query", "profile = await db.scalars", "Read it once"),
    "slow_search": ("slow-query", "(await db.scalars(query)).all()", "EXPLAIN"),
    "write_loop": ("write-loop", "await db.execute(", "execute(update(inventory), [rows])"),
    "background": ("n-plus-one", "await review.awaitable_attrs.product", "selectinload(Review.product)"),
    "streaming": ("n-plus-one", "total = await session.scalar", "order_items with IN"),
    "long_transaction": ("idle-in-transaction", ".with_for_update()", "End the transaction"),
    "pool_hog": ("connection-held", "async with engine.connect()", "give it back"),
    "row_explosion": ("row-explosion", "(await db.scalars(query)).unique()", "selectinload the others"),
}


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


@asynccontextmanager
async def running(url: str, settings: Settings) -> AsyncIterator[Shop]:
    """Run the shop with a profiler of these settings."""
    reports: list[Report] = []
    profiler = Profiler(settings, sinks=[reports.append])
    app = create_app(ShopSettings(database_url=url, carrier_seconds=0.7), profiler)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield Shop(client, profiler, reports)
    await profiler.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seeded(postgres_url: str) -> str:
    await migrate.upgrade(postgres_url)
    engine = create_engine(ShopSettings(database_url=postgres_url))
    await seed(engine, ROWS)
    await engine.dispose()
    return postgres_url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(seeded: str) -> AsyncIterator[Shop]:
    async with running(seeded, Settings(project_root=ROOT)) as shop:
        yield shop


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.module)
async def test_each_planted_fault_is_found_once_on_its_line(shop: Shop, planted: Planted) -> None:
    """One finding, of the right rule, at the right line, with advice that names what to change."""
    rule, code, advice = FOUND[planted.module]
    reports = await shop.reports_of(planted.make(Dice(random.Random(1), Sizes(ROWS))))
    (finding,) = [finding for report in reports if report.trace.statements for finding in report.findings]
    assert finding.rule == rule
    assert finding.rule in planted.rules
    assert advice in finding.advice
    assert finding.site is not None
    source = (FAULTS / f"{planted.module}.py").read_text().splitlines()
    assert Path(finding.site.file).name == f"{planted.module}.py"
    assert code in source[finding.site.line - 1]


async def test_clean_traffic_gives_no_finding(seeded: str) -> None:
    """Random requests to the clean endpoints, eight at a time, find nothing to say; a busy machine is not a finding."""
    patient = Settings(
        project_root=ROOT,
        slow_statement_seconds=5.0,
        database_budget_seconds=10.0,
        idle_transaction_seconds=5.0,
        long_transaction_seconds=10.0,
        held_connection_seconds=5.0,
        pool_wait_seconds=5.0,
    )
    async with running(seeded, patient) as shop:
        reports = await shop.reports_of(*itertools.islice(clean_requests(random.Random(7), ROWS), CLEAN_REQUESTS))
    assert len(reports) >= CLEAN_REQUESTS
    findings = [(report.trace.name, finding) for report in reports for finding in report.findings]
    assert [(name, finding.rule, finding.title) for name, finding in findings] == []
