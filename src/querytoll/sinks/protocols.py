"""What a sink may take besides reports: whoever has the methods is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from querytoll.capture.pools import PoolMeter
from querytoll.errors import Faults, Part
from querytoll.explain.sampler import Outcome


@runtime_checkable
class CostSink(Protocol):
    """A sink that also takes the profiler's own faults and seconds."""

    def internal_error(self, part: Part) -> None: ...
    def spent(self, part: Part, seconds: float) -> None: ...


@runtime_checkable
class ExplainSink(Protocol):
    """A sink that also takes what became of the EXPLAINs of slow statements, and their seconds."""

    def explained(self, outcome: Outcome, seconds: float) -> None: ...


@runtime_checkable
class SamplingSink(Protocol):
    """A sink that also takes the share of requests that is profiled: at first, and whenever it changes."""

    def sampled(self, rate: float) -> None: ...


@runtime_checkable
class AnswerSink(Protocol):
    """A sink that is also called in the request's context before its last byte leaves: its server span ends then.

    `so_far` computes the number of statements and their seconds until now.
    """

    def answering(self, so_far: Callable[[], tuple[int, float]]) -> None: ...


@runtime_checkable
class BackgroundSink(Protocol):
    """A sink that goes on after its call: it tells what is under way, and lets its exceptions end with the others."""

    def pending(self) -> list[Future[None]]: ...
    def attend(self, faults: Faults) -> None: ...


@runtime_checkable
class PoolSink(Protocol):
    """A sink with a meter of what pools do, in requests and outside of them."""

    @property
    def pool_meter(self) -> PoolMeter: ...
