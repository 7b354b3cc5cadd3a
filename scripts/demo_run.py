"""The example shop, its database and traffic to the findings of the profiler, as they appear."""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from querytoll.explain.inquiry import inquire
from querytoll.explain.render import render
from scripts.postgres import CACHE, Server, ServerError, embedded
from scripts.postmaster import die_with_parent
from shop import migrate, seed, traffic
from shop.db.config import ShopSettings
from shop.db.session import create_engine

LOG = CACHE / "demo.log"
ROWS = 200_000
REQUESTS_PER_SECOND = 40.0
LONGEST = 10 * 365 * 86_400.0
SLOW_SEARCH = (
    "SELECT id, name, price FROM products WHERE description ILIKE '%titanium%' ORDER BY price, id DESC LIMIT 20"
)
"""What the planted slow search sends."""


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence for the user."""


@dataclass(slots=True)
class Tally:
    """One finding over all requests to one route that showed it."""

    rule: str
    site: str
    name: str
    requests: int = 0
    statements: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Findings:
    """Prints each finding the first time and keeps count of all."""

    console: Console
    shown: set[str] = field(default_factory=set)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Take a line that the shop told."""
        finding = json.loads(line)
        if finding["id"] not in self.shown:
            self.shown.add(finding["id"])
            self._show(finding)
        new = Tally(finding["rule"], finding["site"], finding["name"])
        tally = self.tallies.setdefault((finding["id"], finding["name"]), new)
        tally.requests += 1
        tally.statements += finding["count"]
        tally.seconds += finding["cost"]

    def _show(self, finding: dict[str, str]) -> None:
        heading = Text.assemble((finding["rule"], "bold yellow"), f"  {finding['name']}  ", (finding["title"], "bold"))
        parts = (heading, Text(f"    {finding['site']}", "cyan"), Text(f"    {finding['advice']}"))
        self.console.print(*(part for part in parts if part.plain.strip()), "", sep="\n", soft_wrap=True)

    def table(self) -> Table:
        """What was found, dearest first."""
        table = Table("rule", title="Findings", box=None, title_justify="left")
        for heading in ("where", "request"):
            table.add_column(heading, overflow="fold")
        for heading in ("requests", "statements", "s to save"):
            table.add_column(heading, justify="right")
        for one in sorted(self.tallies.values(), key=lambda tally: -tally.seconds):
            numbers = (f"{one.requests}", f"{one.statements}", f"{one.seconds:.3f}")
            table.add_row(one.rule, one.site, one.name, *numbers)
        return table


def run(port: int, seconds: float) -> str | None:
    """Run the demo on a PostgreSQL of its own; the sentence that says why it could not go on, None at its end."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        check_port(port)
        console.print("Starting PostgreSQL")
        with embedded(CACHE / "demo-postgres") as server:
            asyncio.run(show(server, console, port, seconds))
    except (DemoError, ServerError) as error:
        return str(error)
    return None


def check_port(port: int) -> None:
    """Raise DemoError where the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise DemoError(f"Port {port} cannot be had ({error}); choose another: make demo DEMO_PORT=8766") from error


async def show(server: Server, console: Console, port: int, seconds: float) -> None:
    """Fill the database, serve the shop, send it requests and show what is found."""
    url = await prepare(server, console)
    findings = Findings(console)
    base = f"http://127.0.0.1:{port}"
    statuses: Counter[int] = Counter()
    try:
        async with serving(url, port, findings) as process:
            await answering(base, process)
            until = "until Ctrl-C" if seconds == math.inf else f"for {seconds:g} s"
            console.print(f"Serving {base}/docs and {base}/metrics")
            console.print(f"Sending {REQUESTS_PER_SECOND:g} requests/s {until}\n")
            statuses = await traffic.drive(
                base, seconds=min(seconds, LONGEST), rate=REQUESTS_PER_SECOND, seed=1, rows=ROWS
            )
            metrics = await findings_metrics(base)
    finally:
        if findings.tallies:
            console.print(findings.table())
    console.print(f'\nquerytoll explain --analyze --verify "{SLOW_SEARCH}"\n', soft_wrap=True, markup=False)
    console.print(await asyncio.to_thread(drawn, url), soft_wrap=True, markup=False)
    console.print("/metrics", *metrics, sep="\n", soft_wrap=True, markup=False)
    answers = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(statuses.items()))
    console.print(f"\n{statuses.total()} requests: {answers}")
    if not findings.tallies:
        raise DemoError(f"Nothing was found in them, which cannot be right; the shop's log is {LOG}")


async def prepare(server: Server, console: Console) -> str:
    """Make, migrate and fill the shop's database where an earlier run has not; its URL."""
    await create_database(server, "shop")
    url = server.url("shop")
    await migrate.upgrade(url)
    engine = create_engine(ShopSettings(database_url=url))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Seeding rows", total=ROWS, visible=False)
        made = await seed.seed(engine, ROWS, lambda done, _: progress.update(task, completed=done, visible=True))
    await engine.dispose()
    console.print(f"{'Seeded' if made else 'Kept the'} {ROWS:,} rows")
    return url


def drawn(url: str) -> str:
    """The plan of the planted slow search, what is wrong in it, and the index, tried in a transaction rolled back."""
    analysis = inquire(url, SLOW_SEARCH, analyze=True, verify=True).analysis
    return render(analysis.plan, analysis.findings, 120)


async def create_database(server: Server, name: str) -> None:
    """Create the database where it is missing."""
    engine = create_async_engine(server.url(), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        if not await connection.scalar(text("SELECT true FROM pg_database WHERE datname = :name"), {"name": name}):
            await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()


@asynccontextmanager
async def serving(url: str, port: int, findings: Findings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The shop in a process of its own, whose findings are taken while it runs."""
    environment = {"QUERYTOLL_SERVER_TIMING": "true", **os.environ, "SHOP_DATABASE_URL": url}
    command = ("uvicorn", "scripts.demo_shop:create_app", "--factory", "--port", str(port), "--no-access-log")
    with LOG.open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command, "--timeout-graceful-shutdown", "5"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    listening = asyncio.create_task(listen(process, findings))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await listening
        await process.wait()


async def listen(process: asyncio.subprocess.Process, findings: Findings) -> None:
    """Take the lines of the process until it ends."""
    assert process.stdout
    async for line in process.stdout:
        findings.add(line.decode())


async def answering(base: str, process: asyncio.subprocess.Process) -> None:
    """Return once the shop answers; raise DemoError where it ends instead."""
    async with httpx.AsyncClient(base_url=base) as client:
        while process.returncode is None:
            try:
                await client.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return
    reason = LOG.read_text().splitlines()[-1:] or [f"exit code {process.returncode}"]
    raise DemoError(f"The shop did not start: {reason[0]} (its log is {LOG})")


async def findings_metrics(base: str) -> list[str]:
    """The lines of /metrics that count findings."""
    async with httpx.AsyncClient(base_url=base, timeout=30.0) as client:
        response = await client.get("/metrics")
    return [line for line in response.text.splitlines() if line.startswith("querytoll_findings_total{")]
