"""A number of rows to a shop of that size, the same every time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shop.models import Category

ROOTS, CHILDREN = 8, 6
CHUNK = 10_000
LOCK = 20_250_101

SENTENCES = [
    "Made by hand in a small workshop near the coast.",
    "The finish keeps its colour after years of daily use.",
    "Parts can be replaced one by one without any tools.",
    "Delivered in plain paper, ready to be given away.",
    "Tested for a thousand hours before it leaves the house.",
    "A favourite of those who know what they are looking for.",
    "It folds flat and fits on every shelf.",
    "Wipe with a damp cloth and let it dry in the shade.",
    "Designed together with people who use it every day.",
    "The second edition is lighter and a little wider.",
    "Comes with a spare part for the one that wears.",
]

CATEGORIES = text("""
    INSERT INTO categories (id, name, parent_id)
    SELECT i, 'Category ' || i, CASE WHEN i > :roots THEN 1 + (i - 1) % :roots END
    FROM generate_series(CAST(:first AS bigint), :last) AS i
""")
CUSTOMERS = text("""
    INSERT INTO customers (id, email, name, created_at, updated_at)
    SELECT i, 'customer' || i || '@example.org', 'Customer ' || i, at, at
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT timestamptz '2025-01-01 00:00Z' + i * interval '1 minute') AS moment (at)
""")
# One description in 500 is about titanium; leaves of the tree hold the products.
PRODUCTS = text("""
    INSERT INTO products (id, sku, name, description, price, category_id, created_at, updated_at)
    SELECT i, 'SKU-' || i, 'Product ' || i, description || CASE WHEN i % 500 = 1 THEN ' Titanium.' ELSE '' END,
           (100 + i * 7919 % 49900) / 100.0, 1 + :roots + i % :leaves, at, at
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT timestamptz '2025-01-01 00:00Z' + i * interval '1 minute') AS moment (at),
    LATERAL (
        SELECT string_agg((CAST(:sentences AS text[]))[1 + (i * k + i / 11 + k) % 11], ' ')
        FROM generate_series(1, 32) AS k
    ) AS words (description)
""")
INVENTORY = text("""
    INSERT INTO inventory (product_id, quantity, created_at, updated_at)
    SELECT i, 1000 + i * 7919 % 9000, at, at
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT timestamptz '2025-01-01 00:00Z' + i * interval '1 minute') AS moment (at)
""")
# Half of all orders and reviews are those of one customer in eight.
ORDERS = text("""
    INSERT INTO orders (id, customer_id, status, created_at, updated_at)
    SELECT i, CASE WHEN i % 2 = 0 THEN 1 + i / 2 % :regulars ELSE 1 + i % :customers END,
           (ARRAY['pending', 'paid', 'shipped', 'shipped', 'cancelled'])[1 + i / 3 % 5], at, at
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT timestamptz '2025-06-01 00:00Z' + i * interval '1 minute') AS moment (at)
""")
ORDER_ITEMS = text("""
    INSERT INTO order_items (id, order_id, product_id, quantity, unit_price)
    SELECT i, order_id, products.id, 1 + i % 4, price
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT 1 + (i - 1) % :orders, (i - 1) / :orders) AS line (order_id, number)
    JOIN products ON products.id = 1 + (order_id * 7919 + number) % :products
""")
REVIEWS = text("""
    INSERT INTO reviews (id, product_id, customer_id, rating, body, created_at, updated_at)
    SELECT i, 1 + i * 7919 % :products,
           CASE WHEN i % 2 = 0 THEN 1 + i / 2 % :regulars ELSE 1 + i % :customers END,
           1 + i * 31 % 5, (CAST(:sentences AS text[]))[1 + i % 11], at, at
    FROM generate_series(CAST(:first AS bigint), :last) AS i,
    LATERAL (SELECT timestamptz '2025-06-01 00:00Z' + i * interval '1 minute') AS moment (at)
""")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows each table gets of a total; ids run from 1."""

    rows: int

    @property
    def categories(self) -> int:
        return ROOTS * (1 + CHILDREN)

    @property
    def customers(self) -> int:
        return self.rows // 25

    @property
    def products(self) -> int:
        return self.rows // 4

    @property
    def orders(self) -> int:
        return self.rows // 12

    @property
    def order_items(self) -> int:
        return 3 * self.orders

    @property
    def reviews(self) -> int:
        return self.rows - self.categories - self.customers - 2 * self.products - self.orders - self.order_items

    def plan(self) -> Iterator[tuple[str, TextClause, int]]:
        """List table, statement and number of rows, tables that are referred to first."""
        yield "categories", CATEGORIES, self.categories
        yield "customers", CUSTOMERS, self.customers
        yield "products", PRODUCTS, self.products
        yield "inventory", INVENTORY, self.products
        yield "orders", ORDERS, self.orders
        yield "order_items", ORDER_ITEMS, self.order_items
        yield "reviews", REVIEWS, self.reviews


def ignore_progress(done: int, total: int) -> None:
    """Tell nobody."""


async def seed(
    engine: AsyncEngine, rows: int = 200_000, progress: Callable[[int, int], None] = ignore_progress
) -> bool:
    """Fill the migrated, empty database with that many rows (at least 1,000), in one transaction.

    Args:
        engine: its database is filled.
        rows: sum over all tables.
        progress: called with the rows done and the total.

    Returns:
        False where there were rows already, and nothing was done.

    Raises:
        ValueError: fewer than 1,000 rows.
    """
    if rows < 1_000:
        raise ValueError(f"a shop needs at least 1000 rows, not {rows}")
    async with engine.begin() as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        if await connection.scalar(select(Category.id).limit(1)) is not None:
            return False
        await fill(connection, Sizes(rows), progress)
    return True


async def fill(connection: AsyncConnection, sizes: Sizes, progress: Callable[[int, int], None]) -> None:
    """Insert in chunks, and leave identities and statistics as after ordinary inserts."""
    common = {
        "roots": ROOTS,
        "leaves": ROOTS * CHILDREN,
        "customers": sizes.customers,
        "regulars": sizes.customers // 8,
        "products": sizes.products,
        "orders": sizes.orders,
        "sentences": SENTENCES,
    }
    done = 0
    for table, statement, count in sizes.plan():
        for first in range(1, count + 1, CHUNK):
            last = min(first + CHUNK - 1, count)
            await connection.execute(statement, {**common, "first": first, "last": last})
            done += last - first + 1
            progress(done, sizes.rows)
        if table != "inventory":
            await connection.execute(select(func.setval(func.pg_get_serial_sequence(table, "id"), count)))
        await connection.execute(text(f"ANALYZE {table}"))
