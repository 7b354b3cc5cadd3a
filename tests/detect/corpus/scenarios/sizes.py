"""Statements and requests that are too slow, too many or too large, and those that are not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse
from sqlalchemy import func, insert, literal, select, text, update
from sqlalchemy.orm import Session, joinedload, selectinload

from tests.detect.corpus.database import Conn, Db, SyncDb, database, driver_of
from tests.detect.corpus.models import (
    AuditEntry,
    Author,
    Base,
    Book,
    Category,
    Customer,
    Event,
    Item,
    Notice,
    Order,
    Product,
    Review,
)
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario

SLOW = text("SELECT count(*) FROM orders, (SELECT pg_sleep(:seconds)) AS pause")


@scenario("slow-text", "text() that takes 0.2 s", Expect("slow-query", "slow-text"))
async def slow_text(session: Db) -> int:
    return await session.scalar(SLOW, {"seconds": 0.2}) or 0  # MARK: slow-text


@scenario("slow-orm", "an ORM select that takes 0.25 s", Expect("slow-query", "slow-orm"))
async def slow_orm(session: Db) -> list[str]:
    pause = select(func.pg_sleep(0.25)).subquery()
    statement = select(Customer).join(pause, literal(True)).order_by(Customer.id).limit(10)
    customers = (await session.scalars(statement)).all()  # MARK: slow-orm
    return [customer.name for customer in customers]


@scenario("slow-sync", "in a synchronous endpoint", Expect("slow-query", "slow-sync"))
def slow_sync(session: SyncDb) -> int:
    return session.scalar(SLOW, {"seconds": 0.2}) or 0  # MARK: slow-sync


@scenario("slow-write", "an UPDATE", Expect("slow-query", "slow-write"))
async def slow_write(session: Db) -> int:
    statement = text("UPDATE jobs SET progress = 1 FROM (SELECT pg_sleep(:seconds)) AS pause WHERE id = :job")
    await session.execute(statement, {"seconds": 0.2, "job": 150})  # MARK: slow-write
    await session.rollback()
    return 1


@scenario("slow-driver", "asyncpg's fetchval", Expect("slow-query", "slow-driver"))
async def slow_driver(session: Db) -> int:
    driver = await driver_of(session)
    query = "SELECT count(*) FROM items, (SELECT pg_sleep($1)) AS pause"
    return await driver.fetchval(query, 0.2)  # MARK: slow-driver


@scenario("slow-job", "in a job", Expect("slow-query", "slow-job"), kind="job")
async def slow_job() -> None:
    async with database.engine.connect() as connection:
        await connection.execute(SLOW, {"seconds": 0.3})  # MARK: slow-job


@scenario(
    "slow-twice",
    "two slow statements at two lines",
    Expect("slow-query", "slow-twice-first"),
    Expect("slow-query", "slow-twice-second"),
)
async def slow_twice(session: Db) -> Row:
    carriers = text("SELECT count(carrier) FROM shipments, (SELECT pg_sleep(:seconds)) AS pause")
    orders = await session.scalar(SLOW, {"seconds": 0.15})  # MARK: slow-twice-first
    shipments = await session.scalar(carriers, {"seconds": 0.15})  # MARK: slow-twice-second
    return {"orders": orders, "shipments": shipments}


@scenario(
    "slow-and-fast-at-once",
    "a slow and a fast statement at once: one is slow",
    Expect("slow-query", "slow-beside-fast"),
)
async def slow_and_fast() -> list[Any]:
    async def slow() -> Any:
        async with database.sessions() as session:
            return await session.scalar(SLOW, {"seconds": 0.25})  # MARK: slow-beside-fast

    async def fast() -> Any:
        async with database.sessions() as session:
            return await session.scalar(select(func.count()).select_from(Book))

    return await asyncio.gather(slow(), fast())


@scenario("slow-streamed", "a server-side cursor whose first row takes 0.3 s", Expect("slow-query", "slow-streamed"))
async def slow_streamed(session: Db) -> int:
    pause = select(func.pg_sleep(0.3)).subquery()
    statement = select(Order.id).join(pause, literal(True)).order_by(Order.id).execution_options(yield_per=50)
    result = await session.stream_scalars(statement)  # MARK: slow-streamed
    return len([key async for key in result])


@scenario(
    "slow-per-row",
    "a slow statement per row: the loop is the fault",
    Expect("n-plus-one", "slow-per-row"),
    allow={"slow-query": "each of them is slow as well", "too-much-db-time": "0.6 s is near any budget"},
)
async def slow_per_row(session: Db) -> int:
    statement = text("SELECT count(*) FROM items, (SELECT pg_sleep(:seconds)) AS pause WHERE order_id = :order")
    found = 0
    for order_id in range(1, 5):
        found += await session.scalar(statement, {"seconds": 0.15, "order": order_id}) or 0  # MARK: slow-per-row
    return found


@scenario("fast-behind-stall", "a fast statement, while something else blocks the event loop")
async def behind_stall(session: Db) -> int:
    async def render() -> None:
        await asyncio.sleep(0.005)
        time.sleep(0.25)  # noqa: ASYNC251 - the stall

    _, found = await asyncio.gather(render(), session.scalar(SLOW, {"seconds": 0.03}))
    return found or 0


async def _stall(seconds: float) -> Row:
    await asyncio.sleep(0.01)
    time.sleep(seconds)  # noqa: ASYNC251 - the stall
    return {}


@scenario(
    "fast-behind-stall-of-another-request",
    "a fast statement of one request, while another request blocks the event loop",
    requests=("?stall=1", "?stall=0", "?stall=0"),
    together=True,
)
async def behind_other_stall(session: Db, stall: bool) -> Row:
    if stall:
        return await _stall(0.25)
    return {"orders": await session.scalar(SLOW, {"seconds": 0.03})}


@scenario("fast-statements", "thirty milliseconds are not slow")
async def fast(session: Db) -> int:
    return await session.scalar(SLOW, {"seconds": 0.03}) or 0


@scenario("fast-but-slow-outside", "the request is slow, the database is not")
async def slow_outside() -> int:
    await asyncio.sleep(0.4)
    async with database.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Book)) or 0


@scenario(
    "slow-for-a-lock",
    "a fast statement waits 0.25 s for a row that another transaction holds",
    allow={"slow-query": "the wait is real; that it is a lock is to be told, not hidden"},
)
async def waits_for_lock() -> Row:
    locked = asyncio.Event()

    async def hold() -> None:
        async with database.sessions.begin() as session:
            await session.execute(update(Order).where(Order.id == 50).values(status="open"))
            locked.set()
            await session.execute(text("SELECT pg_sleep(0.09)"))
            await session.execute(text("SELECT pg_sleep(0.08) AS again"))
            await session.execute(text("SELECT 1 AS third, pg_sleep(0.08)"))

    holding = asyncio.create_task(hold())
    await locked.wait()
    async with database.sessions.begin() as session:
        await session.execute(update(Order).where(Order.id == 50).values(status="open"))
    await holding
    return {}


async def _sizes(connection: Any) -> Rows:
    sizes = []
    for table in Base.metadata.sorted_tables[:20]:
        key = next(iter(table.primary_key))
        rows = await connection.scalar(select(func.count()).select_from(table))
        first = await connection.scalar(select(func.min(key)))
        last = await connection.scalar(select(func.max(key)))
        sizes.append({"table": table.name, "rows": rows, "first": str(first), "last": str(last)})
    return sizes


@scenario("too-many-statements", "sixty different statements", Expect("too-many-queries"))
async def statistics(connection: Conn) -> Rows:
    return await _sizes(connection)


@scenario("too-many-statements-sync", "seventy different statements, synchronously", Expect("too-many-queries"))
def statistics_sync(session: SyncDb) -> Rows:
    sizes = []
    for table in Base.metadata.sorted_tables[:23]:
        column = list(table.columns)[-1]
        rows = session.scalar(select(func.count()).select_from(table))
        empty = session.scalar(select(func.count()).select_from(table).where(column.is_(None)))
        values = session.scalar(select(func.count(column.distinct())))
        sizes.append({"table": table.name, "rows": rows, "empty": empty, "values": values})
    return sizes


@scenario(
    "too-many-by-loops",
    "three loops of twenty rows each",
    Expect("n-plus-one", "by-loops-items"),
    Expect("n-plus-one", "by-loops-shipments"),
    Expect("n-plus-one", "by-loops-reviews"),
    allow={"too-many-queries": "the budget is exceeded too, by the same loops"},
)
async def by_loops(session: Db) -> int:
    found = 0
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(20))).all():
        found += len(await order.awaitable_attrs.items)  # MARK: by-loops-items
        found += len(await order.awaitable_attrs.shipments)  # MARK: by-loops-shipments
    for book in (await session.scalars(select(Book).order_by(Book.id).limit(20))).all():
        found += len(await book.awaitable_attrs.reviews)  # MARK: by-loops-reviews
    return found


@scenario("enough-statements", "thirty different statements")
async def few_statistics(connection: Conn) -> int:
    return len(await connection.run_sync(lambda _: Base.metadata.sorted_tables)) + len(await _few(connection))


async def _few(connection: Any) -> Rows:
    sizes = []
    for table in Base.metadata.sorted_tables[:15]:
        rows = await connection.scalar(select(func.count()).select_from(table))
        columns = (await connection.execute(select(table).limit(1))).all()
        sizes.append({"table": table.name, "rows": rows, "sample": len(columns)})
    return sizes


@scenario(
    "too-much-time",
    "sixteen different statements, none of them slow, that take 1.4 s together",
    Expect("too-much-db-time"),
    allow={
        "slow-query": "on a busy machine one of them may pass 0.1 s",
        "long-transaction": "they are one transaction, which is as long",
    },
)
async def too_much_time(connection: Conn) -> Rows:
    sizes = []
    for table in Base.metadata.sorted_tables[:16]:
        statement = text(f"SELECT count(*) FROM {table.name}, (SELECT pg_sleep(:seconds)) AS pause")
        sizes.append({table.name: await connection.scalar(statement, {"seconds": 0.085})})
    return sizes


@scenario("large-orm", "all of 6,000 rows as objects", Expect("large-result", "large-orm"))
async def large_orm(session: Db) -> int:
    events = (await session.scalars(select(Event))).all()  # MARK: large-orm
    return len({event.kind for event in events})


@scenario("large-core", "all of 6,000 rows by Core, filtered in Python", Expect("large-result", "large-core"))
async def large_core(connection: Conn) -> int:
    rows = (await connection.execute(select(Event.id, Event.tenant_id, Event.payload))).all()  # MARK: large-core
    return len([row for row in rows if row.tenant_id == 3])


@scenario("large-driver", "all of 6,000 rows by asyncpg", Expect("large-result", "large-driver"))
async def large_driver(session: Db) -> int:
    driver = await driver_of(session)
    rows = await driver.fetch("SELECT id, kind, payload FROM events")  # MARK: large-driver
    return len(rows)


@scenario("large-sync", "all of 6,000 rows in a synchronous endpoint", Expect("large-result", "large-sync"))
def large_sync(session: SyncDb) -> int:
    return len(session.scalars(select(Event).order_by(Event.happened)).all())  # MARK: large-sync


@scenario("large-filtered", "a filter that leaves 5,000 of them", Expect("large-result", "large-filtered"))
async def large_filtered(session: Db) -> int:
    statement = select(Event).where(Event.kind == "click", Event.tenant_id != 2)
    events = (await session.scalars(statement)).all()  # MARK: large-filtered
    return sum(len(event.payload) for event in events)


@scenario("large-page", "a page of 100 of 6,000")
async def page_of_events(session: Db) -> int:
    return len((await session.scalars(select(Event).order_by(Event.id).limit(100))).all())


@scenario("large-limited", "LIMIT 500")
async def limited(session: Db) -> int:
    return len((await session.scalars(select(Event).order_by(Event.id).limit(500))).all())


@scenario("large-aggregated", "6,000 rows are counted and grouped by the server")
async def aggregated(connection: Conn) -> Rows:
    statement = select(Event.tenant_id, func.count(), func.max(Event.happened)).group_by(Event.tenant_id)
    return [{"tenant": tenant, "events": count} for tenant, count, _ in await connection.execute(statement)]


@scenario("large-streamed", "an export that streams 6,000 rows")
async def streamed(session: Db) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        statement = select(Event).order_by(Event.id).execution_options(yield_per=500)
        async with session:
            async for event in await session.stream_scalars(statement):
                yield json.dumps({"id": event.id}) + "\n"

    return StreamingResponse(lines())


@scenario("large-yield-per-sync", "a script reads 6,000 rows by yield_per", kind="job")
def streamed_sync() -> None:
    with database.sync_sessions() as session:
        statement = select(Event.id, Event.payload).order_by(Event.id).execution_options(yield_per=1000)
        assert sum(1 for _ in session.execute(statement)) == 6000


@scenario("large-update", "an UPDATE of 6,000 rows reads none", allow={"slow-query": "on a busy machine"})
async def large_update(session: Db) -> int:
    changed = await session.execute(update(Event).values(kind="click").execution_options(synchronize_session=False))
    await session.rollback()
    return changed.rowcount


@scenario("large-insert-select", "an INSERT .. SELECT of 6,000 rows")
async def large_insert(session: Db) -> int:
    rows = select(Event.tenant_id, Event.kind)
    made = await session.execute(insert(Notice).from_select(["user_id", "body"], rows))
    await session.rollback()
    return made.rowcount


@scenario("large-bulk-insert", "a bulk INSERT of 3,000 rows that returns their keys", kind="job")
async def large_bulk() -> None:
    async with database.sessions() as session:
        session.add_all(AuditEntry(action="bulk", subject=f"{number}") for number in range(3000))
        await session.flush()
        await session.rollback()


@scenario(
    "explosion-siblings", "two sibling collections joined: 15 x 12 rows per author", Expect("row-explosion", "siblings")
)
async def siblings(session: Db) -> Rows:
    statement = select(Author).options(joinedload(Author.books), joinedload(Author.articles)).where(Author.id <= 5)
    authors = (await session.scalars(statement)).unique().all()  # MARK: siblings
    return [{"books": len(author.books), "articles": len(author.articles)} for author in authors]


@scenario(
    "explosion-three",
    "two sibling collections, one of them with a collection of its own: 15 x 4 x 12 rows per author",
    Expect("row-explosion", "three-joined"),
    allow={"large-result": "4,320 rows, for the same reason"},
)
async def three_joined(session: Db) -> int:
    loads = (joinedload(Author.books).joinedload(Book.reviews), joinedload(Author.articles))
    statement = select(Author).options(*loads).where(Author.id <= 6)
    authors = (await session.scalars(statement)).unique().all()  # MARK: three-joined
    return sum(len(author.articles) for author in authors)


@scenario(
    "explosion-sync", "two sibling collections of one row, synchronously", Expect("row-explosion", "siblings-sync")
)
def siblings_sync(session: SyncDb) -> int:
    statement = select(Author).options(joinedload(Author.books), joinedload(Author.articles)).limit(10)
    return len(session.scalars(statement).unique().all())  # MARK: siblings-sync


@scenario("joined-one-collection", "one joined collection with many children")
async def one_collection(session: Db) -> list[int]:
    statement = select(Category).options(joinedload(Category.products)).where(Category.id.in_((20, 21, 22)))
    return [len(category.products) for category in (await session.scalars(statement)).unique()]


@scenario("joined-author-of-many-books", "one author with 15 books and their reviews: a chain of joins")
async def chain(session: Db) -> int:
    path = joinedload(Author.books).joinedload(Book.reviews)
    authors = (await session.scalars(select(Author).options(path).where(Author.id <= 3))).unique().all()
    return sum(len(book.reviews) for author in authors for book in author.books)


@scenario("joined-many-to-one", "joins to parents multiply nothing")
async def parents(session: Db) -> int:
    loads = (joinedload(Item.order).joinedload(Order.customer), joinedload(Item.product))
    return len((await session.scalars(select(Item).options(*loads).order_by(Item.id).limit(200))).all())


@scenario("joined-and-selectin", "one collection joined, the sibling by selectinload")
async def mixed(session: Db) -> int:
    loads = (joinedload(Author.books), selectinload(Author.articles))
    authors = (await session.scalars(select(Author).options(*loads).where(Author.id <= 10))).unique().all()
    return sum(len(author.books) + len(author.articles) for author in authors)


@scenario("joined-report", "an honest join of many rows: a report")
async def report(connection: Conn) -> int:
    statement = (
        select(Order.id, Item.quantity, Product.sku)
        .join(Item, Item.order_id == Order.id)
        .join(Product, Product.id == Item.product_id)
        .order_by(Item.id)
        .limit(400)
    )
    return len((await connection.execute(statement)).all())


@scenario("joined-ratings", "a join that is grouped by the server")
async def ratings(connection: Conn) -> int:
    statement = select(Book.id, func.avg(Review.stars)).join(Review).where(Book.id <= 50).group_by(Book.id)
    return len((await connection.execute(statement)).all())


@scenario("joined-small", "two sibling collections of one row that are small")
async def small_siblings(session: Db) -> Row:
    def build(inner: Session) -> Row:
        statement = select(Customer).options(joinedload(Customer.addresses), joinedload(Customer.orders))
        customer = inner.scalars(statement.where(Customer.id == 8)).unique().one()
        return {"addresses": len(customer.addresses), "orders": len(customer.orders)}

    return await session.run_sync(build)
