"""Reports to OpenTelemetry's signals."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from querytoll.errors import Part
from querytoll.model import Report
from querytoll.sinks.otel.metrics import Metrics
from querytoll.sinks.otel.spans import Spans


class OpenTelemetrySink:
    """Tell reports in the trace of the request that they are about, and in metrics.

    The current span, which frameworks and instrumentations make for each request, gets the request's cost and its
    findings; no server span is made here. Where no span is sampled, nothing is made for one. Tests are not told, and a
    block within a profiled request is told with the request.

    Args:
        tracer_provider: None: the global one.
        meter_provider: None: the global one.
        statement_spans: make a client span of each statement, unless another instrumentation is at it.
        query_text: let these spans carry the normalised text, which holds no literal.
        max_routes: pairs of method and route that findings are counted by; the rest has `other`.
        max_fingerprints: summaries of statements that durations are measured by; the rest has `other`.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        statement_spans: bool = False,
        query_text: bool = False,
        max_routes: int = 300,
        max_fingerprints: int = 200,
    ) -> None:
        self._spans = Spans(tracer_provider, statements=statement_spans, query_text=query_text)
        self._metrics = Metrics(meter_provider, max_places=max_routes, max_summaries=max_fingerprints)

    def __call__(self, report: Report) -> None:
        if report.trace.kind == "test":
            return
        self._metrics.count_findings(report)
        if report.plans:  # what came after the trace's own report, which has been told
            self._spans.tell_late(report)
            return
        self._metrics.count(report.trace)
        self._spans.tell(report)

    def answering(self, so_far: Callable[[], tuple[int, float]]) -> None:
        """Tell what a request has cost before its last byte leaves, after which its server span may have ended."""
        self._spans.tell_cost(so_far)

    def spent(self, part: Part, seconds: float) -> None:
        """Count seconds that the profiler itself took."""
        self._metrics.own_time.add(seconds, {"querytoll.part": part})

    def internal_error(self, part: Part) -> None:
        """Count a fault of the profiler itself."""
        self._metrics.own_errors.add(1, {"querytoll.part": part})

    def sampled(self, rate: float) -> None:
        """Take the share of requests that is profiled."""
        self._metrics.sample_rate = rate
