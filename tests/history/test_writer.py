"""The queue and its thread: the request never waits, everything is bounded, nothing is lost that need not be."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from querytoll import Profiler
from querytoll.history import Recorded, Store
from querytoll.history.batch import Batch, Folder
from querytoll.history.schemas import FindingRead
from querytoll.history.writer import MAX_REFUSALS, Writer
from querytoll.settings import Settings
from tests.history.making import NOW, emptied, report


class Kept:
    """A history in a list, that refuses or waits as it is told."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.cleared: list[tuple[datetime | None, int | None]] = []
        self.faults: list[Exception] = []
        self.tries = 0
        self.open = threading.Event()
        self.open.set()

    async def add(self, batch: Batch) -> None:
        self.tries += 1
        await asyncio.to_thread(self.open.wait, 30)
        if self.faults:
            raise self.faults.pop(0)
        self.batches.append(batch)

    async def get(self, finding: str) -> FindingRead | None:
        return None

    async def list(self, since: datetime) -> Recorded:
        return Recorded(routes=[], uses=[], findings=[])

    async def clear(self, *, before: datetime | None = None, traces: int | None = None) -> None:
        self.cleared.append((before, traces))

    @property
    def reports(self) -> int:
        return sum(batch.reports for batch in self.batches)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def make(kept: Kept) -> Iterator[Callable[..., Writer]]:
    """Make writers, which are closed afterwards."""
    made: list[Writer] = []

    def writer(limit: int = 1_000, interval: float = 60.0) -> Writer:
        days = timedelta(days=7)
        each = Writer(kept, Folder(Settings()), limit=limit, interval_seconds=interval, keep=days, max_traces=5)
        made.append(each)
        return each

    yield writer
    kept.open.set()
    for each in made:
        each.close()


def until(true: Callable[[], object]) -> None:
    """Wait for a thread."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


def done(writer: Writer) -> bool:
    return writer._thread is None


def test_reports_are_added_together(kept: Kept, make: Callable[..., Writer]) -> None:
    """What comes within the interval is one batch; the thread ends when there is nothing left."""
    writer = make(interval=0.05)
    for _ in range(20):
        writer.put(report())
    until(lambda: done(writer))
    assert (len(kept.batches), kept.reports, writer.dropped) == (1, 20, 0)
    writer.put(report())
    until(lambda: done(writer))
    assert (len(kept.batches), kept.reports) == (2, 21)


def test_the_queue_is_bounded(kept: Kept, make: Callable[..., Writer], caplog: pytest.LogCaptureFixture) -> None:
    """While a write takes long, reports wait up to the limit of their statements; the rest is dropped and counted."""
    kept.open.clear()
    writer = make(limit=100, interval=0.001)
    writer.put(report(times=3))
    until(lambda: kept.tries)
    for _ in range(40):
        writer.put(report(times=9))
    assert writer.dropped == 30
    assert len(writer._reports) == 10
    writer.put(report(times=1_000))
    assert writer.dropped == 31
    kept.open.set()
    until(lambda: done(writer))
    assert kept.reports == 11
    assert [record.getMessage() for record in caplog.records] == [
        "history: 31 reports were dropped; the queue was full, or the database refused"
    ]


def test_half_a_queue_is_written_at_once(kept: Kept, make: Callable[..., Writer]) -> None:
    """A burst does not wait for the interval."""
    writer = make(limit=100, interval=600.0)
    for _ in range(6):
        writer.put(report(times=9))
    until(lambda: kept.reports == 6)


def test_what_fails_is_tried_again(kept: Kept, make: Callable[..., Writer]) -> None:
    """A database that is away for a moment costs nothing, neither twice nor lost; the fault is counted."""
    kept.faults = [OSError("away")]
    writer = make(interval=0.001)
    writer.put(report())
    until(lambda: done(writer))
    assert (kept.tries, kept.reports, writer.dropped) == (2, 1, 0)
    assert writer.faults.counts["sinks"] == 1


def test_a_batch_that_is_refused_is_dropped(kept: Kept, make: Callable[..., Writer]) -> None:
    """What can never be written does not stop the rest."""
    kept.faults = [ValueError("no")] * MAX_REFUSALS
    writer = make(interval=0.001)
    writer._pause = lambda: 0.001  # type: ignore[method-assign]
    writer.put(report())
    until(lambda: done(writer))
    assert (kept.tries, kept.reports, writer.dropped) == (MAX_REFUSALS, 0, 1)
    writer.put(report())
    until(lambda: done(writer))
    assert (kept.reports, writer.dropped) == (1, 1)


def test_the_pause_grows_and_ends(make: Callable[..., Writer]) -> None:
    """From a second to a minute."""
    writer = make()
    pauses = []
    for failures in range(1, 12):
        writer._failures = failures
        pauses.append(writer._pause())
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_a_report_that_cannot_be_folded_is_one_fault(kept: Kept, make: Callable[..., Writer]) -> None:
    """The others of its batch are added."""
    writer = make(interval=0.01)
    writer.put(report(began="no moment"))
    writer.put(report())
    until(lambda: done(writer))
    assert (kept.reports, writer.dropped, writer.faults.counts["sinks"]) == (1, 1, 1)


def test_it_forgets_now_and_then(kept: Kept, make: Callable[..., Writer]) -> None:
    """With the first batch, and not with each."""
    writer = make(interval=0.001)
    for _ in range(3):
        writer.put(report())
        until(lambda: done(writer))
    ((before, traces),) = kept.cleared
    assert before is not None
    assert NOW - timedelta(days=7, minutes=1) < before < NOW - timedelta(days=6)
    assert traces == 5


def test_forgetting_may_fail(kept: Kept, make: Callable[..., Writer]) -> None:
    """What was written stays written once, and writing goes on."""

    async def clear(**options: object) -> None:
        raise OSError("away")

    kept.clear = clear  # type: ignore[method-assign]
    writer = make(interval=0.001)
    for _ in range(2):
        writer.put(report())
        until(lambda: done(writer))
    assert (kept.tries, kept.reports, writer.dropped) == (2, 2, 0)
    assert writer.faults.counts["sinks"] == 1


async def test_draining_waits_for_the_write(kept: Kept, make: Callable[..., Writer]) -> None:
    """What was put before is added after `drain`, without waiting for the interval."""
    writer = make(interval=600.0)
    writer.put(report())
    await asyncio.gather(*map(asyncio.wrap_future, writer.pending()))
    assert kept.reports == 1
    until(lambda: done(writer))
    assert writer.pending() == []


async def test_draining_does_not_wait_for_a_database_that_is_away(kept: Kept, make: Callable[..., Writer]) -> None:
    """One attempt, and the application can go on to end."""
    kept.faults = [OSError("away")] * 100
    writer = make(interval=600.0)
    writer.put(report())
    await asyncio.gather(*map(asyncio.wrap_future, writer.pending()))
    assert kept.tries == 1
    assert writer.pending() == []


def test_closing_writes_what_waits(kept: Kept, make: Callable[..., Writer]) -> None:
    """What was put before is added; what comes after is dropped and counted."""
    writer = make(interval=600.0)
    writer.put(report())
    writer.close()
    assert (kept.reports, writer.dropped) == (1, 0)
    writer.put(report())
    writer.close()
    assert (kept.reports, writer.dropped) == (1, 1)


def test_closing_does_not_wait_for_a_database_that_is_away(kept: Kept, make: Callable[..., Writer]) -> None:
    """One attempt more, and what could not be written is counted."""
    kept.faults = [OSError("away")] * 100
    writer = make(interval=0.001)
    writer.put(report())
    until(lambda: kept.tries)
    writer.put(report())
    writer.close(20)
    assert (kept.reports, writer.dropped, kept.tries) == (0, 2, 2)


def test_threads_put_at_the_same_time(kept: Kept, make: Callable[..., Writer]) -> None:
    """None is lost, none is counted twice."""
    writer = make(limit=100_000, interval=0.001)
    threads = [threading.Thread(target=lambda: [writer.put(report()) for _ in range(300)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: done(writer))
    assert (kept.reports, writer.dropped) == (1_800, 0)


def test_a_writer_that_nobody_holds_goes_away(kept: Kept, make: Callable[..., Writer]) -> None:
    """The list of those to close at the end keeps none alive."""
    writer = Writer(kept, Folder(Settings()), limit=9, interval_seconds=0.01, keep=timedelta(1), max_traces=1)
    watched = weakref.ref(writer)
    writer.put(report())
    writer.close()
    del writer
    until(lambda: gc.collect() >= 0 and watched() is None)


# With a database

SCRIPT = """
import asyncio, os, sys, time
from datetime import UTC, datetime
from querytoll import Profiler
from querytoll.history import HistorySink

sink = HistorySink(sys.argv[1], interval_seconds=600)
profiler = Profiler(sinks=[sink])

def work(name):
    with profiler.profile(name):
        pass
"""


def run(url: str, script: str) -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + script, url]  # fork beside a thread
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def names(url: str) -> dict[str, int]:
    async def read() -> dict[str, int]:
        return {route.name: route.requests for route in (await Store(url).list(NOW - timedelta(days=1))).routes}

    return asyncio.run(read())


@pytest.fixture
def ending_url(url: str) -> str:
    """A history that can be written while the interpreter ends."""
    if sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)) and "sqlite" in url:
        pytest.skip("python/cpython#113964: it starts no threads by then, which aiosqlite needs")
    return url


def test_the_end_of_the_process_writes_what_waits(ending_url: str) -> None:
    """Nobody has to close it."""
    asyncio.run(emptied(ending_url))
    run(ending_url, "work('a'); work('a')")
    assert names(ending_url) == {"a": 2}


def test_forked_workers_write_their_own(ending_url: str) -> None:
    """A worker forked while its parent's thread writes has a queue and a thread of its own; nothing comes twice."""
    asyncio.run(emptied(ending_url))
    run(
        ending_url,
        """
work("parent")
sink.pending()[0].result()
work("parent")
children = []
for number in range(3):
    child = os.fork()
    if not child:
        work("child")
        sink.close(30)
        os._exit(0 if sink.dropped == 0 else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
work("parent")
""",
    )
    assert names(ending_url) == {"parent": 3, "child": 3}


def test_a_worker_that_is_told_to_end(ending_url: str) -> None:
    """A server that ends on SIGTERM as servers do, through its own handler, loses nothing."""
    asyncio.run(emptied(ending_url))
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT
            + "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nwork('a')\n"
            + "print('ready', flush=True)\ntime.sleep(60)\n",
            ending_url,
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    assert names(ending_url) == {"a": 1}


async def test_the_profiler_drains_it(kept: Kept, make: Callable[..., Writer]) -> None:
    """`drain` and `aclose` of a profiler wait for sinks that go on in the background, and take their faults."""

    class Sink:
        def __init__(self, writer: Writer) -> None:
            self.writer = writer
            self.pending = writer.pending

        def __call__(self, report: object) -> None:
            self.writer.put(report)  # type: ignore[arg-type]

        def attend(self, faults: object) -> None:
            self.writer.faults = faults  # type: ignore[assignment]

    profiler = Profiler(sinks=[Sink(make(interval=600.0))])
    with profiler.profile("x"):
        pass
    await profiler.drain()
    assert kept.reports == 1
    kept.faults = [OSError("away")]
    with profiler.profile("x"):
        pass
    await profiler.aclose()
    assert profiler.faults.counts["sinks"] == 1
