"""Reviews."""

from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Entity, TimestampMixin

if TYPE_CHECKING:
    from shop.models.customer import Customer
    from shop.models.product import Product


class Review(TimestampMixin, Entity):
    """A customer's opinion of a product."""

    __tablename__ = "reviews"
    __table_args__ = (Index(None, "product_id", "id"), CheckConstraint("rating BETWEEN 1 AND 5", name="rating"))

    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"), index=True)
    rating: Mapped[int]
    body: Mapped[str]

    product: Mapped["Product"] = relationship(back_populates="reviews")
    customer: Mapped["Customer"] = relationship(back_populates="reviews")
