"""Every public name in use, as mypy --strict must accept it; checked, not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import assert_type

from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

import querytoll
from querytoll import (
    Detector,
    Finding,
    Profiler,
    ProfilerMiddleware,
    QuerytollError,
    Report,
    Settings,
    Sink,
    Site,
    Statement,
    Trace,
    ignore,
)
from querytoll.history import HistorySink, Recorded, Store, downgrade, upgrade
from querytoll.sinks.otel import OpenTelemetrySink
from querytoll.testing import (
    Queries,
    Recording,
    assert_max_db_time,
    assert_max_queries,
    assert_no_findings,
    assert_no_n_plus_one,
    assert_no_slow_queries,
    assert_num_queries,
    assert_query_growth,
    assert_uses_index,
    record,
)


def no_selects(trace: Trace) -> Iterator[Finding]:
    """A detector that is a function."""
    for statement in trace.statements:
        assert_type(statement, Statement)
        if statement.operation == "SELECT":
            yield Finding(
                rule="no-selects",
                title=f"{statement.summary} at {statement.site}",
                advice="Do not.",
                severity="warning",
                site=statement.site,
                fingerprint=statement.fingerprint,
                count=1,
                cost=statement.elapsed,
                evidence={"rows": statement.rows},
            )


@dataclass(frozen=True)
class Budget:
    """A detector that is an object."""

    most: int

    def __call__(self, trace: Trace) -> Iterable[Finding]:
        return [] if len(trace.statements) <= self.most else [Finding(rule="budget", title="", advice="")]


def tell(report: Report) -> None:
    """A sink that is a function."""
    assert_type(report.trace, Trace)
    assert_type(report.findings, tuple[Finding, ...])
    for finding in report.findings:
        assert_type(finding.rule, str)
        assert_type(finding.count, int)
        assert_type(finding.site, Site | None)
        if finding.site is not None:
            assert_type((finding.site.file, finding.site.line), tuple[str, int])


detectors: list[Detector] = [no_selects, Budget(3), *Profiler.default_detectors()]
reports: list[Report] = []
sinks: list[Sink] = [tell, reports.append, *Profiler.default_sinks(), OpenTelemetrySink(statement_spans=True)]


def install(engine: Engine, async_engine: AsyncEngine) -> FastAPI:
    """Everything that an application says."""
    app = FastAPI()
    app.add_middleware(ProfilerMiddleware)
    app.add_middleware(ProfilerMiddleware, profiler=None)
    settings = Settings(slow_statement_seconds=0.1, sample_rate=0.5, server_timing=True, enabled=True)
    profiler = Profiler(settings, engines=[engine, async_engine], detectors=detectors, sinks=sinks)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    app.add_route("/metrics", profiler.metrics_endpoint)
    Starlette(
        routes=[Route("/metrics", profiler.metrics_endpoint)],
        middleware=[Middleware(ProfilerMiddleware, profiler=profiler)],
    )
    ProfilerMiddleware(app, profiler)
    assert_type(profiler.settings, Settings)
    return app


def work(profiler: Profiler) -> Report:
    """A block of a worker."""
    with profiler.profile("nightly-import") as window:
        pass
    assert_type(window.trace, Trace)
    assert_type(window.trace.began, datetime)
    assert_type(window.trace.name, str)
    assert_type(window.trace.path, str | None)
    return window.report


async def work_async(profiler: Profiler) -> Report:
    """The same for async code, and the end."""
    async with profiler.profile("nightly-import") as window:
        pass
    await profiler.drain()
    await profiler.aclose()
    return window.report


@ignore("n-plus-one", reason="three rows at most")
def ignored(number: int) -> str:
    """A function without the rule."""
    with ignore("duplicate-query", reason="polling"):
        return str(number)


@ignore("n-plus-one", reason="three rows at most")
async def ignored_async(number: int) -> str:
    """A coroutine without the rule."""
    return str(number)


async def use() -> None:
    """What decorators leave of types."""
    assert_type(ignored(1), str)
    assert_type(await ignored_async(1), str)
    try:
        work(Profiler(Settings(enabled=False)))
    except QuerytollError as error:
        assert_type(str(error), str)
    assert_type(querytoll.__version__, str)


def test_sync() -> None:
    """Expectations in a sync test."""
    with record() as queries:
        pass
    assert_type(queries, Recording)
    assert_type(queries.statements, tuple[Statement, ...])
    assert_type(queries.findings, tuple[Finding, ...])
    assert_type(queries.trace, Trace)
    assert_type(queries.report, Report)
    assert_type(queries.count, int)
    assert_type(len(queries), int)
    with (
        record(everywhere=True, settings=Settings()),
        assert_max_queries(3),
        assert_max_queries(3, everywhere=True) as counted,
        assert_num_queries(0),
        assert_no_n_plus_one(),
        assert_no_findings(),
        assert_no_findings(rules=["slow-query"], everywhere=True),
        assert_max_db_time(0.5),
    ):
        pass
    assert_type(counted, Recording)


async def test_async() -> None:
    """Expectations in an async test."""
    async with record() as queries, assert_max_queries(3), assert_no_n_plus_one(), assert_max_db_time(1):
        pass
    async with assert_num_queries(0), assert_no_findings():
        pass
    assert_type(queries, Recording)


@assert_max_queries(3, table="orders", operation="SELECT", engine="shop", controls=True)
def decorated(number: int) -> str:
    return str(number)


@assert_no_slow_queries(0.1)
async def decorated_async(number: int) -> str:
    return str(number)


def with_the_fixture(queries: Queries) -> None:
    """Reads as recordings do."""
    assert_type(queries.count, int)
    assert_type(queries.statements, tuple[Statement, ...])
    queries.clear()


async def test_more() -> None:
    """Decorators keep signatures; growth is awaited where its action or its factory is."""
    assert_type(decorated(1), str)
    assert_type(await decorated_async(1), str)
    with assert_uses_index("orders", "ix_orders_customer_id") as accesses:
        pass
    assert_type([access.index for access in accesses.accesses], list[str | None])
    assert_type(assert_query_growth(lambda: decorated(1), lambda count: None, rows=3), None)
    await assert_query_growth(lambda: decorated_async(1), lambda count: None)


async def history(url: str, began: datetime) -> None:
    """A history is a sink, and read by four verbs."""
    sink: Sink = HistorySink(url, Settings(), keep_days=7, max_traces=10, paths=True)
    Profiler(sinks=[*Profiler.default_sinks(), sink])
    await upgrade(url)
    store = Store(url)
    assert_type(await store.list(began), Recorded)
    await store.clear(before=began)
    await downgrade(url)
