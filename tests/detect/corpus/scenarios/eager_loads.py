"""Relationships that are loaded together, however many statements that takes: clean."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.orm import (
    contains_eager,
    joinedload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from tests.detect.corpus.database import Db, ExpiringDb, SyncDb, database
from tests.detect.corpus.models import (
    Author,
    Book,
    Category,
    Customer,
    Document,
    Employee,
    Engineer,
    Item,
    Manager,
    Order,
)
from tests.detect.corpus.scenario import Row, Rows, scenario


@scenario("eager-selectin", "selectinload of a collection")
async def authors(session: Db) -> Rows:
    statement = select(Author).options(selectinload(Author.books)).order_by(Author.id).limit(20)
    return [{"name": author.name, "books": len(author.books)} for author in await session.scalars(statement)]


@scenario("eager-selectin-awaited", "awaitable_attrs of what is loaded already sends nothing")
async def authors_awaited(session: Db) -> Rows:
    statement = select(Author).options(selectinload(Author.articles)).order_by(Author.id).limit(20)
    page = []
    for author in await session.scalars(statement):
        page.append({"name": author.name, "articles": len(await author.awaitable_attrs.articles)})
    return page


@scenario("eager-selectin-batches", "selectinload of 600 parents: two batches of 500")
async def catalogue_with_tags(session: Db) -> int:
    books = await session.scalars(select(Book).options(selectinload(Book.tags)).order_by(Book.id).limit(600))
    return sum(len(book.tags) for book in books)


@scenario("eager-selectin-batches-job", "the same in a job, for two collections: four batches", kind="job")
async def index_catalogue() -> None:
    statement = select(Book).options(selectinload(Book.tags), selectinload(Book.author)).order_by(Book.id)
    async with database.sessions() as session:
        books = (await session.scalars(statement.limit(600))).all()
    assert all(book.author.name and book.tags for book in books)


@scenario("eager-subquery", "subqueryload of 600 parents")
def catalogue_by_subquery(session: SyncDb) -> int:
    books = session.scalars(select(Book).options(subqueryload(Book.tags)).order_by(Book.id).limit(600))
    return sum(len(book.tags) for book in books)


@scenario("eager-joined", "joinedload of a many-to-one")
async def books(session: Db) -> Rows:
    statement = select(Book).options(joinedload(Book.author)).order_by(Book.id).limit(25)
    return [{"title": book.title, "author": book.author.name} for book in await session.scalars(statement)]


@scenario("eager-contains", "contains_eager of a join written by hand")
async def books_of_some(session: Db) -> Rows:
    statement = select(Book).join(Book.author).options(contains_eager(Book.author)).where(Author.id < 5).limit(25)
    return [{"title": book.title, "author": book.author.name} for book in await session.scalars(statement)]


@scenario("eager-two-levels", "selectinload of two levels, then nested loops over them")
async def order_lines(session: Db) -> Rows:
    statement = select(Order).options(selectinload(Order.items).joinedload(Item.product)).order_by(Order.id).limit(15)
    lines = []
    for order in await session.scalars(statement):
        for item in order.items:
            lines.append({"order": order.id, "sku": item.product.sku})
    return lines


@scenario("eager-three-levels", "selectinload of three levels")
async def customer_lines(session: Db) -> int:
    path = selectinload(Customer.orders).selectinload(Order.items).selectinload(Item.product)
    customers = await session.scalars(select(Customer).options(path).order_by(Customer.id).limit(10))
    return sum(len(order.items) for customer in customers for order in customer.orders)


@scenario("eager-recursion-depth", "a tree by recursion_depth: one statement per level")
async def tree(session: Db) -> Row:
    def shown(category: Category, depth: int) -> Row:
        children = [shown(child, depth - 1) for child in category.children] if depth else []
        return {"name": category.name, "children": children}

    statement = select(Category).where(Category.parent_id.is_(None))
    root = (await session.scalars(statement.options(selectinload(Category.children, recursion_depth=3)))).one()
    return shown(root, 3)


@scenario("eager-yield-per", "yield_per with selectinload: a batch of children for each of the parents' batches")
async def stream_catalogue(session: Db) -> int:
    statement = select(Book).options(selectinload(Book.tags)).order_by(Book.id).execution_options(yield_per=100)
    tags = 0
    async for book in await session.stream_scalars(statement):
        tags += len(book.tags)
    return tags


@scenario("eager-yield-per-partitions", "the same by partitions, in a job", kind="job")
async def export_catalogue() -> None:
    statement = select(Book).options(selectinload(Book.reviews)).order_by(Book.id).execution_options(yield_per=100)
    async with database.sessions() as session:
        async for partition in (await session.stream_scalars(statement)).partitions():
            assert all(book.reviews for book in partition)


@scenario("eager-polymorphic-selectin", "selectin_polymorphic")
async def staff(session: Db) -> int:
    statement = select(Employee).options(selectin_polymorphic(Employee, [Manager, Engineer])).order_by(Employee.id)
    found = (await session.scalars(statement)).all()
    return sum(employee.budget for employee in found if isinstance(employee, Manager))


@scenario("eager-with-polymorphic", "with_polymorphic")
async def staff_joined(session: Db) -> list[str]:
    everyone = with_polymorphic(Employee, [Manager, Engineer])
    found = (await session.scalars(select(everyone).order_by(everyone.id))).all()
    return [employee.language for employee in found if isinstance(employee, Engineer)]


@scenario("eager-undefer", "undefer of a deferred column")
async def documents(session: Db) -> list[int]:
    found = await session.scalars(select(Document).options(undefer(Document.body)).order_by(Document.id).limit(12))
    return [len(document.body) for document in found]


@scenario("eager-two-relationships-one-table", "two relationships to one table: two statements of one shape")
async def order_addresses(session: Db) -> Rows:
    loads = (selectinload(Order.billing_address), selectinload(Order.shipping_address))
    orders = await session.scalars(select(Order).options(*loads).order_by(Order.id).limit(20))
    return [{"bill": order.billing_address.city, "ship": order.shipping_address.city} for order in orders]


@scenario("eager-page", "a page: count, rows and two relationships")
async def order_page(session: Db) -> Row:
    total = await session.scalar(select(func.count()).select_from(Order).where(Order.status == "open"))
    statement = select(Order).where(Order.status == "open").order_by(Order.id).limit(20)
    orders = await session.scalars(statement.options(selectinload(Order.items), joinedload(Order.customer)))
    return {"total": total, "rows": [{"name": order.customer.name, "items": len(order.items)} for order in orders]}


class BookRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    title: str
    author: AuthorRead


class AuthorRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str


@scenario("eager-response-model", "FastAPI serialises what is loaded already")
async def book_models(session: Db) -> list[BookRead]:
    statement = select(Book).options(selectinload(Book.author)).order_by(Book.id).limit(20)
    found: Any = (await session.scalars(statement)).all()
    return found


@scenario("eager-identity-map", "many-to-one loads that the identity map answers")
async def books_of_known_authors(session: Db) -> Rows:
    known = {author.id: author for author in await session.scalars(select(Author))}
    page = []
    for book in await session.scalars(select(Book).where(Book.volume <= 2).order_by(Book.id).limit(20)):
        author = await book.awaitable_attrs.author
        page.append({"title": book.title, "author": author.name, "known": author.id in known})
    return page


@scenario("eager-one-author-lazily", "one author of twenty books, loaded lazily once")
async def books_of_one(session: Db) -> Rows:
    page = []
    for book in (await session.scalars(select(Book).where(Book.author_id == 3).order_by(Book.id))).all():
        page.append({"title": book.title, "author": (await book.awaitable_attrs.author).name})
    return page


@scenario("eager-single-row-lazily", "several relationships of one row, each loaded once")
async def order_detail(session: Db) -> Row:
    order = await session.get(Order, 7)
    assert order is not None
    items = await order.awaitable_attrs.items
    customer = await order.awaitable_attrs.customer
    shipments = await order.awaitable_attrs.shipments
    return {"customer": customer.name, "items": len(items), "shipments": len(shipments)}


@scenario("eager-loop-of-one", "a lazy load in a loop over one row")
async def newest(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.placed.desc()).limit(1))).all():
        page.append({"id": order.id, "items": len(await order.awaitable_attrs.items)})
    return page


@scenario("eager-refetch-after-commit", "expired rows are read again with one statement")
async def close_orders(session: ExpiringDb) -> list[str]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(15))).all()
    ids = [order.id for order in orders]
    await session.commit()
    again = await session.scalars(select(Order).where(Order.id.in_(ids)).execution_options(populate_existing=True))
    return [order.status for order in again]


@scenario("eager-keeps-after-commit", "expire_on_commit=False: the rows stay")
async def keep_orders(session: Db) -> list[str]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(15))).all()
    await session.commit()
    return [order.status for order in orders]


@scenario("eager-children-by-hand", "children fetched with one IN and grouped in Python")
async def grouped(session: Db) -> dict[int, int]:
    orders = (await session.scalars(select(Order).order_by(Order.id).limit(20))).all()
    items = await session.scalars(select(Item).where(Item.order_id.in_([order.id for order in orders])))
    found = dict.fromkeys((order.id for order in orders), 0)
    for item in items:
        found[item.order_id] += item.quantity
    return found


@scenario("eager-window-function", "the newest order per customer by a window function")
async def newest_orders(session: Db) -> Rows:
    newest_first = func.row_number().over(partition_by=Order.customer_id, order_by=Order.placed.desc())
    ranked = select(Order.id, Order.customer_id, newest_first.label("place")).subquery()
    statement = select(ranked.c.id, ranked.c.customer_id).where(ranked.c.place == 1).limit(20)
    return [{"customer": customer_id, "id": order_id} for order_id, customer_id in await session.execute(statement)]
