"""What findings advise, followed to the letter: the finding goes away, and nothing else appears."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Finding, Report, Settings
from shop.traffic import PLANTED, Call, Dice, Sizes
from tests import repairs
from tests.shopping import PATIENT, ROOT, ROWS, Shop, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

CARRIER_SECONDS = 1.0
SETTINGS = PATIENT.model_copy(update={"idle_transaction_seconds": 0.6, "held_connection_seconds": 0.6})
CALLS = {planted.module: planted.make(Dice(random.Random(1), Sizes(ROWS))) for planted in PLANTED}
SLOW_SEARCH = CALLS["slow_search"]
ORDER = Dice(random.Random(1), Sizes(ROWS)).order()
TRIGRAMS = "CREATE INDEX CONCURRENTLY ix_products_description_gin ON products USING gin (description gin_trgm_ops)"


class Repair(NamedTuple):
    """An endpoint below `/fixed`, and the part of the advice that it follows.

    Attributes:
        any_size: the advice is for any number of rows, not for the same number each time.
    """

    name: str
    fault: str
    rule: str
    advice: str
    any_size: bool = True

    @property
    def call(self) -> Call:
        """The request that hits the fault, sent to the repaired endpoint."""
        call = CALLS[self.fault]
        return call._replace(path=call.path.replace(f"/faults/{self.fault.replace('_', '-')}", f"/fixed/{self.name}"))


REPAIRS = (
    Repair("lazy-load", "lazy_load", "n-plus-one", ".options(selectinload(Order.items)) on their statement (SELECT or"),
    Repair("core-loop-in", "core_loop", "n-plus-one", "select from inventory with IN (...)", any_size=False),
    Repair("core-loop-any", "core_loop", "n-plus-one", "or = ANY(...) where their number changes"),
    Repair("core-loop-join", "core_loop", "n-plus-one", "or join inventory to them"),
    Repair("duplicate-reads", "duplicate_reads", "duplicate-query", "Read it once and pass the result on"),
    Repair("write-loop-rows", "write_loop", "write-loop", "execute(update(inventory), [rows]) by primary key"),
    Repair("write-loop-values", "write_loop", "write-loop", "one UPDATE ... FROM (VALUES ...)", any_size=False),
    Repair("write-loop-in", "write_loop", "write-loop", "one UPDATE with WHERE key IN (...)", any_size=False),
    Repair("write-loop-unnest", "write_loop", "write-loop", "where their number changes, FROM unnest(...)"),
    Repair("write-loop-any", "write_loop", "write-loop", "and = ANY(...)"),
    Repair("background", "background", "n-plus-one", ".options(selectinload(Review.product)) on their statement (SEL"),
    Repair("streaming-in", "streaming", "n-plus-one", "select from order_items with IN (...)", any_size=False),
    Repair("streaming-any", "streaming", "n-plus-one", "or = ANY(...) where their number changes"),
    Repair("streaming-join", "streaming", "n-plus-one", "or join order_items to them"),
    Repair("long-transaction-commit", "long_transaction", "idle-in-transaction", "(commit) before the other work that"),
    Repair("long-transaction-first", "long_transaction", "idle-in-transaction", "or do that work first"),
    Repair("pool-hog-back", "pool_hog", "connection-held", "give it back before other work"),
    Repair("pool-hog-later", "pool_hog", "connection-held", "Check it out later"),
    Repair("row-explosion", "row_explosion", "row-explosion", "one joinedload at most, selectinload the others"),
)
UNPAGED = ("duplicate_reads", "long_transaction", "pool_hog")
PAGED = [repair for repair in REPAIRS if repair.any_size and repair.fault not in UNPAGED]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(seeded: str) -> AsyncIterator[Shop]:
    async with running(seeded, SETTINGS, carrier_seconds=CARRIER_SECONDS, more=repairs.router) as shop:
        yield shop


def found_in(reports: Iterable[Report]) -> list[Finding]:
    return [finding for report in reports for finding in report.findings]


def told(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """What an assertion that fails should show of findings."""
    return [(finding.rule, finding.title, finding.advice) for finding in findings]


async def test_every_planted_fault_is_repaired() -> None:
    """A fault that is added to the shop needs a repair here."""
    assert {repair.fault for repair in REPAIRS} | {"slow_search"} == set(CALLS)


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.name)
async def test_advice_that_is_followed_makes_its_finding_go_away(shop: Shop, repair: Repair) -> None:
    """The fault's only finding advises the repair; the repaired endpoint answers the same, and nothing is found."""
    pending = Call("PATCH", f"/orders/{ORDER}", {"status": "pending"})
    await shop.answer(pending)
    faulty, before = await shop.answer(CALLS[repair.fault])
    (finding,) = found_in(before)
    assert finding.rule == repair.rule
    assert repair.advice in finding.advice
    await shop.answer(pending)
    fixed, after = await shop.answer(repair.call)
    assert (fixed.status_code, fixed.text) == (faulty.status_code, faulty.text)
    assert len(after) == 1
    assert told(found_in(after)) == []


@pytest.mark.parametrize("repair", PAGED, ids=lambda repair: repair.name)
async def test_a_repair_holds_for_pages_of_every_size(shop: Shop, repair: Repair) -> None:
    """Nothing is found, however many rows are asked for and however many sizes of pages there were."""
    path = repair.call.path.partition("?")[0]
    reports = await shop.reports_of(*(repair.call._replace(path=f"{path}?limit={limit}") for limit in range(1, 41)))
    assert len(reports) == 40
    assert told(found_in(reports)) == []


async def test_the_index_that_is_advised_makes_the_search_fast(seeded: str) -> None:
    """The plan's findings give the index; with it the search finds the same, and neither it nor its plan is found."""
    async with running(seeded, Settings(project_root=ROOT)) as shop:
        slow, reports = await shop.answer(SLOW_SEARCH)
        findings = {finding.rule: finding for finding in found_in(reports)}
        assert "an index for WHERE" in findings.pop("slow-query").advice
        assert set(findings) == {"seq-scan-filter", "leading-wildcard", "missing-index"}
        assert TRIGRAMS in findings["seq-scan-filter"].advice
        assert "extension pg_trgm, GIN, gin_trgm_ops" in findings["leading-wildcard"].advice
        index, *_, extension = findings["missing-index"].advice.partition(". ")
        assert (index, "Before it run CREATE EXTENSION IF NOT EXISTS pg_trgm" in extension) == (TRIGRAMS, True)
        async with with_index(seeded):
            fast, _ = await shop.answer(SLOW_SEARCH)  # the first time its pages are read
            _, reports = await shop.answer(SLOW_SEARCH)
    assert fast.text == slow.text
    assert told(found_in(reports)) == []


@asynccontextmanager
async def with_index(url: str) -> AsyncIterator[None]:
    """Have the trigram index for a time."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("CREATE EXTENSION pg_trgm"))
        await connection.execute(text(TRIGRAMS))
        try:
            yield
        finally:
            await connection.execute(text("DROP EXTENSION pg_trgm CASCADE"))
