"""Rows that are looked up one by one: by the session, by Core, as text, by the driver."""

from __future__ import annotations

from collections import deque
from typing import Annotated

from fastapi import Depends
from sqlalchemy import bindparam, exists, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import selectinload
from sqlalchemy.types import Integer
from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.detect.corpus.database import Conn, Db, SyncDb, database, driver_of, get_session
from tests.detect.corpus.models import (
    Address,
    Book,
    Category,
    Customer,
    Grant,
    Item,
    Order,
    Product,
    Review,
    Shipment,
    User,
)
from tests.detect.corpus.repositories import (
    CustomerRepository,
    ItemRepository,
    OrderRepository,
    ProductRepository,
    ReviewRepository,
)
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario
from tests.detect.corpus.services import CurrentUser, CustomerService, PricingService, ShippingFacade


@scenario("get-loop", "session.get per row", Expect("n-plus-one", "get-loop"))
async def get_loop(session: Db) -> list[str]:
    items = (await session.scalars(select(Item).order_by(Item.id).limit(20))).all()
    skus = []
    for item in items:
        product = await session.get(Product, item.product_id)  # MARK: get-loop
        skus.append(product.sku if product else "gone")
    return skus


@scenario("get-comprehension", "session.get in a list comprehension", Expect("n-plus-one", "get-comprehension"))
async def get_comprehension(session: Db) -> int:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(15))).all()
    customers = [await session.get(Customer, order.customer_id) for order in orders]  # MARK: get-comprehension
    return len(customers)


@scenario("get-four-rows", "four rows only", Expect("n-plus-one", "get-four-rows"))
async def get_four(session: Db) -> list[str]:
    names = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(4))).all():
        customer = await session.get_one(Customer, order.customer_id)  # MARK: get-four-rows
        names.append(customer.name)
    return names


@scenario("get-sync", "session.get per row in a synchronous endpoint", Expect("n-plus-one", "get-sync"))
def get_sync(session: SyncDb) -> list[str]:
    names = []
    for order in session.scalars(select(Order).order_by(Order.id).limit(12)).all():
        names.append(session.get_one(Customer, order.customer_id).name)  # MARK: get-sync
    return names


@scenario("repository-loop", "a repository's get in a loop of the handler", Expect("n-plus-one", "repository-loop"))
async def repository_loop(session: Db) -> list[str]:
    products = ProductRepository(session)
    skus = []
    for item in (await session.scalars(select(Item).order_by(Item.id).limit(20))).all():
        product = await products.get(item.product_id)  # MARK: repository-loop
        skus.append(product.sku if product else "gone")
    return skus


@scenario(
    "repository-own-loop",
    "the repository itself loops: its line is to blame",
    Expect("n-plus-one", "repository-get-each"),
)
async def repository_own_loop(session: Db) -> int:
    items = (await session.scalars(select(Item).order_by(Item.id).limit(18))).all()
    return len(await ProductRepository(session).get_each(item.product_id for item in items))


@scenario("service-loop", "two layers between the loop and the statement", Expect("n-plus-one", "service-loop"))
async def service_loop(session: Db) -> str:
    pricing = PricingService(session)
    items = (await session.scalars(select(Item).order_by(Item.id).limit(16))).all()
    total = 0
    for item in items:
        total += item.quantity * await pricing.price(item.product_id)  # MARK: service-loop
    return str(total)


@scenario("service-three-layers", "three layers between the loop and the statement", Expect("n-plus-one", "cards"))
async def customer_cards(session: Db) -> Rows:
    service = CustomerService(session)
    customers = (await session.scalars(select(Customer).order_by(Customer.id).limit(15))).all()
    return [await service.card(customer) for customer in customers]  # MARK: cards


@scenario("many-layers-loop", "ten frames between the loop and the statement", Expect("n-plus-one", "many-layers"))
async def labels(session: Db) -> list[str]:
    shipping = ShippingFacade(session)
    found = []
    for customer_id in range(1, 13):
        found.append(await shipping.label(customer_id))  # MARK: many-layers
    return found


@scenario(
    "loop-with-eager-children",
    "each round loads its rows and their items eagerly: one fault",
    Expect("n-plus-one", "loop-with-eager"),
)
async def loop_with_eager(session: Db) -> int:
    found = 0
    for customer_id in range(1, 11):
        statement = select(Order).where(Order.customer_id == customer_id).options(selectinload(Order.items))
        orders = (await session.scalars(statement)).all()  # MARK: loop-with-eager
        found += sum(len(order.items) for order in orders)
    return found


@scenario(
    "repository-two-loops",
    "one repository method, two loops of two handlers' helpers: two findings",
    Expect("n-plus-one", "two-loops-first"),
    Expect("n-plus-one", "two-loops-second"),
)
async def two_loops(session: Db) -> Row:
    orders = OrderRepository(session)
    first, second = [], []
    for customer_id in range(1, 11):
        first.append(await orders.of_customer(customer_id))  # MARK: two-loops-first
    for customer_id in range(11, 21):
        second.append(await orders.of_customer(customer_id))  # MARK: two-loops-second
    return {"first": sum(map(len, first)), "second": sum(map(len, second))}


@scenario("core-loop", "a Core select per row", Expect("n-plus-one", "core-loop"))
async def core_loop(connection: Conn) -> Rows:
    books = await connection.execute(select(Book.id, Book.author_id).order_by(Book.id).limit(20))
    page = []
    for book_id, _ in books.all():
        stars = await connection.execute(select(Review.stars).where(Review.book_id == book_id))  # MARK: core-loop
        page.append({"id": book_id, "stars": [row.stars for row in stars]})
    return page


@scenario("core-in-of-one", "IN with one key per round", Expect("n-plus-one", "core-in-of-one"))
async def in_of_one(session: Db) -> int:
    found = 0
    for (product_id,) in (await session.execute(select(Item.product_id).order_by(Item.id).limit(14))).all():
        rows = await session.scalars(select(Product).where(Product.id.in_([product_id])))  # MARK: core-in-of-one
        found += len(rows.all())
    return found


@scenario("core-any-of-few", "= ANY with one key per round", Expect("n-plus-one", "core-any-of-few"))
async def any_of_one(connection: Conn) -> int:
    statement = text("SELECT id FROM items WHERE order_id = ANY(:orders)")
    statement = statement.bindparams(bindparam("orders", type_=ARRAY(Integer)))
    found = 0
    for (order_id,) in (await connection.execute(select(Order.id).order_by(Order.id).limit(12))).all():
        found += len((await connection.execute(statement, {"orders": [order_id]})).all())  # MARK: core-any-of-few
    return found


@scenario("text-loop", "text() per row", Expect("n-plus-one", "text-loop"))
async def text_loop(session: Db) -> dict[str, int]:
    customers = await session.execute(text("SELECT id, name FROM customers ORDER BY id LIMIT 20"))
    counts = {}
    for customer_id, name in customers.all():
        statement = text("SELECT id FROM orders WHERE customer_id = :customer")
        orders = await session.execute(statement, {"customer": customer_id})  # MARK: text-loop
        counts[name] = len(orders.all())
    return counts


@scenario("text-three-rows", "text() for three rows", Expect("n-plus-one", "text-three-rows"))
async def text_three(session: Db) -> list[str]:
    cities = []
    for (customer_id,) in (await session.execute(text("SELECT id FROM customers ORDER BY id LIMIT 3"))).all():
        statement = text("SELECT city FROM addresses WHERE customer_id = :customer LIMIT 1")
        cities.append(await session.scalar(statement, {"customer": customer_id}))  # MARK: text-three-rows
    return cities


@scenario("driver-loop", "asyncpg's fetchrow per row", Expect("n-plus-one", "driver-loop"))
async def driver_loop(session: Db) -> list[str]:
    driver = await driver_of(session)
    names = []
    for order in await driver.fetch("SELECT id, customer_id FROM orders ORDER BY id LIMIT 15"):
        query = "SELECT name FROM customers WHERE id = $1"
        customer = await driver.fetchrow(query, order["customer_id"])  # MARK: driver-loop
        names.append(customer["name"])
    return names


@scenario("driver-repository-loop", "asyncpg's fetchval in a repository", Expect("n-plus-one", "driver-prices"))
async def driver_prices(session: Db) -> str:
    products = ProductRepository(session)
    total = 0
    for number in range(1, 21):
        total += await products.price_by_driver(f"sku-{number}")  # MARK: driver-prices
    return str(total)


@scenario("scalar-loop", "a scalar per row", Expect("n-plus-one", "scalar-loop"))
async def scalar_loop(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(20))).all():
        statement = select(Shipment.carrier).where(Shipment.order_id == order.id).limit(1)
        page.append({"id": order.id, "carrier": await session.scalar(statement)})  # MARK: scalar-loop
    return page


@scenario("count-loop", "a COUNT per row", Expect("n-plus-one", "count-loop"))
async def count_loop(session: Db) -> Rows:
    page = []
    for category in (await session.scalars(select(Category).where(Category.id > 17).limit(20))).all():
        statement = select(func.count()).select_from(Product).where(Product.category_id == category.id)
        page.append({"name": category.name, "products": await session.scalar(statement)})  # MARK: count-loop
    return page


@scenario("exists-loop", "an EXISTS per row", Expect("n-plus-one", "exists-loop"))
async def exists_loop(session: Db) -> list[str]:
    ordering = []
    for customer in (await session.scalars(select(Customer).order_by(Customer.id).limit(20))).all():
        if await session.scalar(select(exists().where(Order.customer_id == customer.id))):  # MARK: exists-loop
            ordering.append(customer.name)
    return ordering


@scenario("exists-repository-loop", "an EXISTS per value given by the caller", Expect("n-plus-one", "sku-check"))
async def unknown_skus(session: Db) -> list[str]:
    products = ProductRepository(session)
    wanted = [f"sku-{number * 40}" for number in range(1, 16)]
    return [sku for sku in wanted if not await products.sku_exists(sku)]  # MARK: sku-check


@scenario("sum-loop", "an aggregate per row", Expect("n-plus-one", "sum-loop"))
async def sum_loop(session: Db) -> dict[int, int]:
    items = ItemRepository(session)
    totals = {}
    for (order_id,) in (await session.execute(select(Order.id).order_by(Order.id).limit(18))).all():
        totals[order_id] = await items.quantity_of(order_id)  # MARK: sum-loop
    return totals


@scenario("average-loop", "an average by text() in a repository", Expect("n-plus-one", "average-loop"))
async def average_loop(session: Db) -> list[float]:
    reviews = ReviewRepository(session)
    books = (await session.scalars(select(Book).order_by(Book.id).limit(20))).all()
    return [await reviews.stars_of(book.id) for book in books]  # MARK: average-loop


@scenario("newest-per-row-loop", "ORDER BY .. LIMIT 1 per row", Expect("n-plus-one", "newest-per-row"))
async def newest_per_row(session: Db) -> Rows:
    orders = OrderRepository(session)
    page = []
    for customer in (await session.scalars(select(Customer).order_by(Customer.id).limit(15))).all():
        newest = await orders.newest_of(customer.id)  # MARK: newest-per-row
        page.append({"name": customer.name, "newest": newest.id if newest else None})
    return page


@scenario("top-per-row-loop", "LIMIT 3 per row", Expect("n-plus-one", "top-per-row"))
async def top_per_row(session: Db) -> dict[int, int]:
    best = {}
    for book in (await session.scalars(select(Book).order_by(Book.id).limit(10))).all():
        statement = select(Review).where(Review.book_id == book.id).order_by(Review.stars.desc()).limit(3)
        best[book.id] = len((await session.scalars(statement)).all())  # MARK: top-per-row
    return best


@scenario("natural-key-loop", "look-ups by e-mail address", Expect("n-plus-one", "natural-key"))
async def natural_key(session: Db) -> list[int]:
    customers = CustomerRepository(session)
    found = []
    for number in range(3, 15):
        customer = await customers.find(email=f"customer{number}@shop.test")  # MARK: natural-key
        if customer is not None:
            found.append(customer.id)
    return found


@scenario(
    "dependent-lookups-loop",
    "two look-ups per row, the second by the first",
    Expect("n-plus-one", "dependent-first"),
    Expect("n-plus-one", "dependent-second"),
)
async def dependent_lookups(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(12))).all():
        customer = await session.get_one(Customer, order.customer_id)  # MARK: dependent-first
        address = await session.scalar(  # MARK: dependent-second
            select(Address).where(Address.customer_id == customer.id).order_by(Address.id).limit(1)
        )
        page.append({"name": customer.name, "city": address.city if address else None})
    return page


@scenario(
    "nested-core-loops",
    "orders of each customer, items of each order: each level once",
    Expect("n-plus-one", "nested-orders"),
    Expect("n-plus-one", "nested-order-items"),
)
async def nested_core(connection: Conn) -> int:
    found = 0
    for (customer_id,) in (await connection.execute(select(Customer.id).order_by(Customer.id).limit(6))).all():
        statement = select(Order.id).where(Order.customer_id == customer_id)
        orders = await connection.execute(statement)  # MARK: nested-orders
        for (order_id,) in orders.all():
            statement = select(Item.id).where(Item.order_id == order_id)
            found += len((await connection.execute(statement)).all())  # MARK: nested-order-items
    return found


@scenario("tree-walk-loop", "a tree walked level by level, one statement per node", Expect("n-plus-one", "tree-walk"))
async def tree_walk(session: Db) -> int:
    queue, seen = deque([1]), 0
    while queue and seen < 17:
        parent = queue.popleft()
        seen += 1
        children = await session.scalars(select(Category.id).where(Category.parent_id == parent))  # MARK: tree-walk
        queue.extend(children)
    return seen


@scenario(
    "ancestors-loop", "parents looked up one by one up the tree of each product", Expect("n-plus-one", "ancestors")
)
async def breadcrumbs(session: Db) -> Rows:
    page = []
    for product in (await session.scalars(select(Product).order_by(Product.id).limit(6))).all():
        names, key = [], product.category_id
        while key is not None:
            statement = select(Category.name, Category.parent_id).where(Category.id == key)
            name, key = (await session.execute(statement)).one()  # MARK: ancestors
            names.append(name)
        page.append({"sku": product.sku, "path": names})
    return page


@scenario("session-per-row-loop", "a session of its own for each row", Expect("n-plus-one", "session-per-row"))
async def session_per_row() -> list[str]:
    names = []
    for customer_id in range(1, 13):
        async with database.sessions() as session:
            customer = await session.get_one(Customer, customer_id)  # MARK: session-per-row
        names.append(customer.name)
    return names


@scenario("connection-per-row-loop", "a connection of its own for each row", Expect("n-plus-one", "connection-per-row"))
async def connection_per_row() -> int:
    quantity = 0
    for order_id in range(1, 16):
        async with database.engine.connect() as connection:
            statement = select(func.sum(Item.quantity)).where(Item.order_id == order_id)
            quantity += await connection.scalar(statement) or 0  # MARK: connection-per-row
    return quantity


async def allowed_scopes(session: Db, user: CurrentUser) -> list[str]:
    allowed = []
    for scope in ("read", "write", "export", "refund", "admin", "audit"):
        grant = await session.scalar(select(Grant).filter_by(user_id=user.id, scope=scope))  # MARK: dependency-loop
        if grant is not None:
            allowed.append(scope)
    return allowed


@scenario("dependency-loop", "a dependency loops over scopes", Expect("n-plus-one", "dependency-loop"))
async def with_scopes(scopes: Annotated[list[str], Depends(allowed_scopes)]) -> int:
    return len(scopes)


class Recipients:
    """A dependency with parameters."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    async def __call__(self, session=Depends(get_session)) -> list[str]:  # FastAPI 0.115 reads no annotation here
        emails = []
        for user_id in range(1, self.limit + 1):
            emails.append(await session.scalar(select(User.email).where(User.id == user_id)))  # MARK: dependency-class
        return emails


@scenario("dependency-class-loop", "a dependency that is an object", Expect("n-plus-one", "dependency-class"))
async def with_recipients(recipients: Annotated[list[str], Depends(Recipients(10))]) -> int:
    return len(recipients)


@scenario("starlette-loop", "a plain Starlette endpoint", Expect("n-plus-one", "starlette-loop"), kind="starlette")
async def starlette_loop(request: Request) -> JSONResponse:
    async with database.sessions() as session:
        cities = []
        for address_id in range(1, 21):
            cities.append((await session.get_one(Address, address_id)).city)  # MARK: starlette-loop
    return JSONResponse(cities)


@scenario("psycopg-async-loop", "asynchronous psycopg", Expect("n-plus-one", "psycopg-async"))
async def psycopg_loop() -> int:
    found = 0
    async with database.another("psycopg_async").connect() as connection:
        for book_id in range(1, 16):
            rows = await connection.execute(select(Review.id).where(Review.book_id == book_id))  # MARK: psycopg-async
            found += len(rows.all())
    return found


@scenario(
    "unretained-get-loop",
    "session.get of ever the same three rows, which nothing keeps: the weak identity map forgets them",
    Expect(("n-plus-one", "duplicate-query"), "unretained"),
)
async def unretained(session: Db) -> Rows:
    items = (await session.execute(select(Item.id, Item.quantity).order_by(Item.id).limit(18))).all()
    page = []
    for number, (item_id, quantity) in enumerate(items):
        carrier = (await session.get_one(Shipment, number % 3 + 1)).carrier  # MARK: unretained
        page.append({"id": item_id, "quantity": quantity, "carrier": carrier})
    return page


@scenario("walrus-while-loop", "a while loop with an assignment expression", Expect("n-plus-one", "walrus"))
async def chain_of_parents(session: Db) -> int:
    queue, found = list(range(30, 42)), 0
    while (key := queue.pop() if queue else None) is not None:
        statement = select(Product.id).where(Product.category_id == key)
        found += len((await session.scalars(statement)).all())  # MARK: walrus
    return found


@scenario(
    "dict-comprehension-loop", "a dict comprehension with a repository", Expect("n-plus-one", "dict-comprehension")
)
async def stock_by_customer(session: Db) -> dict[int, int]:
    orders = OrderRepository(session)
    return {key: len(await orders.of_customer(key)) for key in range(1, 16)}  # MARK: dict-comprehension


@scenario("helper-count-loop", "a repository's COUNT per row", Expect("n-plus-one", "helper-count"))
async def helper_count(session: Db) -> Rows:
    orders = OrderRepository(session)
    page = []
    for customer in (await session.scalars(select(Customer).order_by(Customer.id).limit(10))).all():
        count = await orders.count(Order.customer_id == customer.id)  # MARK: helper-count
        page.append({"name": customer.name, "orders": count})
    return page
