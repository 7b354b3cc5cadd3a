"""Transactions, connections, pools and drivers in the wrong place, and in the right one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import BackgroundTasks
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import InvalidRequestError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, raiseload, selectinload
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket

from tests.detect.corpus.database import Conn, Db, ExpiringDb, SyncDb, database
from tests.detect.corpus.models import (
    Author,
    Book,
    Customer,
    Document,
    Item,
    Job,
    Order,
    Product,
    Review,
    Shipment,
    Stock,
    Wallet,
)
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario
from tests.detect.corpus.services import CurrentUser

OPEN = ("idle-in-transaction", "long-transaction", "connection-held")
SAME_GAP = dict.fromkeys(OPEN, "one gap is a transaction idle, long and a connection held")
PAUSE = text("SELECT count(*) FROM orders, (SELECT pg_sleep(:seconds)) AS pause")


async def charge(seconds: float) -> str:
    """An external payment service."""
    await asyncio.sleep(seconds)
    return "paid"


def charge_sync(seconds: float) -> str:
    """The same, through a synchronous client."""
    time.sleep(seconds)
    return "paid"


@scenario(
    "idle-around-payment",
    "a row is written, then the payment service is called for 0.5 s before the commit",
    Expect(("idle-in-transaction", "long-transaction"), "payment-begin"),
    allow=SAME_GAP,
)
async def pay(session: Db) -> str:
    await session.execute(update(Wallet).where(Wallet.id == 3).values(balance=5, version=2))  # MARK: payment-begin
    outcome = await charge(0.5)
    await session.execute(update(Job).where(Job.id == 3).values(state=outcome))
    await session.commit()
    return outcome


@scenario(
    "idle-after-authentication",
    "the user is read, then an external service is called for 0.6 s in the session's transaction",
    Expect(OPEN, ("current-user", "repository-find")),
    allow=SAME_GAP,
)
async def authenticated(user: CurrentUser) -> Row:
    return {"user": user.email, "outcome": await charge(0.6)}


@scenario(
    "idle-in-threadpool",
    "a synchronous endpoint calls an external service in its transaction",
    Expect(OPEN, "threadpool-begin"),
    allow=SAME_GAP,
)
def pay_sync(session: SyncDb) -> str:
    stock = session.scalars(select(Stock).where(Stock.product_id == 300)).one()  # MARK: threadpool-begin
    outcome = charge_sync(0.5)
    stock.note = outcome
    session.commit()
    return outcome


@scenario(
    "long-over-three-calls",
    "one transaction around three external calls",
    Expect(("long-transaction", "idle-in-transaction"), "three-calls-begin"),
    allow=SAME_GAP,
    kind="job",
)
async def pay_three() -> None:
    async with database.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == 4).values(state="paying"))  # MARK: three-calls-begin
        await charge(0.3)
        await session.execute(update(Wallet).where(Wallet.id == 4).values(balance=1, version=2))
        await charge(0.3)
        await session.execute(update(Stock).where(Stock.product_id == 301).values(note="paid"))
        await charge(0.3)


@scenario(
    "long-over-many-short-calls",
    "one transaction around ten short calls",
    Expect(("long-transaction", "idle-in-transaction"), "short-calls-begin"),
    allow=SAME_GAP,
    kind="job",
)
async def pay_ten() -> None:
    async with database.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == 20).values(state="paying"))  # MARK: short-calls-begin
        for low in range(301, 401, 10):
            await charge(0.13)
            await session.execute(update(Stock).where(Stock.product_id.between(low, low + 9)).values(note="paid"))


@scenario(
    "idle-while-rendering",
    "rows are read, then rendered for 0.5 s of Python, the transaction open",
    Expect(OPEN, "rendering-begin"),
    allow=SAME_GAP,
)
def render(session: SyncDb) -> int:
    customers = session.scalars(select(Customer).order_by(Customer.id).limit(20)).all()  # MARK: rendering-begin
    until, rounds = time.perf_counter() + 0.6, 0
    while time.perf_counter() < until:
        rounds += sum(map(ord, "".join(customer.name for customer in customers)))
    session.rollback()
    return rounds


@scenario(
    "idle-in-background",
    "a background task calls out within its transaction",
    Expect(("idle-in-transaction", "long-transaction"), "background-begin"),
    allow=SAME_GAP,
)
async def in_background(tasks: BackgroundTasks) -> Row:
    async def deliver() -> None:
        async with database.sessions.begin() as session:
            await session.execute(update(Job).where(Job.id == 6).values(state="sending"))  # MARK: background-begin
            await charge(0.5)

    tasks.add_task(deliver)
    return {}


@scenario(
    "held-by-slow-client",
    "a streamed body keeps the session's connection while the client is slow",
    Expect(OPEN, "slow-client"),
    allow=SAME_GAP,
)
async def slow_client(session: Db) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        statement = select(Customer).order_by(Customer.id).limit(6)
        async with session:
            for customer in (await session.scalars(statement)).all():  # MARK: slow-client
                yield customer.name
                await asyncio.sleep(0.12)

    return StreamingResponse(lines())


@scenario(
    "held-after-commit",
    "the transaction is over, the connection is not given back during the call",
    Expect("connection-held", "held-commit"),
)
async def held_after_commit() -> str:
    async with database.engine.connect() as connection:  # MARK: held-commit
        await connection.execute(update(Job).where(Job.id == 8).values(state="paying"))
        await connection.commit()
        return await charge(0.6)


@scenario(
    "held-autocommit",
    "an AUTOCOMMIT connection is kept during the call",
    Expect("connection-held", "held-autocommit"),
)
async def held_autocommit() -> str:
    async with database.engine.connect() as plain:  # MARK: held-autocommit
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(select(func.count()).select_from(Book))
        return await charge(0.6)


@scenario("held-sync", "the same in a synchronous endpoint", Expect("connection-held", "held-sync"))
def held_sync() -> str:
    with database.sync_engine.connect() as connection:  # MARK: held-sync
        connection.execute(select(func.count()).select_from(Book))
        connection.commit()
        return charge_sync(0.6)


@scenario("transaction-short-call", "a call of 15 ms within a transaction")
async def short_call(session: Db) -> str:
    await session.execute(update(Job).where(Job.id == 10).values(state="paying"))
    outcome = await charge(0.015)
    await session.execute(update(Job).where(Job.id == 10).values(progress=1))
    await session.commit()
    return outcome


@scenario("transaction-ended-before-call", "committed, hence the connection is back, before the call")
async def ended_before(session: Db) -> str:
    await session.execute(update(Job).where(Job.id == 11).values(state="paying"))
    await session.commit()
    outcome = await charge(0.5)
    await session.execute(update(Stock).where(Stock.product_id == 302).values(note=outcome))
    await session.commit()
    return outcome


@scenario("transaction-after-call", "the call comes first")
async def after_call(session: Db) -> str:
    outcome = await charge(0.5)
    await session.execute(update(Job).where(Job.id == 12).values(state=outcome))
    await session.commit()
    return outcome


@scenario("transaction-session-closed", "the session is closed before the call")
async def session_closed() -> str:
    async with database.sessions() as session:
        job = await session.get_one(Job, 13)
    return job.state + await charge(0.5)


@scenario("transaction-session-closed-sync", "the same in a synchronous endpoint")
def session_closed_sync() -> str:
    with database.sync_sessions() as session:
        state = session.scalar(select(Job.state).where(Job.id == 14))
    return f"{state} {charge_sync(0.5)}"


@scenario("transaction-rolled-back-before-call", "a read-only transaction is ended before the call")
async def rolled_back(session: Db) -> str:
    customer = await session.get_one(Customer, 14)
    await session.rollback()
    return customer.name if customer is None else await charge(0.5)


@scenario(
    "transaction-of-a-slow-statement",
    "the transaction is long, because its statement is: slow, not idle",
    Expect("slow-query", "slow-in-transaction"),
)
async def slow_statement(session: Db) -> int:
    await session.execute(update(Job).where(Job.id == 16).values(state="counting"))
    found = await session.scalar(PAUSE, {"seconds": 0.6})  # MARK: slow-in-transaction
    await session.commit()
    return found or 0


@scenario("transaction-of-many-statements", "a transaction of many quick statements")
async def many_statements(session: Db) -> Row:
    counts: Row = {}
    for model in (Author, Book, Customer, Item, Order, Product, Review, Shipment, Stock, Wallet):
        counts[model.__tablename__] = await session.scalar(select(func.count()).select_from(model))
    await session.commit()
    return counts


def pool() -> AsyncEngine:
    """One connection."""
    return database.shared("one", pool_size=1, max_overflow=0)


async def warm() -> None:
    """Use it, as earlier requests have."""
    async with pool().connect() as connection:
        await connection.scalar(select(func.count()).select_from(Book))


async def _slow_pool_request(engine: Any) -> Row:
    async with AsyncSession(engine) as session:
        orders = await session.scalar(PAUSE, {"seconds": 0.06})  # MARK: pool-wait
        statement = text("SELECT count(*) FROM items, (SELECT pg_sleep(:seconds)) AS pause")
        return {"orders": orders, "items": await session.scalar(statement, {"seconds": 0.06})}


@scenario(
    "pool-of-one",
    "five requests at once on a pool of one connection",
    Expect("pool-wait", "pool-wait"),
    requests=("",) * 5,
    together=True,
    before=warm,
)
async def pool_of_one() -> Row:
    return await _slow_pool_request(pool())


@scenario(
    "pool-of-one-cold",
    "the same, before anything has used the pool",
    Expect("pool-wait", "pool-wait"),
    requests=("",) * 5,
    together=True,
)
async def pool_cold() -> Row:
    return await _slow_pool_request(pool())


@scenario(
    "pool-of-one-connect",
    "the same by engine.connect()",
    Expect("pool-wait", ("pool-connect", "pool-connect-statement")),
    requests=("",) * 5,
    together=True,
    before=warm,
)
async def pool_connect() -> int:
    async with pool().connect() as connection:  # MARK: pool-connect
        await connection.scalar(select(func.count()).select_from(Book))
        return await connection.scalar(PAUSE, {"seconds": 0.065}) or 0  # MARK: pool-connect-statement


@scenario(
    "pool-exhausted-by-one-request",
    "one request asks for four connections at once, of a pool of one",
    Expect("pool-wait"),
    allow={"pool-wait": "each of the three that waited may be told", "slow-query": "on a busy machine"},
    before=warm,
)
async def pool_gather() -> list[Any]:
    async def count(table: str) -> Any:
        async with AsyncSession(pool()) as session:
            statement = text(f"SELECT count(*) FROM {table}, (SELECT pg_sleep(:seconds)) AS pause")
            return await session.scalar(statement, {"seconds": 0.07})

    return await asyncio.gather(count("orders"), count("books"), count("items"), count("reviews"))


@scenario("pool-large-enough", "five requests at once on a pool of five", requests=("",) * 5, together=True)
async def pool_enough() -> Row:
    return await _slow_pool_request(database.engine)


@scenario("pool-brief-wait", "quick statements share one connection", requests=("",) * 6, together=True, before=warm)
async def pool_brief() -> int:
    async with AsyncSession(pool()) as session:
        return await session.scalar(select(func.count()).select_from(Order)) or 0


@scenario(
    "greenlet-collection",
    "a lazy collection in async code",
    Expect("missing-greenlet", "greenlet-collection"),
    raises=MissingGreenlet,
    note=("Author.books", "MARK:greenlet-collection", "selectinload"),
)
async def greenlet_collection(session: Db) -> Rows:
    authors = (await session.scalars(select(Author).order_by(Author.id).limit(10))).all()
    return [{"name": author.name, "books": len(author.books)} for author in authors]  # MARK: greenlet-collection


@scenario(
    "greenlet-many-to-one",
    "a lazy many-to-one in async code",
    Expect("missing-greenlet", "greenlet-parent"),
    raises=MissingGreenlet,
    note=("Order.customer", "MARK:greenlet-parent", "load"),
)
async def greenlet_parent(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(10))).all():
        page.append({"id": order.id, "customer": order.customer.name})  # MARK: greenlet-parent
    return page


@scenario(
    "greenlet-property",
    "a property of the model hides the load",
    Expect("missing-greenlet", ("model-total", "greenlet-property")),
    raises=MissingGreenlet,
    note=("Order.items", "selectinload"),
)
async def greenlet_property(session: Db) -> int:
    order = await session.get_one(Order, 3)
    return order.total  # MARK: greenlet-property


@scenario(
    "greenlet-deferred",
    "a deferred column in async code",
    Expect("missing-greenlet", "greenlet-deferred"),
    raises=MissingGreenlet,
    note=("Document.body", "MARK:greenlet-deferred", "undefer"),
)
async def greenlet_deferred(session: Db) -> int:
    document = (await session.scalars(select(Document).where(Document.id == 2))).one()
    return len(document.body)  # MARK: greenlet-deferred


@scenario(
    "greenlet-expired",
    "an attribute that the commit expired",
    Expect("missing-greenlet", "greenlet-expired"),
    raises=MissingGreenlet,
    note=("Job", "MARK:greenlet-expired", "expire_on_commit"),
)
async def greenlet_expired(session: ExpiringDb) -> str:
    job = await session.get_one(Job, 17)
    job.progress += 1
    await session.commit()
    return job.state  # MARK: greenlet-expired


class AuthorRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str


class BookRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    title: str
    author: AuthorRead


@scenario(
    "greenlet-response-model",
    "FastAPI serialises a lazy relationship: Pydantic wraps the error",
    Expect("missing-greenlet"),
    raises=ResponseValidationError,
)
async def greenlet_response(session: Db) -> list[BookRead]:
    found: Any = (await session.scalars(select(Book).order_by(Book.id).limit(5))).all()
    return found


@scenario(
    "greenlet-caught",
    "the application catches the error and answers without",
    Expect("missing-greenlet", "greenlet-caught"),
)
async def greenlet_caught(session: Db) -> Row:
    order = await session.get_one(Order, 5)
    try:
        return {"items": len(order.items)}  # MARK: greenlet-caught
    except MissingGreenlet:
        return {"items": None}


@scenario("greenlet-awaited", "the same relationship, awaited")
async def greenlet_awaited(session: Db) -> int:
    order = await session.get_one(Order, 6)
    return len(await order.awaitable_attrs.items)


@scenario("greenlet-run-sync", "the same relationship in run_sync")
async def greenlet_run_sync(session: Db) -> int:
    order = await session.get_one(Order, 6)
    return await session.run_sync(lambda _: order.total)


@scenario("greenlet-raiseload", "raiseload says so itself: another exception", raises=InvalidRequestError)
async def greenlet_raiseload(session: Db) -> int:
    order = (await session.scalars(select(Order).options(raiseload("*")).where(Order.id == 6))).one()
    return len(order.items)


@scenario("greenlet-eager", "the relationship is there")
async def greenlet_eager(session: Db) -> int:
    statement = select(Order).options(selectinload(Order.items)).where(Order.id == 6)
    return (await session.scalars(statement)).one().total


@scenario(
    "blocking-session", "a synchronous session in an async endpoint", Expect("blocking-driver", "blocking-session")
)
async def blocking_session(session: SyncDb) -> list[str]:
    customers = session.scalars(select(Customer).order_by(Customer.id).limit(10)).all()  # MARK: blocking-session
    return [customer.name for customer in customers]


@scenario(
    "blocking-connection", "a synchronous connection in an async endpoint", Expect("blocking-driver", "blocking-core")
)
async def blocking_connection() -> int:
    with database.sync_engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Order)) or 0  # MARK: blocking-core


async def blocked_user() -> str:
    with database.sync_sessions() as session:
        return session.scalar(select(Customer.name).where(Customer.id == 2)) or ""  # MARK: blocking-dependency


@scenario(
    "blocking-helper",
    "an async helper with a synchronous session",
    Expect("blocking-driver", ("blocking-dependency", "blocking-caller")),
)
async def blocking_helper(session: Db) -> Row:
    orders = await session.scalar(select(func.count()).select_from(Order))
    return {"orders": orders, "name": await blocked_user()}  # MARK: blocking-caller


@scenario(
    "blocking-websocket",
    "in a websocket's handler",
    Expect("blocking-driver", "blocking-websocket"),
    kind="websocket",
    messages=("7",),
)
async def blocking_websocket(socket: WebSocket) -> None:
    await socket.accept()
    async for key in socket.iter_text():
        with database.sync_sessions() as session:
            name = session.get_one(Customer, int(key)).name  # MARK: blocking-websocket
        await socket.send_text(name)


@scenario(
    "blocking-and-looping",
    "lazy loads of a synchronous session in an async endpoint: both faults",
    Expect("n-plus-one", "blocking-loop"),
    Expect("blocking-driver", ("blocking-loop", "blocking-query")),
)
async def blocking_loop(session: SyncDb) -> list[int]:
    orders = session.scalars(select(Order).order_by(Order.id).limit(10)).all()  # MARK: blocking-query
    return [len(order.items) for order in orders]  # MARK: blocking-loop


@scenario(
    "blocking-job", "an async job with a synchronous session", Expect("blocking-driver", "blocking-job"), kind="job"
)
async def blocking_job() -> None:
    with database.sync_sessions() as session:
        session.scalars(select(Product).order_by(Product.id).limit(10)).all()  # MARK: blocking-job


@scenario("threadpool-endpoint", "a synchronous session in a synchronous endpoint")
def threadpool_endpoint(session: SyncDb) -> int:
    return len(session.scalars(select(Customer).order_by(Customer.id).limit(10)).all())


def _count(model: Any) -> int:
    with database.sync_sessions() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


@scenario("threadpool-run-in", "run_in_threadpool")
async def threadpool_run_in() -> int:
    return await run_in_threadpool(_count, Book)


@scenario("threadpool-to-thread", "asyncio.to_thread")
async def threadpool_to_thread() -> int:
    return await asyncio.to_thread(_count, Order)


@scenario("threadpool-executor", "loop.run_in_executor")
async def threadpool_executor() -> int:
    return await asyncio.get_running_loop().run_in_executor(None, _count, Item)


@scenario("threadpool-script", "a synchronous script", kind="job")
def script() -> None:
    assert _count(Review)


@scenario("threadpool-run-sync", "run_sync of an async session is not blocking")
async def run_sync(connection: Conn) -> int:
    def count(inner: Any) -> int:
        with Session(inner) as session:
            return session.scalar(select(func.count()).select_from(Shipment)) or 0

    return await connection.run_sync(count)
