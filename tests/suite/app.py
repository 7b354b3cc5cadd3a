"""A small application with a clean route, two faults, and one that does nothing; copied into the runs of the tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from fastapi import FastAPI
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.pool import StaticPool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer versions of Starlette want httpx2
    from fastapi.testclient import TestClient

__all__ = ["TestClient", "app", "fill"]


class Base(DeclarativeBase):
    """Root of the mapping."""


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))


engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
app = FastAPI()


def fill(count: int = 5) -> Iterator[None]:
    """Orders with one item each, written in a loop, as factories do."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, count + 1):
            session.add(Order(id=number, items=[Item(id=number)]))
            session.flush()
        session.commit()
    yield
    Base.metadata.drop_all(engine)


def count_items() -> int:
    count = 0
    with Session(engine) as session:
        for order in session.scalars(select(Order)):
            count += len(order.items)  # lazy
    return count


@app.get("/orders/{number}")
def clean(number: int) -> int | None:
    with Session(engine) as session:
        return session.scalar(select(Order.id).where(Order.id == number))


@app.get("/early")
def early() -> int:
    count = 0
    with Session(engine) as session:
        for order in session.scalars(select(Order).options(selectinload(Order.items))):
            count += len(order.items)
    return count


@app.get("/lazy")
def lazy() -> int:
    return count_items()


@app.get("/again")
def again() -> None:
    with Session(engine) as session:
        for _ in range(4):
            session.scalar(select(Item.id).where(Item.id == 1))  # again


@app.get("/nothing")
def nothing() -> None:
    """Send no statement."""
