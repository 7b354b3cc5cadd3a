"""Loops over statements as they should be: in chunks, pages and windows, in retries, polls and workers: clean."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Integer

from tests.detect.corpus.database import Conn, Db, SyncDb, database, driver_of
from tests.detect.corpus.models import (
    TENANTS,
    Author,
    Book,
    Category,
    Currency,
    Customer,
    Event,
    Item,
    Job,
    Order,
    OutboxMessage,
    Product,
    Review,
    Setting,
    Shipment,
    Stock,
    Subscription,
    Tag,
    Tenant,
    User,
    Wallet,
    invoices,
)
from tests.detect.corpus.repositories import CustomerRepository, ProductRepository, TenantRepository, UserRepository
from tests.detect.corpus.scenario import Row, Rows, scenario
from tests.detect.corpus.services import ProductLoader


def chunks(keys: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


@scenario("chunks-in", "IN lists of 50 keys")
async def chunks_in(session: Db) -> int:
    found = 0
    for keys in chunks(range(1, 301), 50):
        books = await session.scalars(select(Book).where(Book.id.in_(keys)))
        found += len(books.all())
    return found


@scenario("chunks-in-last-short", "IN lists of 20 keys, the last of 5")
async def chunks_in_short(connection: Conn) -> int:
    found = 0
    for keys in chunks(range(1, 126), 20):
        found += len((await connection.execute(select(Product.id, Product.sku).where(Product.id.in_(keys)))).all())
    return found


@scenario("chunks-repository", "IN lists of 100 keys through a repository")
async def chunks_repository(session: Db) -> int:
    products = ProductRepository(session)
    return sum([len(await products.list_by_ids(keys)) for keys in chunks(range(1, 481), 100)])


@scenario("chunks-any-array", "= ANY(:array) with 60 keys each")
async def chunks_any(connection: Conn) -> int:
    statement = text("SELECT id, title FROM books WHERE id = ANY(:keys)")
    statement = statement.bindparams(bindparam("keys", type_=ARRAY(Integer)))
    found = 0
    for keys in chunks(range(1, 601), 60):
        found += len((await connection.execute(statement, {"keys": list(keys)})).all())
    return found


@scenario("chunks-driver-any", "the same through asyncpg itself")
async def chunks_driver(session: Db) -> int:
    driver = await driver_of(session)
    found = 0
    for keys in chunks(range(1, 401), 50):
        found += len(await driver.fetch("SELECT id, title FROM books WHERE id = ANY($1::int[])", list(keys)))
    return found


@scenario("chunks-sync", "IN lists of 100 keys in a synchronous job", kind="job")
def chunks_sync() -> None:
    with database.sync_sessions() as session:
        for keys in chunks(range(1, 601), 100):
            session.scalars(select(Book).where(Book.id.in_(keys))).all()


@scenario("pages-offset", "an export page by page, by OFFSET", kind="job")
async def pages_offset() -> None:
    async with database.sessions() as session:
        for offset in itertools.count(0, 50):
            page = (await session.scalars(select(Order).order_by(Order.id).offset(offset).limit(50))).all()
            if len(page) < 50:
                break


@scenario("pages-offset-filtered", "the same with a filter that stays", kind="job")
async def pages_filtered() -> None:
    offset = 0
    async with database.engine.connect() as connection:
        while True:
            statement = select(Event.id, Event.kind).where(Event.tenant_id == 3).order_by(Event.id)
            page = (await connection.execute(statement.offset(offset).limit(200))).all()
            offset += len(page)
            if len(page) < 200:
                return


@scenario("pages-repository", "a repository's page() until it is empty", kind="job")
async def pages_repository() -> None:
    async with database.sessions() as session:
        products, offset = ProductRepository(session), 0
        while page := await products.page(offset, 80):
            offset += len(page)


@scenario("pages-keyset", "pages by the last key", kind="job")
async def pages_keyset() -> None:
    last, seen = 0, 0
    async with database.sessions() as session:
        while True:
            page = (await session.scalars(select(Book).where(Book.id > last).order_by(Book.id).limit(60))).all()
            if not page:
                break
            last, seen = page[-1].id, seen + len(page)
    assert seen == 600


@scenario("pages-keyset-text", "pages by time and key, as text", kind="job")
async def pages_keyset_text() -> None:
    statement = text(
        "SELECT id, happened FROM events WHERE tenant_id = :tenant AND (happened, id) > (:moment, :last) "
        "ORDER BY happened, id LIMIT 100"
    )
    moment, last = datetime(2000, 1, 1), 0
    async with database.engine.connect() as connection:
        for _ in range(8):
            bound = {"tenant": 2, "moment": moment, "last": last}
            page = (await connection.execute(statement, bound)).all()
            last, moment = page[-1]


@scenario("windows-id-range", "ranges of ids", kind="job")
async def windows_id() -> None:
    async with database.engine.connect() as connection:
        for low in range(1, 6000, 500):
            statement = select(func.count()).select_from(Event).where(Event.id >= low, Event.id < low + 500)
            await connection.scalar(statement)


@scenario("windows-between", "ranges of ids by BETWEEN, as text", kind="job")
async def windows_between() -> None:
    statement = text("SELECT id, payload FROM events WHERE id BETWEEN :low AND :high")
    async with database.engine.connect() as connection:
        for low in range(1, 2000, 200):
            await connection.execute(statement, {"low": low, "high": low + 199})


@scenario("windows-time", "a day at a time", kind="job")
async def windows_time() -> None:
    day = datetime(2025, 1, 1)
    async with database.sessions() as session:
        while day < datetime(2025, 1, 13):
            until = day + timedelta(days=1)
            await session.scalars(select(Event.id).where(Event.happened >= day, Event.happened < until))
            day = until


@scenario("windows-write", "a range of ids at a time is written and committed", kind="job")
async def windows_write() -> None:
    for low in range(1, 481, 120):
        async with database.sessions.begin() as session:
            await session.execute(update(Stock).where(Stock.id.between(low, low + 119)).values(note="counted"))


@scenario("retry-until-free", "a failing insert is tried again with another value, each time in a savepoint")
async def retry(session: Db) -> str:
    await session.execute(insert(Subscription), [{"user_id": 900 + n, "topic": "taken"} for n in range(3)])
    for user_id in range(900, 910):
        try:
            async with session.begin_nested():
                await session.execute(insert(Subscription).values(user_id=user_id, topic="taken"))
        except DBAPIError:
            continue
        return "made"
    return "full"


@scenario("retry-transaction", "the whole transaction again after a failure")
async def retry_transaction() -> int:
    attempts = 0
    while True:
        attempts += 1
        try:
            async with database.sessions.begin() as session:
                wallet = await session.get_one(Wallet, 11)
                await session.scalar(text("SELECT 1 / (:attempt / 3)"), {"attempt": attempts})  # fails twice
                return wallet.balance
        except DBAPIError:
            await asyncio.sleep(0.01)


@scenario("retry-read-failing", "a read that fails three times, then succeeds")
async def retry_read() -> int:
    statement = text("SELECT count(*) / (:attempt / 3) FROM orders WHERE customer_id = :customer")
    for attempt in range(6):
        async with database.sessions() as session:
            try:
                return await session.scalar(statement, {"attempt": attempt, "customer": 5}) or 0
            except DBAPIError:
                continue
    return -1


@scenario("poll-job", "a job's state is polled until it is done")
async def poll_job() -> str | None:
    async def finish() -> None:
        await asyncio.sleep(0.12)
        async with database.sessions.begin() as session:
            await session.execute(update(Job).where(Job.id == 5).values(state="done"))

    async with database.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == 5).values(state="running"))
    finishing = asyncio.create_task(finish())
    state = "running"
    while state != "done":
        async with database.sessions() as session:
            state = await session.scalar(select(Job.state).where(Job.id == 5)) or ""
        await asyncio.sleep(0.02)
    await finishing
    return state


@scenario("poll-progress-sync", "a synchronous endpoint polls", kind="job")
def poll_sync() -> None:
    for _ in range(6):
        with database.sync_sessions() as session:
            session.scalar(select(Job.progress).where(Job.id == 9))
        time.sleep(0.02)


@scenario("savepoints-sections", "three sections, each in a savepoint")
async def savepoints(session: Db) -> int:
    async with session.begin_nested():
        session.add(OutboxMessage(topic="section"))
    async with session.begin_nested():
        session.add(Stock(product_id=5001, quantity=1))
    async with session.begin_nested():
        session.add(Subscription(user_id=800, topic="section"))
    await session.rollback()
    return 3


@scenario("same-shape-three-lines", "three rows of one table, at three lines")
async def three_lines(session: Db) -> Rows:
    sender = await session.get_one(User, 1)
    recipient = await session.get_one(User, 2)
    approver = await session.get_one(User, 3)
    return [{"email": user.email} for user in (sender, recipient, approver)]


@scenario("helper-three-lookups", "three explicit look-ups through one repository method")
async def transfer(session: Db) -> Row:
    users = UserRepository(session)
    sender = await users.by_email("user1@shop.test")
    recipient = await users.by_email("user2@shop.test")
    approver = await users.by_email("user3@shop.test")
    return {"people": [user.id for user in (sender, recipient, approver) if user]}


@scenario("helper-two-lookups", "two look-ups through a generic repository")
async def compare_products(session: Db) -> Row:
    products = ProductRepository(session)
    left, right = await products.get(10), await products.get(20)
    return {"left": left.sku if left else None, "right": right.sku if right else None}


@scenario("loop-of-two", "a loop over two keys")
async def loop_of_two(session: Db) -> list[str]:
    return [(await session.get_one(Customer, key)).name for key in (4, 9)]


async def _permitted(session: AsyncSession, user_id: int, scope: str) -> bool:
    return await UserRepository(session).may(user_id, scope)


@scenario("helper-three-checks", "three checks of different permissions at three lines")
async def checks(session: Db) -> Row:
    return {
        "read": await _permitted(session, 4, "read"),
        "write": await _permitted(session, 4, "write"),
        "export": await _permitted(session, 4, "export"),
    }


@scenario("health-check", "a health check of the database, its age and its migrations")
async def health(session: Db) -> Row:
    alive = await session.scalar(text("SELECT 1"))
    now = await session.scalar(text("SELECT now()"))
    version = await session.scalar(text("SHOW server_version"))
    return {"alive": alive, "now": str(now), "version": version}


@scenario("health-check-engines", "a health check of five pools")
async def health_engines() -> int:
    answers = 0
    for _ in range(5):
        async with database.engine.connect() as connection:
            answers += await connection.scalar(text("SELECT 1")) or 0
    return answers


@scenario(
    "set-config-per-transaction", "row level security: set_config at the start of each chunk's transaction", kind="job"
)
async def set_config() -> None:
    for keys in chunks(range(1, 481), 60):
        async with database.sessions.begin() as session:
            await session.execute(text("SELECT set_config('shop.tenant', :tenant, true)"), {"tenant": "4"})
            await session.scalars(select(Product).where(Product.id.in_(keys)))


@scenario("search-path-per-tenant", "one schema per tenant", kind="job")
async def search_path() -> None:
    for tenant in range(1, TENANTS + 1):
        async with database.sessions.begin() as session:
            await session.execute(text(f"SET LOCAL search_path TO tenant_{tenant}"))
            await session.scalar(text("SELECT sum(amount) FROM invoices"))


@scenario("schema-translate-per-tenant", "one schema per tenant by schema_translate_map", kind="job")
async def schema_translate() -> None:
    for tenant in range(1, TENANTS + 1):
        engine = database.engine.execution_options(schema_translate_map={None: f"tenant_{tenant}"})
        async with engine.connect() as connection:
            await connection.scalar(select(func.sum(invoices.c.amount)))


async def _send(topic: str) -> None:
    await asyncio.sleep(0)


@scenario("outbox-worker", "one message at a time by SKIP LOCKED, each committed", kind="job")
async def outbox_worker() -> None:
    async with database.sessions.begin() as session:
        session.add_all(OutboxMessage(topic=f"topic {n}") for n in range(10))
    waiting = select(OutboxMessage).where(~OutboxMessage.sent).order_by(OutboxMessage.id)
    while True:
        async with database.sessions.begin() as session:
            message = await session.scalar(waiting.limit(1).with_for_update(skip_locked=True))
            if message is None:
                break
            await _send(message.topic)
            message.sent = True


@scenario("outbox-relay", "a batch by SKIP LOCKED, marked as sent with one flush", kind="job")
async def outbox_relay() -> None:
    async with database.sessions.begin() as session:
        session.add_all(OutboxMessage(topic=f"topic {n}") for n in range(12))
    statement = select(OutboxMessage).where(~OutboxMessage.sent).order_by(OutboxMessage.id).limit(20)
    async with database.sessions() as session:
        for message in (await session.scalars(statement.with_for_update(skip_locked=True))).all():
            await _send(message.topic)
            message.sent = True
        await session.commit()


@scenario("queue-worker", "jobs claimed one by one with UPDATE .. SKIP LOCKED .. RETURNING", kind="job")
async def queue_worker() -> None:
    claim = text(
        "UPDATE jobs SET state = 'running' WHERE id = (SELECT id FROM jobs WHERE queue = 'import' AND state = 'queued' "
        "ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id"
    )
    for _ in range(12):
        async with database.sessions() as session:
            job_id = await session.scalar(claim)
            await session.commit()
            await _send(str(job_id))
            await session.execute(update(Job).where(Job.id == job_id).values(state="done"))
            await session.commit()


@scenario("identity-map-hits", "session.get of rows that the session has")
async def identity_map(session: Db) -> list[str]:
    customers = {customer.id: customer for customer in await session.scalars(select(Customer))}
    names = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(20))).all():
        customer = await session.get_one(Customer, order.customer_id)
        names.append(customer.name)
    return names if len(customers) == 30 else []


@scenario("cached-lookups", "a cache keeps what was looked up: two misses in twenty rows")
async def cached(session: Db) -> list[str]:
    rates: dict[str, Any] = {}
    prices = []
    for number in range(20):
        code = "EUR" if number % 2 else "USD"
        if code not in rates:
            rates[code] = (await session.get_one(Currency, code)).rate
        prices.append(str(number * rates[code]))
    return prices


@scenario("cache-warm-up", "reference tables, read once each", kind="job")
async def warm_up() -> None:
    cache = {}
    async with database.sessions() as session:
        for model in (Category, Currency, Setting, Tag, Tenant):
            cache[model] = (await session.scalars(select(model))).all()
    assert all(cache.values())


@scenario("dataloader", "a dataloader gathers the keys of twenty resolvers")
async def dataloader(session: Db) -> list[str]:
    items = (await session.scalars(select(Item).order_by(Item.id).limit(20))).all()
    loader = ProductLoader(session)
    products = await asyncio.gather(*(loader.load(item.product_id) for item in items))
    return [product.sku for product in products]


@scenario("dataloader-two-turns", "a dataloader that is asked in two turns, with many keys each")
async def dataloader_twice(session: Db) -> int:
    loader = ProductLoader(session)
    cheap = await asyncio.gather(*(loader.load(key) for key in range(1, 26)))
    dear = await asyncio.gather(*(loader.load(key) for key in range(101, 131)))
    return len(cheap) + len(dear)


@scenario("shards", "the same statement on three databases")
async def shards() -> int:
    engines = [database.another(logging_name=f"shard {number}") for number in range(3)]
    found = 0
    for engine in engines:
        async with engine.connect() as connection:
            found += await connection.scalar(select(func.count()).select_from(Order)) or 0
    return found


@scenario("advisory-locks", "attempts at a lock: statements without a table")
async def advisory_locks(session: Db) -> int:
    got = 0
    for key in range(100, 110):
        got += bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}))
    return got


@scenario("catalogue-probe", "which of eight tables are there: the server's catalogue")
async def probe(connection: Conn) -> int:
    known = 0
    for name in ("authors", "books", "tags", "reviews", "orders", "items", "users", "missing"):
        statement = text("SELECT count(*) FROM pg_catalog.pg_class WHERE relname = :name")
        known += await connection.scalar(statement, {"name": name}) or 0
    return known


@scenario("optimistic-retry", "an update by version that loses twice, with a read before each attempt")
async def optimistic(session: Db) -> int:
    for attempt in range(5):
        version = await session.scalar(select(Wallet.version).where(Wallet.id == 21)) or 0
        expected = version if attempt == 2 else -1
        wallets = update(Wallet).where(Wallet.id == 21, Wallet.version == expected)
        changed = await session.execute(wallets.values(balance=Wallet.balance - 1, version=version + 1))
        if changed.rowcount:
            break
    await session.rollback()
    return attempt


@scenario("stream-driver-cursor", "asyncpg's own cursor")
async def driver_cursor(session: Db) -> int:
    driver = await driver_of(session)
    found = 0
    async with driver.transaction():
        async for _ in driver.cursor("SELECT id FROM books ORDER BY id LIMIT 300", prefetch=50):
            found += 1
    return found


@scenario("stream-partitions", "a server-side cursor, by partitions")
async def partitions(session: Db) -> int:
    found = 0
    result = await session.stream(select(Book.id, Book.title).order_by(Book.id).execution_options(yield_per=100))
    async for partition in result.partitions():
        found += len(partition)
    return found


@scenario("different-statements", "ten different statements of one page")
async def front_page(session: Db) -> Row:
    tenants = TenantRepository(session)
    customers = CustomerRepository(session)
    return {
        "orders": await session.scalar(select(func.count()).select_from(Order)),
        "books": await session.scalar(select(func.count()).select_from(Book)),
        "reviews": await session.scalar(select(func.avg(Review.stars))),
        "carriers": (await session.scalars(select(Shipment.carrier).distinct())).all(),
        "authors": (await session.scalars(select(Author.name).order_by(Author.id).limit(5))).all(),
        "dear": await session.scalar(select(func.max(Product.price))),
        "tenants": await tenants.count(),
        "vips": await customers.count(Customer.vip),
        "tags": (await session.scalars(select(Tag.word).limit(10))).all(),
        "motto": await session.scalar(select(Setting.value).where(Setting.key == "motto")),
    }


@scenario("loop-over-models", "one count per table of a fixed list: each is another statement")
async def table_sizes(session: Db) -> dict[str, int]:
    sizes = {}
    for model in (Author, Book, Category, Customer, Item, Order, Product, Review, Shipment, Tag):
        sizes[model.__tablename__] = await session.scalar(select(func.count()).select_from(model)) or 0
    return sizes


@scenario("repair-in-chunks", "read a chunk, write it in bulk, commit, go on", kind="job")
async def repair() -> None:
    last = 0
    async with database.sessions() as session:
        while True:
            statement = select(Stock.id, Stock.quantity).where(Stock.id > last, Stock.id <= 480)
            rows = (await session.execute(statement.order_by(Stock.id).limit(120))).all()
            if not rows:
                return
            await session.execute(update(Stock), [{"id": key, "quantity": quantity} for key, quantity in rows])
            await session.commit()
            last = rows[-1].id


@scenario(
    "two-requests-apart",
    "a request with one look-up, sent fifteen times",
    requests=tuple(f"?key={n}" for n in range(1, 16)),
)
async def one_lookup(session: Db, key: int) -> str:
    return (await session.get_one(Customer, key)).name


@scenario(
    "two-requests-at-once",
    "the same, all at once",
    requests=tuple(f"?key={n}" for n in range(1, 13)),
    together=True,
)
async def one_lookup_at_once(session: Db, key: int) -> str:
    return (await session.get_one(Customer, key)).name


@scenario("sync-page", "a clean synchronous page")
def sync_page(session: SyncDb) -> Row:
    total = session.scalar(select(func.count()).select_from(Customer))
    customers = session.scalars(select(Customer).order_by(Customer.id).limit(20)).all()
    return {"total": total, "names": [customer.name for customer in customers]}
