"""Traces of OpenTelemetry as exemplars."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from querytoll import Profiler, ProfilerMiddleware, Settings
from querytoll.model import Report, Shape, Statement, Trace
from querytoll.profiler import LARGE_TRACE
from querytoll.sinks.prometheus import PrometheusSink, exposition
from querytoll.sinks.tracing import current_trace_id

ID = 0x0AF7651916CD43DD8448EB211C80319C
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def span(*, sampled: bool = True, trace_id: int = ID) -> NonRecordingSpan:
    """A span of a distributed trace."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(trace_id, 0xB7AD6B7169203331, is_remote=False, trace_flags=flags))


def exemplars(registry: CollectorRegistry) -> dict[tuple[str, str], tuple[dict[str, str], float]]:
    """Labels and values of the exemplars of an OpenMetrics scrape, by series and bucket."""
    body, _ = exposition(registry, OPENMETRICS)
    return {
        (sample.name.removeprefix("querytoll_"), sample.labels["le"]): (sample.exemplar.labels, sample.exemplar.value)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }


def report(*elapsed: float) -> Report:
    shape = Shape("a" * 16, "SELECT 1", "SELECT", "SELECT")
    statements = tuple(Statement("", shape, 0.0, seconds, engine="shop") for seconds in elapsed)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    seconds = sum(elapsed)
    return Report(
        Trace("b" * 32, "request", "GET /", began, 1.0, statements, method="GET", route="/", database_seconds=seconds)
    )


def test_the_slowest_statement_of_a_trace_is_its_exemplar() -> None:
    """The trace stands at the buckets of its slowest statement and of its time in the database."""
    registry = CollectorRegistry()
    with trace.use_span(span()):
        PrometheusSink(registry)(report(0.002, 0.2, 0.003))
    labels = {"trace_id": TRACE_ID}
    assert exemplars(registry) == {
        ("statement_duration_seconds_bucket", "0.25"): (labels, 0.2),
        ("request_db_seconds_bucket", "0.25"): (labels, pytest.approx(0.205)),
    }


@pytest.mark.parametrize("current", [span(sampled=False), span(trace_id=0), None], ids=["unsampled", "invalid", "none"])
def test_without_a_sampled_span_there_is_no_exemplar(current: NonRecordingSpan | None) -> None:
    """A trace that is not kept anywhere would lead nowhere."""
    registry = CollectorRegistry()
    with trace.use_span(current or trace.INVALID_SPAN):
        assert current_trace_id() is None
        PrometheusSink(registry)(report(0.2))
    assert exemplars(registry) == {}


def test_the_text_format_has_no_exemplars() -> None:
    """A scrape that does not ask for OpenMetrics gets none, and can be read."""
    registry = CollectorRegistry()
    with trace.use_span(span()):
        PrometheusSink(registry)(report(0.2))
    body, _ = exposition(registry, None)
    assert TRACE_ID not in body.decode()


@pytest.mark.parametrize("statements", [1, LARGE_TRACE + 1], ids=["small", "judged in a thread"])
async def test_a_request_belongs_to_the_span_around_it(postgres_url: str, statements: int) -> None:
    """A server span that a middleware outside of ours opened is the request's; one inside has ended."""
    engine = create_async_engine(postgres_url)
    registry = CollectorRegistry()
    profiler = Profiler(Settings(explain="off"), engines=[engine], sinks=[PrometheusSink(registry)])

    async def page(request: Request) -> Response:
        async with engine.connect() as connection:
            for _ in range(statements):
                await connection.execute(text("SELECT 1"))
        with trace.use_span(span(trace_id=7)):
            return Response()

    app = ProfilerMiddleware(Starlette(routes=[Route("/", page)]), profiler)
    with trace.use_span(span()):
        await get(app)
    await profiler.aclose()
    await engine.dispose()
    assert {labels["trace_id"] for labels, _ in exemplars(registry).values()} == {TRACE_ID}


async def get(app: Any) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)


def test_opentelemetry_is_not_imported() -> None:
    """An application that does not use it does not pay for it."""
    code = (
        "import sys; from querytoll.sinks.tracing import current_trace_id; "
        "assert current_trace_id() is None; assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
