"""Categories as JSON."""

from collections.abc import Iterable

from pydantic import BaseModel

from shop.models import Category
from shop.schemas.base import Create, Read, Text, Update


class CategoryCreate(Create):
    name: Text
    parent_id: int | None = None


class CategoryUpdate(Update):
    name: Text | None = None


class CategoryRead(Read):
    id: int
    name: str
    parent_id: int | None


class CategoryTree(BaseModel):
    id: int
    name: str
    children: list["CategoryTree"]

    @classmethod
    def of(cls, categories: Iterable[Category]) -> list["CategoryTree"]:
        """Build the trees from rows in order of id, parents before their children."""
        nodes: dict[int, CategoryTree] = {}
        roots: list[CategoryTree] = []
        for category in categories:
            node = nodes[category.id] = cls(id=category.id, name=category.name, children=[])
            siblings = roots if category.parent_id is None else nodes[category.parent_id].children
            siblings.append(node)
        return roots
