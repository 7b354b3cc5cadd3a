"""What `pytest --querytoll` adds to a suite of 300 API tests of the shop, as a ratio.

`PYTHONPATH=examples/shop python -m benchmarks.suite`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from scripts.postgres import CACHE, embedded
from shop import migrate
from shop.db.config import ShopSettings
from shop.db.session import create_engine
from shop.seed import seed

TARGET: Final = 1.05
TESTS: Final = 300
ROWS: Final = 2_000
ROOT: Final = Path(__file__).parents[1]
INI: Final = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""
SUITE: Final = """
import random

import httpx
import pytest
import pytest_asyncio
from shop.main import create_app
from shop.traffic import clean_requests

requests = clean_requests(random.Random(1), {rows})

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client():
    app = create_app()
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        yield shop

@pytest.mark.parametrize("call", [next(requests) for _ in range({tests})], ids=range({tests}))
async def test_api(client, call):
    answer = await client.request(call.method, call.path, json=call.json, headers=call.headers)
    assert answer.status_code < 500
"""


class Taken(NamedTuple):
    """Seconds of one run: on the clock, and of its processor."""

    wall: float
    processor: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure runs with and without the option in turn, print the ratio of their medians, and judge it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="runs with and without, in turn")
    rounds = parser.parse_args(argv).rounds
    with shop() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text(INI)
        (folder / "test_shop.py").write_text(SUITE.format(tests=TESTS, rows=ROWS))
        run(folder, url)
        pairs = [(run(folder, url), run(folder, url, "--querytoll")) for _ in range(rounds)]
    for at, what in enumerate(Taken._fields):
        bare, watched = (statistics.median(pair[which][at] for pair in pairs) for which in (0, 1))
        print(f"{what:9}  {bare:6.2f} s  {watched:6.2f} s  x{watched / bare:.3f}  (at most x{TARGET})")
    return 0


def run(folder: Path, url: str, *options: str) -> Taken:
    """Run the suite in a process of its own.

    Raises:
        subprocess.CalledProcessError: a test failed.
    """
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:xdist"]
    environment = {**os.environ, "SHOP_DATABASE_URL": url, "PYTHONPATH": str(ROOT / "examples" / "shop")}
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.perf_counter() - began, spent)


@contextmanager
def shop() -> Iterator[str]:
    """A seeded shop on the benchmarks' own PostgreSQL; its URL."""
    with embedded(CACHE / "bench-postgres") as server:
        name = f"suite_{uuid4().hex}"
        with psycopg.connect(server.url(driver=None), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            url = make_url(server.url()).set(database=name).render_as_string(hide_password=False)
            asyncio.run(prepare(url))
            yield url
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def prepare(url: str) -> None:
    """Make the shop's tables and rows."""
    await migrate.upgrade(url)
    engine = create_engine(ShopSettings(database_url=url))
    await seed(engine, ROWS)
    await engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
