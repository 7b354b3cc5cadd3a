"""What is in stock, one row per product."""

from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Base, TimestampMixin

if TYPE_CHECKING:
    from shop.models.product import Product


class Inventory(TimestampMixin, Base):
    """The stock of one product."""

    __tablename__ = "inventory"
    __table_args__ = (CheckConstraint("quantity >= 0", name="quantity"),)

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"), primary_key=True)
    quantity: Mapped[int]

    product: Mapped["Product"] = relationship(back_populates="inventory")
