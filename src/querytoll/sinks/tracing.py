"""The current OpenTelemetry span to the id of its trace."""

from __future__ import annotations

import sys


def current_trace_id() -> str | None:
    """Return the current trace's id, 32 hexadecimal digits; None outside of spans and where the trace is not sampled.

    OpenTelemetry is not imported here: an application that makes spans has done so.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "get_current_span"):
        return None
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:  # there is none, which is told without looking into it
        return None
    context = span.get_span_context()
    return format(context.trace_id, "032x") if context.is_valid and context.trace_flags.sampled else None
