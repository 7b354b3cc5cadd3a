"""A real Prometheus that scrapes the running shop has data for every panel, and alerts reach Alertmanager."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from rich.console import Console

from dashboards.src.files import built
from dashboards.src.metrics import PENDING, SERIES
from dashboards.src.server import Prometheus, instant
from dashboards.src.structure import panels
from scripts.demo_run import ROWS, prepare
from scripts.postgres import Server, embedded
from scripts.stack import HOME, Ports, Stack, drilled, fire_and_clear, load, running
from shop import traffic

Json = dict[str, Any]
BOARDS = list(built().values())
LOAD_SECONDS = 40

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """The database of the stack, which is filled once."""
    with embedded(HOME) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[1, 2], ids=["single", "multiprocess"])
async def stack(postgres: Server, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The shop in one process or in two, after some load."""
    url = await prepare(postgres, Console(quiet=True))
    async with running(url, Ports.free(), workers=request.param) as stack:
        await load(stack, LOAD_SECONDS)
        yield stack


def pending(target: Json) -> bool:
    """The query reads a metric that is not exported yet."""
    families = {SERIES[name].name for name in re.findall(r"querytoll_\w+", target["expr"])}
    return bool(families & PENDING)


async def test_every_query_of_a_panel_has_data(stack: Stack) -> None:
    """No error and not empty, except where the metric is pending: there no error."""
    prometheus = Prometheus(stack.prometheus, seconds=LOAD_SECONDS)
    empty: list[str] = []
    full: list[str] = []
    # Quantiles of the last moments need requests in them, however long all these queries take.
    going_on = asyncio.create_task(
        traffic.drive(stack.shop, seconds=300, rate=10, seed=2, rows=ROWS, faulty=0.3, concurrency=2)
    )
    try:
        for board in BOARDS:
            for panel in panels(board):
                for target in panel["targets"]:
                    found = await asyncio.to_thread(prometheus.target, target, instant=instant(panel, target))
                    if bool(found) == pending(target):
                        (full if found else empty).append(f"{board['title']}: {panel['title']}: {target['expr']}")
    finally:
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
    assert empty == []
    assert full == [], "these have data now: take their metrics out of PENDING"


async def test_every_variable_has_values(stack: Stack) -> None:
    """The lists at the head of the dashboards, and what their regex makes of them."""
    prometheus = Prometheus(stack.prometheus)
    for board in BOARDS:
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            values = await asyncio.to_thread(prometheus.values, variable["query"]["query"])
            assert values, f"{board['title']}: {variable['name']}"
            pattern = re.sub(r"\(\?<(\w+)>", r"(?P<\1>", variable["regex"].strip("/"))
            assert all(re.search(pattern, value) for value in values), f"{pattern} does not fit {values[0]}"


async def test_the_dashboard_of_one_route_shows_that_route_alone(stack: Stack) -> None:
    """A route with braces in its template, chosen as Grafana escapes it."""
    prometheus = Prometheus(stack.prometheus, seconds=LOAD_SECONDS)
    board = next(board for board in BOARDS if board["uid"] == "querytoll-route")
    panel = next(panel for panel in panels(board) if panel["title"] == "Connections held")
    chosen = {"method": "GET", "route": "/orders/\\\\{order_id\\\\}"}
    found = await asyncio.to_thread(prometheus.target, panel["targets"][0], instant=False, values=chosen)
    assert found
    chosen["route"] = "/nothing"
    assert not await asyncio.to_thread(prometheus.target, panel["targets"][0], instant=False, values=chosen)


async def test_no_rule_fails(stack: Stack) -> None:
    """Prometheus evaluates every recording and alerting rule without a fault."""
    async with httpx.AsyncClient(base_url=stack.prometheus) as client:
        groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert [rule for rule in rules if rule["health"] != "ok"] == []


async def test_promtool_accepts_the_exposition(stack: Stack) -> None:
    """`promtool check metrics`."""
    async with httpx.AsyncClient(base_url=stack.shop) as client:
        exposition = (await client.get("/metrics")).text
    command = ("promtool", "check", "metrics")
    done = await asyncio.to_thread(subprocess.run, command, input=exposition, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", drilled())
async def test_an_alert_fires_reaches_alertmanager_and_clears(stack: Stack, alert: str) -> None:
    """Its cause is sent until it has arrived, and no longer."""
    await fire_and_clear(stack, alert)
