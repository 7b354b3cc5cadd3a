"""The example shop under the profiler: each planted fault is found once, clean traffic is clean."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from querytoll import Settings
from shop.traffic import PLANTED, Dice, Planted, Sizes, clean_requests
from tests.shopping import PATIENT, ROOT, ROWS, Shop, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
    async with running(seeded, PATIENT) as shop:
        reports = await shop.reports_of(*itertools.islice(clean_requests(random.Random(7), ROWS), CLEAN_REQUESTS))
    assert len(reports) >= CLEAN_REQUESTS
    findings = [(report.trace.name, finding) for report in reports for finding in report.findings]
    assert [(name, finding.rule, finding.title) for name, finding in findings] == []
