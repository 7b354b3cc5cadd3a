"""When profiling becomes rarer because it costs too much, when it comes back, and what is told of it."""

from __future__ import annotations

import itertools
import logging

import pytest

from querytoll import Profiler, ProfilerMiddleware, Report, Settings
from querytoll import profiler as composition
from querytoll.backoff import (
    INTERVAL_REQUESTS,
    INTERVAL_SECONDS,
    LEAST_RATE,
    LONGEST_SECONDS,
    NOTICEABLE_LOAD,
    PROFILED_REQUESTS,
    BackOff,
)
from querytoll.capture import Window


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serve(backoff: BackOff, clock: Clock, share: float, *, times: int = INTERVAL_REQUESTS, seconds: float = 0.1) -> int:
    """Let requests end one after the other, of which profiling takes a share; the number of changes of the rate."""
    changes = 0
    for _ in range(times):
        clock.now += seconds
        changes += backoff.spent(share * seconds, seconds)
    return changes


def test_profiling_that_is_cheap_goes_on(clock: Clock) -> None:
    """Up to the limit, however long, nothing changes."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    assert serve(backoff, clock, 0.0499, times=10 * INTERVAL_REQUESTS) == 0
    assert backoff.rate == 1.0


def test_profiling_that_costs_too_much_is_halved(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Over the limit, every second request is profiled, and a warning says so with the numbers."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    assert serve(backoff, clock, 0.08) == 1
    assert backoff.rate == 0.5
    assert [(record.name, record.levelno) for record in caplog.records] == [("querytoll", logging.WARNING)]
    assert caplog.messages == [
        "querytoll took 8.0 % of the time of requests (max_self_share: 5.0 %; 1600 ms for 200 profiled ones): "
        "from now on it profiles 50 % of the requests instead of 100 %"
    ]


def test_the_share_is_that_of_all_requests(clock: Clock) -> None:
    """Half of the requests at a cost of 8 % each are 4 % of the time of all: enough was done, and the rate stays."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    assert serve(backoff, clock, 0.08, times=10 * INTERVAL_REQUESTS) == 1
    assert backoff.rate == 0.5


def test_the_floor_is_one_in_a_hundred(clock: Clock) -> None:
    """However much it costs, some requests are profiled, so that it shows when the cost has gone."""
    backoff = BackOff(1.0, 0.001, clock=clock)
    serve(backoff, clock, 0.9, times=50 * INTERVAL_REQUESTS)
    assert backoff.rate == LEAST_RATE == 0.01
    assert serve(backoff, clock, 0.9, times=10 * INTERVAL_REQUESTS) == 0


@pytest.mark.parametrize("configured", [0.0, 0.002])
def test_a_configured_rate_below_the_floor_is_kept(clock: Clock, configured: float) -> None:
    """Backing off never profiles more than was asked for."""
    backoff = BackOff(configured, 1e-6, clock=clock)
    assert serve(backoff, clock, 0.9, times=5 * INTERVAL_REQUESTS) == 0
    assert backoff.rate == configured


def test_the_rate_recovers_up_to_the_configured_one(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Once profiling is cheap again the rate doubles step by step, told as information, and ends where it was set."""
    backoff = BackOff(0.3, 0.05, clock=clock)
    serve(backoff, clock, 0.9, times=2 * INTERVAL_REQUESTS)
    thinnest = backoff.rate
    assert thinnest < 0.1
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="querytoll"):
        serve(backoff, clock, 0.0001, times=10 * INTERVAL_REQUESTS)
    assert backoff.rate == 0.3
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert caplog.messages[-1].endswith("it profiles 30 % of the requests instead of 15 %")


def test_the_rate_does_not_swing(clock: Clock) -> None:
    """A cost between the limit and its double ends in one rate, not in two by turns."""
    for share in (0.051, 0.06, 0.08, 0.0999, 0.11, 0.3):
        backoff = BackOff(1.0, 0.05, clock=clock)
        serve(backoff, clock, share, times=20 * INTERVAL_REQUESTS)
        assert serve(backoff, clock, share, times=20 * INTERVAL_REQUESTS) == 0
        assert backoff.rate * share <= 0.05


def test_few_requests_decide_nothing(clock: Clock) -> None:
    """A handful of slow profiles, however long the interval, are no evidence."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    assert serve(backoff, clock, 0.9, times=INTERVAL_REQUESTS - 1, seconds=1) == 0
    assert serve(backoff, clock, 0.9, times=1, seconds=1) == 1


def test_a_short_time_decides_nothing(clock: Clock) -> None:
    """A burst does not, however many requests it has."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    many = 10 * INTERVAL_REQUESTS
    assert serve(backoff, clock, 0.9, times=many, seconds=INTERVAL_SECONDS / many * 0.99) == 0


def test_the_profiled_ones_of_many_requests_are_enough(clock: Clock) -> None:
    """At a low rate few are profiled; they stand for the others, and recovery does not wait for hundreds of them."""
    backoff = BackOff(1.0, 0.001, clock=clock)
    serve(backoff, clock, 0.9, times=50 * INTERVAL_REQUESTS)
    while backoff._requests:  # the interval that has begun
        serve(backoff, clock, 0.9, times=1)
    assert backoff.rate == LEAST_RATE
    serve(backoff, clock, 0.0001, times=PROFILED_REQUESTS - 1, seconds=INTERVAL_SECONDS)
    assert backoff.rate == LEAST_RATE
    serve(backoff, clock, 0.0001, times=1, seconds=INTERVAL_SECONDS)
    assert backoff.rate > LEAST_RATE


def test_what_nobody_notices_is_left_alone(clock: Clock) -> None:
    """A fifth of requests of 0.3 ms is a lot, and yet nothing where they come ten times a second."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    for _ in range(5 * INTERVAL_REQUESTS):
        clock.now += 0.1
        assert not backoff.spent(0.00006, 0.0003)
    assert NOTICEABLE_LOAD == 0.01


def test_one_is_no_limit(clock: Clock) -> None:
    """`max_self_share=1` switches it off."""
    backoff = BackOff(1.0, 1.0, clock=clock)
    assert serve(backoff, clock, 1.5, times=5 * INTERVAL_REQUESTS) == 0


def test_requests_that_took_no_time(clock: Clock) -> None:
    """A clock that stands still is no fault."""
    backoff = BackOff(1.0, 0.05, clock=clock)
    for _ in range(INTERVAL_REQUESTS):
        clock.now += 0.1
        backoff.spent(0.0, 0.0)
    assert backoff.rate == 1.0


class Rates:
    """A sink that notes the rates that it is told."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def __call__(self, report: Report) -> None: ...

    def sampled(self, rate: float) -> None:
        self.told.append(rate)


async def serve_requests(profiler: Profiler, times: int) -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    middleware = ProfilerMiddleware(app, profiler)
    for _ in range(times):
        await middleware({"type": "http", "method": "GET", "path": "/"}, None, None)  # type: ignore[arg-type]


async def test_a_profiler_backs_off(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """What its requests cost lowers the rate at which requests are profiled, which its sinks hear of."""
    ticks = itertools.count()
    monkeypatch.setattr(Window, "now", staticmethod(lambda: next(ticks) * 0.001))
    monkeypatch.setattr(composition._random, "random", itertools.cycle([0.2, 0.6, 0.4, 0.8]).__next__, raising=False)
    rates, reports = Rates(), list[Report]()
    profiler = Profiler(Settings(explain="off"), detectors=[], sinks=[rates, reports.append])
    profiler._backoff = BackOff(1.0, 0.05, clock=clock)
    assert rates.told == [1.0]
    await serve_requests(profiler, INTERVAL_REQUESTS - 1)
    clock.now += INTERVAL_SECONDS
    await serve_requests(profiler, 1)
    assert rates.told == [1.0, 0.5]
    reports.clear()
    await serve_requests(profiler, 40)
    assert len(reports) == 20
    await profiler.aclose()


async def test_an_open_stream_hides_nothing(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A request of an hour counts like one of a second: it would outweigh all others."""
    ticks = itertools.count()
    monkeypatch.setattr(Window, "now", staticmethod(lambda: next(ticks) * 0.001))
    profiler = Profiler(Settings(explain="off"), detectors=[], sinks=[])
    profiler._backoff = BackOff(1.0, 0.05, clock=clock)
    stream = profiler.open("request")
    assert stream is not None
    stream.started -= 3_600
    profiler.close(stream, None)
    clock.now += INTERVAL_SECONDS
    await serve_requests(profiler, INTERVAL_REQUESTS - 1)
    assert profiler._backoff.rate == 0.5
    assert LONGEST_SECONDS == 1.0
    await profiler.aclose()


async def test_only_requests_count(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Blocks, which are always profiled, tell nothing of the share of requests."""
    ticks = itertools.count()
    monkeypatch.setattr(Window, "now", staticmethod(lambda: next(ticks) * 0.001))
    rates = Rates()
    profiler = Profiler(Settings(explain="off"), detectors=[], sinks=[rates])
    profiler._backoff = BackOff(1.0, 0.05, clock=clock)
    for _ in range(INTERVAL_REQUESTS):
        clock.now += 1
        with profiler.profile("job"):
            pass
    assert rates.told == [1.0]
    await profiler.aclose()


async def test_a_sink_that_fails_at_a_rate_is_a_fault_of_the_sink() -> None:
    """It is counted, and the profiler is made all the same."""

    class Failing(Rates):
        def sampled(self, rate: float) -> None:
            raise ValueError

    profiler = Profiler(Settings(explain="off"), sinks=[Failing()])
    assert profiler.faults.counts["sinks"] == 1
    await profiler.aclose()


async def test_switched_off_there_is_no_rate() -> None:
    """A profiler that profiles nothing tells no rate."""
    rates = Rates()
    Profiler(Settings(enabled=False), sinks=[rates])
    assert rates.told == []
