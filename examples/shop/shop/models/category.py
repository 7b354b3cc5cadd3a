"""Categories, a tree."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.db.base import Entity


class Category(Entity):
    """A node of the tree; roots have no parent."""

    __tablename__ = "categories"

    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id", ondelete="RESTRICT"), index=True)

    parent: Mapped["Category | None"] = relationship(back_populates="children", remote_side="Category.id")
    children: Mapped[list["Category"]] = relationship(back_populates="parent", passive_deletes="all")
