"""Rows written and committed one by one, and writes that belong together."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import BackgroundTasks
from sqlalchemy import bindparam, delete, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from tests.detect.corpus.database import Conn, Db, SyncDb, database, driver_of
from tests.detect.corpus.models import (
    AuditEntry,
    Customer,
    Job,
    Notice,
    OutboxMessage,
    Product,
    Stock,
    Subscription,
    Wallet,
)
from tests.detect.corpus.repositories import AuditRepository, NoticeRepository, StockRepository
from tests.detect.corpus.scenario import Expect, Row, scenario


@scenario("insert-core-loop", "a Core INSERT per row", Expect("write-loop", "insert-core"))
async def insert_core() -> int:
    async with database.engine.begin() as connection:
        for number in range(20):
            await connection.execute(insert(Notice).values(user_id=number, body="hello"))  # MARK: insert-core
    return 20


@scenario("update-core-loop", "a Core UPDATE per row", Expect("write-loop", "update-core"))
async def update_core(session: Db) -> int:
    for product_id in range(1, 16):
        statement = update(Stock).where(Stock.product_id == product_id).values(quantity=product_id * 3)
        await session.execute(statement)  # MARK: update-core
    await session.commit()
    return 15


@scenario("delete-core-loop", "a DELETE per key", Expect("write-loop", "delete-core"))
async def delete_core(session: Db) -> int:
    await session.execute(insert(Subscription), [{"user_id": 100 + n, "topic": "sale"} for n in range(15)])
    for number in range(15):
        statement = delete(Subscription).where(Subscription.user_id == 100 + number, Subscription.topic == "sale")
        await session.execute(statement)  # MARK: delete-core
    await session.commit()
    return 15


@scenario("insert-flush-loop", "add and flush per row", Expect("write-loop", "insert-flush"))
async def insert_flush(session: Db) -> list[int]:
    keys = []
    for number in range(12):
        notice = Notice(user_id=number, body="flush")
        session.add(notice)
        await session.flush()  # MARK: insert-flush
        keys.append(notice.id)
    await session.commit()
    return keys


@scenario("insert-text-loop", "text() per row", Expect("write-loop", "insert-text"))
async def insert_text(session: Db) -> int:
    statement = text("INSERT INTO notices (user_id, body) VALUES (:user, :body)")
    for number in range(20):
        await session.execute(statement, {"user": number, "body": "text"})  # MARK: insert-text
    await session.commit()
    return 20


@scenario("insert-driver-loop", "asyncpg's execute per row", Expect("write-loop", "insert-driver"))
async def insert_driver(session: Db) -> int:
    driver = await driver_of(session)
    async with driver.transaction():
        for number in range(15):
            query = "INSERT INTO notices (user_id, body) VALUES ($1, $2)"
            await driver.execute(query, number, "driver")  # MARK: insert-driver
    return 15


@scenario("insert-repository-loop", "a repository's add, which flushes", Expect("write-loop", "insert-repository"))
async def insert_repository(session: Db) -> int:
    notices = NoticeRepository(session)
    for number in range(15):
        await notices.add(Notice(user_id=number, body="repository"))  # MARK: insert-repository
    await session.commit()
    return 15


@scenario(
    "update-repository-loop", "a repository's UPDATE per line of an order", Expect("write-loop", "update-repository")
)
async def update_repository(session: Db) -> int:
    stock = StockRepository(session)
    for product_id in range(20, 30):
        await stock.take(product_id, 1)  # MARK: update-repository
    await session.commit()
    return 10


@scenario("upsert-loop", "an upsert per row", Expect("write-loop", "upsert-loop"))
async def upsert_loop(session: Db) -> int:
    stock = StockRepository(session)
    for product_id in range(40, 58):
        await stock.put(product_id, 500)  # MARK: upsert-loop
    await session.commit()
    return 18


@scenario(
    "insert-autoflush-loop",
    "a query per row flushes the row before it: both are repeated at the query's line",
    Expect("write-loop", "autoflush"),
    Expect("n-plus-one", "autoflush"),
)
async def insert_autoflush(session: Db) -> int:
    for number in range(1, 13):
        known = await session.scalar(select(func.count()).where(Notice.user_id == -number))  # MARK: autoflush
        if not known:
            session.add(Notice(user_id=-number, body="autoflush"))
    await session.rollback()
    return 12


@scenario(
    "get-or-create-loop",
    "look up, create when missing: a look-up and an INSERT per row",
    Expect("n-plus-one", "get-or-create-find"),
    Expect("write-loop", "get-or-create-flush"),
)
async def get_or_create(session: Db) -> int:
    made = 0
    for number in range(15):
        statement = select(Subscription).filter_by(user_id=300 + number, topic="news")
        found = await session.scalar(statement)  # MARK: get-or-create-find
        if found is None:
            session.add(Subscription(user_id=300 + number, topic="news"))
            await session.flush()  # MARK: get-or-create-flush
            made += 1
    await session.rollback()
    return made


@scenario("delete-orm-loop", "session.delete and a flush per row", Expect("write-loop", "delete-orm"))
async def delete_orm(session: Db) -> int:
    session.add_all(Notice(user_id=50 + n, body="old") for n in range(10))
    await session.flush()
    old = (await session.scalars(select(Notice).where(Notice.body == "old"))).all()
    for notice in old:
        await session.delete(notice)
        await session.flush()  # MARK: delete-orm
    await session.commit()
    return len(old)


@scenario("update-flush-loop", "an attribute is set and flushed per row", Expect("write-loop", "update-flush"))
async def update_flush(session: Db) -> int:
    rows = (await session.scalars(select(Stock).where(Stock.product_id.between(60, 71)))).all()
    for stock in rows:
        stock.quantity += 1
        await session.flush()  # MARK: update-flush
    await session.commit()
    return len(rows)


@scenario("insert-sync-loop", "a synchronous endpoint", Expect("write-loop", "insert-sync"))
def insert_sync(session: SyncDb) -> int:
    for number in range(12):
        session.execute(insert(Notice).values(user_id=number, body="sync"))  # MARK: insert-sync
    session.commit()
    return 12


@scenario("insert-background-loop", "a background task", Expect("write-loop", "insert-background"))
async def insert_background(tasks: BackgroundTasks) -> Row:
    async def write() -> None:
        async with database.sessions.begin() as session:
            for number in range(12):
                await session.execute(insert(Notice).values(user_id=number, body="later"))  # MARK: insert-background

    tasks.add_task(write)
    return {"accepted": True}


@scenario("update-four-rows", "four rows only", Expect("write-loop", "update-four"))
async def reorder(session: Db) -> int:
    for place, product_id in enumerate((75, 73, 74, 76)):
        statement = update(Stock).where(Stock.product_id == product_id).values(quantity=place)
        await session.execute(statement)  # MARK: update-four
    await session.commit()
    return 4


@scenario("insert-returning-loop", "INSERT .. RETURNING per row", Expect("write-loop", "insert-returning"))
async def insert_returning(session: Db) -> list[int]:
    keys = []
    for number in range(14):
        statement = insert(Notice).values(user_id=number, body="returning").returning(Notice.id)
        keys.append(await session.scalar(statement) or 0)  # MARK: insert-returning
    await session.commit()
    return keys


@scenario(
    "insert-audit-loop", "an audit entry per row, written by a service's helper", Expect("write-loop", "insert-audit")
)
async def audited(session: Db) -> int:
    audit = AuditRepository(session)
    customers = (await session.scalars(select(Customer).order_by(Customer.id).limit(15))).all()
    for customer in customers:
        await audit.note("viewed", customer.name)  # MARK: insert-audit
    await session.commit()
    return len(customers)


@scenario(
    "commit-add-loop",
    "add and commit per row",
    Expect("commit-loop", "commit-add"),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_add(session: Db) -> int:
    for number in range(15):
        session.add(Notice(user_id=number, body="committed"))
        await session.commit()  # MARK: commit-add
    return 15


@scenario(
    "commit-update-loop",
    "UPDATE and commit per row",
    Expect("commit-loop", ("commit-update-write", "commit-update")),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_update(session: Db) -> int:
    for product_id in range(80, 95):
        statement = update(Stock).where(Stock.product_id == product_id).values(quantity=7)
        await session.execute(statement)  # MARK: commit-update-write
        await session.commit()  # MARK: commit-update
    return 15


@scenario(
    "commit-repository-loop",
    "a repository's save, which commits",
    Expect("commit-loop", "commit-repository"),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_repository(session: Db) -> int:
    notices = NoticeRepository(session)
    for number in range(12):
        await notices.save(Notice(user_id=number, body="saved"))  # MARK: commit-repository
    return 12


@scenario(
    "commit-begin-loop",
    "a transaction per row by session.begin()",
    Expect("commit-loop", ("commit-begin-write", "commit-begin")),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_begin(session: Db) -> int:
    for number in range(14):
        async with session.begin():  # MARK: commit-begin
            await session.execute(insert(Notice).values(user_id=number, body="begun"))  # MARK: commit-begin-write
    return 14


@scenario(
    "commit-engine-begin-loop",
    "a transaction per row by engine.begin()",
    Expect("commit-loop", ("commit-engine-write", "commit-engine")),
    allow={"write-loop": "the same rows are also written one by one"},
    kind="job",
)
async def commit_engine() -> None:
    for number in range(12):
        async with database.engine.begin() as connection:  # MARK: commit-engine
            await connection.execute(insert(Notice).values(user_id=number, body="engine"))  # MARK: commit-engine-write


@scenario(
    "commit-sync-loop",
    "a script that commits row by row",
    Expect("commit-loop", "commit-sync"),
    allow={"write-loop": "the same rows are also written one by one"},
    kind="job",
)
def commit_sync() -> None:
    with database.sync_sessions() as session:
        for number in range(15):
            session.add(Notice(user_id=number, body="script"))
            session.commit()  # MARK: commit-sync


@scenario(
    "commit-delete-loop",
    "delete and commit per row",
    Expect("commit-loop", ("commit-delete-write", "commit-delete")),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_delete(session: Db) -> int:
    session.add_all(Notice(user_id=70 + n, body="expired") for n in range(10))
    await session.commit()
    old = (await session.scalars(select(Notice.id).where(Notice.body == "expired"))).all()
    for key in old:
        await session.execute(delete(Notice).where(Notice.id == key))  # MARK: commit-delete-write
        await session.commit()  # MARK: commit-delete
    return len(old)


@scenario(
    "commit-session-loop",
    "a session and a commit per row",
    Expect("commit-loop", ("commit-session-write", "commit-session")),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_session() -> int:
    for number in range(12):
        async with database.sessions.begin() as session:  # MARK: commit-session
            session.add(Notice(user_id=number, body="own session"))
            await session.flush()  # MARK: commit-session-write
    return 12


@scenario(
    "commit-autocommit-loop",
    "an AUTOCOMMIT connection: each INSERT is a transaction of its own",
    Expect(("write-loop", "commit-loop"), "autocommit"),
    allow={"commit-loop": "each of them is committed", "write-loop": "each of them is one row"},
)
async def commit_autocommit() -> int:
    async with database.engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        for number in range(12):
            await connection.execute(insert(Notice).values(user_id=number, body="auto"))  # MARK: autocommit
    return 12


@scenario(
    "commit-five-rows",
    "five rows only",
    Expect("commit-loop", "commit-five"),
    allow={"write-loop": "the same rows are also written one by one"},
)
async def commit_five(session: Db) -> int:
    for number in range(5):
        session.add(OutboxMessage(topic=f"five {number}", sent=True))
        await session.commit()  # MARK: commit-five
    return 5


# Clean


@scenario("write-add-all", "add_all and one flush")
async def add_all(session: Db) -> int:
    session.add_all(Notice(user_id=number, body="all") for number in range(25))
    await session.commit()
    return 25


@scenario("write-add-in-loop", "added one by one, flushed together")
async def add_in_loop(session: Db) -> list[int]:
    notices = []
    for number in range(25):
        notice = Notice(user_id=number, body="later")
        session.add(notice)
        notices.append(notice)
    await session.commit()
    return [notice.id for notice in notices]


@scenario("write-add-sync", "the same in a synchronous endpoint")
def add_sync(session: SyncDb) -> int:
    for number in range(25):
        session.add(Notice(user_id=number, body="sync later"))
    session.commit()
    return 25


@scenario("write-executemany", "a list of values for one INSERT")
async def executemany(connection: Conn) -> int:
    await connection.execute(insert(Notice), [{"user_id": n, "body": "many"} for n in range(40)])
    await connection.commit()
    return 40


@scenario("write-executemany-update", "a list of values for one UPDATE")
async def executemany_update(connection: Conn) -> int:
    statement = (
        update(Stock.__table__).where(Stock.product_id == bindparam("product")).values(quantity=bindparam("left"))
    )
    await connection.execute(statement, [{"product": n, "left": 900} for n in range(100, 120)])
    await connection.commit()
    return 20


@scenario("write-bulk-update", "the ORM's bulk update by primary key")
async def bulk_update(session: Db) -> int:
    await session.execute(update(Stock), [{"id": n, "quantity": 800} for n in range(120, 145)])
    await session.commit()
    return 25


@scenario("write-many-batches", "2,500 rows: several batches of insertmanyvalues", kind="job")
async def many_batches() -> None:
    async with database.sessions.begin() as session:
        rows = [{"user_id": n, "body": "batch"} for n in range(2500)]
        await session.execute(insert(Notice).returning(Notice.id), rows)


@scenario("write-upsert-many", "an upsert of many rows")
async def upsert_many(session: Db) -> int:
    statement = upsert(Stock).values([{"product_id": n, "quantity": 700} for n in range(150, 180)])
    changed = {"quantity": statement.excluded.quantity}
    await session.execute(statement.on_conflict_do_update(index_elements=["product_id"], set_=changed))
    await session.commit()
    return 30


@scenario("write-one-update", "one UPDATE of many rows")
async def one_update(session: Db) -> int:
    await session.execute(update(Stock).where(Stock.product_id.between(180, 220)).values(note="shelf 3"))
    await session.commit()
    return 41


@scenario("write-insert-select", "INSERT .. SELECT")
async def insert_select(session: Db) -> int:
    rows = select(Customer.id, literal("sale")).where(Customer.id <= 20)
    await session.execute(insert(Notice).from_select(["user_id", "body"], rows))
    await session.commit()
    return 20


@scenario("write-unnest", "INSERT .. SELECT FROM unnest")
async def unnest(session: Db) -> int:
    driver = await driver_of(session)
    query = "INSERT INTO notices (user_id, body) SELECT key, 'unnest' FROM unnest($1::int[]) key"
    await driver.execute(query, list(range(30)))
    return 30


@scenario("write-copy", "COPY")
async def copy(session: Db) -> int:
    driver = await driver_of(session)
    records = [(number, "copied") for number in range(200)]
    await driver.copy_records_to_table("notices", records=records, columns=["user_id", "body"])
    return len(records)


@scenario("write-driver-many", "asyncpg's executemany")
async def driver_many(session: Db) -> int:
    driver = await driver_of(session)
    rows = [(number, "driver many") for number in range(30)]
    await driver.executemany("INSERT INTO notices (user_id, body) VALUES ($1, $2)", rows)
    return len(rows)


@scenario("write-commit-per-chunk", "a commit per chunk of 100", kind="job")
async def commit_per_chunk() -> None:
    async with database.sessions() as session:
        for start in range(0, 500, 100):
            session.add_all(Notice(user_id=number, body="chunk") for number in range(start, start + 100))
            await session.commit()


@scenario("write-commit-per-chunk-core", "the same by Core, with the progress of the job", kind="job")
async def commit_with_progress() -> None:
    async with database.sessions() as session:
        for start in range(0, 500, 100):
            rows = [{"user_id": number, "body": "progress"} for number in range(start, start + 100)]
            await session.execute(insert(Notice), rows)
            await session.execute(update(Job).where(Job.id == 199).values(progress=start + 100))
            await session.commit()


@scenario("write-checkout", "an order is placed: five tables, a row each")
async def checkout(session: Db) -> Row:
    session.add(Notice(user_id=1, body="thank you"))
    session.add(AuditEntry(action="checkout", subject="order"))
    session.add(OutboxMessage(topic="order.placed", sent=True))
    session.add(Subscription(user_id=4242, topic="order"))
    await session.execute(update(Stock).where(Stock.product_id == 230).values(quantity=Stock.quantity - 1))
    await session.execute(update(Wallet).where(Wallet.id == 41).values(balance=Wallet.balance - 9, version=2))
    await session.rollback()
    return {"placed": True}


@scenario("write-dirty-one-flush", "twenty changed rows, one flush")
async def dirty(session: Db) -> int:
    rows = (await session.scalars(select(Stock).where(Stock.product_id.between(240, 260)))).all()
    for stock in rows:
        stock.quantity -= 1
    await session.commit()
    return len(rows)


@scenario("write-dirty-mixed", "changed rows with other columns each: one flush, many UPDATEs")
async def dirty_mixed(session: Db) -> int:
    rows = (await session.scalars(select(Stock).where(Stock.product_id.between(270, 290)))).all()
    for number, stock in enumerate(rows):
        if number % 2:
            stock.quantity -= 1
        else:
            stock.note = f"moved {number}"
    await session.commit()
    return len(rows)


@scenario("write-versioned", "rows with a version column: one flush, an UPDATE per row")
async def versioned(session: Db) -> int:
    wallets = (await session.scalars(select(Wallet).where(Wallet.id.between(45, 57)))).all()
    for wallet in wallets:
        wallet.balance += 1
    await session.commit()
    return len(wallets)


@scenario("write-delete-one-flush", "rows deleted one by one, flushed together")
async def delete_together(session: Db) -> int:
    session.add_all(Notice(user_id=number, body="gone") for number in range(15))
    await session.flush()
    for notice in (await session.scalars(select(Notice).where(Notice.body == "gone"))).all():
        await session.delete(notice)
    await session.commit()
    return 15


@scenario("write-audit-twice", "an audit entry at the beginning and one at the end")
async def audit_twice(session: Db) -> Row:
    await session.execute(insert(AuditEntry).values(action="begin", subject="import"))
    total = await session.scalar(select(func.count()).select_from(Product))
    await session.execute(insert(AuditEntry).values(action="end", subject="import"))
    await session.commit()
    return {"total": total}


@scenario("write-state-machine", "a job's state goes on in three steps, each committed", kind="job")
async def state_machine() -> None:
    async with database.sessions() as session:
        job = await session.get_one(Job, 190)
        job.state = "downloading"
        await session.commit()
        await asyncio.sleep(0.01)
        job.state = "parsing"
        await session.commit()
        await asyncio.sleep(0.01)
        job.state = "done"
        await session.commit()


@scenario("write-queue-worker", "a worker takes jobs by SKIP LOCKED and commits each", kind="job")
async def queue_worker() -> None:
    queued = select(Job).where(Job.queue == "import", Job.state == "queued").order_by(Job.id).limit(1)
    async with database.sessions() as session:
        for _ in range(10):
            job = await session.scalar(queued.with_for_update(skip_locked=True))
            if job is None:
                return
            job.state = "done"
            await session.commit()


@scenario("write-listen-loop", "one write per message that arrives, over time", kind="job")
async def consumer() -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue()

    async def produce() -> None:
        for number in (1, 2):
            await queue.put(number)
        await queue.put(None)

    producing = asyncio.create_task(produce())
    while (number := await queue.get()) is not None:
        async with database.sessions.begin() as session:
            session.add(Notice(user_id=number, body="consumed"))
    await producing


async def _write_notices(rows: list[dict[str, Any]]) -> None:
    async with database.sessions.begin() as session:
        await session.execute(insert(Notice), rows)


@scenario("write-chunks-executemany", "executemany per chunk, in one transaction", kind="job")
async def chunked_executemany() -> None:
    for start in range(0, 600, 150):
        await _write_notices([{"user_id": number, "body": "chunked"} for number in range(start, start + 150)])


@scenario("write-webhook", "idempotent: INSERT .. ON CONFLICT DO NOTHING, then UPDATE", requests=("", ""))
async def webhook(session: Db) -> int:
    made = upsert(Subscription).values(user_id=9000, topic="hook").on_conflict_do_nothing()
    await session.execute(made)
    await session.execute(update(Subscription).where(Subscription.user_id == 9000).values(topic="hook"))
    await session.commit()
    return 1
