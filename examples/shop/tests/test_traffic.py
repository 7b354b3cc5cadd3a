"""Traffic fits the shop that was seeded."""

import random
from itertools import islice

import httpx
import pytest

from shop.traffic import clean_requests, drive, send

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = 2_000
CLEAN_STATUSES = {200, 201, 204, 404, 409}


async def test_the_same_seed_gives_the_same_requests() -> None:
    """Runs can be repeated."""
    first, second = (list(islice(clean_requests(random.Random(7), ROWS), 100)) for _ in range(2))
    assert first == second


async def test_clean_requests_are_answered(client: httpx.AsyncClient) -> None:
    """No request is malformed, and none fails."""
    calls = islice(clean_requests(random.Random(7), ROWS), 300)
    assert {await send(client, call) for call in calls} <= CLEAN_STATUSES


async def test_drives_a_mix_and_counts(client: httpx.AsyncClient) -> None:
    """Faults are answered like anything else; the rate is kept."""
    counts = await drive(client=client, seconds=2.0, rate=50.0, seed=7, rows=ROWS, faulty=0.3)
    assert counts.keys() <= CLEAN_STATUSES | {202}
    assert 20 <= counts.total() <= 100
