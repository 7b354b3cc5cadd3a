"""The tables of the tests of loads: orders with items, a customer and a parcel; read by attribute access alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, insert
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ORDERS = 3


class Base(DeclarativeBase):
    """Root of the mapping."""


class Customer(Base):
    """Who orders."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    """What was ordered, with a long text that lists need not show."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    contract: Mapped[str]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    customer: Mapped[Customer] = relationship()
    items: Mapped[list[Item]] = relationship(back_populates="order")
    parcels: Mapped[list[Parcel]] = relationship(lazy="selectin")


class Item(Base):
    """A line of an order."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    name: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="items")


class Parcel(Base):
    """What was sent, eager by its mapping."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


class OrderRead(BaseModel):
    """An order in a list."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    number: str


class ItemRead(BaseModel):
    """A line."""

    model_config = ConfigDict(from_attributes=True)

    name: str


class OrderDetail(OrderRead):
    """An order with its lines."""

    items: list[ItemRead]


class OrderContract(OrderRead):
    """An order with its long text."""

    contract: str


def create(connection: Connection) -> None:
    """Make the tables and fill them."""
    Base.metadata.create_all(connection)
    numbers = range(1, ORDERS + 1)
    connection.execute(insert(Customer), [{"id": n, "name": f"customer {n}"} for n in numbers])
    rows = [{"id": n, "number": f"no {n}", "contract": "x" * 5_000, "customer_id": n} for n in numbers]
    connection.execute(insert(Order), rows)
    connection.execute(insert(Item), [{"id": n, "order_id": n, "name": f"item {n}"} for n in numbers])
