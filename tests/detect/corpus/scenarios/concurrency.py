"""Repetition in other tasks, threads and phases than the handler's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any

import anyio
from fastapi import BackgroundTasks, Depends
from fastapi.responses import StreamingResponse
from sqlalchemy import NullPool, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from tests.detect.corpus.database import Db, SyncDb, database
from tests.detect.corpus.models import (
    Address,
    AuditEntry,
    Author,
    Book,
    Category,
    Customer,
    Event,
    Item,
    Job,
    Order,
    Product,
    Review,
    Shipment,
    User,
)
from tests.detect.corpus.repositories import OrderRepository
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario
from tests.detect.corpus.services import ProductLoader, resolve_each


async def _city(address_id: int) -> str:
    async with database.sessions() as session:
        return (await session.get_one(Address, address_id)).city  # MARK: gather-get


@scenario("gather-sessions", "twelve sessions at once, a row each", Expect("n-plus-one", ("gather-get", "gather")))
async def gather_sessions() -> list[str]:
    return await asyncio.gather(*(_city(key) for key in range(1, 13)))  # MARK: gather


async def _customer_name(key: int) -> str:
    async with database.sessions() as session:
        statement = select(Customer.name).where(Customer.id == key)
        return await session.scalar(statement) or ""  # MARK: group-scalar


@scenario("task-group", "a TaskGroup of ten tasks", Expect("n-plus-one", ("group-scalar", "group-create")))
async def task_group() -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_customer_name(key)) for key in range(1, 11)]  # MARK: group-create
    return [task.result() for task in tasks]


@scenario(
    "gather-bounded",
    "twenty-five tasks, five at a time",
    Expect("n-plus-one", ("bounded-scalar", "bounded-gather")),
)
async def bounded() -> int:
    gate = asyncio.Semaphore(5)

    async def quantity(order_id: int) -> int:
        async with gate, database.sessions() as session:
            statement = select(func.sum(Item.quantity)).where(Item.order_id == order_id)
            return await session.scalar(statement) or 0  # MARK: bounded-scalar

    return sum(await asyncio.gather(*map(quantity, range(1, 26))))  # MARK: bounded-gather


@scenario("tasks-in-loop", "create_task in a for loop", Expect("n-plus-one", ("created-reviews", "created-loop")))
async def created_tasks() -> int:
    async def stars(book_id: int) -> int:
        async with database.sessions() as session:
            statement = select(Review.stars).where(Review.book_id == book_id)
            return sum(await session.scalars(statement))  # MARK: created-reviews

    tasks = []
    for book_id in range(1, 13):
        tasks.append(asyncio.create_task(stars(book_id)))  # MARK: created-loop
    return sum([await task for task in tasks])


@scenario(
    "gather-four-rows",
    "four tasks with a row each",
    Expect("n-plus-one", ("gather-few", "gather-few-call")),
)
async def gather_few(session: Db) -> list[str]:
    async def carrier(order_id: int) -> str:
        async with database.sessions() as own:
            statement = select(Shipment.carrier).where(Shipment.order_id == order_id)
            return await own.scalar(statement) or ""  # MARK: gather-few

    orders = (await session.scalars(select(Order.id).order_by(Order.placed.desc()).limit(4))).all()
    return await asyncio.gather(*[carrier(order_id) for order_id in orders])  # MARK: gather-few-call


@scenario("gather-dashboards", "three named parts of a dashboard at once, by different statements")
async def dashboards() -> Row:
    async def orders() -> int:
        async with database.sessions() as session:
            return await session.scalar(select(func.count()).select_from(Order)) or 0

    async def reviews() -> float:
        async with database.sessions() as session:
            return float(await session.scalar(select(func.avg(Review.stars))) or 0)

    async def newest() -> list[int]:
        async with database.sessions() as session:
            return list(await session.scalars(select(Order.id).order_by(Order.placed.desc()).limit(5)))

    found = await asyncio.gather(orders(), reviews(), newest())
    return dict(zip(("orders", "reviews", "newest"), found, strict=True))


@scenario("task-group-different", "a TaskGroup of different statements")
async def task_group_different() -> Row:
    async def count(model: Any) -> int:
        async with database.sessions() as session:
            return await session.scalar(select(func.count()).select_from(model)) or 0

    async with asyncio.TaskGroup() as group:
        books, authors = group.create_task(count(Book)), group.create_task(count(Author))
        reviews = group.create_task(count(Review))
    return {"books": books.result(), "authors": authors.result(), "reviews": reviews.result()}


@scenario("streaming-lazy", "the body of a streaming response loads row by row", Expect("n-plus-one", "streaming"))
async def streaming(session: Db) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        async with session:  # FastAPI below 0.118 has closed it, and it opens again
            for order in (await session.scalars(select(Order).order_by(Order.id).limit(20))).all():
                items = await order.awaitable_attrs.items  # MARK: streaming
                yield json.dumps({"id": order.id, "items": len(items)})

    return StreamingResponse(lines())


@scenario("streaming-sync", "a synchronous streamed body", Expect("n-plus-one", "streaming-sync"))
def streaming_sync(session: SyncDb) -> StreamingResponse:
    def lines() -> Iterator[str]:
        with session:
            for order in session.scalars(select(Order).order_by(Order.id).limit(15)).all():
                yield order.customer.name  # MARK: streaming-sync

    return StreamingResponse(lines())


@scenario("streaming-export", "a streamed export with yield_per")
async def streaming_export(session: Db) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        statement = select(Event.id, Event.kind).order_by(Event.id).execution_options(yield_per=500)
        async with session:
            async for event_id, kind in await session.stream(statement):
                yield f"{event_id},{kind}\n"

    return StreamingResponse(lines())


@scenario(
    "background-loop",
    "a background task looks up and loads row by row",
    Expect("n-plus-one", "background-get"),
    Expect("n-plus-one", "background-lazy"),
)
async def background(tasks: BackgroundTasks) -> Row:
    async def notify() -> None:
        async with database.sessions() as session:
            for order_id in range(1, 13):
                order = await session.get_one(Order, order_id)  # MARK: background-get
                await order.awaitable_attrs.customer  # MARK: background-lazy

    tasks.add_task(notify)
    return {"accepted": True}


@scenario("background-bulk", "a background task with one bulk write")
async def background_bulk(tasks: BackgroundTasks) -> Row:
    async def write() -> None:
        async with database.sessions.begin() as session:
            await session.execute(insert(AuditEntry), [{"action": "seen", "subject": f"{n}"} for n in range(20)])

    tasks.add_task(write)
    return {"accepted": True}


@scenario("threadpool-loop", "a synchronous endpoint", Expect("n-plus-one", "threadpool"))
def threadpool(session: SyncDb) -> list[str]:
    skus = []
    for item in session.scalars(select(Item).order_by(Item.id).limit(20)).all():
        skus.append(item.product.sku)  # MARK: threadpool
    return skus


def _quantity(order_id: int) -> int:
    with database.sync_sessions() as session:
        statement = select(func.sum(Item.quantity)).where(Item.order_id == order_id)
        return session.scalar(statement) or 0  # MARK: to-thread-scalar


@scenario("to-thread-gather", "a thread per row", Expect("n-plus-one", ("to-thread-scalar", "to-thread")))
async def to_thread() -> int:
    return sum(await asyncio.gather(*(asyncio.to_thread(_quantity, key) for key in range(1, 11))))  # MARK: to-thread


@scenario(
    "executor-map",
    "a pool of threads, the context passed on",
    Expect("n-plus-one", ("executor-get", "executor-submit")),
)
def executor() -> list[str]:
    def sku(product_id: int) -> str:
        with database.sync_sessions() as session:
            return session.get_one(Product, product_id).sku  # MARK: executor-get

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(copy_context().run, sku, key) for key in range(1, 13)]  # MARK: executor-submit
        return [future.result() for future in futures]


@scenario(
    "websocket-loop",
    "one message asks for a list that is loaded row by row",
    Expect("n-plus-one", "websocket-loop"),
    kind="websocket",
    messages=("list",),
)
async def websocket_loop(socket: WebSocket) -> None:
    await socket.accept()
    async for _ in socket.iter_text():
        async with database.sessions() as session:
            names = []
            for order in (await session.scalars(select(Order).order_by(Order.id).limit(12))).all():
                names.append((await order.awaitable_attrs.customer).name)  # MARK: websocket-loop
        await socket.send_json(names)


@scenario(
    "websocket-messages",
    "twenty messages with one look-up each",
    kind="websocket",
    messages=tuple(str(key) for key in range(1, 21)),
)
async def websocket_messages(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        async with database.sessions() as session:
            customer = await session.get_one(Customer, int(text))
        await socket.send_text(customer.name)


@scenario(
    "websocket-two-lists",
    "three messages, two of which ask for a list: the loop is found",
    Expect("n-plus-one", "websocket-lists"),
    kind="websocket",
    messages=("authors", "ping", "authors"),
)
async def websocket_lists(socket: WebSocket) -> None:
    async def titles() -> Rows:
        async with database.sessions() as session:
            page = []
            for author in (await session.scalars(select(Author).order_by(Author.id).limit(8))).all():
                books = await author.awaitable_attrs.books  # MARK: websocket-lists
                page.append({"name": author.name, "books": len(books)})
            return page

    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_json(await titles() if text == "authors" else [])


_running: set[asyncio.Task[None]] = set()


def _start(work: Any) -> None:
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)


@scenario("outliving-task", "a task that goes on after the response", Expect("n-plus-one", "outliving"))
async def outliving() -> Row:
    async def recount() -> None:
        await asyncio.sleep(0.05)
        async with database.sessions() as session:
            for category_id in range(18, 33):
                statement = select(func.count()).select_from(Product).where(Product.category_id == category_id)
                await session.scalar(statement)  # MARK: outliving

    _start(recount())
    return {"started": True}


@scenario(
    "outliving-task-straddling",
    "a task that begins before the response and ends after it",
    Expect("n-plus-one", "straddling"),
)
async def straddling() -> Row:
    async def recount() -> None:
        async with database.sessions() as session:
            for author_id in range(1, 16):
                await session.scalar(select(func.count()).where(Book.author_id == author_id))  # MARK: straddling

    _start(recount())
    await asyncio.sleep(0.003)
    return {"started": True}


@scenario("outliving-heartbeat", "a heartbeat that outlives the request")
async def heartbeat() -> Row:
    async def beat() -> None:
        for tick in range(4):
            await asyncio.sleep(0.05)
            async with database.sessions.begin() as session:
                await session.execute(update(Job).where(Job.id == 7).values(progress=tick))

    _start(beat())
    return {"started": True}


@scenario("event-stream", "server-sent events: new rows are asked for again and again")
async def event_stream() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        last = 5990
        for _ in range(8):
            async with database.sessions() as session:
                statement = select(Event.id).where(Event.id > last).order_by(Event.id).limit(3)
                new = (await session.scalars(statement)).all()
            last = new[-1] if new else last
            yield f"data: {list(new)}\n\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(events(), media_type="text/event-stream")


@scenario("job-loop", "a worker's job under profile()", Expect("n-plus-one", "job-loop"), kind="job")
async def job_loop() -> None:
    async with database.sessions() as session:
        for product in (await session.scalars(select(Product).order_by(Product.id).limit(20))).all():
            await session.get_one(Category, product.category_id)  # MARK: job-loop


@scenario("job-sync-loop", "a script under profile()", Expect("n-plus-one", "job-sync-loop"), kind="job")
def job_sync_loop() -> None:
    with database.sync_sessions() as session:
        for customer in session.scalars(select(Customer).order_by(Customer.id).limit(15)).all():
            assert customer.addresses  # MARK: job-sync-loop


@scenario("job-sync-core-loop", "a script with Core", Expect("n-plus-one", "job-sync-core"), kind="job")
def job_sync_core() -> None:
    with database.sync_engine.connect() as connection:
        for (author_id,) in connection.execute(select(Author.id).order_by(Author.id).limit(12)).all():
            connection.scalar(select(func.count()).where(Book.author_id == author_id))  # MARK: job-sync-core


@scenario("graphql-resolvers", "a resolver per parent", Expect("n-plus-one", ("resolver", "resolve-each")))
async def graphql() -> Rows:
    async def customer(order: Order) -> str:
        async with database.sessions() as own:
            return (await own.get_one(Customer, order.customer_id)).name  # MARK: resolver

    async with database.sessions() as session:
        orders = (await session.scalars(select(Order).order_by(Order.id).limit(15))).all()
    names = await resolve_each(orders, customer)
    return [{"id": order.id, "customer": name} for order, name in zip(orders, names, strict=True)]


@scenario("graphql-dataloader", "the same with a dataloader")
async def graphql_dataloader(session: Db) -> Rows:
    items = (await session.scalars(select(Item).order_by(Item.id).limit(20))).all()
    loader = ProductLoader(session)
    products = await resolve_each(items, lambda item: loader.load(item.product_id))
    return [{"id": item.id, "sku": product.sku} for item, product in zip(items, products, strict=True)]


async def _timing(request: Request, proceed: Any) -> Response:
    response: Response = await proceed(request)
    response.headers["x-served-by"] = "shop"
    return response


@scenario(
    "under-middleware",
    "beneath a BaseHTTPMiddleware",
    Expect("n-plus-one", "under-middleware"),
    middleware=(_timing,),
)
async def under_middleware(session: Db) -> list[str]:
    orders = OrderRepository(session)
    found = []
    for customer_id in range(1, 16):
        for order in await orders.of_customer(customer_id):  # MARK: under-middleware
            found.append(order.status)
    return found


@scenario("null-pool-loop", "a NullPool engine and a session per row", Expect("n-plus-one", "null-pool"))
async def null_pool() -> list[str]:
    engine = database.another(poolclass=NullPool)
    emails = []
    async with AsyncSession(engine) as session:
        for user_id in range(1, 13):
            emails.append(await session.scalar(select(User.email).where(User.id == user_id)))  # MARK: null-pool
    return emails


async def _recent(session: Db) -> list[int]:
    return list(await session.scalars(select(Order.id).order_by(Order.placed.desc()).limit(10)))


@scenario(
    "loop-over-dependency",
    "the rows come from a dependency, the loop is the handler's",
    Expect("n-plus-one", "over-dependency"),
)
async def over_dependency(recent: Annotated[list[int], Depends(_recent)], session: Db) -> int:
    found = 0
    for order_id in recent:
        statement = select(Shipment).where(Shipment.order_id == order_id)
        found += len((await session.scalars(statement)).all())  # MARK: over-dependency
    return found


@scenario("run-in-executor-loop", "run_in_executor, a whole loop in one thread", Expect("n-plus-one", "in-executor"))
async def in_executor() -> int:
    def count() -> int:
        found = 0
        with database.sync_sessions() as session:
            for book in session.scalars(select(Book).order_by(Book.id).limit(15)).all():
                found += len(book.reviews)  # MARK: in-executor
        return found

    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(None, context.run, count)


@scenario("anyio-task-group", "anyio's task group", Expect("n-plus-one", ("anyio-scalar", "anyio-start")))
async def anyio_group() -> dict[int, float]:
    stars: dict[int, float] = {}

    async def rate(book_id: int) -> None:
        async with database.sessions() as session:
            statement = select(func.avg(Review.stars)).where(Review.book_id == book_id)
            stars[book_id] = float(await session.scalar(statement) or 0)  # MARK: anyio-scalar

    async with anyio.create_task_group() as group:
        for book_id in range(1, 13):
            group.start_soon(rate, book_id)  # MARK: anyio-start
    return stars


@scenario("stream-and-lookup", "a look-up for each row of a streamed result", Expect("n-plus-one", "stream-lookup"))
async def stream_and_lookup(session: Db) -> list[str]:
    names = []
    statement = select(Order.customer_id).order_by(Order.id).limit(20).execution_options(yield_per=10)
    async with database.sessions() as other:
        async for customer_id in await session.stream_scalars(statement):
            names.append((await other.get_one(Customer, customer_id)).name)  # MARK: stream-lookup
    return names


@scenario("gather-two-lookups", "the two sides of a transfer at once")
async def two_at_once() -> list[str]:
    return await asyncio.gather(_city(3), _city(4))


@scenario("lock-then-work", "sequential work under a lock, each step another statement")
async def locked() -> Row:
    lock = asyncio.Lock()
    async with lock, database.sessions() as session:
        order = await session.get_one(Order, 9)
        customer = await session.get_one(Customer, order.customer_id)
        address = await session.get_one(Address, order.billing_address_id)
    return {"customer": customer.name, "city": address.city}
