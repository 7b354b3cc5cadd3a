"""Orders as JSON."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator

from shop.models import OrderStatus
from shop.schemas.base import Create, Quantity, Read, Timestamped, Update
from shop.schemas.product import ProductSummary


class OrderItemCreate(Create):
    product_id: int
    quantity: Quantity


class OrderCreate(Create):
    customer_id: int
    items: Annotated[list[OrderItemCreate], Field(min_length=1, max_length=100)]

    @field_validator("items")
    @classmethod
    def _each_product_once(cls, items: list[OrderItemCreate]) -> list[OrderItemCreate]:
        if len({item.product_id for item in items}) < len(items):
            raise ValueError("a product may be listed once")
        return items

    def quantities(self) -> dict[int, int]:
        """Give the quantity per product."""
        return {item.product_id: item.quantity for item in self.items}


class OrderUpdate(Update):
    status: OrderStatus


class OrderItemRead(Read):
    id: int
    product: ProductSummary
    quantity: int
    unit_price: Decimal


class OrderRead(Timestamped):
    id: int
    customer_id: int
    status: OrderStatus
    items: list[OrderItemRead]
