"""Reports to attributes and events of the current span, and to spans below it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    set_span_in_context,
)

from querytoll import __version__
from querytoll.model import Finding, Report, Site, Statement, Trace
from querytoll.sinks.otel.attributes import Attributes, database_of, error_of, text
from querytoll.sinks.otel.instrumentation import NAME, SCHEMA_URL, other_instrumentation

MAX_FINDINGS: Final = 50
"""Events that one span gets; `querytoll.findings` is the whole number."""
MAX_STATEMENTS: Final = 200
"""Spans of statements that one trace gets, the first ones; `querytoll.statements` is the whole number."""
MAX_REMEMBERED: Final = 1_000
"""Traces whose findings of plans, which come later, still find their trace."""
FINDINGS_SPAN: Final = "querytoll.findings"
"""Name of the span that holds what is found when the server span has ended."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_log: Final = logging.getLogger("querytoll")


class Spans:
    """Tells reports to the spans that they belong to."""

    def __init__(self, provider: TracerProvider | None, *, statements: bool, query_text: bool) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, provider, SCHEMA_URL)
        self._statements = statements
        self._query_text = query_text
        self._parents = _Parents()
        self._left_to_others = False

    def tell_cost(self, so_far: Callable[[], tuple[int, float]]) -> None:
        """Give the current span the statements and the seconds until now, if it records."""
        span = trace.get_current_span()
        if span.is_recording():
            count, seconds = so_far()
            span.set_attributes({"querytoll.statements": count, "querytoll.database_seconds": seconds})

    def tell(self, report: Report) -> None:
        """Tell the current span what the report says; what it found in a span below, if the span has ended."""
        span = trace.get_current_span()
        context = span.get_span_context()
        if span.is_recording():
            span.set_attributes(_cost(report))
            _add_events(span, report.findings, _ended(report.trace))
        elif report.findings and context.trace_flags.sampled:
            self._make_findings_span(context, report, _ended(report.trace))
        if report.trace.statements and context.trace_flags.sampled:
            self._parents.remember(report.trace.id, context)
            if self._statements:
                self._make_statement_spans(context, report.trace)

    def tell_late(self, report: Report) -> None:
        """Tell findings of plans, read after their statement's request had ended, in a span of their own."""
        parent = self._parents.of(report.trace.id)
        if parent is not None and report.findings:
            self._make_findings_span(parent, report, _nanoseconds(datetime.now(UTC)))

    def _make_findings_span(self, parent: SpanContext, report: Report, moment: int) -> None:
        span = self._tracer.start_span(
            FINDINGS_SPAN,
            set_span_in_context(NonRecordingSpan(parent)),
            SpanKind.INTERNAL,
            {"querytoll.trace_id": report.trace.id, "querytoll.findings": len(report.findings)},
            start_time=moment,
        )
        _add_events(span, report.findings, moment)
        span.end(moment)

    def _make_statement_spans(self, parent: SpanContext, traced: Trace) -> None:
        context = set_span_in_context(NonRecordingSpan(parent))
        began = _nanoseconds(traced.began)
        statements = traced.statements[:MAX_STATEMENTS]
        left = {engine for engine in {statement.engine for statement in statements} if self._is_traced(engine)}
        for statement in statements:
            if statement.engine in left:
                continue
            started = began + round(statement.started * 1e9)
            span = self._tracer.start_span(
                text(statement.summary), context, SpanKind.CLIENT, self._describe(statement), start_time=started
            )
            if statement.error is not None:
                span.set_status(StatusCode.ERROR, text(statement.error))
            span.end(started + round(statement.elapsed * 1e9))

    def _is_traced(self, engine: str) -> bool:
        """Another instrumentation makes spans of the engine's statements; told once."""
        other = other_instrumentation(database_of(engine).driver)
        if other is not None and not self._left_to_others:
            self._left_to_others = True
            _log.warning("statement_spans=True makes no spans of statements that %s makes spans of already", other)
        return other is not None

    def _describe(self, statement: Statement) -> Attributes:
        attributes = {
            **database_of(statement.engine).attributes,
            "db.query.summary": text(statement.summary),
            "querytoll.fingerprint": statement.fingerprint,
            **_code(statement.site),
        }
        if self._query_text:
            attributes["db.query.text"] = text(statement.shape.text)
        if statement.relation is not None:
            attributes["querytoll.relation"] = text(statement.relation)
        if statement.error is not None:
            attributes |= error_of(statement.error)
        return attributes


class _Parents:
    """Contexts of the spans of recent traces, by the trace's id."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, SpanContext] = OrderedDict()
        self._lock = Lock()

    def remember(self, trace_id: str, context: SpanContext) -> None:
        with self._lock:
            self._known[trace_id] = context
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)

    def of(self, trace_id: str) -> SpanContext | None:
        return self._known.get(trace_id)


def _cost(report: Report) -> Attributes:
    traced = report.trace
    return {
        "querytoll.trace_id": traced.id,
        "querytoll.statements": len(traced.statements) + traced.dropped,
        "querytoll.database_seconds": traced.database_seconds,
        "querytoll.findings": len(report.findings),
    }


def _add_events(span: Span, findings: Iterable[Finding], moment: int) -> None:
    for finding in tuple(findings)[:MAX_FINDINGS]:
        span.add_event("querytoll.finding", _facts(finding), moment)


def _facts(finding: Finding) -> Attributes:
    facts: dict[str, str | int | float] = {
        "querytoll.rule": text(finding.rule),
        "querytoll.severity": finding.severity,
        "querytoll.title": text(finding.title),
        "querytoll.advice": text(finding.advice),
        "querytoll.count": finding.count,
        "querytoll.cost_seconds": finding.cost,
        "querytoll.finding_id": finding.id,
        **_code(finding.site),
    }
    if finding.site is not None:
        facts["querytoll.site"] = text(str(finding.site))
    if finding.fingerprint is not None:
        facts["querytoll.fingerprint"] = finding.fingerprint
    if finding.summary is not None:
        facts["db.query.summary"] = text(finding.summary)
    return facts


def _code(site: Site | None) -> dict[str, str | int | float]:
    if site is None:
        return {}
    return {
        "code.file.path": text(site.file),
        "code.line.number": site.line,
        "code.function.name": text(site.function),
    }


def _ended(traced: Trace) -> int:
    return _nanoseconds(traced.began) + round(traced.elapsed * 1e9)


def _nanoseconds(moment: datetime) -> int:
    """Exact, which a float of seconds since 1970 is not."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
