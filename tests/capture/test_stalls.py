"""Event-loop stalls: told beside a statement's time, so that a fast statement behind one is not called slow."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from querytoll.capture import Capture, Window
from querytoll.capture.stalls import STALL_SECONDS, TICK_SECONDS, StallSampler, StallSamplers, overlap
from tests.capture.watching import Database, Watch, sync_of

Watching = Callable[[], Watch]


class Loop:
    """An event loop's timer and clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.contexts: list[Context | None] = []

    def call_later(self, delay: float, call: Callable[[], None], context: Context | None = None) -> None:
        self.timers.append((self.now + delay, call))
        self.contexts.append(context)

    def run_until(self, moment: float, *, late: float = 0.0) -> None:
        """Run what is due until the moment, the first of it late."""
        while self.timers and min(self.timers)[0] <= moment:
            due, call = self.timers.pop(0)
            self.now = due + late
            late = 0.0
            call()
        self.now = max(self.now, moment)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def sampler(loop: Loop) -> StallSampler:
    return StallSampler(loop, lambda: loop.now)  # type: ignore[arg-type]


def test_stalls_are_read_in_a_thread_while_the_loop_goes_on(sampler: StallSampler) -> None:
    """Large traces are made in a thread."""
    done = threading.Event()

    def stall() -> None:
        while not done.is_set():
            sampler._stalls.append((0.0, 1.0))

    ticking = threading.Thread(target=stall)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ticking.start()
    try:
        counts = {len(sampler.since(0.5)) for _ in range(20_000)}
    finally:
        done.set()
        ticking.join()
        sys.setswitchinterval(interval)
    assert max(counts) > 100


# With a clock of our own


def test_a_loop_on_time_has_no_stalls(loop: Loop, sampler: StallSampler) -> None:
    sampler.opened()
    loop.run_until(101.0)
    sampler.closed()
    assert sampler.since(100.0) == []


def test_a_late_tick_is_a_stall_from_the_moment_it_was_due(loop: Loop, sampler: StallSampler) -> None:
    """Never longer than it was: the loop was free when the tick was scheduled."""
    sampler.opened()
    loop.run_until(100.1)
    loop.run_until(100.5, late=0.3)
    sampler.closed()
    (stall,) = sampler.since(100.0)
    assert stall[1] - stall[0] == pytest.approx(0.3)


def test_a_little_lateness_is_the_ordinary_work_of_others(loop: Loop, sampler: StallSampler) -> None:
    sampler.opened()
    loop.run_until(100.2, late=STALL_SECONDS * 0.9)
    assert sampler.since(100.0) == []


def test_the_clock_ticks_only_while_windows_are_open(loop: Loop, sampler: StallSampler) -> None:
    """The tick after the last window closed is the last; the next window starts it anew, one clock for all of them."""
    assert loop.timers == []
    for _ in range(5):
        sampler.opened()
    loop.run_until(100.05)
    assert len(loop.timers) == 1
    for _ in range(5):
        sampler.closed()
    loop.run_until(100.2)
    assert loop.timers == []
    sampler.opened()
    sampler.closed()
    sampler.opened()
    assert len(loop.timers) == 1


def test_an_idle_loop_is_no_stall(loop: Loop, sampler: StallSampler) -> None:
    """Nobody ticked while no window was open: the time between two windows is nobody's stall."""
    sampler.opened()
    sampler.closed()
    loop.run_until(100.02)
    loop.now = 200.0
    sampler.opened()
    loop.run_until(200.1)
    assert sampler.since(0.0) == []


def test_stalls_from_before_a_window_are_not_its_own(loop: Loop, sampler: StallSampler) -> None:
    sampler.opened()
    loop.run_until(100.5, late=0.2)
    moment = loop.now
    loop.run_until(101.0, late=0.1)
    assert len(sampler.since(100.0)) == 2
    assert [end > moment for _, end in sampler.since(moment)] == [True]


def test_stalls_are_bounded(loop: Loop, sampler: StallSampler) -> None:
    """Promise 3: a window that stays open for days keeps the latest stalls only."""
    sampler.opened()
    for n in range(1_000):
        loop.run_until(101.0 + n, late=0.1)
    assert len(sampler.since(0.0)) == 256
    assert sampler.since(0.0)[-1][1] > 1_099


def test_ticks_carry_no_window(loop: Loop, sampler: StallSampler) -> None:
    """They go on from request to request: the context of the first one is not kept by them."""
    sampler.opened()
    loop.run_until(100.2)
    assert {len(context) if context is not None else -1 for context in loop.contexts} == {0}


def test_the_overlap_is_the_part_of_a_statement_in_stalls() -> None:
    stalls = [(1.0, 2.0), (4.0, 8.0)]
    assert overlap(0.0, 0.5, stalls) == 0
    assert overlap(0.0, 10.0, stalls) == 5
    assert overlap(1.5, 5.0, stalls) == 1.5
    assert overlap(5.0, 6.0, stalls) == 1
    assert overlap(2.0, 4.0, stalls) == 0


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 20), st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=6))
def test_the_overlap_is_never_more_than_the_statement(start: int, length: int, gaps: list[tuple[int, int]]) -> None:
    """Against the definition: count the moments that lie in both."""
    stalls, at = [], 0
    for gap, lasting in gaps:
        stalls.append((float(at + gap), float(at + gap + lasting)))
        at += gap + lasting + 1
    moments = {moment for since, until in stalls for moment in range(int(since), int(until))}
    expected = len(moments & set(range(start, start + length)))
    assert overlap(float(start), float(start + length), stalls) == expected <= length


# On a real loop

stall = time.sleep


async def test_each_loop_has_one_sampler() -> None:
    samplers = StallSamplers()
    first = samplers.opened()
    assert first is not None
    assert samplers.opened() is first
    assert first.windows == 2
    first.closed()
    first.closed()


def test_without_a_loop_there_is_none() -> None:
    assert StallSamplers().opened() is None


def test_a_sampler_dies_with_its_loop() -> None:
    """One loop per test or per worker thread: nothing of it is kept."""
    samplers = StallSamplers()
    dead: list[weakref.ref[Any]] = []

    async def work() -> None:
        sampler = samplers.opened()
        assert sampler is not None
        await asyncio.sleep(TICK_SECONDS * 2)
        sampler.closed()
        dead.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(2):
        thread = threading.Thread(target=lambda: asyncio.run(work()))
        thread.start()
        thread.join()
    gc.collect()
    assert [loop() for loop in dead] == [None, None]
    assert len(samplers._samplers) == 0


@pytest.mark.drivers("asyncpg", "psycopg-async", "aiosqlite")
async def test_pitfall_4_a_statement_behind_a_stall_is_not_slow(database: Database, watch: Watching) -> None:
    """20 ms in the database, 300 ms until the loop saw the answer: the difference is told as stall."""
    async with database.engine().connect() as connection:
        await connection.execute(text("SELECT 1"))

        async def block() -> None:
            await asyncio.sleep(0.005)
            stall(0.3)

        with watch() as seen:
            await asyncio.sleep(TICK_SECONDS * 3)
            await asyncio.gather(connection.execute(text("SELECT pg_sleep(0.02)")), block())
    statement = seen.only
    assert statement.elapsed >= 0.3
    assert 0.25 <= statement.stall <= statement.elapsed
    assert statement.elapsed - statement.stall < statement.stall


@pytest.mark.drivers("asyncpg")
async def test_a_slow_statement_beside_a_stall_stays_slow(database: Database, watch: Watching) -> None:
    """Only the overlap is subtracted: of 300 ms in the database, 100 ms were also a stall."""
    async with database.engine().connect() as connection:

        async def block() -> None:
            await asyncio.sleep(0.05)
            stall(0.1)

        with watch() as seen:
            await asyncio.gather(connection.execute(text("SELECT pg_sleep(0.3)")), block())
    assert seen.only.elapsed - seen.only.stall >= 0.15 or seen.only.stall > 0.15


@pytest.mark.drivers("psycopg")
async def test_a_synchronous_driver_is_not_excused_by_the_stall_it_makes(database: Database, watch: Watching) -> None:
    """On the loop's own thread the statement is the stall: its time is its own."""
    with watch() as seen, sync_of(database.engine()).connect() as connection:
        await asyncio.sleep(TICK_SECONDS * 3)
        connection.execute(text("SELECT pg_sleep(0.1)"))
        await asyncio.sleep(TICK_SECONDS * 3)
    assert (seen.only.stall, seen.only.blocking) == (0, True)


@pytest.mark.drivers("psycopg")
async def test_a_statement_in_a_thread_is_not_excused_by_a_stall(database: Database, watch: Watching) -> None:
    """The thread went on while the loop could not."""
    engine: Engine = database.engine()

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_sleep(0.1)"))

    with watch() as seen:
        await asyncio.sleep(TICK_SECONDS * 3)
        running = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(TICK_SECONDS)
        stall(0.05)
        await running
    assert (seen.only.stall, seen.only.blocking) == (0, False)


async def test_a_window_that_opens_outside_of_a_loop_has_no_stalls(capture: Capture) -> None:
    opened: list[Window] = []
    thread = threading.Thread(target=lambda: opened.append(Window(capture, "block", "").open()))
    thread.start()
    thread.join()
    (left,) = opened
    assert left.stalls() == []
    left.close()
    inside = Window(capture, "block", "").open()
    assert inside._sampler is not None
    inside.close()
