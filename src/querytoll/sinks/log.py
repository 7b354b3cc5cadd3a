"""Reports to log lines: one per finding, one per request that was slow in the database."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from querytoll.model import Finding, Report, Severity, Trace
from querytoll.settings import Settings

MAX_REMEMBERED = 1_000
"""Findings whose last line is remembered; while all of them are recent, further ones are counted and not logged."""
MAX_LENGTH = 1_000
"""Characters of one text in the log; the path, for one, comes from the client."""

_LEVELS: dict[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogSink:
    """Log findings to `querytoll.findings` and slow requests to `querytoll.requests`.

    The same finding is logged once per interval; its next line tells how many repetitions were left out.
    Every record carries its facts as attributes named `querytoll_*`, for structured logging.

    Args:
        settings: `slow_request_seconds` is the time in the database above which a request gets its line.
        logger: parent of the two loggers; None: `querytoll`.
        interval_seconds: least time between two lines about one finding.
        clock: seconds that only go forward. A default argument, because freezegun replaces the clocks of modules.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        logger: logging.Logger | None = None,
        interval_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parent = logger or logging.getLogger("querytoll")
        self._findings = parent.getChild("findings")
        self._requests = parent.getChild("requests")
        self._slow_request_seconds = (settings or Settings()).slow_request_seconds
        self._repetitions = _Repetitions(interval_seconds, clock)

    def __call__(self, report: Report) -> None:
        for finding in report.findings:
            self._log_finding(finding, report.trace)
        if report.trace.database_seconds > self._slow_request_seconds:
            self._log_request(report.trace)

    def _log_finding(self, finding: Finding, trace: Trace) -> None:
        level = _LEVELS[finding.severity]
        if not self._findings.isEnabledFor(level):
            return
        suppressed = self._repetitions.due(finding.id)
        if suppressed is None:
            return
        extra = {**_trace_facts(trace), **_finding_facts(finding), "querytoll_suppressed": suppressed}
        self._findings.log(level, _finding_line(finding, trace, suppressed), extra=extra)
        self._log_unnamed()

    def _log_unnamed(self) -> None:
        unnamed = self._repetitions.take_unnamed()
        if unnamed:
            self._findings.warning(
                "%d findings were not logged: over %d different ones at a time", unnamed, MAX_REMEMBERED
            )

    def _log_request(self, trace: Trace) -> None:
        if self._requests.isEnabledFor(logging.INFO):
            self._requests.info(_request_line(trace), extra={**_trace_facts(trace), **_request_facts(trace)})


class _Repetitions:
    """Decides whether a finding is due for a line, and counts what is left out."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = Lock()
        self._logged: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._unnamed = 0

    def due(self, finding_id: str) -> int | None:
        """Repetitions left out since the last line; None where this is one more."""
        now = self._clock()
        with self._lock:
            known = self._logged.get(finding_id)
            if known is not None and now - known[0] < self._interval:
                self._logged[finding_id] = (known[0], known[1] + 1)
                return None
            if known is None and not self._has_room(now):
                self._unnamed += 1
                return None
            self._logged[finding_id] = (now, 0)
            self._logged.move_to_end(finding_id)
            return known[1] if known else 0

    def take_unnamed(self) -> int:
        """Occurrences of findings that there was no room to remember, since the last call."""
        with self._lock:
            unnamed, self._unnamed = self._unnamed, 0
            return unnamed

    def _has_room(self, now: float) -> bool:
        """Drop the finding logged longest ago if there is no room; the lock is held."""
        if len(self._logged) < MAX_REMEMBERED:
            return True
        oldest = next(iter(self._logged))
        if now - self._logged[oldest][0] < self._interval:
            return False
        del self._logged[oldest]
        return True


def _finding_line(finding: Finding, trace: Trace, suppressed: int) -> str:
    place = f" at {finding.site}" if finding.site and str(finding.site) not in finding.title else ""
    since = f" (and {suppressed} times more since)" if suppressed else ""
    return _clean(f"{finding.rule} {trace.name}: {finding.title}{place} - {finding.advice}") + since


def _request_line(trace: Trace) -> str:
    name = _clean(trace.name) if trace.status is None else f"{_clean(trace.name)} {trace.status}"
    sent = len(trace.statements) + trace.dropped
    statements = "1 statement" if sent == 1 else f"{sent} statements"
    database, elapsed = _milliseconds(trace.database_seconds), _milliseconds(trace.elapsed)
    return f"{name}: {statements}, {database} in the database of {elapsed}"


def _trace_facts(trace: Trace) -> dict[str, object]:
    return {
        "querytoll_trace_id": trace.id,
        "querytoll_kind": trace.kind,
        "querytoll_name": _clean(trace.name),
        "querytoll_method": trace.method and _clean(trace.method),
        "querytoll_route": trace.route and _clean(trace.route),
        "querytoll_path": trace.path and _clean(trace.path),
        "querytoll_status": trace.status,
    }


def _finding_facts(finding: Finding) -> dict[str, object]:
    site = finding.site
    return {
        "querytoll_finding_id": finding.id,
        "querytoll_rule": finding.rule,
        "querytoll_severity": finding.severity,
        "querytoll_title": _clean(finding.title),
        "querytoll_advice": _clean(finding.advice),
        "querytoll_count": finding.count,
        "querytoll_cost_seconds": finding.cost,
        "querytoll_file": site and _clean(site.path or site.file),
        "querytoll_line": site and site.line,
        "querytoll_function": site and site.function,
        "querytoll_fingerprint": finding.fingerprint,
        "querytoll_summary": finding.summary and _clean(finding.summary),
    }


def _request_facts(trace: Trace) -> dict[str, object]:
    return {
        "querytoll_statements": len(trace.statements) + trace.dropped,
        "querytoll_database_seconds": trace.database_seconds,
        "querytoll_elapsed_seconds": trace.elapsed,
    }


def _milliseconds(seconds: float) -> str:
    milliseconds = seconds * 1_000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _clean(text: str) -> str:
    """Escape what could forge a line or steer a terminal, and cut what is too long."""
    if len(text) > MAX_LENGTH:
        text = text[: MAX_LENGTH - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
