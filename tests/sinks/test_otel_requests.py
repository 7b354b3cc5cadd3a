"""Requests of real applications under the instrumentations that make server spans, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from querytoll import Profiler, ProfilerMiddleware, Settings
from querytoll.profiler import LARGE_TRACE
from querytoll.testing import record
from tests.sinks.signals import Signals, attributes, below, id_of

Serve = Callable[..., ASGIApp]


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_url, poolclass=NullPool)
    yield engine
    await engine.dispose()


async def ask(engine: AsyncEngine, times: int) -> None:
    """Send one statement again and again; from eleven times on it is too many."""
    async with engine.connect() as connection:
        for n in range(times):
            await connection.execute(text("SELECT relname FROM pg_class WHERE oid = :oid"), {"oid": n})


def build(engine: AsyncEngine, **options: Any) -> FastAPI:
    """An application whose requests send as many statements as their path says."""
    app = FastAPI(**options)

    @app.get("/ask/{times}")
    async def asking(times: int) -> int:
        await ask(engine, times)
        return times

    @app.get("/stream/{times}")
    async def streaming(times: int) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(times):
                await ask(engine, 1)
                yield b"."

        return StreamingResponse(chunks())

    @app.get("/later/{times}")
    async def later(times: int, tasks: BackgroundTasks) -> None:
        await ask(engine, 1)
        tasks.add_task(ask, engine, times)

    @app.get("/fail/{times}")
    async def failing(times: int) -> None:
        await ask(engine, times)
        raise RuntimeError("the application's own")

    return app


def native(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
    """FastAPI's own spans."""
    pytest.importorskip("fastapi.telemetry")
    app = build(engine, telemetry={"tracer_provider": signals.tracers, "meter_provider": signals.meters})
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    return app


def contrib(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
    """OpenTelemetry's instrumentation of FastAPI."""
    app = build(engine)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=signals.tracers, meter_provider=signals.meters)
    return app


def both(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
    """OpenTelemetry's instrumentation of a FastAPI that could make spans of its own."""
    pytest.importorskip("fastapi.telemetry")
    app = native(signals, engine, profiler)
    assert isinstance(app, FastAPI)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=signals.tracers, meter_provider=signals.meters)
    return app


def asgi(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
    """OpenTelemetry's middleware around any application."""
    app = build(engine)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    wrapped: ASGIApp = OpenTelemetryMiddleware(app, tracer_provider=signals.tracers, meter_provider=signals.meters)
    return wrapped


def starlette(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
    """Starlette's middleware, whose span ends with the call of the application."""
    module = pytest.importorskip("starlette.middleware.opentelemetry")
    app = build(engine)
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    wrapped: ASGIApp = module.OpenTelemetryMiddleware(
        app, tracer_provider=signals.tracers, meter_provider=signals.meters
    )
    return wrapped


INSTRUMENTATIONS = [native, contrib, both, asgi, starlette]
every_instrumentation = pytest.mark.parametrize("instrument", INSTRUMENTATIONS, ids=lambda found: found.__name__)


async def get(app: ASGIApp, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get(path)


def profiler_of(signals: Signals, engine: AsyncEngine, **options: Any) -> Profiler:
    return Profiler(Settings(explain="off", statement_budget=10), engines=[engine], sinks=[signals.sink(**options)])


async def serve(
    signals: Signals, engine: AsyncEngine, instrument: Callable[..., ASGIApp], path: str, **options: Any
) -> ReadableSpan:
    """Answer one request; the one server span."""
    profiler = profiler_of(signals, engine, **options)
    await get(instrument(signals, engine, profiler), path)
    await profiler.aclose()
    assert profiler.faults.counts == {}
    (span,) = [span for span in signals.spans() if span.kind == SpanKind.SERVER]
    return span


def rules(span: ReadableSpan) -> list[object]:
    return [attributes(event)["querytoll.rule"] for event in span.events if event.name == "querytoll.finding"]


def told(signals: Signals) -> list[tuple[ReadableSpan, object]]:
    """Rules of the findings, with the span that tells each."""
    return [(span, rule) for span in signals.spans() for rule in rules(span)]


@every_instrumentation
async def test_a_request_has_one_server_span_with_its_cost(
    signals: Signals, engine: AsyncEngine, instrument: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever makes the span, and however early it ends, it has the statements and the seconds of its request."""
    span = await serve(signals, engine, instrument, "/ask/3")
    assert attributes(span)["querytoll.statements"] == 3
    assert attributes(span)["querytoll.database_seconds"] > 0
    assert told(signals) == []
    assert signals.spans("querytoll.findings") == []
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@every_instrumentation
async def test_findings_are_in_the_trace_of_their_request(
    signals: Signals, engine: AsyncEngine, instrument: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """On the server span while it records, else on a span below it."""
    server = await serve(signals, engine, instrument, "/ask/12")
    ((span, rule),) = told(signals)
    assert rule == "too-many-queries"
    assert attributes(server)["querytoll.statements"] == 12
    if instrument is starlette:
        assert span is server
        assert attributes(server)["querytoll.findings"] == 1
    else:
        assert span.name == "querytoll.findings"
        assert below(span) == id_of(server)
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@every_instrumentation
async def test_spans_of_statements_are_below_the_server_span(
    signals: Signals, engine: AsyncEngine, instrument: Serve
) -> None:
    """Each statement once, with its place in the application, after the request has begun."""
    server = await serve(signals, engine, instrument, "/ask/3", statement_spans=True)
    spans = signals.spans("SELECT pg_class")
    assert [below(span) for span in spans] == [id_of(server)] * 3
    assert [attributes(span)["code.function.name"] for span in spans] == ["ask"] * 3
    assert {attributes(span)["db.system.name"] for span in spans} == {"postgresql"}
    assert len({(span.start_time, span.end_time) for span in spans}) == 3


async def test_a_large_trace_is_told_from_a_thread(signals: Signals, engine: AsyncEngine) -> None:
    """What is judged off the event loop still belongs to its request."""
    server = await serve(signals, engine, native, f"/ask/{LARGE_TRACE + 1}", statement_spans=True)
    assert attributes(server)["querytoll.statements"] == LARGE_TRACE + 1
    found = signals.spans("querytoll.findings")
    assert [below(span) for span in found] == [id_of(server)]
    assert {below(span) for span in signals.spans("SELECT pg_class")} == {id_of(server)}
    (point,) = [
        point
        for point in signals.points("db.client.operation.duration")
        if attributes(point)["db.query.summary"] == "SELECT pg_class"
    ]
    assert point.count == LARGE_TRACE + 1


async def test_the_middleware_may_be_in_a_task_of_its_own(signals: Signals, engine: AsyncEngine) -> None:
    """Starlette's BaseHTTPMiddleware runs what is below it in another task, and sends from there."""

    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    def instrument(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
        app = contrib(signals, engine, profiler)
        assert isinstance(app, FastAPI)
        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
        app.user_middleware.append(app.user_middleware.pop(0))
        return app

    server = await serve(signals, engine, instrument, "/ask/12")
    assert attributes(server)["querytoll.statements"] == 12
    assert [rule for _, rule in told(signals)] == ["too-many-queries"]


async def test_spans_of_the_application_are_left_alone(signals: Signals, engine: AsyncEngine) -> None:
    """A span that is current while the response is sent, within the profiled part, is not the request's."""

    class Spanning:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            with signals.tracer.start_as_current_span("the application's own"):
                await self.app(scope, receive, send)

    def instrument(signals: Signals, engine: AsyncEngine, profiler: Profiler) -> ASGIApp:
        app = native(signals, engine, profiler)
        assert isinstance(app, FastAPI)
        app.user_middleware.append(Middleware(Spanning))
        return app

    server = await serve(signals, engine, instrument, "/ask/3")
    assert attributes(server)["querytoll.statements"] == 3
    (own,) = signals.spans("the application's own")
    assert not own.attributes


@pytest.mark.parametrize("instrument", [native, asgi], ids=["native", "asgi"])
async def test_a_stream_is_told_with_all_of_it(signals: Signals, engine: AsyncEngine, instrument: Serve) -> None:
    """Statements between the chunks count."""
    server = await serve(signals, engine, instrument, "/stream/4")
    assert attributes(server)["querytoll.statements"] == 4


@pytest.mark.parametrize("instrument", [native, contrib], ids=["native", "contrib"])
async def test_what_runs_after_the_response_is_told_below(
    signals: Signals, engine: AsyncEngine, instrument: Serve
) -> None:
    """The server span has ended with the response: it has what came before, the findings have the rest."""
    server = await serve(signals, engine, instrument, "/later/12")
    assert attributes(server)["querytoll.statements"] == 1
    ((span, rule),) = told(signals)
    assert (rule, below(span)) == ("too-many-queries", id_of(server))


@pytest.mark.parametrize("instrument", INSTRUMENTATIONS, ids=lambda found: found.__name__)
async def test_a_request_that_fails_is_told(signals: Signals, engine: AsyncEngine, instrument: Serve) -> None:
    """The exception passes, and the span has the cost of what was done until then."""
    server = await serve(signals, engine, instrument, "/fail/12")
    assert attributes(server)["querytoll.statements"] == 12
    assert [rule for _, rule in told(signals)] == ["too-many-queries"]


async def test_requests_at_the_same_time_are_kept_apart(signals: Signals, engine: AsyncEngine) -> None:
    """Each span has its own request's numbers, below and on it."""
    profiler = profiler_of(signals, engine, statement_spans=True)
    app = native(signals, engine, profiler)
    await asyncio.gather(*[get(app, f"/ask/{times}") for times in (1, 2, 3, 12, 13)])
    await profiler.aclose()
    servers = {id_of(span): span for span in signals.spans("GET /ask/{times}")}
    assert sorted(attributes(span)["querytoll.statements"] for span in servers.values()) == [1, 2, 3, 12, 13]
    for number, span in servers.items():
        children = [child for child in signals.spans("SELECT pg_class") if below(child) == number]
        assert len(children) == attributes(span)["querytoll.statements"]
    assert {attributes(servers[below(span)])["querytoll.statements"] for span, _ in told(signals)} == {12, 13}


async def test_statements_that_asyncpgs_instrumentation_sees_have_one_span(
    signals: Signals, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is at work below SQLAlchemy: querytoll leaves the spans to it, and tells the rest all the same."""
    AsyncPGInstrumentor().instrument(tracer_provider=signals.tracers)
    try:
        server = await serve(signals, engine, native, "/ask/12", statement_spans=True)
    finally:
        AsyncPGInstrumentor().uninstrument()
    assert attributes(server)["querytoll.statements"] == 12
    selects = [span for span in signals.spans() if span.kind == SpanKind.CLIENT and "SELECT" in span.name]
    assert len(selects) == 12
    assert {span.instrumentation_scope.name for span in selects if span.instrumentation_scope} == {
        "opentelemetry.instrumentation.asyncpg"
    }
    assert [rule for _, rule in told(signals)] == ["too-many-queries"]
    assert sum("opentelemetry.instrumentation.asyncpg" in message for message in caplog.messages) == 1


async def test_a_block_is_told_on_the_span_around_it(signals: Signals, engine: AsyncEngine) -> None:
    """A job has the span that the application made for it."""
    profiler = profiler_of(signals, engine)
    with signals.tracer.start_as_current_span("nightly"), profiler.profile("import"):
        await ask(engine, 12)
    await profiler.aclose()
    (span,) = signals.spans()
    assert attributes(span)["querytoll.statements"] == 12
    assert rules(span) == ["too-many-queries"]


async def test_a_block_within_a_request_is_told_with_the_request(signals: Signals, engine: AsyncEngine) -> None:
    """Its statements and findings are the request's: once on the span, once in the metrics."""
    profiler = profiler_of(signals, engine)
    app = build(engine)

    @app.get("/import")
    async def importing() -> None:
        with profiler.profile("outer"), profiler.profile("inner"):
            await ask(engine, 12)

    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    traced = OpenTelemetryMiddleware(app, tracer_provider=signals.tracers)
    await get(traced, "/import")
    await profiler.aclose()
    assert [rule for _, rule in told(signals)] == ["too-many-queries"]
    (point,) = [
        point
        for point in signals.points("db.client.operation.duration")
        if attributes(point)["db.query.summary"] == "SELECT pg_class"
    ]
    assert point.count == 12


async def test_what_is_wrong_with_a_plan_is_in_the_trace_of_the_request(signals: Signals, engine: AsyncEngine) -> None:
    """The plan is read when the request is over, by another thread, and counted once."""
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE TABLE paint AS SELECT n AS id, n % 1000 AS colour FROM generate_series(1, 100000) n")
        )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE paint"))
    settings = Settings(slow_statement_seconds=1e-6)
    profiler = Profiler(settings, engines=[engine], detectors=[], sinks=[signals.sink(statement_spans=True)])
    app = FastAPI()

    @app.get("/paint")
    async def paint() -> int:
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT id FROM paint WHERE colour = :colour"), {"colour": 7})
            return len(found.all())

    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    assert (await get(OpenTelemetryMiddleware(app, tracer_provider=signals.tracers), "/paint")).json() == 100
    await profiler.aclose()
    (server,) = [span for span in signals.spans() if span.kind == SpanKind.SERVER]
    (late,) = signals.spans("querytoll.findings")
    assert below(late) == id_of(server)
    assert "seq-scan-filter" in rules(late)
    assert len(signals.spans("SELECT paint")) == 1
    assert sum(point.count for point in signals.points("db.client.operation.duration")) == 1
    assert sum(signals.counts("querytoll.findings").values()) == len(rules(late))


async def test_a_recording_of_a_test_hides_nothing(signals: Signals, engine: AsyncEngine) -> None:
    """What a test records around the application's work is not told itself, and keeps nothing from being told."""
    profiler = profiler_of(signals, engine)
    async with record():
        with signals.tracer.start_as_current_span("nightly"), profiler.profile("import"):
            await ask(engine, 3)
    await profiler.aclose()
    assert attributes(signals.spans()[0])["querytoll.statements"] == 3
