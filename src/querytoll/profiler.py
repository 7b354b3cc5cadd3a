"""The composition root: settings, capture, detectors and sinks become one profiler."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterable
from typing import Any, Final, Protocol, runtime_checkable

from querytoll.capture import Capture, Window, attach, detach
from querytoll.capture.assemble import Request, assemble
from querytoll.detect import default_detectors, judge
from querytoll.errors import ConfigurationError, Faults, Part, WindowError
from querytoll.middleware import install_default
from querytoll.model import Detector, Kind, Report, Sink, Trace
from querytoll.settings import Settings
from querytoll.sinks.log import LogSink
from querytoll.sinks.prometheus import PrometheusSink, exposition
from querytoll.web import metrics_endpoint

LARGE_TRACE: Final = 500
"""Statements above which a request is judged in a thread, so that the event loop goes on."""
_TOLD_SECONDS: Final = 0.001


@runtime_checkable
class CostSink(Protocol):
    """A sink that also takes the profiler's own faults and seconds."""

    def internal_error(self, part: Part) -> None: ...
    def spent(self, part: Part, seconds: float) -> None: ...


class Profiler:
    """Profile requests and blocks.

    Args:
        settings: None: from the environment.
        engines: `Engine`s and `AsyncEngine`s to profile; None: every engine of the process, made before or after.
        detectors: None: `Profiler.default_detectors()`.
        sinks: None: `Profiler.default_sinks()`.

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
        self._engines = None if engines is None else [_engine(engine) for engine in engines]
        rules = self.default_detectors(self.settings) if detectors is None else detectors
        self._detectors: list[Detector] = _callables("detector", rules)
        self._sinks: list[Any] = _callables("sink", self.default_sinks(self.settings) if sinks is None else sinks)
        self._meters: list[CostSink] = [sink for sink in self._sinks if isinstance(sink, CostSink)]
        self._costs: dict[Part, float] = {"capture": 0.0, "detect": 0.0, "sinks": 0.0}
        self._background: set[asyncio.Future[Report]] = set()
        self._closed = False
        self.faults = Faults(self._tell_fault)
        self._capture = Capture.of(
            self.settings,
            faults=self.faults,
            only=None if self._engines is None else frozenset(id(engine.dialect) for engine in self._engines),
            outlived=functools.partial(self.close, request=None),
        )
        self.metrics_endpoint = metrics_endpoint(exposition_of(self._sinks))
        if self.settings.enabled:
            attach(self._engines)

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

    @property
    def server_timing(self) -> bool | None:
        """As `Settings.server_timing`."""
        return self.settings.server_timing

    def profile(self, name: str) -> Profile:
        """Profile a block of sync or async code: `with profiler.profile("nightly-import") as window: ...`."""
        return Profile(self, name)

    def open(self, kind: Kind) -> Window | None:
        """Open the window of a request; None when profiling is off or the request is not in the sample."""
        settings = self.settings
        if not settings.enabled or self._closed:
            return None
        if settings.sample_rate < 1.0 and random.random() >= settings.sample_rate:
            return None
        return Window(self._capture, kind, "").open()

    def close(self, window: Window, request: Request | None) -> None:
        """Close a window, judge its trace and tell the sinks; a large one in a thread."""
        if not window.closed:
            window.close()
        loop = asyncio._get_running_loop()
        if loop is None or len(window.entries) <= LARGE_TRACE:
            self.deliver(window, request)
            return
        pending = loop.run_in_executor(None, self.deliver, window, request)
        self._background.add(pending)
        pending.add_done_callback(self._background.discard)

    def deliver(self, window: Window, request: Request | None = None) -> Report:
        """Turn a closed window into a report, and hand it to the sinks. Never raises for a fault of theirs."""
        started = window.now()
        trace = assemble(window, request, max_sql_length=self.settings.max_sql_length)
        assembled = window.now()
        report = judge(trace, self._detectors, self.faults)
        judged = window.now()
        for sink in self._sinks:
            try:
                sink(report)
            except Exception as fault:
                self.faults.caught("sinks", fault)
        self._account(assembled - started, judged - assembled, window.now() - judged)
        return report

    async def drain(self) -> None:
        """Wait until every report that is being made has reached the sinks."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    async def aclose(self) -> None:
        """Stop profiling, after `drain`; listeners on engines of its own are removed."""
        self._closed = True
        await self.drain()
        if self._engines is not None:
            detach(self._engines)

    def _account(self, capture: float, detect: float, sinks: float) -> None:
        """Tell the profiler's own cost, a millisecond or more at a time."""
        spent: tuple[tuple[Part, float], ...] = (("capture", capture), ("detect", detect), ("sinks", sinks))
        for part, seconds in spent:
            total = self._costs[part] + seconds
            self._costs[part] = 0.0 if total >= _TOLD_SECONDS else total
            if total >= _TOLD_SECONDS:
                for meter in self._meters:
                    meter.spent(part, total)

    def _tell_fault(self, part: Part) -> None:
        for meter in self._meters:
            meter.internal_error(part)


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
        self._window = Window(self._profiler._capture, "block", self.name).open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._window is not None
        self._window.close()
        self._report = self._profiler.deliver(self._window)

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


def _engine(candidate: Any) -> Any:
    sync = getattr(candidate, "sync_engine", candidate)
    if not hasattr(sync, "dialect") or not hasattr(sync, "pool"):
        raise ConfigurationError(f"engines: expected Engine or AsyncEngine, got {candidate!r}; pass the engine itself")
    return sync


def _callables(what: str, candidates: Iterable[Any]) -> list[Any]:
    found = list(candidates)
    for candidate in found:
        if not callable(candidate):
            raise ConfigurationError(f"{what}s: {candidate!r} cannot be called; a {what} is a function of one argument")
    return found


install_default(default_profiler)
