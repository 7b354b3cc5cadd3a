"""A scenario to the findings that a user of the profiler would get."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message

from querytoll import Finding, Profiler, ProfilerMiddleware, Report, Settings
from tests.detect.corpus.database import database
from tests.detect.corpus.scenario import Scenario

OUTLIVING_SECONDS = 5.0


@dataclass(frozen=True)
class Run:
    """What came of a scenario.

    Args:
        reports: in the order in which they were made.
        error: what the application raised.
        broken: what may never be, whatever is found: faults of the profiler itself, connections kept, wrong errors.
    """

    reports: tuple[Report, ...]
    error: Exception | None = None
    broken: tuple[str, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """Each finding once, however many requests it was found in; twice where one report has it twice."""
        merged: Counter[tuple[object, ...]] = Counter()
        found: dict[tuple[object, ...], Finding] = {}
        for report in self.reports:
            keys = Counter()
            for finding in report.findings:
                site = finding.site
                key = (finding.rule, finding.fingerprint, site and (site.file, site.line))
                keys[key] += 1
                found.setdefault(key, finding)
            merged |= keys
        return [found[key] for key in merged.elements()]


class Bench:
    """Runs scenarios one after the other, on one event loop and one database.

    Args:
        url: of an empty database, for asyncpg.
    """

    def __init__(self, url: str) -> None:
        # Applications install the middleware before their pools fill; asyncpg is watched from a connection's start.
        Profiler(Settings(), sinks=[])
        self._runner = asyncio.Runner()
        self._runner.run(database.open(url))

    def run(self, scenario: Scenario) -> Run:
        """Run it under a profiler of its own, as `Profiler()` is set up by default."""
        return self._runner.run(_run(scenario))

    def close(self) -> None:
        """Let go of the database."""
        self._runner.run(database.close())
        self._runner.close()


async def _run(scenario: Scenario) -> Run:
    reports: list[Report] = []
    profiler = Profiler(Settings(), sinks=[reports.append])
    if scenario.before is not None:
        await scenario.before()
    before = asyncio.all_tasks()
    error: Exception | None = None
    try:
        await asyncio.create_task(_perform(scenario, profiler))
    except Exception as raised:
        error = raised
    outliving = asyncio.all_tasks() - before
    if outliving:
        await asyncio.wait(outliving, timeout=OUTLIVING_SECONDS)
    await profiler.aclose()
    await database.close_others()
    return Run(tuple(reports), error, tuple(_broken(scenario, profiler, error)))


def _broken(scenario: Scenario, profiler: Profiler, error: Exception | None) -> Iterator[str]:
    if scenario.raises is None and error is not None:
        yield f"raised {error!r}"
    elif scenario.raises is not None and not isinstance(error, scenario.raises):
        yield f"was to raise {scenario.raises.__name__}, not {error!r}"
    if profiler.faults.counts:
        yield f"faults of the profiler: {dict(profiler.faults.counts)}"
    pool: Any = database.engine.pool
    if pool.checkedout():
        yield f"{pool.checkedout()} connections are kept"


async def _perform(scenario: Scenario, profiler: Profiler) -> None:
    if scenario.kind == "job":
        await _work(scenario, profiler)
    elif scenario.kind == "websocket":
        await _talk(_profiled(_application(scenario), scenario, profiler), scenario)
    else:
        await _request(_profiled(_application(scenario), scenario, profiler), scenario)


async def _work(scenario: Scenario, profiler: Profiler) -> None:
    """A job runs as workers run it: in a task or in a thread of its own."""
    if inspect.iscoroutinefunction(scenario.function):
        async with profiler.profile(scenario.id):
            await scenario.function()
        return

    def work() -> None:
        with profiler.profile(scenario.id):
            scenario.function()

    await asyncio.to_thread(work)


def _application(scenario: Scenario) -> Any:
    path = f"/{scenario.id}"
    if scenario.kind == "starlette":
        return Starlette(routes=[Route(path, scenario.function)])
    if scenario.kind == "websocket":
        return Starlette(routes=[WebSocketRoute(path, scenario.function)])
    app = FastAPI()
    app.get(path)(scenario.function)
    return app


def _profiled(app: Any, scenario: Scenario, profiler: Profiler) -> ASGIApp:
    for dispatch in scenario.middleware:
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    return app


async def _request(app: ASGIApp, scenario: Scenario) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        urls = [f"/{scenario.id}{query}" for query in scenario.requests]
        if scenario.together:
            responses = await asyncio.gather(*(client.get(url) for url in urls))
        else:
            responses = [await client.get(url) for url in urls]
    for response in responses:
        response.raise_for_status()


async def _talk(app: ASGIApp, scenario: Scenario) -> None:
    """A websocket's client that sends its messages and leaves."""
    inbox: list[Message] = [{"type": "websocket.connect"}]
    inbox.extend({"type": "websocket.receive", "text": text} for text in scenario.messages)
    inbox.append({"type": "websocket.disconnect", "code": 1000})

    async def receive() -> Message:
        await asyncio.sleep(0.001)
        return inbox.pop(0)

    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": f"/{scenario.id}",
        "raw_path": f"/{scenario.id}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "subprotocols": [],
        "server": ("shop.test", 80),
        "client": ("client", 1),
    }
    await app(scope, receive, send)
