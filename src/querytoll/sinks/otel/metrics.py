"""Traces and findings to OpenTelemetry metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from querytoll import __version__
from querytoll.model import Checkout, Report, Statement, Trace
from querytoll.sinks.guard import OTHER, Guard
from querytoll.sinks.otel.attributes import Attributes, database_of, error_of, text
from querytoll.sinks.otel.instrumentation import NAME, SCHEMA_URL

MAX_POOLS: Final = 20
MAX_RULES: Final = 50
MAX_ERRORS: Final = 50
MAX_SETS: Final = 1_000
"""Sets of attributes that an instrument is given as they are; the rest is folded further."""
MAX_REMEMBERED: Final = 5_000
"""Kinds of statements whose attributes are remembered; those of others are made each time."""

DURATION_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Those that the semantic conventions recommend for `db.client.operation.duration`."""


class Metrics:
    """The instruments, and the sets of attributes in use."""

    def __init__(self, provider: MeterProvider | None, *, max_places: int, max_summaries: int) -> None:
        meter = metrics.get_meter(NAME, __version__, provider, SCHEMA_URL)
        self._durations = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._waits = meter.create_histogram(
            "db.client.connection.wait_time",
            unit="s",
            description="The time it took to obtain an open connection from the pool.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._uses = meter.create_histogram(
            "db.client.connection.use_time",
            unit="s",
            description="The time between borrowing a connection and returning it to the pool.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._timeouts = meter.create_counter(
            "db.client.connection.timeouts",
            unit="{timeout}",
            description="Connections that were not to be had from the pool in time.",
        )
        self._findings = meter.create_counter(
            "querytoll.findings", unit="{finding}", description="Faults found, by rule and place."
        )
        self.own_time = meter.create_counter(
            "querytoll.profiler.time", unit="s", description="Time that the profiler itself took."
        )
        self.own_errors = meter.create_counter(
            "querytoll.profiler.errors", unit="{error}", description="Faults of the profiler itself."
        )
        self.sample_rate: float | None = None
        # Observed and not set: older SDKs forget the value of the other kind of gauge at each export.
        meter.create_observable_gauge(
            "querytoll.sample_rate", [self._observe_rate], unit="1", description="Share of requests that is profiled."
        )
        self._pools = Guard(MAX_POOLS)
        self._summaries = Guard(max_summaries)
        self._errors = Guard(MAX_ERRORS)
        self._rules = Guard(MAX_RULES)
        self._places = Guard(max_places)
        self._pairs = Guard(MAX_SETS)
        self._sets = Guard(MAX_SETS)
        self._operations: dict[tuple[str, str, str | None], Attributes] = {}

    def count(self, trace: Trace) -> None:
        """Measure statements and connections."""
        record, known = self._durations.record, self._operations
        for statement in trace.statements:
            key = (statement.engine, statement.shape.summary, statement.error)
            record(statement.elapsed, known.get(key) or self._operation(statement))
        for checkout in trace.connections:
            if checkout.engine:
                self._count_checkout(checkout)

    def count_findings(self, report: Report) -> None:
        """Count findings by rule, severity and place."""
        for finding in report.findings:
            rule = self._rules.fold(text(finding.rule))
            place = _place(report.trace)
            if not self._places.admits(tuple(place.items())) or not self._pairs.admits((rule, *place.items())):
                place = dict.fromkeys(place, OTHER)
            self._findings.add(1, {"querytoll.rule": rule, "querytoll.severity": finding.severity, **place})

    def _observe_rate(self, options: CallbackOptions) -> Iterable[Observation]:
        return () if self.sample_rate is None else (Observation(self.sample_rate),)

    def _operation(self, statement: Statement) -> Attributes:
        """Make the attributes of a statement's duration, and remember them for its like while there is room."""
        database, error = self._database(statement.engine), statement.error
        summary = self._summaries.fold(text(statement.summary))
        if error is not None:
            error = self._errors.fold(error)
        if not self._sets.admits((tuple(database.values()), summary, error)):
            summary = OTHER
        attributes = {**database, "db.query.summary": summary, **(error_of(error) if error is not None else {})}
        if len(self._operations) < MAX_REMEMBERED:
            self._operations[statement.engine, statement.shape.summary, statement.error] = attributes
        return attributes

    def _count_checkout(self, checkout: Checkout) -> None:
        attributes = {**self._database(checkout.engine), "db.client.connection.pool.name": self._pool(checkout.engine)}
        if checkout.error is None:
            self._waits.record(checkout.wait, attributes)
            self._uses.record(checkout.hold, attributes)
        elif checkout.error == "TimeoutError":
            self._timeouts.add(1, attributes)

    def _pool(self, engine: str) -> str:
        return self._pools.fold(text(engine))

    def _database(self, engine: str) -> dict[str, str | int | float]:
        attributes = database_of(engine).attributes
        if self._pool(engine) != OTHER:
            return {**attributes}
        return {"db.system.name": attributes["db.system.name"]}


def _place(trace: Trace) -> dict[str, str]:
    if trace.route is None:
        return {"querytoll.name": text(trace.name)}
    return {"http.request.method": trace.method or "_OTHER", "http.route": text(trace.route)}
