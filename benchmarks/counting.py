"""Reports of requests to the processor time that counting them for Prometheus takes, beside that of judging them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry

from benchmarks.judging import KINDS, trace_of
from querytoll.detect import default_detectors, judge
from querytoll.errors import Faults
from querytoll.model import Checkout, Site, Transaction
from querytoll.settings import Settings
from querytoll.sinks.prometheus import PrometheusSink

SIZES: Final = (10, 100)
_CALLS: Final = 100
_ENGINE: Final = "postgresql+asyncpg://localhost/shop"
_SITE: Final = Site("/app/api.py", 7, "show")


class Taken(NamedTuple):
    """Processor seconds per request, of the sink and of judging."""

    sink: float
    judging: float


def seconds(size: int, repetitions: int = 15) -> Taken:
    """Count and judge a request with so many statements: medians of blocks of calls that take turns."""
    trace = trace_of(KINDS["repeated"], size)._replace(
        database_seconds=size * 5e-4,
        transactions=(Transaction(_ENGINE, 0.0, 0.5, 1e-3, "committed", size, _SITE),),
        connections=(Checkout(_ENGINE, 0.0, 1e-4, 0.5, size * 5e-4, _SITE),),
        method="GET",
        route="/orders/{id}",
        status=200,
    )
    detectors, faults, sink = default_detectors(Settings()), Faults(), PrometheusSink(CollectorRegistry())
    report = judge(trace, detectors, faults)
    pairs = [
        (_block(lambda: sink(report)), _block(lambda: judge(trace, detectors, faults))) for _ in range(repetitions)
    ]
    return Taken(median(pair[0] for pair in pairs), median(pair[1] for pair in pairs))


def _block(call: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(_CALLS):
        call()
    return (time.process_time() - began) / _CALLS
