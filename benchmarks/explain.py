"""What plans cost: the request of a sampled statement, one that is not sampled, and fast requests beside slow ones.

`python -m benchmarks.explain [SECONDS]` prints three numbers with their parts. Off and on alternate in short rounds of
one run, and what is printed are medians of pairs, so that what the machine does besides falls on both. Time of the
processor is that of this process, or of the event loop's thread: it does not grow because the machine is busy.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from querytoll import Profiler, Report, Settings
from scripts.postgres import CACHE, embedded

ROWS: Final = 150_000
NEW_EVERY: Final = 2
"""Pairs of rounds after which the slow statement is a new one: there is always something to explain, as after a
deployment. Later a statement gets a plan every ten minutes."""
FAST: Final = text("SELECT id, kind FROM events WHERE id = :id")
ROUND_SECONDS: Final = 0.6


@dataclass(slots=True)
class Outcomes:
    """A sink that counts EXPLAINs."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, report: Report) -> None:
        pass

    def explained(self, outcome: str, seconds: float) -> None:
        self.counts[outcome] += 1
        if seconds:
            self.seconds.append(seconds)


async def fill(engine: AsyncEngine) -> None:
    """Make the table once."""
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        if await connection.scalar(text("SELECT to_regclass('events')")) is None:
            await connection.execute(text("CREATE TABLE events (id int PRIMARY KEY, kind int, pad text)"))
            values = f"SELECT i, i % 5000, repeat('x', 80) FROM generate_series(1, {ROWS}) i"
            await connection.execute(text(f"INSERT INTO events {values}"))
            await connection.execute(text("VACUUM ANALYZE events"))


async def median_of(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Median seconds of some work."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - started)
    return median(taken)


async def sampled(engine: AsyncEngine) -> None:
    """What a request waits for when its statement is sampled, against the statement and its bare EXPLAIN."""
    sink = Outcomes()
    often = Settings(slow_statement_seconds=1e-9, explain_interval_seconds=1e-9, explain_floor_seconds=1e6)
    statement = text("SELECT id, kind FROM events WHERE id = :id AND kind >= 0")
    explain = "EXPLAIN (VERBOSE, SETTINGS, FORMAT JSON) SELECT id, kind FROM events WHERE id = 7 AND kind >= 0"
    profiler = Profiler(often, engines=[engine], sinks=[sink])
    idle = Profiler(Settings(explain="off"), engines=[engine], sinks=[])
    waits, bares, processor = [], [], []
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None

        async def executed(by: Profiler) -> float:
            async with by.profile("sampled"):
                started = time.thread_time()
                await connection.execute(statement, {"id": 7})
                taken = time.thread_time() - started
            await by.drain()
            return taken

        for _ in range(400):
            bares.append(await median_of(functools.partial(raw.execute, explain), 1))
            before = len(sink.seconds)
            off, on = await executed(idle), await executed(profiler)
            waits.append(sink.seconds[before])
            processor.append(on - off)
    await profiler.aclose()
    await idle.aclose()
    beyond = median(wait - bare for wait, bare in zip(waits, bares, strict=True))
    quiet = quantiles(waits, n=10)[0] - quantiles(bares, n=10)[0]
    print(f"sampled statement      waits {median(waits) * 1000:.2f} ms, a bare EXPLAIN {median(bares) * 1000:.2f} ms")
    print(f"  beyond the EXPLAIN   {beyond * 1000:.2f} ms, between the quietest tenths {quiet * 1000:.2f} ms")
    print(f"  the loop's thread    {median(processor) * 1000:.2f} ms of processor time, the EXPLAIN's included")


async def unsampled(engine: AsyncEngine) -> None:
    """A fast statement with plans switched off and on."""
    taken: dict[str, list[float]] = {"off": [], "analyze": []}
    for _ in range(12):
        for level in ("off", "analyze"):
            profiler = Profiler(Settings(explain=level), engines=[engine], sinks=[])  # type: ignore[arg-type]
            async with profiler.profile(level), engine.connect() as connection:

                async def work(connection=connection) -> None:  # type: ignore[no-untyped-def]
                    await connection.execute(FAST, {"id": 7})

                taken[level].append(await median_of(work, 300))
            await profiler.aclose()
    off, on = (median(taken[level]) * 1e6 for level in ("off", "analyze"))
    print(f"statement not sampled  {off:.0f} us -> {on:.0f} us: {(on / off - 1):+.1%}")


@dataclass(slots=True)
class Round:
    """What came of one round: seconds of the fast requests, requests in all, processor seconds of the process."""

    fast: list[float] = field(default_factory=list)
    requests: int = 0
    processor: float = 0.0


async def load(engine: AsyncEngine, pairs: int) -> None:
    """A pool of 4, 8 clients, a third of the statements slow: the p95 of the fast ones."""
    sink = Outcomes()
    levels = {name: Settings(explain=name, slow_statement_seconds=0.004) for name in ("off", "analyze")}
    profilers = {name: Profiler(settings, engines=[engine], sinks=[sink]) for name, settings in levels.items()}
    ratios, costs = [], []
    fast: dict[str, list[float]] = {"off": [], "analyze": []}
    for pair in range(pairs):
        rounds = {}
        for level in ("off", "analyze") if pair % 2 == 0 else ("analyze", "off"):
            rounds[level] = await a_round(engine, profilers[level], pair)
            fast[level] += rounds[level].fast
        off, on = rounds["off"], rounds["analyze"]
        ratios.append(quantiles(on.fast, n=20)[-1] / quantiles(off.fast, n=20)[-1] - 1)
        costs.append(on.processor / on.requests / (off.processor / off.requests) - 1)
    for profiler in profilers.values():
        await profiler.aclose()
    off95, on95 = (quantiles(fast[level], n=20)[-1] * 1000 for level in ("off", "analyze"))
    low, high = _interval(ratios)
    print(f"p95 of fast requests   {median(ratios):+.1%}, median of {pairs} pairs (95 %: {low:+.1%} to {high:+.1%})")
    print(f"  all rounds together  {off95:.1f} ms -> {on95:.1f} ms: {on95 / off95 - 1:+.1%}")
    print(f"  processor time       {median(costs):+.1%} per request")
    print(f"  {len(fast['analyze'])} fast requests, EXPLAINs {dict(sink.counts)}, {sum(sink.seconds):.2f} s")


def _interval(values: list[float]) -> tuple[float, float]:
    """Where the median lies, by the order of the values alone."""
    ordered, reach = sorted(values), 0.98 * len(values) ** 0.5
    middle = len(values) / 2
    return ordered[max(0, int(middle - reach))], ordered[min(len(values) - 1, int(middle + reach))]


async def a_round(engine: AsyncEngine, profiler: Profiler, number: int) -> Round:
    """Eight clients for a while."""
    done = Round(processor=-time.process_time())
    end = time.perf_counter() + ROUND_SECONDS

    async def client(which: int) -> None:
        turn = which
        while (started := time.perf_counter()) < end:
            slow = turn % 3 == 0
            async with profiler.profile("slow" if slow else "fast"), engine.connect() as connection:
                if slow:
                    statement = text(f"SELECT id AS c{number // NEW_EVERY} FROM events WHERE kind = :kind")
                    await connection.execute(statement, {"kind": turn % 5000})
                else:
                    await connection.execute(FAST, {"id": turn})
            if not slow:
                done.fast.append(time.perf_counter() - started)
            done.requests += 1
            turn += 1

    await asyncio.gather(*(client(number) for number in range(8)))
    await profiler.drain()
    done.processor += time.process_time()
    return done


async def measure(url: str, seconds: float) -> None:
    """Measure everything."""
    engine = create_async_engine(url, pool_size=4, max_overflow=0)
    await fill(engine)
    await sampled(engine)
    await unsampled(engine)
    await load(engine, max(4, round(seconds / ROUND_SECONDS / 2)))
    await engine.dispose()


def main() -> None:
    """Measure on an embedded PostgreSQL."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 48.0
    with embedded(CACHE / "bench-explain") as server:
        asyncio.run(measure(server.url(), seconds))


if __name__ == "__main__":
    main()
