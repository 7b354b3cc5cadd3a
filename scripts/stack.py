"""The example shop under load, watched by a real Prometheus and Alertmanager, without containers.

The command behind `make stack`. Time in the rules runs 30 times faster here, so that an alert that waits for ten
minutes fires after twenty seconds. Debian has the servers: apt-get install prometheus prometheus-alertmanager.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from dashboards.src.metrics import PENDING
from dashboards.src.server import Prometheus
from scripts.demo_run import LONGEST, ROWS, DemoError, check_port, prepare
from scripts.postgres import CACHE, Server, ServerError, embedded
from scripts.postmaster import die_with_parent
from shop import traffic

ROOT = Path(__file__).parents[1]
RULES = ROOT / "dashboards/prometheus"
ALERTMANAGER = ROOT / "dashboards/alertmanager/alertmanager.yml"
FASTER = 30
SCRAPE_SECONDS = 1
DRILLS = {"NPlusOne": "querytoll_findings", "PoolTimeouts": "querytoll_pool_timeouts"}
"""Alerts that the stack makes fire and clear, and the metric that each waits for."""
HOG = traffic.Call("GET", "/faults/pool-hog/1")
CROWD_SECONDS, CROWD_RATE = 5.0, 25.0
TIMEOUT_SECONDS = 150.0
PREVIEW_SECONDS = 90
SHOP = {
    "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
    "SHOP_POOL_SIZE": "8",
    "SHOP_MAX_OVERFLOW": "2",
    "SHOP_POOL_TIMEOUT_SECONDS": "0.5",
    # Within a minute each slow search is to have its plan more than once, also on a machine where it takes 80 ms.
    "QUERYTOLL_SLOW_STATEMENT_SECONDS": "0.04",
    "QUERYTOLL_EXPLAIN_INTERVAL_SECONDS": "3",
    "QUERYTOLL_EXPLAIN_FLOOR_SECONDS": "10",
}
HOME = CACHE / "stack-postgres"
"""A server of its own: the load changes its settings."""


class StackError(Exception):
    """The stack cannot go on; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen on 127.0.0.1."""

    shop: int = 8765
    prometheus: int = 9090
    alertmanager: int = 9093

    @classmethod
    def free(cls) -> Ports:
        """Return ports that nobody listens on."""
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            sockets = (one, two, three)
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            return cls(*(each.getsockname()[1] for each in sockets))


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of what runs."""

    shop: str
    prometheus: str
    alertmanager: str
    database: str

    async def firing(self) -> set[str]:
        """Return the names of the alerts that fire in Prometheus."""
        return await asyncio.to_thread(Prometheus(self.prometheus).alerts)

    async def received(self) -> set[str]:
        """Return the names of the alerts that Alertmanager holds as active."""
        async with httpx.AsyncClient(base_url=self.alertmanager) as client:
            alerts = (await client.get("/api/v2/alerts", params={"active": "true"})).json()
        return {alert["labels"]["alertname"] for alert in alerts}


def drilled() -> tuple[str, ...]:
    """Return the alerts to show: those whose metric exists."""
    return tuple(alert for alert, metric in DRILLS.items() if metric not in PENDING)


@asynccontextmanager
async def running(database_url: str, ports: Ports, workers: int = 1) -> AsyncIterator[Stack]:
    """Run the shop, Prometheus and Alertmanager.

    Raises:
        StackError: a program is missing, or ended instead of answering.
    """
    stack = Stack(
        shop=f"http://127.0.0.1:{ports.shop}",
        prometheus=f"http://127.0.0.1:{ports.prometheus}",
        alertmanager=f"http://127.0.0.1:{ports.alertmanager}",
        database=database_url,
    )
    with tempfile.TemporaryDirectory(prefix="querytoll-stack-") as name:
        folder = Path(name)
        configure(folder, ports)
        async with AsyncExitStack() as servers:
            environment = shop_environment(database_url, folder, workers)
            for command, url in (
                (alertmanager_command(folder, ports.alertmanager), f"{stack.alertmanager}/-/ready"),
                (prometheus_command(folder, ports.prometheus), f"{stack.prometheus}/-/ready"),
                (shop_command(ports.shop, workers), f"{stack.shop}/healthz"),
            ):
                await servers.enter_async_context(serving(command, environment, url))
            yield stack


def shop_environment(database_url: str, folder: Path, workers: int) -> dict[str, str]:
    """Return the environment of the shop; several workers share their metrics in a folder."""
    path = os.pathsep.join(filter(None, (str(ROOT / "examples/shop"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **SHOP, "PYTHONPATH": path, "SHOP_DATABASE_URL": database_url}
    if workers > 1:
        (folder / "metrics").mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    return environment


def shop_command(port: int, workers: int) -> list[str]:
    """Return the command of the shop."""
    serve = ["uvicorn", "shop.main:create_app", "--factory", "--port", f"{port}", "--workers", f"{workers}"]
    return [sys.executable, "-m", *serve, "--no-access-log", "--timeout-graceful-shutdown", "5"]


def prometheus_command(folder: Path, port: int) -> list[str]:
    """Return the command of Prometheus."""
    return [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]


def alertmanager_command(folder: Path, port: int) -> list[str]:
    """Return the command of Alertmanager."""
    return [
        program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={ALERTMANAGER}",
        f"--storage.path={folder / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]


def program(*names: str) -> str:
    """Return the path of the first program that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise StackError(f"{names[0]} is not installed; run: apt-get install prometheus prometheus-alertmanager")


def configure(folder: Path, ports: Ports) -> None:
    """Write Prometheus' configuration and the rules, faster."""
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(faster((RULES / name).read_text()))
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports.alertmanager}"]}]}]},
        "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{ports.shop}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))


def faster(rules: str, times: int = FASTER) -> str:
    """Shorten the durations of rules: ranges, offsets and `for`."""
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

    def shortened(duration: re.Match[str]) -> str:
        return f"{duration[1]}{int(duration[2]) * units[duration[3]] * 1_000 // times}ms"

    return re.sub(r"(\[|offset |for: )(\d+)([smhd])\b", shortened, rules)


@asynccontextmanager
async def serving(command: list[str], environment: dict[str, str], url: str) -> AsyncIterator[None]:
    """A server in a process of its own, from when it answers until the end of the block."""
    log = CACHE / "stack" / f"{Path(command[0]).name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        await answering(url, process, log)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answering(url: str, process: asyncio.subprocess.Process, log: Path, timeout_seconds: float = 60.0) -> None:
    """Return once the server answers with 200."""
    deadline = time.monotonic() + timeout_seconds
    async with httpx.AsyncClient() as client:
        while process.returncode is None and time.monotonic() < deadline:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise StackError(f"{url} does not answer: {last_line(log)} (its log is {log})")


def last_line(log: Path) -> str:
    """Return what a server said last."""
    return next(iter(log.read_text().splitlines()[-1:]), "it said nothing")


async def load(stack: Stack, seconds: float, *, faulty: float = 0.3, rate: float = 20.0) -> None:
    """Send mixed requests, and what the shop has no planted fault for.

    That is twice per second a customer whose address is taken (SQLSTATE 23505), after a while a crowd that the pool is
    too small for, and other plans in the second half.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(change_plans(stack.database, after=min(seconds, PREVIEW_SECONDS) / 2))
        group.create_task(
            traffic.drive(stack.shop, seconds=seconds, rate=rate, seed=1, rows=ROWS, faulty=faulty, concurrency=6)
        )
        group.create_task(crowd(stack, after=min(seconds, PREVIEW_SECONDS) / 4))
        twin: dict[str, object] = {"email": "customer1@example.org", "name": "twin"}
        group.create_task(repeat(stack, traffic.Call("POST", "/customers", twin), seconds, rate=2.0))


async def crowd(stack: Stack, after: float) -> None:
    """Let more requests than the pool has connections come at once, after some time."""
    await asyncio.sleep(after)
    await repeat(stack, HOG, CROWD_SECONDS, rate=CROWD_RATE)


async def change_plans(database_url: str, after: float) -> None:
    """Let the search of the products read an index, after some time; it stays slow."""
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("CREATE INDEX IF NOT EXISTS stack_price ON products (price, id DESC)"))
        await configure_server(connection, "ALTER SYSTEM RESET enable_seqscan")
        await asyncio.sleep(after)
        await configure_server(connection, "ALTER SYSTEM SET enable_seqscan = off")
    await engine.dispose()


async def configure_server(connection: AsyncConnection, command: str) -> None:
    """Change a setting of the server for every session."""
    await connection.execute(text(command))
    await connection.execute(text("SELECT pg_reload_conf()"))


async def drill(stack: Stack, alert: str, seconds: float) -> None:
    """Send what makes an alert fire."""
    if alert == "NPlusOne":
        await repeat(stack, traffic.Call("GET", "/faults/lazy-load?limit=100"), seconds, rate=5.0)
    else:
        await repeat(stack, HOG, seconds, rate=CROWD_RATE)


async def repeat(stack: Stack, call: traffic.Call, seconds: float, *, rate: float) -> None:
    """Send one request again and again."""
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=stack.shop, timeout=30.0) as client, asyncio.TaskGroup() as group:
        for turn in range(int(seconds * rate)):
            await asyncio.sleep(began + turn / rate - time.monotonic())
            group.create_task(traffic.send(client, call))


async def fire_and_clear(stack: Stack, alert: str, tell: Callable[[str], None] = lambda _: None) -> None:
    """Make an alert fire, wait until Alertmanager has it, stop the cause and wait until it has cleared.

    Raises:
        StackError: it did not fire or clear in time.
    """
    began = time.monotonic()
    cause = asyncio.create_task(drill(stack, alert, TIMEOUT_SECONDS))
    try:
        await until(stack.received, alert, present=True)
    finally:
        cause.cancel()
        await asyncio.gather(cause, return_exceptions=True)
    tell(f"{alert} fired and reached Alertmanager after {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    await until(stack.firing, alert, present=False)
    tell(f"{alert} cleared {time.monotonic() - began:.0f} s after its cause was gone")


async def until(alerts: Callable[[], Awaitable[Collection[str]]], alert: str, *, present: bool) -> None:
    """Return once an alert is, or is not, among those that are asked for every second."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if (alert in await alerts()) is present:
            return
        await asyncio.sleep(1)
    raise StackError(f"{alert} did not {'fire' if present else 'clear'} within {TIMEOUT_SECONDS:.0f} s")


async def show(database_url: str, ports: Ports, console: Console, seconds: float, previews: Path | None) -> None:
    """Run the stack, show the alerts, then go on with mixed load."""
    async with running(database_url, ports) as stack:
        console.print(f"Shop {stack.shop}/metrics, Prometheus {stack.prometheus}, Alertmanager {stack.alertmanager}")
        console.print(f"Time in the rules runs {FASTER} times faster\n")
        for alert in drilled():
            await fire_and_clear(stack, alert, console.print)
        console.print(f"\nSending 20 requests/s {'until Ctrl-C' if seconds == math.inf else f'for {seconds:g} s'}")
        async with asyncio.TaskGroup() as group:
            group.create_task(load(stack, min(seconds, LONGEST)))
            if previews is not None:
                group.create_task(draw(stack, previews))


async def draw(stack: Stack, folder: Path) -> None:
    """Draw the dashboards once there is enough to see, while the load goes on."""
    await asyncio.sleep(PREVIEW_SECONDS)
    command = ("-m", "dashboards.src.preview", stack.prometheus, str(folder), str(PREVIEW_SECONDS))
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    if await process.wait():
        raise StackError("The dashboards could not be drawn; run: make stack-pictures")


def main() -> str | None:
    """Read the options and run; return the sentence that says why it could not go on."""
    parser = argparse.ArgumentParser(prog="make stack", usage="make stack [STACK_SECONDS=0]")
    parser.add_argument("--seconds", type=float, default=os.environ.get("STACK_SECONDS") or math.inf)
    parser.add_argument("--previews", type=Path, help="folder for pictures of the dashboards")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        with embedded(HOME) as server:
            asyncio.run(prepared(server, console, options.seconds, options.previews))
    except (StackError, DemoError, ServerError) as error:
        return str(error)
    except KeyboardInterrupt:
        console.print("Stopped.")
    return None


async def prepared(server: Server, console: Console, seconds: float, previews: Path | None) -> None:
    """Fill the database, then show the stack."""
    ports = Ports()
    for port in (ports.shop, ports.prometheus, ports.alertmanager):
        check_port(port)
    await show(await prepare(server, console), ports, console, seconds, previews)


if __name__ == "__main__":
    sys.exit(main())
