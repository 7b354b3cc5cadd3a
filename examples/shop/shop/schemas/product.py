"""Products as JSON."""

from decimal import Decimal

from pydantic import NonNegativeInt

from shop.schemas.base import Create, Money, Read, Text, Timestamped, Update
from shop.schemas.category import CategoryRead
from shop.schemas.inventory import InventoryRead


class ProductCreate(Create):
    sku: Text
    name: Text
    description: Text
    price: Money
    category_id: int
    stock: NonNegativeInt = 0


class ProductUpdate(Update):
    name: Text | None = None
    description: Text | None = None
    price: Money | None = None
    category_id: int | None = None


class ProductSummary(Read):
    """A product in a list."""

    id: int
    sku: str
    name: str
    price: Decimal


class ProductRead(Timestamped):
    id: int
    sku: str
    name: str
    description: str
    price: Decimal
    category_id: int


class ProductDetail(ProductRead):
    """A product on its own page."""

    category: CategoryRead
    inventory: InventoryRead
