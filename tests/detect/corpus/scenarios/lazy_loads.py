"""Relationships and columns that are loaded once per row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, immediateload, lazyload, selectinload

from tests.detect.corpus.database import Db, ExpiringDb, SyncDb
from tests.detect.corpus.models import (
    Author,
    Book,
    Category,
    Customer,
    Document,
    Employee,
    Engineer,
    Manager,
    Order,
    Review,
    Wish,
)
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario
from tests.detect.corpus.services import orders_of, serialize_order


@scenario("lazy-collection", "each author's books by awaitable_attrs", Expect("n-plus-one", "lazy-collection"))
async def authors_with_books(session: Db) -> Rows:
    authors = (await session.scalars(select(Author).order_by(Author.name).limit(12))).all()
    page = []
    for author in authors:
        books = await author.awaitable_attrs.books  # MARK: lazy-collection
        page.append({"name": author.name, "books": [book.title for book in books]})
    return page


@scenario("lazy-many-to-one", "each book's author by awaitable_attrs", Expect("n-plus-one", "lazy-many-to-one"))
async def books_with_author(session: Db) -> Rows:
    books = (await session.scalars(select(Book).order_by(Book.id).limit(20))).all()
    page = []
    for book in books:
        author = await book.awaitable_attrs.author  # MARK: lazy-many-to-one
        page.append({"title": book.title, "author": author.name})
    return page


@scenario("lazy-one-to-one", "each customer's profile, half of them have none", Expect("n-plus-one", "lazy-one-to-one"))
async def customers_with_nickname(session: Db) -> Rows:
    page = []
    for customer in await session.scalars(select(Customer).order_by(Customer.id).limit(16)):
        profile = await customer.awaitable_attrs.profile  # MARK: lazy-one-to-one
        page.append({"name": customer.name, "nickname": profile.nickname if profile else None})
    return page


@scenario("lazy-many-to-many", "each book's tags inside run_sync", Expect("n-plus-one", "lazy-many-to-many"))
async def books_with_tags(session: Db) -> Rows:
    def build(inner: Session) -> Rows:
        page = []
        for book in inner.scalars(select(Book).order_by(Book.id).limit(15)):
            words = sorted(tag.word for tag in book.tags)  # MARK: lazy-many-to-many
            page.append({"title": book.title, "tags": words})
        return page

    return await session.run_sync(build)


@scenario("lazy-run-sync-comprehension", "a list comprehension in run_sync", Expect("n-plus-one", "run-sync-list"))
async def order_sizes(session: Db) -> list[int]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(18))).all()
    return await session.run_sync(lambda _: [len(order.items) for order in orders])  # MARK: run-sync-list


@scenario("lazy-await-comprehension", "an awaiting list comprehension", Expect("n-plus-one", "await-list"))
async def customer_names(session: Db) -> list[str]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(14))).all()
    return [(await order.awaitable_attrs.customer).name for order in orders]  # MARK: await-list


@scenario("lazy-deferred-column", "the deferred body of each document", Expect("n-plus-one", "deferred-body"))
async def documents(session: Db) -> Rows:
    found = (await session.scalars(select(Document).order_by(Document.id).limit(12))).all()
    return [
        {"name": document.name, "length": len(await document.awaitable_attrs.body)}  # MARK: deferred-body
        for document in found
    ]


@scenario("lazy-expired", "attributes expired by the commit, read row by row", Expect("n-plus-one", "expired"))
async def close_orders(session: ExpiringDb) -> list[str]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(15))).all()
    await session.commit()
    states = []
    for order in orders:
        states.append(await order.awaitable_attrs.status)  # MARK: expired
    return states


@scenario("lazy-polymorphic", "columns of the subclass's table, row by row", Expect("n-plus-one", "polymorphic"))
async def budgets(session: Db) -> list[int]:
    total = []
    for employee in (await session.scalars(select(Employee).order_by(Employee.id).limit(20))).all():
        if isinstance(employee, Manager):
            total.append(await employee.awaitable_attrs.budget)  # MARK: polymorphic
    return total


@scenario(
    "lazy-polymorphic-two-subclasses",
    "the columns of two subclasses at two lines",
    Expect("n-plus-one", "polymorphic-manager"),
    Expect("n-plus-one", "polymorphic-engineer"),
)
async def staff(session: Db) -> Rows:
    page: Rows = []
    for employee in (await session.scalars(select(Employee).order_by(Employee.id))).all():
        match employee:
            case Manager():
                page.append({"budget": await employee.awaitable_attrs.budget})  # MARK: polymorphic-manager
            case Engineer():
                page.append({"language": await employee.awaitable_attrs.language})  # MARK: polymorphic-engineer
    return page


@scenario(
    "lazy-nested",
    "items of each order and the product of each item: each level once",
    Expect("n-plus-one", "nested-items"),
    Expect("n-plus-one", "nested-product"),
)
async def order_lines(session: Db) -> Rows:
    lines = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(6))).all():
        for item in await order.awaitable_attrs.items:  # MARK: nested-items
            product = await item.awaitable_attrs.product  # MARK: nested-product
            lines.append({"order": order.id, "sku": product.sku, "quantity": item.quantity})
    return lines


@scenario("lazy-second-level", "the first level is eager, the second is not", Expect("n-plus-one", "second-level"))
async def order_products(session: Db) -> Rows:
    statement = select(Order).options(selectinload(Order.items)).order_by(Order.id).limit(5)
    lines = []
    for order in await session.scalars(statement):
        for item in order.items:
            product = await item.awaitable_attrs.product  # MARK: second-level
            lines.append({"order": order.id, "sku": product.sku})
    return lines


@scenario("lazy-property", "a property of the model hides the load", Expect("n-plus-one", "property-total"))
def order_totals(session: SyncDb) -> Rows:
    orders = session.scalars(select(Order).order_by(Order.id).limit(20)).all()
    return [{"id": order.id, "total": order.total} for order in orders]  # MARK: property-total


@scenario("lazy-property-in-loop", "a property that counts a collection", Expect("n-plus-one", "property-count"))
async def busy_customers(session: Db) -> list[str]:
    def busy(inner: Session) -> list[str]:
        found = []
        for customer in inner.scalars(select(Customer).order_by(Customer.id)):
            if customer.order_count > 3:  # MARK: property-count
                found.append(customer.name)
        return found

    return await session.run_sync(busy)


@scenario("lazy-hybrid", "a hybrid property in a generator expression", Expect("n-plus-one", "hybrid"))
def regulars(session: SyncDb) -> int:
    customers = session.scalars(select(Customer).order_by(Customer.id).limit(15)).all()
    return sum(1 for customer in customers if customer.is_regular)  # MARK: hybrid


@scenario(
    "lazy-map",
    "map() loops, a function loads",
    Expect("n-plus-one", ("map-function", "map-call")),
)
def cities(session: SyncDb) -> list[str]:
    def city(order: Order) -> str:
        return order.shipping_address.city  # MARK: map-function

    return list(map(city, orders_of(session, 14)))  # MARK: map-call


@scenario(
    "lazy-with-eager-children",
    "each lazy load brings its own eager load: one fault",
    Expect("n-plus-one", "lazy-with-eager"),
)
async def lazy_with_eager(session: Db) -> int:
    statement = select(Customer).options(lazyload(Customer.orders).selectinload(Order.items))
    found = 0
    for customer in (await session.scalars(statement.order_by(Customer.id).limit(10))).all():
        orders = await customer.awaitable_attrs.orders  # MARK: lazy-with-eager
        found += sum(len(order.items) for order in orders)
    return found


@scenario(
    "lazy-two-lines",
    "the same relationship looped over at two lines: two findings",
    Expect("n-plus-one", "two-lines-first"),
    Expect("n-plus-one", "two-lines-second"),
)
async def compare_orders(session: Db) -> Row:
    old = (await session.scalars(select(Order).where(Order.id <= 10))).all()
    new = (await session.scalars(select(Order).where(Order.id > 100).limit(10))).all()
    old_sizes = []
    for order in old:
        old_sizes.append(len(await order.awaitable_attrs.items))  # MARK: two-lines-first
    new_sizes = []
    for order in new:
        new_sizes.append(len(await order.awaitable_attrs.items))  # MARK: two-lines-second
    return {"old": sum(old_sizes), "new": sum(new_sizes)}


@scenario(
    "lazy-statements-between",
    "other statements run between the loads",
    Expect("n-plus-one", "between-items"),
    Expect("n-plus-one", "between-count"),
)
async def author_cards(session: Db) -> Rows:
    cards = []
    for author in (await session.scalars(select(Author).order_by(Author.id).limit(10))).all():
        articles = await author.awaitable_attrs.articles  # MARK: between-items
        volumes = await session.scalar(select(func.count(Book.id)).where(Book.author == author))  # MARK: between-count
        cards.append({"articles": len(articles), "volumes": volumes})
    return cards


@scenario("lazy-while", "a while loop that empties a list", Expect("n-plus-one", "while-items"))
async def drain_orders(session: Db) -> int:
    pending = list((await session.scalars(select(Order).order_by(Order.id).limit(11))).all())
    quantity = 0
    while pending:
        order = pending.pop()
        quantity += sum(item.quantity for item in await order.awaitable_attrs.items)  # MARK: while-items
    return quantity


@scenario("lazy-three-rows", "three rows only", Expect("n-plus-one", "three-rows"))
async def newest_three(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.placed.desc()).limit(3))).all():
        customer = await order.awaitable_attrs.customer  # MARK: three-rows
        page.append({"id": order.id, "customer": customer.name})
    return page


@scenario("lazy-four-rows-sync", "four rows in a synchronous endpoint", Expect("n-plus-one", "four-rows"))
def newest_four(session: SyncDb) -> Rows:
    orders = session.scalars(select(Order).order_by(Order.placed.desc()).limit(4)).all()
    return [{"id": order.id, "carrier": order.shipments[0].carrier} for order in orders]  # MARK: four-rows


async def _order_lines(session: AsyncSession, limit: int) -> AsyncIterator[int]:
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(limit))).all():
        for item in await order.awaitable_attrs.items:  # MARK: generator-items
            yield item.quantity


@scenario("lazy-async-generator", "an async generator that loops", Expect("n-plus-one", "generator-items"))
async def quantities(session: Db) -> list[int]:
    return [quantity async for quantity in _order_lines(session, 15)]


async def _subtree(category: Category) -> int:
    found = 1
    for child in await category.awaitable_attrs.children:  # MARK: recursion-load
        found += await _subtree(child)  # MARK: recursion-call
    return found


@scenario(
    "lazy-recursion",
    "a tree walked by recursion: either line of it",
    Expect("n-plus-one", ("recursion-load", "recursion-call")),
)
async def size_of_catalogue(session: Db) -> int:
    section = await session.get(Category, 2)
    assert section is not None
    return await _subtree(section)


class OrderRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    total: int


class ProfileRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    nickname: str


class CustomerRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    profile: ProfileRead | None


@scenario(
    "lazy-response-model",
    "FastAPI serialises the rows: no line of the application loops, the query that fetched them is to blame",
    Expect("n-plus-one", ("response-query", "response-return")),
)
def customers(session: SyncDb) -> list[CustomerRead]:
    statement = select(Customer).order_by(Customer.id).limit(20)
    found: Any = session.scalars(statement).all()  # MARK: response-query
    return found  # MARK: response-return


@scenario("lazy-model-validate", "Pydantic reads each row's attributes", Expect("n-plus-one", "model-validate"))
def validated_orders(session: SyncDb) -> list[OrderRead]:
    orders = session.scalars(select(Order).order_by(Order.id).limit(15)).all()
    return [OrderRead.model_validate(order) for order in orders]  # MARK: model-validate


@scenario(
    "lazy-model-validate-run-sync", "the same in run_sync, for a collection", Expect("n-plus-one", "validate-customers")
)
async def validated_customers(session: Db) -> list[CustomerRead]:
    def build(inner: Session) -> list[CustomerRead]:
        page = []
        for customer in inner.scalars(select(Customer).order_by(Customer.id).limit(12)):
            page.append(CustomerRead.model_validate(customer))  # MARK: validate-customers
        return page

    return await session.run_sync(build)


@scenario(
    "lazy-serializer",
    "a function of the services reads two relationships of each row: two loads, one line",
    Expect("n-plus-one", "serializer"),
    Expect("n-plus-one", "serializer"),
)
def serialised_orders(session: SyncDb) -> Rows:
    page = []
    for order in orders_of(session, 12):
        page.append(serialize_order(order))  # MARK: serializer
    return page


@scenario("lazy-refresh", "session.refresh of a relationship per row", Expect("n-plus-one", "refresh"))
async def refreshed_orders(session: Db) -> int:
    quantity = 0
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(10))).all():
        await session.refresh(order, ["items"])  # MARK: refresh
        quantity += len(order.items)
    return quantity


@scenario("lazy-write-only", "a write-only collection is read per row", Expect("n-plus-one", "write-only"))
async def wishes(session: Db) -> Rows:
    page = []
    for customer in (await session.scalars(select(Customer).order_by(Customer.id).limit(10))).all():
        found = await session.scalars(customer.wishes.select().order_by(Wish.id))  # MARK: write-only
        page.append({"name": customer.name, "wishes": [wish.note for wish in found]})
    return page


@scenario("lazy-association-proxy", "an association proxy per row", Expect("n-plus-one", "proxy"))
def tag_cloud(session: SyncDb) -> list[str]:
    words: set[str] = set()
    for book in session.scalars(select(Book).order_by(Book.id).limit(20)):
        words.update(book.tag_words)  # MARK: proxy
    return sorted(words)


@scenario("lazy-sort-key", "the key of a sort loads", Expect("n-plus-one", "sort-key"))
def sorted_orders(session: SyncDb) -> list[int]:
    orders = session.scalars(select(Order).order_by(Order.id.desc()).limit(15)).all()
    return [order.id for order in sorted(orders, key=lambda order: order.customer.name)]  # MARK: sort-key


@scenario("lazy-any", "a generator expression in any()", Expect("n-plus-one", "any-vip"))
async def has_vip(session: Db) -> bool:
    orders = (await session.scalars(select(Order).order_by(Order.id.desc()).limit(12))).all()
    return await session.run_sync(lambda _: any(order.customer.vip for order in orders))  # MARK: any-vip


@scenario(
    "lazy-immediateload",
    "immediateload sends one statement per row: SQLAlchemy loops, the query asks for it",
    Expect("n-plus-one", "immediateload"),
)
async def immediate_orders(session: Db) -> int:
    statement = select(Order).options(immediateload(Order.items)).order_by(Order.id).limit(15)
    orders = (await session.scalars(statement)).all()  # MARK: immediateload
    return sum(len(order.items) for order in orders)


@scenario("lazy-reviews-average", "a statistic over a lazy collection", Expect("n-plus-one", "average"))
def ratings(session: SyncDb) -> dict[str, float]:
    def stars(reviews: list[Review]) -> float:
        return sum(review.stars for review in reviews) / len(reviews)

    books = session.scalars(select(Book).where(Book.volume == 2).order_by(Book.id).limit(25))
    return {book.title: stars(book.reviews) for book in books}  # MARK: average
