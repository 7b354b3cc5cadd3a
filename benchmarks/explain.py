"""What plans cost: the request of a sampled statement, one that is not sampled, and fast requests beside slow ones.

`python -m benchmarks.explain [SECONDS]` prints three numbers with their parts. Off and on alternate in one run, so that
what the machine does besides falls on both.
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
SHAPES: Final = 24
"""Slow statements that differ: each gets its plan once, as after a deployment."""
FAST: Final = text("SELECT id, kind FROM events WHERE id = :id")
BLOCK_SECONDS: Final = 3.0


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
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        bare = await median_of(functools.partial(raw.execute, explain), 100)
        for _ in range(100):
            async with profiler.profile("sampled"):
                await connection.execute(statement, {"id": 7})
            await profiler.drain()
    await profiler.aclose()
    waited = median(sink.seconds[::2]) * 1000
    print(f"sampled statement      waits {waited:.2f} ms, a bare EXPLAIN takes {bare * 1000:.2f} ms")


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


async def load(engine: AsyncEngine, pairs: int) -> None:
    """A pool of 4, 8 clients, a third of the statements slow: the p95 of the fast ones."""
    fast: dict[str, list[float]] = {"off": [], "analyze": []}
    sink = Outcomes()
    levels = {"off": Settings(explain="off"), "analyze": Settings(slow_statement_seconds=0.004)}
    profilers = {name: Profiler(settings, engines=[engine], sinks=[sink]) for name, settings in levels.items()}
    ratios = []
    for pair in range(pairs):
        p95 = {}
        for level in ("off", "analyze") if pair % 2 == 0 else ("analyze", "off"):
            times = await block(engine, profilers[level])
            fast[level] += times
            p95[level] = quantiles(times, n=20)[-1]
        ratios.append(p95["analyze"] / p95["off"] - 1)
    for profiler in profilers.values():
        await profiler.aclose()
    off, on = (quantiles(fast[level], n=20)[-1] * 1000 for level in ("off", "analyze"))
    print(f"p95 of fast requests   {off:.1f} ms -> {on:.1f} ms: {on / off - 1:+.1%}")
    print(f"  of {pairs} pairs           {', '.join(f'{ratio:+.0%}' for ratio in sorted(ratios))}")
    print(f"  {len(fast['analyze'])} fast requests, EXPLAINs {dict(sink.counts)}, {sum(sink.seconds):.2f} s")


async def block(engine: AsyncEngine, profiler: Profiler) -> list[float]:
    """Seconds of the fast requests of one block."""
    times: list[float] = []
    end = time.perf_counter() + BLOCK_SECONDS

    async def client(number: int) -> None:
        turn = number
        while (started := time.perf_counter()) < end:
            slow = turn % 3 == 0
            async with profiler.profile("slow" if slow else "fast"), engine.connect() as connection:
                if slow:
                    column = f"c{turn // 3 % SHAPES}"
                    statement = text(f"SELECT id AS {column} FROM events WHERE kind = :kind")
                    await connection.execute(statement, {"kind": turn % 5000})
                else:
                    await connection.execute(FAST, {"id": turn})
            if not slow:
                times.append(time.perf_counter() - started)
            turn += 1

    await asyncio.gather(*(client(number) for number in range(8)))
    return times


async def measure(url: str, seconds: float) -> None:
    """Measure everything."""
    engine = create_async_engine(url, pool_size=4, max_overflow=0)
    await fill(engine)
    await sampled(engine)
    await unsampled(engine)
    await load(engine, max(2, round(seconds / BLOCK_SECONDS / 2)))
    await engine.dispose()


def main() -> None:
    """Measure on an embedded PostgreSQL."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 48.0
    with embedded(CACHE / "bench-explain") as server:
        asyncio.run(measure(server.url(), seconds))


if __name__ == "__main__":
    main()
