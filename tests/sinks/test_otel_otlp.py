"""Over the wire: exporters of the SDK send OTLP to a socket, where the protocol's own types decode it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Profiler, ProfilerMiddleware, Settings
from querytoll.sinks.otel import OpenTelemetrySink

SERVICES: dict[str, tuple[Any, Any]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


class Collector:
    """Takes OTLP over HTTP, as a Collector does, and keeps the decoded messages."""

    def __init__(self) -> None:
        self.received: Queue[Any] = Queue()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request, response = SERVICES[self.path]
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/x-protobuf"
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                received.put(request.FromString(body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(response().SerializeToString())

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def messages(self, kind: type[Any]) -> list[Any]:
        """What has arrived of a kind."""
        return [message for message in list(self.received.queue) if isinstance(message, kind)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as Python values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip], ids=lambda found: found.value)
async def test_a_collector_gets_it_all(collector: Collector, postgres_url: str, compression: Compression) -> None:
    """Server span, findings, spans of statements and metrics of one request, with their types, and one trace id."""
    resource = Resource.create({"service.name": "shop"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces", compression=compression))
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=f"{collector.url}/v1/metrics", compression=compression),
        export_interval_millis=3_600_000,
    )
    meters = MeterProvider([reader], resource=resource)
    engine = create_async_engine(postgres_url, poolclass=NullPool)
    sink = OpenTelemetrySink(tracer_provider=tracers, meter_provider=meters, statement_spans=True)
    settings = Settings(explain="off", statement_budget=2)
    profiler = Profiler(settings, engines=[engine], sinks=[*Profiler.default_sinks(settings), sink])
    app = FastAPI()

    @app.get("/names")
    async def names() -> None:
        async with engine.connect() as connection:
            for n in range(3):
                await connection.execute(text('SELECT :n AS "naïve — 名前" FROM pg_class LIMIT 1'), {"n": str(n)})

    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    traced = OpenTelemetryMiddleware(app, tracer_provider=tracers)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(traced), base_url="http://shop") as client:
        assert (await client.get("/names")).status_code == 200
    await profiler.aclose()
    await engine.dispose()
    tracers.shutdown()
    meters.shutdown()

    scopes = [
        scoped
        for message in collector.messages(ExportTraceServiceRequest)
        for resourced in message.resource_spans
        for scoped in resourced.scope_spans
    ]
    ours = [span for scoped in scopes if scoped.scope.name == "querytoll" for span in scoped.spans]
    (server,) = [span for scoped in scopes for span in scoped.spans if span.kind == span.SPAN_KIND_SERVER]
    assert values(server.attributes)["querytoll.statements"] == 3
    assert values(server.attributes)["querytoll.database_seconds"] > 0
    assert {span.trace_id for span in ours} == {server.trace_id}
    assert {span.parent_span_id for span in ours} == {server.span_id}
    assert sorted(span.name for span in ours) == ["SELECT pg_class"] * 3 + ["querytoll.findings"]
    (found,) = [span for span in ours if span.name == "querytoll.findings"]
    (event,) = found.events
    assert event.name == "querytoll.finding"
    assert values(event.attributes)["querytoll.rule"] == "too-many-queries"
    statements = [span for span in ours if span.kind == span.SPAN_KIND_CLIENT]
    assert len(statements) == 3
    for span in statements:
        assert server.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano
        assert values(span.attributes)["code.line.number"] > 0

    metrics = {
        metric.name: metric
        for message in collector.messages(ExportMetricsServiceRequest)
        for resourced in message.resource_metrics
        for scoped in resourced.scope_metrics
        for metric in scoped.metrics
    }
    assert set(metrics) >= {
        "db.client.operation.duration",
        "db.client.connection.wait_time",
        "db.client.connection.use_time",
        "querytoll.findings",
        "querytoll.sample_rate",
    }
    duration = metrics["db.client.operation.duration"]
    assert duration.unit == "s"
    (point,) = [
        point
        for point in duration.histogram.data_points
        if values(point.attributes)["db.query.summary"] == "SELECT pg_class"
    ]
    assert point.count == 3
    assert list(point.explicit_bounds) == [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
    assert values(point.attributes)["db.namespace"] == postgres_url.rpartition("/")[2].partition("?")[0]
    (counted,) = metrics["querytoll.findings"].sum.data_points
    assert values(counted.attributes) == {
        "querytoll.rule": "too-many-queries",
        "querytoll.severity": "warning",
        "http.request.method": "GET",
        "http.route": "/names",
    }
