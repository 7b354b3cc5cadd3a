"""What a profiler is made of, what it reports of requests and blocks, and where its faults and its work end."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, event, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from starlette.types import ASGIApp, Receive, Scope, Send

from querytoll import Finding, Profiler, ProfilerMiddleware, QuerytollError, Report, Settings, Trace
from querytoll.capture import attach, detach, everywhere, listeners, window
from querytoll.capture.scope import current
from querytoll.detect.budget import TooManyQueries
from querytoll.detect.repeats import NPlusOne
from querytoll.detect.slow import SlowQuery
from querytoll.errors import ConfigurationError, Part, WindowError
from querytoll.profiler import LARGE_TRACE, default_profiler
from querytoll.sinks.log import LogSink
from querytoll.sinks.prometheus import PrometheusSink
from tests.capture import models
from tests.capture.models import AUTHORS, Author, Book


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Listeners are as before; no scope, no window that sees everything and no ticking clock is left."""
    listened = event.contains(Engine, "do_execute", listeners.do_execute)
    yield
    attach() if listened else detach()
    assert current.get() is None
    assert everywhere == []
    assert [sampler for sampler in window._samplers._samplers.values() if sampler.windows] == []


@pytest.fixture(scope="module")
def sync_url(postgres_url: str) -> str:
    """The module's database with its tables filled, for psycopg."""
    url = make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    engine = create_engine(url)
    with engine.begin() as connection:
        models.create(connection)
    engine.dispose()
    return url


@pytest.fixture
def make_engine(postgres_url: str, sync_url: str) -> Callable[[], AsyncEngine]:
    """Make engines on the module's database, which keep no connection."""
    return lambda: create_async_engine(postgres_url, poolclass=NullPool)


@pytest.fixture
def engine(make_engine: Callable[[], AsyncEngine]) -> AsyncEngine:
    return make_engine()


@pytest.fixture
def sync_engine(sync_url: str) -> Iterator[Engine]:
    made = create_engine(sync_url, poolclass=NullPool)
    yield made
    made.dispose()


async def ask(engine: AsyncEngine, *words: str) -> None:
    """Send one statement for each word, which its text holds."""
    async with engine.connect() as connection:
        for word in words:
            await connection.execute(text(f"SELECT '{word}'"))


def ask_sync(engine: Engine, *words: str) -> None:
    with engine.connect() as connection:
        for word in words:
            connection.execute(text(f"SELECT '{word}'"))


async def ask_often(engine: AsyncEngine, times: int = LARGE_TRACE + 1) -> None:
    async with engine.connect() as connection:
        for _ in range(times):
            await connection.execute(text("SELECT 1"))


def words(trace: Trace) -> list[str]:
    return [statement.sql[8:-1] for statement in trace.statements]


def asking(*calls: tuple[AsyncEngine, str]) -> ASGIApp:
    """An application that sends statements."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for engine, word in calls:
            await ask(engine, word)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return app


async def get(app: ASGIApp, path: str = "/", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return await client.get(path, headers=headers)


def line_of(mark: str) -> int:
    """The line of this file that ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))
    return number


def library(engine: AsyncEngine) -> FastAPI:
    """An application with an N+1 of each kind."""
    app = FastAPI()

    @app.get("/authors/{kind}")
    async def lazy(kind: str) -> int:
        async with AsyncSession(engine) as session:
            count = 0
            for author in (await session.scalars(select(Author))).all():
                count += len(await author.awaitable_attrs.books)  # lazy
            return count

    @app.get("/titles")
    async def core() -> list[str]:
        titles: list[str] = []
        async with engine.connect() as connection:
            for number in (await connection.scalars(select(Author.id))).all():
                query = select(Book.title).where(Book.author_id == number)
                titles += await connection.scalars(query)  # core
        return titles

    @app.get("/clean")
    async def clean() -> int:
        async with engine.connect() as connection:
            return len((await connection.scalars(select(Author.id))).all())

    return app


# What is found


async def test_a_lazy_load_in_a_loop_is_found_at_its_line(engine: AsyncEngine) -> None:
    """An N+1 by attribute access is found once, at the line of the loop, with its count and the loader to use."""
    reports: list[Report] = []
    app = library(engine)
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[reports.append]))
    assert (await get(app, "/authors/all")).json() == AUTHORS * models.BOOKS_EACH
    (finding,) = reports[0].findings
    assert (finding.rule, finding.count) == ("n-plus-one", AUTHORS)
    assert finding.site is not None
    assert (finding.site.file, finding.site.line) == (__file__, line_of("lazy"))
    assert "Author.books" in finding.title
    assert "selectinload(Author.books)" in finding.advice


async def test_a_core_query_in_a_loop_is_found_at_its_line(engine: AsyncEngine) -> None:
    """An N+1 without any relationship is found at the line of the loop, and its advice does not speak of loaders."""
    reports: list[Report] = []
    app = library(engine)
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[reports.append]))
    await get(app, "/titles")
    (finding,) = reports[0].findings
    assert (finding.rule, finding.count) == ("n-plus-one", AUTHORS)
    assert finding.site is not None
    assert (finding.site.file, finding.site.line) == (__file__, line_of("core"))
    assert "books" in finding.advice
    assert "load(" not in finding.advice


async def test_a_clean_request_has_no_finding(engine: AsyncEngine) -> None:
    """The same endpoint called again and again is not a repetition."""
    reports: list[Report] = []
    app = ProfilerMiddleware(library(engine), Profiler(sinks=[reports.append]))
    for _ in range(6):
        await get(app, "/clean")
    assert [report.findings for report in reports] == [()] * 6


# The metrics endpoint


def samples(body: str) -> dict[tuple[str, str, str], float]:
    """Values by name, route and rule."""
    return {
        (sample.name, sample.labels.get("route", ""), sample.labels.get("rule", "")): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


async def test_metrics_tell_requests_and_findings_by_route(engine: AsyncEngine) -> None:
    """After traffic, the endpoint shows each route's requests, statements and findings, with the template as label."""
    profiler = Profiler(sinks=[PrometheusSink(CollectorRegistry())])
    app = library(engine)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    app.add_route("/metrics", profiler.metrics_endpoint)
    for path in ("/authors/a", "/authors/b", "/titles", "/clean"):
        await get(app, path)
    answer = await get(app, "/metrics")
    assert answer.status_code == 200
    shown = samples(answer.text)
    for route, requests, found in (("/authors/{kind}", 2, 2), ("/titles", 1, 1), ("/clean", 1, None)):
        assert shown["querytoll_request_statements_count", route, ""] == requests
        assert shown.get(("querytoll_findings_total", route, "n-plus-one")) == found
    assert shown["querytoll_request_statements_sum", "/authors/{kind}", ""] == 2 * (1 + AUTHORS)
    assert shown["querytoll_excess_statements_total", "/titles", ""] == AUTHORS - 1
    assert "/authors/a" not in answer.text


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=", ""),
        ("*/*", "text/plain; version=", ""),
        ("text/html, text/plain;q=0.5", "text/plain; version=", ""),
        ("application/openmetrics-text; version=1.0.0, text/plain;q=0.5", "application/openmetrics-text", "# EOF\n"),
    ],
    ids=["none", "any", "text", "openmetrics"],
)
async def test_metrics_are_in_the_format_that_the_client_accepts(accept: str, content_type: str, end: str) -> None:
    """The classic text is the default; OpenMetrics comes when it is asked for, complete to its end mark."""
    profiler = Profiler(sinks=[PrometheusSink(CollectorRegistry())])
    app = FastAPI()
    app.add_route("/metrics", profiler.metrics_endpoint)
    answer = await get(app, "/metrics", accept=accept)
    assert answer.headers["content-type"].startswith(content_type)
    assert "charset=utf-8" in answer.headers["content-type"]
    assert answer.text.endswith(end)
    assert answer.text.count("# EOF") == bool(end)
    assert "querytoll_build_info{" in answer.text


async def test_metrics_can_be_asked_for_by_name() -> None:
    """`name[]` restricts the answer, as Prometheus' federation and its client's own endpoint do."""
    profiler = Profiler(sinks=[PrometheusSink(CollectorRegistry())])
    app = FastAPI()
    app.add_route("/metrics", profiler.metrics_endpoint)
    body = (await get(app, "/metrics?name[]=querytoll_build_info")).text
    assert {line.split("{")[0] for line in body.splitlines() if not line.startswith("#")} == {"querytoll_build_info"}


async def test_metrics_are_encoded_off_the_loop() -> None:
    """Encoding thousands of series takes a thread of its own, and the event loop goes on."""
    threads: list[int] = []

    class Collector:
        def collect(self) -> list[Any]:
            threads.append(threading.get_ident())
            return []

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    threads.clear()
    app = FastAPI()
    app.add_route("/metrics", Profiler(sinks=[PrometheusSink(registry)]).metrics_endpoint)
    await get(app, "/metrics")
    assert threads
    assert threading.get_ident() not in threads


async def test_without_a_prometheus_sink_the_default_registry_is_shown() -> None:
    """A profiler with other sinks only has an endpoint as well: that of the process."""
    app = FastAPI()
    app.add_route("/metrics", Profiler(sinks=[]).metrics_endpoint)
    assert "python_info" in (await get(app, "/metrics")).text


# Engines


@pytest.mark.parametrize("before", [True, False], ids=["engine first", "profiler first"])
async def test_by_default_every_engine_is_seen(make_engine: Callable[[], AsyncEngine], before: bool) -> None:
    """Engines made before and after the profiler are profiled alike."""
    reports: list[Report] = []
    early = make_engine() if before else None
    profiler = Profiler(sinks=[reports.append])
    engine = early or make_engine()
    await get(ProfilerMiddleware(asking((engine, "seen")), profiler))
    assert words(reports[0].trace) == ["seen"]


async def test_only_the_given_engines_are_seen(make_engine: Callable[[], AsyncEngine], sync_engine: Engine) -> None:
    """With `engines=`, sync and async ones, and what is derived from them by options; no others."""
    mine, other = make_engine(), make_engine()
    profiler = Profiler(engines=[mine, sync_engine], sinks=[])
    with profiler.profile("block") as block:
        await ask(mine, "async")
        await ask(other, "other")
        await ask(mine.execution_options(isolation_level="AUTOCOMMIT"), "derived")
        ask_sync(sync_engine, "sync")
    assert words(block.trace) == ["async", "derived", "sync"]


async def test_two_profilers_with_engines_of_their_own_do_not_see_each_others(
    make_engine: Callable[[], AsyncEngine],
) -> None:
    """Open at the same time, around the same code, each one sees its own engine only."""
    one, two = make_engine(), make_engine()
    first, second = Profiler(engines=[one], sinks=[]), Profiler(engines=[two], sinks=[])
    with first.profile("first") as outer, second.profile("second") as inner:
        await ask(one, "one")
        await ask(two, "two")
    assert (words(outer.trace), words(inner.trace)) == (["one"], ["two"])


async def test_two_profilers_of_all_engines_do_not_see_each_others_requests(engine: AsyncEngine) -> None:
    """Two applications served at the same time by one process have the statements of their own requests."""
    first: list[Report] = []
    second: list[Report] = []
    apps = [
        ProfilerMiddleware(asking(*[(engine, word)] * 5), Profiler(detectors=[], sinks=[reports.append]))
        for word, reports in (("first", first), ("second", second))
    ]
    await asyncio.gather(*(get(app) for app in apps * 3))
    assert [words(report.trace) for report in first] == [["first"] * 5] * 3
    assert [words(report.trace) for report in second] == [["second"] * 5] * 3


async def test_a_second_profiler_does_not_rewrite_the_settings_of_the_first(engine: AsyncEngine) -> None:
    """Regression of other tools: installing on a second application changed the thresholds of the first."""
    found: dict[str, list[str]] = {"strict": [], "lax": []}

    def made(name: str, budget: int) -> ProfilerMiddleware:
        def sink(report: Report) -> None:
            found[name] += [finding.rule for finding in report.findings]

        settings = Settings(statement_budget=budget)
        return ProfilerMiddleware(asking((engine, "a"), (engine, "b")), Profiler(settings, sinks=[sink]))

    strict, lax = made("strict", 1), made("lax", 2)
    for app in (strict, lax, strict):
        await get(app)
    assert found == {"strict": ["too-many-queries"] * 2, "lax": []}


async def test_two_profilers_of_one_engine_count_a_statement_once_each(engine: AsyncEngine) -> None:
    """Listening to an engine that is listened to already doubles nothing."""
    profilers = [Profiler(engines=[engine], sinks=[]), Profiler(engines=[engine], sinks=[]), Profiler(sinks=[])]
    with profilers[0].profile("a") as a, profilers[1].profile("b") as b, profilers[2].profile("c") as c:
        await ask(engine, "once")
    assert [words(block.trace) for block in (a, b, c)] == [["once"]] * 3


# Defaults, detectors, sinks


@pytest.fixture
def no_default_profiler() -> Iterator[None]:
    """The process' default profiler is made anew, here and after the test."""
    default_profiler.cache_clear()
    yield
    default_profiler.cache_clear()


async def test_one_line_is_enough(
    engine: AsyncEngine, no_default_profiler: None, caplog: pytest.LogCaptureFixture
) -> None:
    """`app.add_middleware(ProfilerMiddleware)` alone counts into Prometheus' default registry and logs findings."""
    app = FastAPI()

    @app.get("/one-line/{id}")
    async def endpoint(id: int) -> None:
        async with AsyncSession(engine) as session:
            for author in (await session.scalars(select(Author))).all():
                await author.awaitable_attrs.books

    app.add_middleware(ProfilerMiddleware)
    with caplog.at_level(logging.INFO, logger="querytoll"):
        await get(app, "/one-line/1")
    (record,) = caplog.records
    assert record.name == "querytoll.findings"
    assert "n-plus-one GET /one-line/{id}: Author.books" in record.getMessage()
    labels = {"method": "GET", "route": "/one-line/{id}"}
    assert REGISTRY.get_sample_value("querytoll_request_statements_sum", labels) == 1 + AUTHORS


def test_the_default_profiler_is_shared(no_default_profiler: None) -> None:
    """Two applications without a profiler of their own have the same one."""
    one, two = ProfilerMiddleware(asking()), ProfilerMiddleware(asking())
    assert one.profiler is two.profiler is default_profiler()


def test_the_default_profiler_reads_the_environment(no_default_profiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are those of the environment when it is first needed."""
    monkeypatch.setenv("QUERYTOLL_STATEMENT_BUDGET", "3")
    assert default_profiler().settings.statement_budget == 3


def test_the_default_rules_and_sinks_can_be_extended() -> None:
    """`sinks=[*Profiler.default_sinks(), mine]` reads well, and the same holds for detectors."""
    assert [type(sink) for sink in Profiler.default_sinks()] == [LogSink, PrometheusSink]
    assert NPlusOne() in Profiler.default_detectors()
    settings = Settings(statement_budget=7, slow_statement_seconds=2)
    rules = Profiler.default_detectors(settings)
    assert TooManyQueries(budget=7) in rules
    assert SlowQuery(seconds=2) in rules


async def test_own_detectors_and_sinks_are_plain_functions(engine: AsyncEngine) -> None:
    """A function from a trace to findings is a rule, a function of a report is a sink; both get frozen data."""

    def no_secrets(trace: Trace) -> Iterator[Finding]:
        for statement in trace.statements:
            if "secret" in statement.sql:
                yield Finding(rule="no-secrets", title="A secret was read", advice="Do not.", site=statement.site)

    reports: list[Report] = []
    app = ProfilerMiddleware(
        asking((engine, "secret"), (engine, "public")), Profiler(detectors=[no_secrets], sinks=[reports.append])
    )
    await get(app)
    (report,) = reports
    assert [finding.rule for finding in report.findings] == ["no-secrets"]
    frozen = (
        (report, "trace"),
        (report.trace, "name"),
        (report.findings[0], "rule"),
        (report.trace.statements[0], "sql"),
    )
    for data, field in frozen:
        with pytest.raises(AttributeError):
            setattr(data, field, "")


async def test_findings_come_dearest_first() -> None:
    """Sinks get the findings of all rules in one order, which their own order has no part in."""

    def rule(name: str, cost: float) -> Callable[[Trace], list[Finding]]:
        return lambda trace: [Finding(rule=name, title="", advice="", cost=cost)]

    reports: list[Report] = []
    rules = [rule("cheap", 0.1), rule("dear", 3), rule("middle", 1)]
    await get(ProfilerMiddleware(asking(), Profiler(detectors=rules, sinks=[reports.append])))
    assert [finding.rule for finding in reports[0].findings] == ["dear", "middle", "cheap"]


async def test_no_detectors_and_no_sinks_are_none(engine: AsyncEngine) -> None:
    """An empty list is not the default set."""
    profiler = Profiler(Settings(statement_budget=1), detectors=[], sinks=[])
    with profiler.profile("block") as block:
        await ask(engine, "one", "two")
    assert block.report.findings == ()


@pytest.mark.parametrize("error", [ValueError, RecursionError, TimeoutError, AssertionError, StopIteration])
async def test_a_sink_that_raises_never_reaches_the_request(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """A broken sink is counted each time and logged once; the other sinks get their reports all the same."""

    def broken(report: Report) -> None:
        raise error("broken")

    reports: list[Report] = []
    registry = CollectorRegistry()
    profiler = Profiler(sinks=[broken, reports.append, PrometheusSink(registry)])
    app = ProfilerMiddleware(asking(), profiler)
    for _ in range(3):
        assert (await get(app)).text == "done"
    assert profiler.faults.counts == {"sinks": 3}
    assert registry.get_sample_value("querytoll_internal_errors_total", {"part": "sinks"}) == 3
    assert len(reports) == 3
    (record,) = (record for record in caplog.records if record.name == "querytoll")
    assert record.exc_info is not None
    assert record.exc_info[0] is error


async def test_a_detector_that_raises_never_reaches_the_request() -> None:
    """A broken rule is counted; the others' findings reach the sinks."""

    def broken(trace: Trace) -> Iterator[Finding]:
        yield Finding(rule="early", title="", advice="")
        raise ValueError

    def sound(trace: Trace) -> list[Finding]:
        return [Finding(rule="sound", title="", advice="")]

    reports: list[Report] = []
    profiler = Profiler(detectors=[broken, sound], sinks=[reports.append])
    assert (await get(ProfilerMiddleware(asking(), profiler))).text == "done"
    assert "sound" in [finding.rule for finding in reports[0].findings]
    assert profiler.faults.counts == {"detect": 1}


async def test_a_detector_that_returns_nonsense_costs_no_trace() -> None:
    """Regression: findings that are none failed the whole report, in a block even the application."""
    reports: list[Report] = []
    profiler = Profiler(detectors=[lambda trace: ["nonsense", None]], sinks=[reports.append])  # type: ignore[list-item]
    assert (await get(ProfilerMiddleware(asking(), profiler))).text == "done"
    with profiler.profile("block"):
        pass
    assert [report.trace.kind for report in reports] == ["request", "block"]
    assert set(profiler.faults.counts) == {"detect"}


class Meter:
    """A sink that also takes the profiler's own cost."""

    def __init__(self) -> None:
        self.faults: list[Part] = []
        self.seconds: dict[Part, float] = {}

    def __call__(self, report: Report) -> None:
        pass

    def internal_error(self, part: Part) -> None:
        self.faults.append(part)

    def spent(self, part: Part, seconds: float) -> None:
        self.seconds[part] = self.seconds.get(part, 0) + seconds


async def test_the_profiler_tells_what_it_costs_and_where_it_fails() -> None:
    """A sink with the two methods for it is told of the profiler's own seconds and faults, by part."""

    def slow(trace: Trace) -> list[Finding]:
        time.sleep(0.005)
        raise ValueError

    meter = Meter()
    await get(ProfilerMiddleware(asking(), Profiler(detectors=[slow], sinks=[meter])))
    assert meter.faults == ["detect"]
    assert meter.seconds["detect"] >= 0.005


async def test_a_sink_that_fails_to_take_the_cost_never_reaches_the_request() -> None:
    """Regression: the profiler told its cost outside of every boundary."""

    class Broken(Meter):
        def spent(self, part: Part, seconds: float) -> None:
            raise ValueError

    def slow(trace: Trace) -> list[Finding]:
        time.sleep(0.005)
        return []

    profiler = Profiler(detectors=[slow], sinks=[Broken()])
    assert (await get(ProfilerMiddleware(asking(), profiler))).text == "done"
    with profiler.profile("block"):
        pass
    assert profiler.faults.counts["sinks"] >= 1
    assert set(profiler.faults.counts) == {"sinks"}


# Misuse


class AsyncSink:
    async def __call__(self, report: Report) -> None:
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"engines": ["postgresql://me:secret@host/shop"]},
            "engines: expected Engine or AsyncEngine, got a str; "
            "pass what create_engine() or create_async_engine() returned",
        ),
        (
            {"engines": [object()]},
            "engines: expected Engine or AsyncEngine, got an object; "
            "pass what create_engine() or create_async_engine() returned",
        ),
        (
            {"engines": "postgresql://me:secret@host"},
            "engines: expected a list, got a str; write engines=[engine]",
        ),
        (
            {"engines": create_engine("sqlite://")},
            "engines: expected a list, got an Engine; write engines=[engine]",
        ),
        ({"detectors": [3]}, "detectors: 3 cannot be called; a detector is a function of one argument"),
        ({"detectors": [NPlusOne]}, "detectors: NPlusOne is a class; pass an instance: NPlusOne()"),
        ({"detectors": NPlusOne()}, "detectors: expected a list, got a NPlusOne; write detectors=[detector]"),
        ({"sinks": [None]}, "sinks: None cannot be called; a sink is a function of one argument"),
        ({"sinks": print}, "sinks: expected a list, got a builtin_function_or_method; write sinks=[sink]"),
        ({"sinks": [LogSink]}, "sinks: LogSink is a class; pass an instance: LogSink()"),
    ],
)
def test_misuse_fails_at_set_up(arguments: dict[str, Any], message: str) -> None:
    """A wrong argument fails where it is passed, with what, where and what to do, and without any credentials."""
    with pytest.raises(ConfigurationError) as caught:
        Profiler(**arguments)
    assert str(caught.value) == message
    assert isinstance(caught.value, QuerytollError)


@pytest.mark.parametrize("sink", [asyncio.sleep, AsyncSink()], ids=["function", "object"])
def test_async_sinks_and_detectors_are_refused(sink: Any) -> None:
    """Nobody would await it: an async sink or rule would silently do nothing."""
    with pytest.raises(ConfigurationError, match=r"^sinks: .* is async, and nobody would await it; a sink is a plain"):
        Profiler(sinks=[sink])
    with pytest.raises(ConfigurationError, match=r"^detectors: .* is async, and nobody would await it"):
        Profiler(detectors=[sink])


# Blocks


def test_a_sync_block_is_profiled(sync_engine: Engine) -> None:
    """`with profiler.profile(name)` tells what the block sent, as a report of its own that reaches the sinks."""
    reports: list[Report] = []
    profiler = Profiler(Settings(statement_budget=1), sinks=[reports.append])
    with profiler.profile("nightly-import") as block:
        ask_sync(sync_engine, "a", "b")
    ask_sync(sync_engine, "afterwards")
    assert (block.trace.kind, block.trace.name, words(block.trace)) == ("block", "nightly-import", ["a", "b"])
    assert [finding.rule for finding in block.report.findings] == ["too-many-queries"]
    assert reports == [block.report]
    assert current.get() is None


async def test_an_async_block_is_profiled(engine: AsyncEngine) -> None:
    """`async with` is the same; tasks that the block starts and awaits belong to it."""
    async with Profiler(sinks=[]).profile("import") as block:
        await asyncio.gather(ask(engine, "a"), ask(engine, "b"))
    assert sorted(words(block.trace)) == ["a", "b"]
    assert block.trace.method is block.trace.route is block.trace.status is None


async def test_nested_blocks_see_their_own(engine: AsyncEngine) -> None:
    """An inner block's statements are the outer one's as well, not the other way round."""
    profiler = Profiler(sinks=[])
    with profiler.profile("outer") as outer:
        await ask(engine, "before")
        with profiler.profile("inner") as inner:
            await ask(engine, "within")
        await ask(engine, "after")
    assert words(outer.trace) == ["before", "within", "after"]
    assert words(inner.trace) == ["within"]


async def test_a_block_in_a_request(engine: AsyncEngine) -> None:
    """A block inside of an endpoint has a report of its own; the sinks are told of its statements once."""
    app = FastAPI()
    reports: list[Report] = []
    blocks: list[Report] = []
    profiler = Profiler(detectors=[], sinks=[reports.append])

    @app.get("/")
    async def endpoint() -> None:
        await ask(engine, "before")
        async with profiler.profile("part") as block:
            await ask(engine, "within")
        blocks.append(block.report)

    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    await get(app)
    assert [(report.trace.kind, words(report.trace)) for report in blocks] == [("block", ["within"])]
    assert [(report.trace.kind, words(report.trace)) for report in reports] == [("request", ["before", "within"])]


async def test_a_block_does_not_see_its_neighbours(engine: AsyncEngine) -> None:
    """A task that was started before, and runs while the block is open, is not the block's."""
    opened, asked = asyncio.Event(), asyncio.Event()

    async def neighbour() -> None:
        await opened.wait()
        await ask(engine, "neighbour")
        asked.set()

    task = asyncio.create_task(neighbour())
    async with Profiler(sinks=[]).profile("block") as block:
        opened.set()
        await asked.wait()
        await ask(engine, "own")
    await task
    assert words(block.trace) == ["own"]


async def test_blocks_and_threads(engine: AsyncEngine, sync_engine: Engine) -> None:
    """`asyncio.to_thread` belongs to the block; a bare thread does not, and may have a block of its own."""
    profiler = Profiler(sinks=[])
    traces: list[Trace] = []

    def work(word: str) -> None:
        with profiler.profile(word) as block:
            ask_sync(sync_engine, word)
        traces.append(block.trace)

    with profiler.profile("main") as main:
        await asyncio.to_thread(ask_sync, sync_engine, "to_thread")
        threads = [threading.Thread(target=work, args=(word,)) for word in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    own = {word: [word] for word in "abc"}
    assert {trace.name: words(trace) for trace in traces} == own
    if sys.version_info < (3, 14):  # since then threads may inherit the context
        assert words(main.trace) == ["to_thread"]


def test_a_block_read_too_early_says_so() -> None:
    """Before its end a block has no report; the error names the block and what to do."""
    block = Profiler(sinks=[]).profile("import")
    message = r"^profile\('import'\) has no report yet: read it after the `with` block$"
    with pytest.raises(WindowError, match=message):
        _ = block.trace
    with block:
        with pytest.raises(WindowError, match=message):
            _ = block.report
        with pytest.raises(WindowError, match=message):
            _ = block.trace
    assert block.trace.statements == ()


def test_a_block_entered_twice_says_so() -> None:
    """A block is for one use; a second entry, inside or afterwards, fails and harms the first one in nothing."""
    block = Profiler(sinks=[]).profile("import")
    message = r"^profile\('import'\) was entered twice: call profiler.profile\(\) for each block$"
    with block:
        with pytest.raises(WindowError, match=message):
            block.__enter__()
        assert current.get() is not None
    assert current.get() is None
    with pytest.raises(WindowError, match=message):
        block.__enter__()
    assert block.trace.name == "import"


async def test_the_exception_of_a_block_passes_and_its_report_is_there(engine: AsyncEngine) -> None:
    """What the block raises is what its caller gets; what it did until then is reported."""
    error = ValueError("mine")
    reports: list[Report] = []
    block = Profiler(sinks=[reports.append]).profile("block")

    async def work() -> None:
        async with block:
            await ask(engine, "done")
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await work()
    assert caught.value is error
    assert error.__context__ is None
    assert words(block.trace) == ["done"]
    assert reports == [block.report]


async def test_a_cancelled_block_is_reported(engine: AsyncEngine) -> None:
    """A task that is cancelled inside of its block leaves its report behind."""
    block = Profiler(sinks=[]).profile("block")
    asked = asyncio.Event()

    async def work() -> None:
        with block:
            await ask(engine, "done")
            asked.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert words(block.trace) == ["done"]


def test_faults_of_ours_never_reach_a_block(caplog: pytest.LogCaptureFixture) -> None:
    """Regression: a statement that cannot be read failed the block; now its trace is empty, and the fault counted."""
    reports: list[Report] = []
    profiler = Profiler(sinks=[reports.append])
    with profiler.profile("block") as block:
        assert block._window is not None
        block._window.rows.append("unreadable")  # type: ignore[arg-type]
    assert (block.trace.name, block.trace.statements, reports) == ("block", (), [])
    assert profiler.faults.counts == {"capture": 1}
    assert len(caplog.records) == 1


async def test_blocks_of_a_profiler_that_is_off_record_nothing(engine: AsyncEngine) -> None:
    """Regression: a disabled profiler's blocks were recorded where another one listened, and told to the sinks."""
    attach()
    reports: list[Report] = []
    profiler = Profiler(Settings(enabled=False), sinks=[reports.append])
    with profiler.profile("off") as block:
        assert current.get() is None
        await ask(engine, "unseen")
    assert (block.trace.name, block.trace.statements, reports) == ("off", (), [])
    assert block.trace.elapsed > 0


async def test_blocks_are_not_sampled(engine: AsyncEngine) -> None:
    """Who names a block wants it; the rate is for requests."""
    with Profiler(Settings(sample_rate=0), sinks=[]).profile("block") as block:
        await ask(engine, "seen")
    assert words(block.trace) == ["seen"]


# Work off the loop


def often(engine: AsyncEngine, times: int = LARGE_TRACE + 1) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ask_often(engine, times)
        await asking()(scope, receive, send)

    return app


async def test_a_large_trace_is_judged_while_the_loop_goes_on(engine: AsyncEngine) -> None:
    """Over 500 statements, the response does not wait for detectors and sinks; `drain` does."""
    go_on = threading.Event()
    threads: list[int] = []
    reports: list[Report] = []

    def patient(trace: Trace) -> list[Finding]:
        threads.append(threading.get_ident())
        assert go_on.wait(30)
        return []

    profiler = Profiler(detectors=[patient], sinks=[reports.append])
    assert (await get(ProfilerMiddleware(often(engine), profiler))).text == "done"
    assert reports == []
    waiting = asyncio.create_task(profiler.drain())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    go_on.set()
    await waiting
    assert [len(report.trace.statements) for report in reports] == [LARGE_TRACE + 1]
    assert threading.get_ident() not in threads


async def test_a_small_trace_is_judged_at_once(engine: AsyncEngine) -> None:
    """Up to 500 statements, the report is there when the request is over, without a change of threads."""
    threads: list[int] = []
    profiler = Profiler(detectors=[], sinks=[lambda report: threads.append(threading.get_ident())])
    await get(ProfilerMiddleware(often(engine, LARGE_TRACE), profiler))
    assert threads == [threading.get_ident()]
    await profiler.drain()


async def test_drain_can_be_given_up(engine: AsyncEngine) -> None:
    """A `drain` that is cancelled leaves the work as it is; the next one waits for it."""
    go_on = threading.Event()
    reports: list[Report] = []

    def patient(trace: Trace) -> list[Finding]:
        assert go_on.wait(30)
        return []

    profiler = Profiler(detectors=[patient], sinks=[reports.append])
    await get(ProfilerMiddleware(often(engine), profiler))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await profiler.drain()
    go_on.set()
    await profiler.drain()
    assert len(reports) == 1
    assert profiler.faults.counts == {}


async def test_drain_waits_for_the_requests_of_another_loop(postgres_url: str, sync_url: str) -> None:
    """Regression: with requests on two event loops, as in tests with TestClient, `drain` raised ValueError."""
    go_on, answered = threading.Event(), threading.Event()
    reports: list[Report] = []

    def patient(trace: Trace) -> list[Finding]:
        assert go_on.wait(30)
        return []

    profiler = Profiler(detectors=[patient], sinks=[reports.append])

    async def serve() -> None:
        engine = create_async_engine(postgres_url, poolclass=NullPool)
        await get(ProfilerMiddleware(often(engine), profiler))
        answered.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert await asyncio.to_thread(answered.wait, 30)
    waiting = asyncio.create_task(profiler.drain())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    go_on.set()
    await waiting
    assert len(reports) == 1
    await asyncio.to_thread(thread.join)


def test_a_large_trace_at_the_end_of_a_loop_is_reported(postgres_url: str, sync_url: str) -> None:
    """Regression: a loop that shuts down takes no more work for its threads, and the trace was lost."""
    reports: list[Report] = []
    profiler = Profiler(detectors=[], sinks=[reports.append])

    async def main() -> None:
        app = ProfilerMiddleware(often(create_async_engine(postgres_url, poolclass=NullPool)), profiler)
        await asyncio.get_running_loop().shutdown_default_executor()
        assert (await get(app)).text == "done"
        async with asyncio.timeout(30):
            await profiler.drain()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(main())
    assert [len(report.trace.statements) for report in reports] == [LARGE_TRACE + 1]
    assert profiler.faults.counts == {}


async def test_a_large_block_is_reported_when_it_ends(engine: AsyncEngine) -> None:
    """A block's report is there after the block, however large it is."""
    with Profiler(sinks=[]).profile("block") as block:
        await ask_often(engine)
    assert len(block.trace.statements) == LARGE_TRACE + 1


async def test_statements_over_the_limit_are_counted_and_not_kept(engine: AsyncEngine) -> None:
    """`max_statements` bounds a trace; what is over is told."""
    with Profiler(Settings(max_statements=3), sinks=[]).profile("block") as block:
        await ask_often(engine, 5)
    assert (len(block.trace.statements), block.trace.dropped) == (3, 2)


async def test_statements_are_cut_at_the_limit(engine: AsyncEngine) -> None:
    """`max_sql_length` bounds the text that is kept."""
    with Profiler(Settings(max_sql_length=10), sinks=[]).profile("block") as block:
        await ask(engine, "a long word")
    assert block.trace.statements[0].sql == "SELECT 'a "


# The end


async def test_a_closed_profiler_passes_requests_through(engine: AsyncEngine) -> None:
    """After `aclose`, which may be called again, requests are answered and nothing is recorded."""
    reports: list[Report] = []
    profiler = Profiler(sinks=[reports.append])
    app = ProfilerMiddleware(asking((engine, "word")), profiler)
    await get(app)
    await profiler.aclose()
    await profiler.aclose()
    assert (await get(app)).text == "done"
    with profiler.profile("closed") as block:
        await ask(engine, "word")
    assert len(reports) == 1
    assert block.trace.statements == ()


async def test_aclose_waits_for_what_is_being_made(engine: AsyncEngine) -> None:
    """No report is lost at the end."""
    reports: list[Report] = []
    profiler = Profiler(detectors=[], sinks=[reports.append])
    await get(ProfilerMiddleware(often(engine), profiler))
    await profiler.aclose()
    assert len(reports) == 1


async def test_aclose_takes_its_listeners_off_engines_of_its_own(engine: AsyncEngine) -> None:
    """Engines that were passed are as before."""
    profiler = Profiler(engines=[engine], sinks=[])
    assert event.contains(engine.sync_engine, "do_execute", listeners.do_execute)
    await profiler.aclose()
    assert not event.contains(engine.sync_engine, "do_execute", listeners.do_execute)


async def test_aclose_leaves_another_profiler_its_engine(engine: AsyncEngine) -> None:
    """Regression: the first profiler to close took the listeners of all others on the same engine with it."""
    detach()
    closed, living = Profiler(engines=[engine], sinks=[]), Profiler(engines=[engine], sinks=[])
    await closed.aclose()
    with living.profile("block") as block:
        await ask(engine, "seen")
    assert words(block.trace) == ["seen"]
    await living.aclose()
    assert not event.contains(engine.sync_engine, "do_execute", listeners.do_execute)


FORK = """
import asyncio, os, sys, threading
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool
from querytoll import Profiler
from querytoll.capture import Window
from querytoll.capture.assemble import Request
from querytoll.profiler import LARGE_TRACE

go_on = threading.Event()
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
profiler = Profiler(detectors=[lambda trace: go_on.wait(30) and [] or []], sinks=[])

def child() -> int:
    go_on.set()
    with profiler.profile("child") as block, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    asyncio.run(profiler.drain())  # the parent's work is the parent's
    os.write(1, f"{block.trace.id} {len(block.trace.statements)}\\n".encode())
    return 0

async def parent() -> None:
    window = profiler.open("request")
    with engine.connect() as connection:
        for _ in range(LARGE_TRACE + 1):
            connection.execute(text("SELECT 1"))
    profiler.close(window, Request())
    pids = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            os._exit(child())
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    go_on.set()
    await profiler.drain()

asyncio.run(parent())
"""


def test_a_forked_worker_profiles_on_its_own() -> None:
    """A process forked while a request is judged records, has ids of its own and does not wait for its parent."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [count for _, count in lines] == ["1", "1"]
    assert len({id for id, _ in lines}) == 2


def test_costs_that_two_threads_tell_are_told_once() -> None:
    """Whoever comes second finds them told, and loses nothing of what others cost."""

    class Meter:
        def __init__(self) -> None:
            self.told: list[float] = []

        def __call__(self, report: Report) -> None: ...
        def internal_error(self, part: Part) -> None: ...
        def spent(self, part: Part, seconds: float) -> None:
            self.told.append(seconds)

    meter = Meter()
    profiler = Profiler(Settings(), sinks=[meter])
    costs, others = profiler._request_costs, profiler._other_costs
    costs.traces, costs.elapsed, costs.detect, others.detect = 1, 1.0, 2e-3, 9e-4
    profiler._account(costs)
    profiler._account(costs)
    assert meter.told == [0.0, 2e-3, 0.0]
    assert profiler._other_costs is others
    profiler._account(others)
    assert meter.told[3:] == [0.0, 9e-4, 0.0]
