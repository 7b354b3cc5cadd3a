"""Reports to OpenTelemetry: attributes and events of server spans, spans of statements, metrics."""

from __future__ import annotations

from querytoll.errors import MissingExtraError

try:
    from querytoll.sinks.otel.sink import OpenTelemetrySink
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry"):
        raise
    raise MissingExtraError("opentelemetry-api", "otel") from error

__all__ = ["OpenTelemetrySink"]
