"""What OpenTelemetry's SDK was given, in memory, and reports to give it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from querytoll import Finding, Site, Statement, Trace
from querytoll.model import Checkout, Shape
from querytoll.sinks.otel import OpenTelemetrySink

ENGINE = "postgresql+asyncpg://db.internal/shop"
SECRET = "ada@example.com"
SHAPE = Shape("0123456789abcdef", "SELECT * FROM users WHERE email = ?", "SELECT", "SELECT users", ("users",))
SITE = Site("/srv/app/orders.py", 41, "list_orders", "app/orders.py", True)
BEGAN = datetime(2026, 1, 1, 12, 0, 0, 123_457, tzinfo=UTC)
BEGAN_NS = 1_767_268_800_123_457_000


class Signals:
    """Providers of spans and metrics, and what they were given."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.tracer = self.tracers.get_tracer("application")

    def sink(self, **options: Any) -> OpenTelemetrySink:
        """A sink that tells these providers."""
        return OpenTelemetrySink(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, those of a name only."""
        return [span for span in self._exporter.get_finished_spans() if name is None or span.name == name]

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def counts(self, metric: str) -> dict[tuple[tuple[str, object], ...], Any]:
        """The values of a counter or gauge by their attributes, sorted."""
        return {tuple(sorted(point.attributes.items())): point.value for point in self.points(metric)}


def attributes(spanned: Any) -> Mapping[str, Any]:
    """The attributes of a span or event, which always has some here."""
    assert spanned.attributes is not None
    return dict(spanned.attributes)


def below(span: ReadableSpan) -> int:
    """The id of the span's parent, which is in the same trace."""
    assert span.context is not None
    assert span.parent is not None
    assert span.parent.trace_id == span.context.trace_id
    return span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """The span's id."""
    assert span.context is not None
    return span.context.span_id


def statement(**facts: object) -> Statement:
    known: dict[str, object] = {
        "sql": f"SELECT * FROM users WHERE email = '{SECRET}'",
        "shape": SHAPE,
        "started": 0.01,
        "elapsed": 0.002,
        "stack": (SITE,),
        "engine": ENGINE,
    }
    return Statement(**{**known, **facts})  # type: ignore[arg-type]


def checkout(**facts: object) -> Checkout:
    known: dict[str, object] = {
        "engine": ENGINE,
        "began": 0.0,
        "wait": 0.003,
        "hold": 0.02,
        "busy": 0.01,
        "site": SITE,
    }
    return Checkout(**{**known, **facts})  # type: ignore[arg-type]


def trace(*statements: Statement, **facts: object) -> Trace:
    known: dict[str, object] = {
        "id": "a" * 32,
        "kind": "request",
        "name": "GET /orders/{id}",
        "began": BEGAN,
        "elapsed": 0.512,
        "method": "GET",
        "route": "/orders/{id}",
        "path": f"/orders/{SECRET}",
        "status": 200,
        "statements": statements,
        "database_seconds": 0.25,
    }
    return Trace(**{**known, **facts})  # type: ignore[arg-type]


def finding(**facts: object) -> Finding:
    known: dict[str, object] = {
        "rule": "n-plus-one",
        "title": "Order.items loaded 25 times in a loop",
        "advice": "load it with selectinload(Order.items)",
        "site": SITE,
        "fingerprint": SHAPE.fingerprint,
        "summary": SHAPE.summary,
        "count": 25,
        "cost": 0.05,
        "evidence": {"example": SECRET},
    }
    return Finding(**{**known, **facts})  # type: ignore[arg-type]
