"""The sink, and the series that sinks share."""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry

from querytoll.capture.pools import PoolMeter
from querytoll.errors import ConfigurationError, Part
from querytoll.model import Report
from querytoll.sinks.prometheus.multiprocess import is_multiprocess, live
from querytoll.sinks.prometheus.series import Series


class PrometheusSink:
    """Count reports into Prometheus metrics named `querytoll_*`.

    Sinks on one registry share its metrics, their guards and the larger of their limits. In multiprocess mode all
    sinks of a process do, because the client's files know no registry; the limits then hold for each process.
    Traces of tests are not exported; tasks and blocks have their kind as method and their name as route. Reports that
    arrive inside of a sampled OpenTelemetry span leave its trace as exemplar, except in multiprocess mode.

    Args:
        registry: None: the client's default registry.
        max_routes: pairs of method and route with series of their own; the rest has `route="other"`.
        max_fingerprints: fingerprints with series of their own; the rest has `query="other"`.

    Raises:
        ConfigurationError: another metric in the registry has one of the names, or the folder of the multiprocess
            mode cannot be written.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, max_routes: int = 300, max_fingerprints: int = 200
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self._series = _series_of(self.registry)
        self._series.widen(max_routes, max_fingerprints)

    @property
    def pool_meter(self) -> PoolMeter:
        """Takes what pools do; one for all sinks of a registry, so that nothing is counted twice."""
        return self._series.pools

    def __call__(self, report: Report) -> None:
        self._series.count(report)

    def internal_error(self, part: Part) -> None:
        """Count a fault of the profiler itself."""
        self._series.internal_errors[part].inc(1)

    def dropped(self, part: Part, n: int = 1) -> None:
        """Count what the profiler lost, except `Trace.dropped`, which is counted with its trace."""
        if n > 0:
            self._series.dropped[part].inc(n)

    def explained(self, outcome: str, seconds: float) -> None:
        """Count what became of an EXPLAIN of a slow statement, and its seconds where it ran."""
        self._series.count_explain(outcome, seconds)

    def spent(self, part: Part, seconds: float) -> None:
        """Count seconds that the profiler itself took."""
        if seconds > 0:
            self._series.spent[part].inc(seconds)

    def sampled(self, rate: float) -> None:
        """Note the share of requests that is profiled from now on."""
        self._series.metrics.sample_ratio.set(rate)


_SHARED: WeakKeyDictionary[CollectorRegistry, Series] = WeakKeyDictionary()
_SHARING = Lock()


def _series_of(registry: CollectorRegistry) -> Series:
    """The registry's series, with their metrics registered."""
    with _SHARING:
        series = _SHARED.get(registry)
        if series is not None:
            series.metrics.restore(registry)
            return series
        # Two objects for one entry of the client's files would overwrite each other's numbers.
        series = next(iter(_SHARED.values()), None) if is_multiprocess() else None
        series = series or _new_series()
        series.metrics.register(registry)
        _SHARED[registry] = series
        return series


def _new_series() -> Series:
    try:
        series = Series()
    except OSError as error:
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR={os.environ.get('PROMETHEUS_MULTIPROC_DIR')} cannot be written: {error}; "
            "create the folder before the first worker starts, and empty it"
        ) from error
    if is_multiprocess():
        live()
    return series
