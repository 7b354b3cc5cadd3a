"""Orders and their lines."""

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, Enum, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Entity, TimestampMixin

if TYPE_CHECKING:
    from shop.models.customer import Customer
    from shop.models.product import Product


class OrderStatus(StrEnum):
    """How far an order has come."""

    PENDING = "pending"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


def values(statuses: type[OrderStatus]) -> list[str]:
    """List what is stored: the values, not the names."""
    return [status.value for status in statuses]


class Order(TimestampMixin, Entity):
    """What a customer ordered at one time."""

    __tablename__ = "orders"
    __table_args__ = (
        Index(None, "customer_id", "id"),
        Index(None, "status", "id"),
        CheckConstraint("status IN ('pending', 'paid', 'shipped', 'cancelled')", name="status"),
    )

    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="RESTRICT"))
    status: Mapped[OrderStatus] = mapped_column(
        Enum(OrderStatus, native_enum=False, create_constraint=False, length=16, values_callable=values)
    )

    customer: Mapped["Customer"] = relationship(back_populates="orders")
    items: Mapped[list["OrderItem"]] = relationship(
        back_populates="order", cascade="all, delete-orphan", passive_deletes=True, order_by="OrderItem.id"
    )


class OrderItem(Entity):
    """A line of an order; the unique constraint's index serves `order_id`."""

    __tablename__ = "order_items"
    __table_args__ = (UniqueConstraint("order_id", "product_id"), CheckConstraint("quantity > 0", name="quantity"))

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="RESTRICT"), index=True)
    quantity: Mapped[int]
    unit_price: Mapped[Decimal]

    order: Mapped["Order"] = relationship(back_populates="items")
    product: Mapped["Product"] = relationship()
