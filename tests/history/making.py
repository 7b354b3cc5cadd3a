"""Reports as they come from a profiler, and databases for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from querytoll.fingerprint import shape
from querytoll.history import Store, upgrade
from querytoll.history.batch import Batch, Folder
from querytoll.model import Finding, Plan, PlanNode, Report, Site, Statement, Trace
from querytoll.settings import Settings

NOW = datetime.now(UTC).replace(microsecond=0)
SITE = Site("/srv/app/orders.py", 41, "list_orders", "app/orders.py")
SQL = "SELECT id FROM items WHERE order_id = $1"
BACKENDS = ("asyncpg", "psycopg", "aiosqlite")
NewDatabase = Callable[[], AbstractContextManager[str]]
_ids = iter(range(1_000_000))


def statement(sql: str = SQL) -> Statement:
    return Statement(sql, shape(sql), 0.0, 0.01, stack=(SITE,))


def finding(rule: str = "n-plus-one", count: int = 3, **facts: object) -> Finding:
    known: dict[str, object] = {
        "title": f"Order.items loaded {count} times",
        "advice": "Load it with its parents: selectinload(Order.items).",
        "site": SITE,
        "fingerprint": shape(SQL).fingerprint,
        "summary": "SELECT items",
        "cost": 0.01,
        "evidence": {"relation": "Order.items"},
    }
    return Finding(rule=rule, count=count, **{**known, **facts})  # type: ignore[arg-type]


def report(name: str = "GET /orders", times: int = 3, *findings: Finding, **facts: object) -> Report:
    """A request that sends one statement again and again."""
    known: dict[str, object] = {
        "id": f"{next(_ids):032x}",
        "kind": "request",
        "name": name,
        "began": NOW,
        "elapsed": 0.1,
        "statements": (statement(),) * times,
        "method": "GET",
        "route": "/orders",
        "path": "/orders",
        "status": 200,
        "database_seconds": times / 100,
    }
    return Report(Trace(**{**known, **facts}), findings)  # type: ignore[arg-type]


def plan() -> Plan:
    return Plan(tree=PlanNode(id=0, kind="Seq Scan", relation="items", facts={"Filter": "(order_id = ?)"}), shape="5e")


def batch(*reports: Report, settings: Settings | None = None) -> Batch:
    made, folder = Batch(), Folder(settings or Settings())
    for each in reports:
        folder.fold(each, made)
    return made


def database(backend: str, new_database: NewDatabase, folder: Path, stack: ExitStack, *, empty: bool = False) -> str:
    """The URL of a history of a backend; without tables if it is to be empty."""
    if backend == "aiosqlite":
        url = f"sqlite+aiosqlite:///{folder / f'history-{next(_ids)}.db'}"
    else:
        made = make_url(stack.enter_context(new_database())).set(drivername=f"postgresql+{backend}")
        url = made.render_as_string(hide_password=False)
    if not empty:
        asyncio.run(upgrade(url))
    return url


async def emptied(url: str) -> Store:
    store = Store(url)
    await store.clear()
    return store
