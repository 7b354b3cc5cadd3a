"""The tables of the corpus, a bookshop with its staff and its back office, and the rows that they start with."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Column, ForeignKey, Integer, MetaData, Numeric, Table, Text, UniqueConstraint, func, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, WriteOnlyMapped, mapped_column, relationship

TENANTS = 6


class Base(AsyncAttrs, DeclarativeBase):
    """Root of the mapping."""


book_tags = Table(
    "book_tags",
    Base.metadata,
    Column("book_id", ForeignKey("books.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")
    articles: Mapped[list[Article]] = relationship(back_populates="author")


class Article(Base):
    __tablename__ = "articles"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    title: Mapped[str]
    author: Mapped[Author] = relationship(back_populates="articles")


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    volume: Mapped[int] = mapped_column(index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    author: Mapped[Author] = relationship(back_populates="books")
    tags: Mapped[list[Tag]] = relationship(secondary=book_tags)
    reviews: Mapped[list[Review]] = relationship(back_populates="book")
    tag_words: AssociationProxy[list[str]] = association_proxy("tags", "word")


class Tag(Base):
    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]


class Review(Base):
    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"), index=True)
    stars: Mapped[int]
    body: Mapped[str] = mapped_column(Text)
    book: Mapped[Book] = relationship(back_populates="reviews")


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    plan: Mapped[str]


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    active: Mapped[bool] = mapped_column(default=True)


class Grant(Base):
    __tablename__ = "grants"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)


class Address(Base):
    __tablename__ = "addresses"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    city: Mapped[str]


class Profile(Base):
    __tablename__ = "profiles"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), unique=True)
    nickname: Mapped[str]


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
    vip: Mapped[bool] = mapped_column(default=False)
    orders: Mapped[list[Order]] = relationship(back_populates="customer", order_by="Order.id")
    profile: Mapped[Profile | None] = relationship(uselist=False)
    addresses: Mapped[list[Address]] = relationship()
    wishes: WriteOnlyMapped[Wish] = relationship(passive_deletes=True)

    @property
    def order_count(self) -> int:
        return len(self.orders)

    @hybrid_property
    def is_regular(self) -> bool:
        return len(self.orders) > 3


class Wish(Base):
    __tablename__ = "wishes"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    note: Mapped[str]


class Category(Base):
    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"), index=True)
    children: Mapped[list[Category]] = relationship(order_by="Category.id")
    products: Mapped[list[Product]] = relationship(back_populates="category")


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id"), index=True)
    category: Mapped[Category] = relationship(back_populates="products")


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    billing_address_id: Mapped[int] = mapped_column(ForeignKey("addresses.id"))
    shipping_address_id: Mapped[int] = mapped_column(ForeignKey("addresses.id"))
    status: Mapped[str] = mapped_column(default="open")
    placed: Mapped[datetime] = mapped_column(server_default=func.now())
    customer: Mapped[Customer] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship(back_populates="order", order_by="Item.id")
    shipments: Mapped[list[Shipment]] = relationship(order_by="Shipment.id")
    billing_address: Mapped[Address] = relationship(foreign_keys=[billing_address_id])
    shipping_address: Mapped[Address] = relationship(foreign_keys=[shipping_address_id])

    @property
    def total(self) -> int:
        return sum(item.quantity for item in self.items)  # MARK: model-total


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="items")
    product: Mapped[Product] = relationship()


class Shipment(Base):
    __tablename__ = "shipments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    carrier: Mapped[str]


class Employee(Base):
    __tablename__ = "employees"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012 - read by the mapper


class Manager(Employee):
    __tablename__ = "managers"

    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    budget: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012 - read by the mapper


class Engineer(Employee):
    __tablename__ = "engineers"

    id: Mapped[int] = mapped_column(ForeignKey("employees.id"), primary_key=True)
    language: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012 - read by the mapper


class Document(Base):
    __tablename__ = "documents"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    body: Mapped[str] = mapped_column(Text, deferred=True)


class Setting(Base):
    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Currency(Base):
    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[Decimal] = mapped_column(Numeric(10, 4))


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(index=True)
    kind: Mapped[str]
    payload: Mapped[str] = mapped_column(Text)
    happened: Mapped[datetime]


# What the scenarios write to: nothing reads the rows of another scenario.


class Stock(Base):
    __tablename__ = "stock"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(unique=True)
    quantity: Mapped[int]
    note: Mapped[str | None]


class Wallet(Base):
    __tablename__ = "wallets"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - read by the mapper


class Notice(Base):
    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    body: Mapped[str]


class AuditEntry(Base):
    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str]
    subject: Mapped[str]


class OutboxMessage(Base):
    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    topic: Mapped[str]
    sent: Mapped[bool] = mapped_column(default=False)


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(default="queued")
    progress: Mapped[int] = mapped_column(default=0)


class Subscription(Base):
    __tablename__ = "subscriptions"
    __table_args__ = (UniqueConstraint("user_id", "topic"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    topic: Mapped[str]


# One table of this kind in each tenant's schema.
invoices = Table("invoices", MetaData(), Column("id", Integer, primary_key=True), Column("amount", Integer))

_ROWS = (
    "INSERT INTO authors (id, name) SELECT n, 'author ' || n FROM generate_series(1, 40) n",
    """INSERT INTO articles (author_id, title)
       SELECT a, 'article ' || n FROM generate_series(1, 40) a, generate_series(1, 12) n""",
    """INSERT INTO books (id, title, volume, author_id)
       SELECT n, 'book ' || n, (n - 1) / 40 + 1, (n - 1) % 40 + 1 FROM generate_series(1, 600) n""",
    "INSERT INTO tags (id, word) SELECT n, 'tag ' || n FROM generate_series(1, 12) n",
    """INSERT INTO book_tags (book_id, tag_id)
       SELECT n, (n + shift) % 12 + 1 FROM generate_series(1, 600) n, unnest(ARRAY[0, 5, 9]) shift""",
    """INSERT INTO reviews (book_id, stars, body)
       SELECT b, n, 'a review' FROM generate_series(1, 600) b, generate_series(1, 4) n""",
    f"INSERT INTO tenants (id, name, plan) SELECT n, 'tenant ' || n, 'basic' FROM generate_series(1, {TENANTS}) n",
    """INSERT INTO users (id, email, tenant_id, active)
       SELECT n, 'user' || n || '@shop.test', (n - 1) % 6 + 1, true FROM generate_series(1, 30) n""",
    """INSERT INTO grants (user_id, scope)
       SELECT n, scope FROM generate_series(1, 30) n,
       unnest(ARRAY['read', 'write', 'export', 'refund', 'admin', 'audit']) scope""",
    """INSERT INTO customers (id, name, email, vip)
       SELECT n, 'customer ' || n, 'customer' || n || '@shop.test', false FROM generate_series(1, 30) n""",
    "INSERT INTO profiles (customer_id, nickname) SELECT n, 'nick ' || n FROM generate_series(2, 30, 2) n",
    """INSERT INTO addresses (id, customer_id, city)
       SELECT n, (n - 1) % 30 + 1, 'city ' || n FROM generate_series(1, 60) n""",
    "INSERT INTO wishes (customer_id, note) SELECT c, 'wish' FROM generate_series(1, 30) c, generate_series(1, 3)",
    """INSERT INTO categories (id, name, parent_id)
       SELECT n, 'category ' || n,
              CASE WHEN n = 1 THEN NULL WHEN n <= 5 THEN 1 WHEN n <= 17 THEN (n - 6) / 3 + 2 ELSE (n - 18) / 2 + 6 END
       FROM generate_series(1, 41) n""",
    """INSERT INTO products (id, sku, price, category_id)
       SELECT n, 'sku-' || n, n % 90 + 10, (n - 1) % 24 + 18 FROM generate_series(1, 480) n""",
    """INSERT INTO orders (id, customer_id, billing_address_id, shipping_address_id, status, placed)
       SELECT n, (n - 1) % 30 + 1, (n - 1) % 30 + 1, (n - 1) % 30 + 31, 'open',
              '2025-01-01'::timestamp + n * interval '6 hours'
       FROM generate_series(1, 120) n""",
    """INSERT INTO items (order_id, product_id, quantity)
       SELECT (n - 1) / 4 + 1, n, n % 3 + 1 FROM generate_series(1, 480) n""",
    "INSERT INTO shipments (order_id, carrier) SELECT n, 'carrier' FROM generate_series(1, 120) n",
    """INSERT INTO employees (id, kind, name)
       SELECT n, CASE WHEN n <= 12 THEN 'manager' ELSE 'engineer' END, 'employee ' || n
       FROM generate_series(1, 24) n""",
    "INSERT INTO managers (id, budget) SELECT n, n * 1000 FROM generate_series(1, 12) n",
    "INSERT INTO engineers (id, language) SELECT n, 'Python' FROM generate_series(13, 24) n",
    """INSERT INTO documents (id, name, body)
       SELECT n, 'document ' || n, repeat('text ', 400) FROM generate_series(1, 30) n""",
    """INSERT INTO settings (key, value) VALUES ('tax_rate', '0.19'), ('currency', 'EUR'), ('page_size', '20'),
       ('motto', 'read more'), ('maintenance', 'off')""",
    "INSERT INTO currencies (code, rate) VALUES ('EUR', 1), ('USD', 1.1), ('GBP', 0.8), ('CHF', 0.9)",
    """INSERT INTO events (tenant_id, kind, payload, happened)
       SELECT (n - 1) % 6 + 1, 'click', repeat('x', 60), '2025-01-01'::timestamp + n * interval '10 minutes'
       FROM generate_series(1, 6000) n""",
    "INSERT INTO stock (product_id, quantity) SELECT n, 1000 FROM generate_series(1, 480) n",
    "INSERT INTO wallets (id, balance, version) SELECT n, 1000, 1 FROM generate_series(1, 60) n",
    "INSERT INTO jobs (queue, state, progress) SELECT 'import', 'queued', 0 FROM generate_series(1, 200)",
    *(
        f"CREATE SCHEMA tenant_{n}; CREATE TABLE tenant_{n}.invoices (id serial PRIMARY KEY, amount int);"
        f" INSERT INTO tenant_{n}.invoices (amount) SELECT g FROM generate_series(1, 20) g"
        for n in range(1, TENANTS + 1)
    ),
)


def create(connection: Connection) -> None:
    """Make the tables and their rows."""
    Base.metadata.create_all(connection)
    for statement in _ROWS:
        connection.execute(text(statement))
    connection.execute(text("ANALYZE"))
