"""Products."""

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Entity, TimestampMixin

if TYPE_CHECKING:
    from shop.models.category import Category
    from shop.models.inventory import Inventory
    from shop.models.review import Review


class Product(TimestampMixin, Entity):
    """Something for sale."""

    __tablename__ = "products"
    __table_args__ = (Index(None, "category_id", "id"), CheckConstraint("price >= 0", name="price"))

    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    # Planted: searched by routers/faults/slow_search.py, and no index serves that search.
    description: Mapped[str]
    price: Mapped[Decimal]
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id", ondelete="RESTRICT"))

    category: Mapped["Category"] = relationship()
    inventory: Mapped["Inventory"] = relationship(
        back_populates="product", cascade="all, delete-orphan", passive_deletes=True
    )
    reviews: Mapped[list["Review"]] = relationship(
        back_populates="product", cascade="all, delete-orphan", passive_deletes=True
    )
