"""Statements about categories."""

from collections.abc import Sequence

from sqlalchemy import select

from shop.models import Category
from shop.repositories.base import Repository


class CategoryRepository(Repository[Category]):
    model = Category

    async def all(self) -> Sequence[Category]:
        """Get the whole tree, parents first: a parent is older than its children and keeps its id."""
        return (await self.session.scalars(select(Category).order_by(Category.id))).all()
