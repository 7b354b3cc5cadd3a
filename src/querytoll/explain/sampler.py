"""Slow statements to plans, and plans to reports: the plain plan at once, everything else off the request."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool

from querytoll.advise.index import Suggestion
from querytoll.advise.verify import verified, verify_hypothetically
from querytoll.capture import Window
from querytoll.capture.calls import Call
from querytoll.capture.failure import code_of
from querytoll.capture.sampling import Slow
from querytoll.capture.stalls import overlap
from querytoll.errors import Faults
from querytoll.explain import notices, sqlite
from querytoll.explain.budget import Budget
from querytoll.explain.catalog import Catalog
from querytoll.explain.document import analyse
from querytoll.explain.estimate import Estimate, Limits, estimate
from querytoll.explain.flips import Flips
from querytoll.explain.own import Examined, Wanted, examine, facts, reading, settled
from querytoll.explain.ports import port_of, run
from querytoll.explain.scan import scan
from querytoll.explain.worker import Worker
from querytoll.fingerprint import shape
from querytoll.model import Finding, Ignore, Plan, PlanSource, Report, Shape, Trace
from querytoll.settings import Settings

Outcome = Literal["captured", "cached", "refused", "budget", "timeout", "error"]
"""What became of an EXPLAIN: `cached`: there is a plan already; `budget`: it was not its turn."""

_log = logging.getLogger("querytoll")

STOPPED: Final = frozenset(("57014", "CancelledError", "TimeoutError"))
"""What a statement fails with that took too long; its connection cannot be asked any more."""
TIMEOUTS: Final = frozenset(("57014", "55P03", "TimeoutError", "25P03"))
_PASSING: Final = ("08", "53", "57", "40", "58")
"""SQLSTATE classes of faults that have nothing to do with the statement."""
_SQLSTATE: Final = 5
_MAX_WINDOWS: Final = 1_000
_GRACE_SECONDS: Final = 5.0
"""For everything around an EXPLAIN ANALYZE: the judge, the catalog, the way to the server."""
GENERIC: Final = (
    "The server runs a generic plan for this prepared statement, made without its values; with plan_cache_mode = "
    "force_custom_plan it plans every execution."
)


@dataclass(slots=True)
class Origin:
    """Where samples come from: an open window, or what became of it."""

    trace: Trace | None = None
    pending: int = 0
    ready: list[tuple[tuple[Finding, ...], Plan]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """A statement whose plan is being made; its parameters are in `wanted`, and gone with it."""

    call: Call
    ignores: tuple[Ignore, ...]
    what: Shape
    window: int
    seconds: float
    began: datetime
    done: Future[None] = field(default_factory=Future)


class Sampler:
    """Ask for the plans of slow statements, as far as the budget goes.

    Args:
        settings: the fields named `explain...`, `slow_statement_seconds` and `max_plans`.
        faults: where exceptions of our own end.
        tell: takes a report with plans, from any thread.
        count: takes the outcome of an EXPLAIN and its seconds.
        ignoring: leaves out findings that the application does not want to hear of.
    """

    # The clock is kept as a class attribute, where freezegun does not find it.
    now: Final = staticmethod(time.perf_counter)

    def __init__(
        self,
        settings: Settings,
        *,
        faults: Faults,
        tell: Callable[[Report], None],
        count: Callable[[Outcome, float], None],
        ignoring: Callable[[list[Finding]], list[Finding]] = list,
    ) -> None:
        self.seconds = settings.slow_statement_seconds
        self.flips = Flips(settings.max_plans)
        self._settings = settings
        self._limits = Limits(settings.explain_timeout_seconds, settings.explain_lock_timeout_seconds)
        self._faults = faults
        self._tell = tell
        self._count = count
        self._ignoring = ignoring
        self._noted: set[str] = set()
        self._start()

    def _start(self) -> None:
        """Begin anew, as in a process that was just forked: neither threads nor locks survive that."""
        self._process = os.getpid()
        self._budget = Budget(self._settings)
        self._lock = Lock()
        self._asking = Lock()
        self._origins: OrderedDict[int, Origin] = OrderedDict()
        self._pending: set[Future[None]] = set()
        longest = self._settings.explain_analyze_timeout_seconds
        self._worker = Worker(self._settings.explain_queue, longest + _GRACE_SECONDS, self._faults)

    def listen(self, engines: Iterable[Any] | None) -> None:
        """Take the plans that servers send by themselves, over connections made from now on."""
        for pool in (Pool,) if engines is None else [engine.pool for engine in engines]:
            notices.listen(pool)

    def __call__(self, slow: Slow) -> None:
        sql = slow.call.sql
        stalls = slow.window.stalls() if slow.call.tap.is_async else []
        seconds = slow.ended - slow.started - (overlap(slow.started, slow.ended, stalls) if stalls else 0.0)
        if seconds < self.seconds or (slow.error is not None and slow.error not in STOPPED):
            return
        dialect = slow.context.dialect
        if dialect.name not in ("postgresql", "sqlite"):
            self._note(dialect.name, "%s: no plans of slow statements, which are for PostgreSQL and SQLite")
            return
        if os.getpid() != self._process:
            self._start()
        what = shape(sql)
        if what.control or not scan(sql).explainable or dialect.__dict__.get("_backslash_escapes"):
            self._count("refused", 0.0)
            return
        if denial := self._budget.denial(what.fingerprint):
            self._count(denial, 0.0)
            return
        if not self._asking.acquire(blocking=False):
            self._count("budget", 0.0)
            return
        try:
            self._sample(slow, what, seconds)
        finally:
            self._asking.release()

    def _sample(self, slow: Slow, what: Shape, seconds: float) -> None:
        sample = Sample(slow.call, slow.ignores, what, slow.window.serial, seconds, slow.window.began)
        if slow.context.dialect.name == "sqlite":
            self._sample_sqlite(slow, sample)
            return
        if not self._worker.has_room:
            self._count("budget", 0.0)
            return
        parameters = _of_one_execution(slow)
        known: Estimate | None = None
        if slow.error is None:
            known = self._estimated(slow, what, parameters)
            if known is None:
                return
        analyze = self._settings.explain == "analyze"
        kept = parameters if known is None or (analyze and scan(slow.call.sql).reading) else None
        wanted = Wanted(slow.call.sql, kept, known, seconds, analyze)
        self._open(sample, slow.window)
        if not self._worker.submit(slow.context.engine, functools.partial(self._examine, sample, wanted)):
            self._forget(sample)
            self._end(sample)

    def _estimated(self, slow: Slow, what: Shape, parameters: Any) -> Estimate | None:
        """Ask the statement's own connection, in the middle of the application's work."""
        port = port_of(slow.context._dbapi_connection.dbapi_connection, slow.context.dialect)
        if port is None:
            driver = slow.context.dialect.driver
            self._note(driver, "%s: no plans of slow statements, which are for asyncpg, psycopg and psycopg2")
            return None
        started = self.now()
        outcome: Outcome = "error"
        try:
            known = run(
                port,
                estimate(
                    port,
                    slow.call.sql,
                    parameters,
                    self._limits,
                    settings=self._settings.explain_settings,
                    text=None if slow.call.many else port.text(slow.cursor, slow.call.sql),
                    box=notices.box_of(slow.context._dbapi_connection),
                ),
            )
            outcome = "captured"
            return known
        except Exception as error:
            outcome = self._failed(what, error, slow.context.dialect)
            return None
        finally:
            seconds = self.now() - started
            self._budget.spend(seconds)
            self._count(outcome, seconds)

    def _failed(self, what: Shape, error: Exception, dialect: Any) -> Outcome:
        """Learn from an EXPLAIN that failed: whether to try it again, and whose fault it was."""
        code = code_of(error)
        _log.debug("EXPLAIN of %s failed: %s", what.summary, code)
        if code in TIMEOUTS:
            return "timeout"
        drivers = isinstance(error, dialect.loaded_dbapi.Error | OSError) or type(error).__module__.startswith(
            "asyncpg"
        )
        if not drivers:
            self._faults.caught("explain", error)
        elif len(code) == _SQLSTATE and not code.startswith(_PASSING):
            self._budget.refuse(what.fingerprint)
        return "error"

    def _sample_sqlite(self, slow: Slow, sample: Sample) -> None:
        started = self.now()
        outcome: Outcome = "error"
        try:
            plan, findings = sqlite.explained(slow.context, slow.call.sql, _of_one_execution(slow), sample.what)
            self._open(sample, slow.window)
            self._deliver(sample, plan, findings)
            outcome = "captured"
            self._end(sample)
        except slow.context.dialect.loaded_dbapi.Error:
            self._budget.refuse(sample.what.fingerprint)
        finally:
            self._budget.spend(self.now() - started)
            self._count(outcome, self.now() - started)

    def _examine(self, sample: Sample, wanted: Wanted, connection: Connection | None, fault: Exception | None) -> None:
        """Look at the statement again on a connection of our own, and read what the plan says; on the worker's thread.

        A timeout or a cancellation of the worker's passes through, and brings it here again without a connection.
        """
        started = self.now()
        wanted = settled(wanted)
        if connection is None:
            self._count(_outcome(fault), 0.0)
            plain = Examined(wanted.estimate.document) if wanted.estimate else None
            self._conclude(sample, wanted, plain, None, None)
            return
        examined: Examined | None = None
        outcome: Outcome = "error"
        try:
            longest = self._settings.explain_analyze_timeout_seconds
            examined = examine(connection, wanted, self._limits, longest)
            outcome = "captured" if examined.analyzed or wanted.estimate is None else "refused"
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            outcome = _outcome(error)
        if wanted.analyze or wanted.estimate is None:
            self._budget.spend(self.now() - started)
            self._count(outcome, self.now() - started)
        if examined is None and wanted.estimate is not None:
            examined = Examined(wanted.estimate.document, reason=f"EXPLAIN ANALYZE ended with {outcome}")
        catalog = None
        context = wanted.estimate.context if wanted.estimate else None
        if examined is not None:
            try:
                catalog = facts(connection, examined.document, self._limits, context)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
        self._conclude(sample, wanted, examined, catalog, connection)

    def _conclude(
        self,
        sample: Sample,
        wanted: Wanted,
        examined: Examined | None,
        catalog: Catalog | None,
        connection: Connection | None,
    ) -> None:
        try:
            if examined is None:
                self._forget(sample)
                return
            source: PlanSource = (
                "analyze" if examined.analyzed else wanted.estimate.source if wanted.estimate else "estimate"
            )
            analysis = analyse(
                examined.document,
                catalog,
                source=source,
                fingerprint=sample.what.fingerprint,
                observed=sample.seconds if examined.analyzed else None,
                captured=datetime.now(UTC),
            )
            findings = [_annotated(finding, wanted, examined) for finding in analysis.findings]
            if connection is not None and catalog is not None and "hypopg" in catalog.extensions:
                findings = self._verified(findings, analysis.suggestions, wanted, connection)
            self._deliver(sample, analysis.plan, findings)
        except Exception as fault:
            self._faults.caught("explain", fault)
            self._forget(sample)
        finally:
            self._end(sample)

    def _verified(
        self, findings: list[Finding], suggestions: Sequence[Suggestion], wanted: Wanted, connection: Connection
    ) -> list[Finding]:
        """The findings with the verdict of HypoPG on their indexes, where it is installed."""
        known = {suggestion.public: suggestion for suggestion in suggestions}
        context = wanted.estimate.context if wanted.estimate else None
        told = []
        for finding in findings:
            suggestion = known.get(str(finding.evidence.get("index"))) if finding.rule == "missing-index" else None
            if suggestion is not None and wanted.parameters is not None:
                with reading(connection, self._limits, context):
                    verdict = verify_hypothetically(connection, suggestion, wanted.statement, wanted.parameters)
                finding = verified(finding, verdict) if verdict.method == "hypopg" else finding
            told.append(finding)
        return told

    def _end(self, sample: Sample) -> None:
        self._pending.discard(sample.done)
        if not sample.done.done():
            sample.done.set_result(None)

    def _deliver(self, sample: Sample, plan: Plan, findings: Iterable[Finding]) -> None:
        site = sample.call.stack[0] if sample.call.stack else None
        flip = self.flips.note(plan, sample.seconds, site, sample.what.summary)
        ignored = {each.rule for each in sample.ignores}
        placed = [
            dataclasses.replace(finding, site=site, summary=sample.what.summary)
            for finding in (*findings, *((flip,) if flip else ()))
            if finding.rule not in ignored
        ]
        self._ready(sample, tuple(self._ignoring(placed)), plan)

    # Samples wait for the end of their window: only then has the request its name.

    def _open(self, sample: Sample, window: Window) -> None:
        with self._lock:
            origin = self._origins.setdefault(window.serial, Origin())
            origin.pending += 1
            if window.closed and origin.trace is None:
                elapsed = window.ended - window.started
                origin.trace = Trace(os.urandom(16).hex(), "task", window.name, window.began, elapsed)
            while len(self._origins) > _MAX_WINDOWS:
                self._origins.popitem(last=False)
        self._pending.add(sample.done)

    def _ready(self, sample: Sample, findings: tuple[Finding, ...], plan: Plan) -> None:
        with self._lock:
            origin = self._origins.get(sample.window)
            if origin is None:
                return
            origin.pending -= 1
            if origin.trace is None:
                origin.ready.append((findings, plan))
                return
            self._close(sample.window, origin)
        self._tell(Report(origin.trace, findings, (plan,)))

    def _forget(self, sample: Sample) -> None:
        with self._lock:
            origin = self._origins.get(sample.window)
            if origin is not None:
                origin.pending -= 1
                self._close(sample.window, origin)

    def _close(self, window: int, origin: Origin) -> None:
        if origin.trace is not None and not origin.pending:
            self._origins.pop(window, None)

    def finished(self, window: Window, trace: Trace) -> None:
        """Take the trace of a window that closed: its plans can be told now."""
        if trace.database_seconds:
            self._budget.observe(trace.database_seconds)
        if window.serial not in self._origins:
            return
        with self._lock:
            origin = self._origins.get(window.serial)
            if origin is None or origin.trace is not None:
                return
            origin.trace = trace._replace(
                statements=(), transactions=(), connections=(), controls=0, dropped=0, database_seconds=0.0
            )
            ready, origin.ready = origin.ready, []
            self._close(window.serial, origin)
        for findings, plan in ready:
            self._tell(Report(origin.trace, findings, (plan,)))

    def pending(self) -> list[Future[None]]:
        """Samples under way in this process."""
        return list(self._pending) if os.getpid() == self._process else []

    def close(self) -> None:
        """Close the profiler's own connection; waits for its thread."""
        if os.getpid() == self._process:
            self._worker.close()

    def _note(self, name: str, message: str) -> None:
        if name not in self._noted:
            self._noted.add(name)
            _log.info(message, name)


def _of_one_execution(slow: Slow) -> Any:
    """The parameters of a statement, the first ones of a list for executemany.

    A batch of insertmanyvalues counts as many too, but is one statement with a tuple or a mapping.
    """
    several = slow.call.many and isinstance(slow.parameters, list) and slow.parameters
    return slow.parameters[0] if several else slow.parameters


def _annotated(finding: Finding, wanted: Wanted, examined: Examined) -> Finding:
    """The finding with what is to be known about its plan."""
    evidence = dict(finding.evidence)
    advice = finding.advice
    if examined.reason:
        evidence["not_analyzed"] = examined.reason
    if wanted.estimate is not None and wanted.estimate.generic is not None:
        evidence["generic"] = True
        advice += " " + GENERIC
    return dataclasses.replace(finding, advice=advice, evidence=evidence)


def _outcome(fault: Exception | None) -> Outcome:
    origin = getattr(fault, "orig", None) or fault
    _log.debug("EXPLAIN on a connection of its own failed: %s", code_of(origin) if origin is not None else "lost")
    return "timeout" if origin is not None and code_of(origin) in TIMEOUTS else "error"
