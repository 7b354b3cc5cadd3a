"""The composition root: settings, capture, detectors and sinks become one profiler."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from weakref import WeakSet

from querytoll.backoff import LONGEST_SECONDS, BackOff
from querytoll.capture import Capture, Window, attach, detach, pools, reads
from querytoll.capture.assemble import Request, assemble, so_far
from querytoll.capture.connections import watch_engine
from querytoll.detect import Ignoring, default_detectors, judge
from querytoll.errors import ConfigurationError, Faults, Part, WindowError
from querytoll.explain.sampler import Outcome, Sampler
from querytoll.middleware import install_default
from querytoll.model import Detector, Kind, Report, Sink, Trace
from querytoll.settings import Settings
from querytoll.sinks.log import LogSink
from querytoll.sinks.prometheus import PrometheusSink, exposition
from querytoll.sinks.protocols import AnswerSink, BackgroundSink, CostSink, ExplainSink, PoolSink, SamplingSink
from querytoll.web import metrics_endpoint

LARGE_TRACE: Final = 500
"""Statements above which a request is judged in a thread, so that the event loop goes on."""
_TOLD_SECONDS: Final = 0.001
"""The profiler's own cost is told so much at a time, or more."""
# The application may have seeded the common generator, and counts on the numbers that it gives.
_random: Final = random.Random()
_living: Final[WeakSet[Profiler]] = WeakSet()


class Profiler:
    """Profile requests and blocks.

    Args:
        settings: None: from the environment.
        engines: `Engine`s and `AsyncEngine`s to profile; None: every engine of the process, made before or after.
        detectors: None: `Profiler.default_detectors()`.
        sinks: None: `Profiler.default_sinks()`.

    Attributes:
        active: it profiles: it is switched on, and not closed.
        server_timing: as `Settings.server_timing`.
        answering: to be called before a request's last byte leaves; None where no sink wants to know.

    Raises:
        ConfigurationError: an engine, detector or sink is none.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engines: Iterable[Any] | None = None,
        detectors: Iterable[Detector] | None = None,
        sinks: Iterable[Sink] | None = None,
    ) -> None:
        self.settings = settings if settings is not None else Settings()
        self._engines = None if engines is None else [_engine(engine) for engine in _listed("engine", engines)]
        rules = self.default_detectors(self.settings) if detectors is None else detectors
        self._detectors: list[Detector] = _callables("detector", rules)
        self._ignoring = Ignoring(self.settings.ignore)
        self._sinks: list[Any] = _callables("sink", self.default_sinks(self.settings) if sinks is None else sinks)
        self._meters: list[CostSink] = [sink for sink in self._sinks if isinstance(sink, CostSink)]
        self._explain_meters: list[ExplainSink] = [sink for sink in self._sinks if isinstance(sink, ExplainSink)]
        self._rate_meters: list[SamplingSink] = [sink for sink in self._sinks if isinstance(sink, SamplingSink)]
        self._answer_sinks: list[AnswerSink] = [sink for sink in self._sinks if isinstance(sink, AnswerSink)]
        self._backoff = BackOff(self.settings.sample_rate, self.settings.max_self_share)
        self._busy_sinks: list[BackgroundSink] = [sink for sink in self._sinks if isinstance(sink, BackgroundSink)]
        self._accounting = Lock()
        self._request_costs = _Costs(requests=True)
        self._other_costs = _Costs()
        self._max_sql_length = self.settings.max_sql_length
        self._background: dict[Future[None], int] = {}
        self.active = self.settings.enabled
        self.server_timing = self.settings.server_timing
        self.answering: Callable[[Window], None] | None = self._answering if self._answer_sinks else None
        self.faults = Faults(self._tell_fault)
        for sink in self._busy_sinks:
            sink.attend(self.faults)
        self._capture = Capture.of(
            self.settings,
            faults=self.faults,
            only=None if self._engines is None else frozenset(id(engine.dialect) for engine in self._engines),
            outlived=functools.partial(self.close, request=None),
        )
        self._sampler = self._sampling() if self.settings.enabled and self.settings.explain != "off" else None
        self.metrics_endpoint = metrics_endpoint(exposition_of(self._sinks))
        if self.settings.enabled:
            attach(self._engines)
            self._meter_pools()
            if self.settings.watch_loads:
                reads.attach()
            _living.add(self)
            self._tell_rate()

    @staticmethod
    def default_detectors(settings: Settings | None = None) -> list[Detector]:
        """Return the rules that are on when none are passed."""
        return default_detectors(settings if settings is not None else Settings())

    @staticmethod
    def default_sinks(settings: Settings | None = None) -> list[Sink]:
        """Return the log and Prometheus' default registry."""
        settings = settings if settings is not None else Settings()
        return [
            LogSink(settings),
            PrometheusSink(max_routes=settings.max_routes, max_fingerprints=settings.max_fingerprints),
        ]

    def _answering(self, window: Window) -> None:
        for sink in self._answer_sinks:
            try:
                sink.answering(functools.partial(so_far, window))
            except Exception as fault:
                self.faults.caught("sinks", fault)

    def profile(self, name: str) -> Profile:
        """Profile a block of sync or async code: `with profiler.profile("nightly-import") as window: ...`.

        `sample_rate` does not hold for it; switched off or closed, the profiler gives it an empty trace. Inside of a
        request or another block of this profiler it has a report of its own, and the sinks are told of the outer one.
        """
        return Profile(self, name)

    def open(self, kind: Kind) -> Window | None:
        """Open the window of a request; None when profiling is off or the request is not in the sample."""
        if not self.active:
            return None
        rate = self._backoff.rate
        if rate < 1.0 and _random.random() >= rate:
            return None
        return Window(self._capture, kind, "").open()

    def close(self, window: Window, request: Request | None) -> None:
        """Close a window, judge its trace and tell the sinks; a large one in a thread."""
        if not window.closed:
            window.close()
        if len(window.rows) <= LARGE_TRACE or (loop := asyncio._get_running_loop()) is None:
            self.deliver(window, request)
            return
        # Not the loop's own future: whoever drains may run on another loop, or in a process forked since.
        job: Future[None] = Future()
        job.set_running_or_notify_cancel()
        self._background[job] = os.getpid()
        job.add_done_callback(lambda done: self._background.pop(done, None))
        try:
            # In the request's context: sinks may ask for its span.
            loop.run_in_executor(None, contextvars.copy_context().run, self._deliver_large, job, window, request)
        except RuntimeError:  # the loop is shutting down, and its threads with it
            self._deliver_large(job, window, request)

    def deliver(self, window: Window, request: Request | None = None, *, tell: bool = True) -> Report:
        """Turn a closed window into a report, and hand it to the sinks. Never raises for a fault of theirs or ours.

        Args:
            window: closed.
            request: what the middleware knows of it.
            tell: False: another report will hold the same statements; the sinks wait for that one.
        """
        now = window.now
        started = now()
        try:
            trace = assemble(window, request, max_sql_length=self._max_sql_length)
        except Exception as fault:
            self.faults.caught("capture", fault)
            return Report(_unread(window))
        assembled = now()
        try:
            report = judge(trace, self._detectors, self.faults, self._ignoring)
        except Exception as fault:
            self.faults.caught("detect", fault)
            report = Report(trace)
        judged = now()
        if tell:
            self._tell(report)
        if self._sampler is not None and tell:
            try:
                self._sampler.finished(window, trace)
            except Exception as fault:
                self.faults.caught("explain", fault)
        told = now()
        # Without a lock: of what threads add at the same moment, some may be lost.
        costs = self._request_costs if window.kind == "request" else self._other_costs
        elapsed = window.ended - window.started
        costs.traces += 1
        costs.elapsed += elapsed if elapsed < LONGEST_SECONDS else LONGEST_SECONDS
        costs.capture += assembled - started
        costs.detect += judged - assembled
        costs.sinks += told - judged
        if costs.capture + costs.detect + costs.sinks >= _TOLD_SECONDS:
            self._account(costs)
        return report

    def _tell(self, report: Report) -> None:
        for sink in self._sinks:
            try:
                sink(report)
            except Exception as fault:
                self.faults.caught("sinks", fault)

    def _sampling(self) -> Sampler:
        """Make the sampler of slow statements, and let the windows give them to it."""
        sampler = Sampler(
            self.settings,
            faults=self.faults,
            tell=self._tell,
            count=self._count_explain,
            ignoring=self._ignoring.apply,
        )
        sampler.listen(self._engines)
        self._capture.sampler = sampler
        self._capture.sampler_seconds = sampler.seconds
        return sampler

    def _meter_pools(self) -> None:
        """Let the sinks see what the pools of the engines do."""
        try:
            meters = [sink.pool_meter for sink in self._sinks if isinstance(sink, PoolSink)]
            pools.meter(self, meters, self._capture.only)
            for engine in self._engines or ():
                watch_engine(engine)
        except Exception as fault:
            self.faults.caught("capture", fault)

    def _count_explain(self, outcome: Outcome, seconds: float) -> None:
        for meter in self._explain_meters:
            try:
                meter.explained(outcome, seconds)
            except Exception as fault:
                self.faults.caught("sinks", fault)

    def _deliver_large(self, job: Future[None], window: Window, request: Request | None) -> None:
        try:
            self.deliver(window, request)
        finally:
            job.set_result(None)

    async def drain(self) -> None:
        """Wait until every report and every plan that is being made has reached the sinks and where they take it."""
        while jobs := self._under_way():
            await asyncio.gather(*map(asyncio.wrap_future, jobs))
        await asyncio.gather(*(asyncio.wrap_future(job) for sink in self._busy_sinks for job in sink.pending()))

    def _under_way(self) -> list[Future[None]]:
        """Reports of large traces, and samples of slow statements."""
        reports = [job for job, process in self._background.copy().items() if process == os.getpid()]
        return reports + (self._sampler.pending() if self._sampler is not None else [])

    async def aclose(self) -> None:
        """Stop profiling, after `drain`; listeners on engines that no other profiler has are removed."""
        self.active = False
        await self.drain()
        pools.unmeter(self)
        if self._sampler is not None:
            await asyncio.to_thread(self._sampler.close)
        if self.settings.watch_loads and not any(other.active and other.settings.watch_loads for other in _living):
            reads.detach()
        if self._engines is not None:
            others = [engine for other in _living if other.active for engine in other._engines or ()]
            detach(engine for engine in self._engines if engine not in others)

    def _account(self, costs: _Costs) -> None:
        """Tell the profiler's own cost, and back off where it is too much."""
        with self._accounting:
            if costs is self._request_costs:
                self._request_costs = _Costs(requests=True)
            elif costs is self._other_costs:
                self._other_costs = _Costs()
            else:
                return  # another thread has told them
        if costs.requests and self._backoff.spent(
            costs.capture + costs.detect + costs.sinks, costs.elapsed, costs.traces
        ):
            self._tell_rate()
        parts: tuple[tuple[Part, float], ...]
        parts = ("capture", costs.capture), ("detect", costs.detect), ("sinks", costs.sinks)
        for meter in self._meters:
            for part, seconds in parts:
                try:
                    meter.spent(part, seconds)
                except Exception as fault:
                    self.faults.caught("sinks", fault)

    def _tell_rate(self) -> None:
        for meter in self._rate_meters:
            try:
                meter.sampled(self._backoff.rate)
            except Exception as fault:
                self.faults.caught("sinks", fault)

    def _tell_fault(self, part: Part) -> None:
        for meter in self._meters:
            meter.internal_error(part)


def _tell_shared_fault(part: Part) -> None:
    """Tell every profiler's sinks of a fault in what profilers share; sinks that share their numbers, once."""
    living = [meter for profiler in tuple(_living) if profiler.active for meter in profiler._meters]
    for meter in {id(getattr(meter, "pool_meter", meter)): meter for meter in living}.values():
        meter.internal_error(part)


pools.on_fault.append(_tell_shared_fault)


@dataclass(slots=True)
class _Costs:
    """Traces, their seconds, and the profiler's own seconds for them by part, until somebody is told of them."""

    requests: bool = False
    traces: int = 0
    elapsed: float = 0.0
    capture: float = 0.0
    detect: float = 0.0
    sinks: float = 0.0


class Profile:
    """A profiled block, as a sync or async context manager.

    Attributes:
        trace: what the block did; once it has ended.
        report: the same with the findings.
    """

    def __init__(self, profiler: Profiler, name: str) -> None:
        self.name = name
        self._profiler = profiler
        self._window: Window | None = None
        self._active = False
        self._outermost = True
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """The block's report.

        Raises:
            WindowError: the block has not ended.
        """
        if self._report is None:
            raise WindowError(f"profile({self.name!r}) has no report yet: read it after the `with` block")
        return self._report

    @property
    def trace(self) -> Trace:
        """The block's trace.

        Raises:
            WindowError: the block has not ended.
        """
        return self.report.trace

    def __enter__(self) -> Profile:
        if self._window is not None:
            raise WindowError(f"profile({self.name!r}) was entered twice: call profiler.profile() for each block")
        self._window = Window(self._profiler._capture, "block", self.name)
        self._active = self._profiler.active
        if self._active:
            self._window.open()
            self._outermost = not self._window.is_within_another()
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._window is not None
        self._window.close()
        if self._active:
            self._report = self._profiler.deliver(self._window, tell=self._outermost)
        else:
            self._report = Report(_unread(self._window))

    async def __aenter__(self) -> Profile:
        return self.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self.__exit__()


@functools.cache
def default_profiler() -> Profiler:
    """Return the process' default profiler: settings from the environment, every engine, default sinks."""
    return Profiler()


def exposition_of(sinks: Iterable[Sink]) -> Any:
    """Return the exposition of the first Prometheus sink's registry, else of the default registry."""
    registry = next((sink.registry for sink in sinks if isinstance(sink, PrometheusSink)), None)
    return functools.partial(exposition, registry)


def _unread(window: Window) -> Trace:
    """The trace of a window whose statements are not to be had."""
    return Trace(
        id=os.urandom(16).hex(),
        kind=window.kind,
        name=window.name,
        began=window.began,
        elapsed=window.ended - window.started,
    )


def _engine(candidate: Any) -> Any:
    sync = getattr(candidate, "sync_engine", candidate)
    if not hasattr(sync, "dialect") or not hasattr(sync, "pool"):
        # Its type alone: a URL holds a password.
        raise ConfigurationError(
            f"engines: expected Engine or AsyncEngine, got {_kind(candidate)}; pass what create_engine() "
            "or create_async_engine() returned"
        )
    return sync


def _callables(what: str, candidates: Iterable[Any]) -> list[Any]:
    found = _listed(what, candidates)
    for candidate in found:
        if isinstance(candidate, type):
            raise ConfigurationError(
                f"{what}s: {candidate.__name__} is a class; pass an instance: {candidate.__name__}()"
            )
        if not callable(candidate):
            raise ConfigurationError(f"{what}s: {candidate!r} cannot be called; a {what} is a function of one argument")
        if inspect.iscoroutinefunction(candidate) or inspect.iscoroutinefunction(type(candidate).__call__):
            raise ConfigurationError(
                f"{what}s: {candidate!r} is async, and nobody would await it; a {what} is a plain function "
                "that may be called from any thread: let it put the work into a queue"
            )
    return found


def _listed(what: str, candidates: Any) -> list[Any]:
    if isinstance(candidates, str) or not isinstance(candidates, Iterable):
        raise ConfigurationError(f"{what}s: expected a list, got {_kind(candidates)}; write {what}s=[{what}]")
    return list(candidates)


def _kind(candidate: object) -> str:
    name = type(candidate).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


install_default(default_profiler)
