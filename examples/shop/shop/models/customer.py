"""Customers."""

from typing import TYPE_CHECKING

from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Entity, TimestampMixin

if TYPE_CHECKING:
    from shop.models.order import Order
    from shop.models.review import Review


class Customer(TimestampMixin, Entity):
    """Somebody who orders and reviews."""

    __tablename__ = "customers"

    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]

    orders: Mapped[list["Order"]] = relationship(back_populates="customer", passive_deletes="all")
    reviews: Mapped[list["Review"]] = relationship(back_populates="customer", passive_deletes=True)
