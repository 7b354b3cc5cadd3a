"""Statements whose text changes with their values."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from sqlalchemy import bindparam, func, insert, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Integer

from tests.detect.corpus.database import Conn, Db, database, driver_of
from tests.detect.corpus.models import Book, Customer, Notice, Order, Product
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario

MANY = 130
"""More texts than asyncpg keeps statements: SQLAlchemy's prepared_statement_cache_size is 100."""


@scenario(
    "inlined-loop",
    "an f-string per row: a loop, and literals in the text",
    Expect("inlined-literals", "inlined-loop"),
    Expect("n-plus-one", "inlined-loop"),
)
async def inlined_loop(session: Db) -> list[int]:
    counts = []
    for customer_id in range(1, 21):
        statement = text(f"SELECT count(*) FROM orders WHERE customer_id = {customer_id}")
        counts.append(await session.scalar(statement) or 0)  # MARK: inlined-loop
    return counts


@scenario(
    "inlined-requests",
    "an f-string with a value of the request",
    Expect("inlined-literals", "inlined-requests"),
    requests=tuple(f"?key={key}" for key in range(1, 31)),
)
async def inlined_requests(session: Db, key: int) -> Row:
    statement = text(f"SELECT name, email FROM customers WHERE id = {key}")
    row = (await session.execute(statement)).one()  # MARK: inlined-requests
    return {"name": row.name, "email": row.email}


@scenario(
    "inlined-string",
    "a quoted string in the text",
    Expect("inlined-literals", "inlined-string"),
    requests=tuple(f"?email=user{number}@shop.test" for number in range(1, 31)),
)
async def inlined_string(session: Db, email: str) -> int:
    statement = text(f"SELECT id FROM users WHERE email = '{email}'")
    return await session.scalar(statement) or 0  # MARK: inlined-string


@scenario(
    "inlined-driver",
    "asyncpg with a formatted text",
    Expect("inlined-literals", "inlined-driver"),
    requests=tuple(f"?key={key}" for key in range(1, 31)),
)
async def inlined_driver(session: Db, key: int) -> int:
    driver = await driver_of(session)
    query = "SELECT count(*) FROM items WHERE order_id = " + str(key)
    return await driver.fetchval(query)  # MARK: inlined-driver


@scenario(
    "inlined-write-loop",
    "an INSERT by f-string per row",
    Expect("inlined-literals", "inlined-write"),
    Expect("write-loop", "inlined-write"),
)
async def inlined_write(session: Db) -> int:
    for number in range(20):
        statement = text(f"INSERT INTO notices (user_id, body) VALUES ({number}, 'x')")
        await session.execute(statement)  # MARK: inlined-write
    await session.commit()
    return 20


@scenario(
    "inlined-in-list",
    "keys joined into an IN list",
    Expect("inlined-literals", "inlined-in-list"),
    requests=tuple(f"?first={key}" for key in range(1, 31)),
)
async def inlined_in_list(connection: Conn, first: int) -> int:
    keys = ", ".join(str(key) for key in range(first, first + 10))
    statement = text(f"SELECT sku FROM products WHERE id IN ({keys})")
    return len((await connection.execute(statement)).all())  # MARK: inlined-in-list


@scenario("literal-constant", "a literal that never changes", requests=("",) * 30)
async def constant(session: Db) -> int:
    return await session.scalar(text("SELECT count(*) FROM orders WHERE status = 'open' AND id > 10 LIMIT 1")) or 0


@scenario(
    "literal-constant-and-bind",
    "a constant literal beside a bound value",
    requests=tuple(f"?key={n}" for n in range(1, 31)),
)
async def constant_and_bind(session: Db, key: int) -> int:
    statement = text("SELECT count(*) FROM orders WHERE status = 'open' AND customer_id = :customer")
    return await session.scalar(statement, {"customer": key}) or 0


@scenario(
    "literal-three-orders",
    "one of three sort orders is put into the text",
    requests=tuple(f"?by={column}" for _ in range(10) for column in ("id", "name", "email")),
)
async def sorted_by(session: Db, by: str) -> int:
    column = {"id": "id", "name": "name", "email": "email"}[by]
    return len((await session.execute(text(f"SELECT id, name FROM customers ORDER BY {column} LIMIT 20"))).all())


@scenario("literal-table-name", "table names in the text", requests=("",) * 3)
async def table_name(connection: Conn) -> Rows:
    counts = []
    for table in ("orders", "books", "items", "reviews"):
        counts.append({table: await connection.scalar(text(f"SELECT count(*) FROM {table}"))})
    return counts


@scenario("literal-bound", "Core binds by itself", requests=tuple(f"?key={n}" for n in range(1, 31)))
async def bound(session: Db, key: int) -> int:
    statement = select(func.count()).select_from(Order).where(Order.customer_id == key, Order.status == "open")
    return await session.scalar(statement) or 0


@scenario("literal-enumerated", "two constants, one per branch", requests=tuple(f"?vip={n % 2}" for n in range(20)))
async def enumerated(session: Db, vip: bool) -> int:
    if vip:
        return await session.scalar(text("SELECT count(*) FROM customers WHERE vip = true AND id > 5")) or 0
    return await session.scalar(text("SELECT count(*) FROM customers WHERE vip = false AND id > 0")) or 0


@scenario(
    "churn-in-lists",
    "IN lists of ever other lengths: a text for each length",
    Expect("statement-churn", "churn-in-lists"),
    requests=tuple(f"?keys={length}" for length in range(1, MANY + 1)),
)
async def churn_in(session: Db, keys: int) -> int:
    statement = select(Book.id, Book.title).where(Book.id.in_(range(1, keys + 1)))
    return len((await session.execute(statement)).all())  # MARK: churn-in-lists


@scenario(
    "churn-or",
    "a chain of OR of ever other lengths",
    Expect("statement-churn", "churn-or"),
    requests=tuple(f"?terms={length}" for length in range(2, MANY + 2)),
)
async def churn_or(connection: Conn, terms: int) -> int:
    criteria = or_(*(Product.sku == f"sku-{number}" for number in range(terms)))
    return len((await connection.execute(select(Product.id).where(criteria))).all())  # MARK: churn-or


@scenario(
    "churn-values",
    "a job writes batches of ever other sizes as one VALUES list",
    Expect("statement-churn", "churn-values"),
    allow={
        "too-many-queries": "a job of 130 statements",
        "idle-in-transaction": "compiling 130 texts takes its time",
        "long-transaction": "for the same reason",
    },
    kind="job",
)
async def churn_values() -> None:
    async with database.engine.connect() as connection:
        for size in range(2, MANY + 2):
            rows = [{"user_id": number, "body": "churn"} for number in range(size)]
            await connection.execute(insert(Notice).values(rows))  # MARK: churn-values
        await connection.rollback()


@scenario("stable-in-lists", "IN lists of one length", requests=tuple(f"?first={key}" for key in range(1, MANY + 1)))
async def stable_in(session: Db, first: int) -> int:
    statement = select(Book.id, Book.title).where(Book.id.in_(range(first, first + 20)))
    return len((await session.execute(statement)).all())


@scenario("stable-any", "= ANY of arrays of every length", requests=tuple(f"?keys={n}" for n in range(1, MANY + 1)))
async def stable_any(connection: Conn, keys: int) -> int:
    statement = text("SELECT id, title FROM books WHERE id = ANY(:keys)")
    statement = statement.bindparams(bindparam("keys", type_=ARRAY(Integer)))
    return len((await connection.execute(statement, {"keys": list(range(1, keys + 1))})).all())


@scenario("stable-padded", "IN lists padded to powers of two", requests=tuple(f"?keys={n}" for n in range(1, MANY + 1)))
async def padded(session: Db, keys: Annotated[int, Query(ge=1)]) -> int:
    wanted = list(range(1, keys + 1))
    wanted += [wanted[-1]] * ((1 << (keys - 1).bit_length()) - keys)
    return len((await session.execute(select(Book.id).where(Book.id.in_(wanted)))).all())


@scenario(
    "stable-few-lengths", "eight lengths in eighty requests", requests=tuple(f"?keys={n % 8 + 1}" for n in range(80))
)
async def few_lengths(session: Db, keys: int) -> int:
    statement = select(Customer.id, Customer.name).where(Customer.id.in_(range(1, keys + 1)))
    return len((await session.execute(statement)).all())


@scenario("stable-pages", "one statement, ever other pages", requests=tuple(f"?page={n}" for n in range(1, 31)))
async def stable_pages(session: Db, page: int) -> int:
    statement = select(Book.id).order_by(Book.id).offset(page * 20 - 20).limit(20)
    return len((await session.scalars(statement)).all())
