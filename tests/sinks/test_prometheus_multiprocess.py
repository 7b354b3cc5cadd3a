"""Files of workers that died: their gauges go, their counters stay and do not become more and more files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

APPLICATION = """
import os
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from querytoll import Profiler, ProfilerMiddleware, Settings

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=2, max_overflow=0, logging_name="shop")
profiler = Profiler(Settings(explain="off"))
app = FastAPI()
app.add_middleware(ProfilerMiddleware, profiler=profiler)
app.add_route("/metrics", profiler.metrics_endpoint)

@app.get("/work")
async def work() -> int:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return os.getpid()
"""

Samples = dict[str, float]


def samples_of(body: str) -> Samples:
    return {
        sample.name + "".join(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


@contextmanager
def served(folder: Path, database: str) -> Iterator[str]:
    """Run the application with two workers."""
    (folder / "application.py").write_text(APPLICATION)
    (folder / "metrics").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "DATABASE_URL": database,
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
    }
    command = [sys.executable, "-m", "uvicorn", "application:app", "--workers", "2", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, "--no-access-log"], env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return what is true at last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not come true")


def test_a_worker_that_is_killed_leaves_its_counters_only(tmp_path: Path, postgres_url: str) -> None:
    """Of two uvicorn workers one is killed: its connections leave the gauges, its requests stay counted."""
    with served(tmp_path, postgres_url) as url:
        requests = 0

        def work() -> int:
            nonlocal requests
            worker: int = httpx.get(f"{url}/work").json()
            requests += 1
            return worker

        def scraped() -> Samples:
            return samples_of(httpx.get(f"{url}/metrics").text)

        workers: set[int] = set()
        until(lambda: workers.add(work()) or len(workers) == 2)
        before = scraped()
        assert before["querytoll_pool_connections_maxshop"] == 4
        assert before["querytoll_pool_connectionsidleshop"] == 2
        victim = workers.pop()
        os.kill(victim, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{victim}/stat").exists() or " Z " in Path(f"/proc/{victim}/stat").read_text())
        until(lambda: scraped().get("querytoll_pool_connectionsidleshop") == 1)
        after = scraped()
        assert not (tmp_path / f"metrics/gauge_livesum_{victim}.db").exists()
        assert (tmp_path / f"metrics/counter_{victim}.db").exists()
        assert (tmp_path / f"metrics/gauge_livesum_{workers.pop()}.db").exists()
        assert after["querytoll_request_statements_sum/workGET"] == requests
        assert after["querytoll_pool_use_seconds_countshop"] == requests


WORKER = """
import os, sys
from prometheus_client import CollectorRegistry
from querytoll.model import Report, Trace
from querytoll.sinks.prometheus import PrometheusSink
from datetime import UTC, datetime
sink = PrometheusSink(CollectorRegistry())
for _ in range(3):
    sink(Report(Trace("b" * 32, "request", "GET /", datetime.now(UTC), 1.0, method="GET", route="/", status=200)))
"""

SCRAPER = """
import json, os, sys
from prometheus_client import CollectorRegistry
from querytoll.sinks.prometheus import PrometheusSink, exposition, multiprocess
sink = PrometheusSink(CollectorRegistry())
def scrape():
    body, _ = exposition(None, None)
    return body.decode()
"""


def run(folder: Path, code: str, *arguments: str) -> str:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one worker that has ended, by their names with the process left out."""
    folder = tmp_path_factory.mktemp("worker")
    run(folder, WORKER)
    (process,) = [path.name.split("_")[1].removesuffix(".db") for path in folder.glob("counter_*.db")]
    return {path.name.replace(process, "{}"): path.read_bytes() for path in folder.iterdir()}


def bury(folder: Path, remains: dict[str, bytes], count: int) -> list[int]:
    """Leave the files of workers whose numbers belong to nobody."""
    dead = [number for number in range(4_100_000, 4_194_000) if not Path(f"/proc/{number}").exists()][:count]
    for process in dead:
        for name, content in remains.items():
            (folder / name.format(process)).write_bytes(content)
    return dead


def test_many_dead_workers_are_added_up(tmp_path: Path, remains: dict[str, bytes]) -> None:
    """Over the limit, files of the dead become one per type; no scrape shows another number than the one before."""
    dead = bury(tmp_path, remains, 20)
    code = """
before = []
multiprocess.MAX_DEAD = 100
before = scrape()
assert len(os.listdir(sys.argv[1])) > 80
multiprocess.MAX_DEAD = 16
print(json.dumps([before, scrape(), scrape(), sorted(os.listdir(sys.argv[1]))]))
"""
    before, after, again, files = json.loads(run(tmp_path, SCRAPER + code, str(tmp_path)))
    assert samples_of(before) == samples_of(after) == samples_of(again)
    assert samples_of(after)["querytoll_request_duration_seconds_count/2xxGET"] == 60
    assert [name for name in files if any(str(process) in name for process in dead)] == []
    assert {"counter_querytoll.db", "histogram_querytoll.db", "summary_querytoll.db"} <= set(files)
    assert len(files) < 15
    bury(tmp_path, remains, 17)
    code = "print(json.dumps([scrape(), sorted(os.listdir(sys.argv[1]))]))"
    later, files = json.loads(run(tmp_path, SCRAPER + code, str(tmp_path)))
    assert samples_of(later)["querytoll_request_duration_seconds_count/2xxGET"] == 60 + 51
    assert len(files) < 25


@pytest.mark.parametrize("steps", [2, 4, 6, 30])
def test_a_crash_while_adding_up_loses_nothing(tmp_path: Path, remains: dict[str, bytes], steps: int) -> None:
    """A scrape that dies after any of its steps is finished by the next one, with the same numbers."""
    bury(tmp_path, remains, 20)
    crash = """
steps = int(sys.argv[2])
def counted(function):
    def step(*arguments, **options):
        global steps
        if not steps:
            os._exit(0)
        steps -= 1
        return function(*arguments, **options)
    return step
multiprocess.os.replace = counted(os.replace)
multiprocess.Path.replace = counted(multiprocess.Path.replace)
multiprocess.Path.unlink = counted(multiprocess.Path.unlink)
scrape()
"""
    run(tmp_path, SCRAPER + crash, str(tmp_path), str(steps))
    after = run(tmp_path, SCRAPER + "print(scrape())")
    assert samples_of(after)["querytoll_request_duration_seconds_count/2xxGET"] == 60


def test_what_may_live_is_left_alone(tmp_path: Path, remains: dict[str, bytes]) -> None:
    """Files of a process without a lock file, of one that holds its lock elsewhere, and of a living one are kept."""
    unknown, elsewhere = bury(tmp_path, remains, 2)
    (tmp_path / f"querytoll_{unknown}.alive").unlink()
    living = os.getppid()
    for name, content in remains.items():
        (tmp_path / name.format(living)).write_bytes(content)
    code = f"""
import fcntl
holder = os.open("{tmp_path}/querytoll_{elsewhere}.alive", os.O_RDWR)
fcntl.flock(holder, fcntl.LOCK_EX)
multiprocess.MAX_DEAD = 0
scrape()
"""
    run(tmp_path, SCRAPER + code)
    for process in (unknown, elsewhere, living):
        assert (tmp_path / f"gauge_livemax_{process}.db").exists()
        assert (tmp_path / f"counter_{process}.db").exists()


def test_a_forked_worker_is_known(tmp_path: Path) -> None:
    """A worker that a server forks after the application was loaded has a lock of its own."""
    code = """
child = os.fork()
if not child:
    sink.internal_error("sinks")
    os._exit(0)
os.waitpid(child, 0)
assert os.path.exists(f"{sys.argv[1]}/querytoll_{child}.alive")
multiprocess.MAX_DEAD = 0
scrape()
assert not os.path.exists(f"{sys.argv[1]}/counter_{child}.db")
print(scrape())
"""
    told = samples_of(run(tmp_path, SCRAPER + code, str(tmp_path)))
    assert told["querytoll_internal_errors_totalsinks"] == 1


def test_a_folder_that_cannot_be_locked_is_still_read(tmp_path: Path, remains: dict[str, bytes]) -> None:
    """Tidying up that fails is logged, and the scrape is answered."""
    bury(tmp_path, remains, 1)
    (tmp_path / "querytoll.lock").mkdir()
    told = samples_of(run(tmp_path, SCRAPER + "print(scrape())"))
    assert told["querytoll_request_duration_seconds_count/2xxGET"] == 3
