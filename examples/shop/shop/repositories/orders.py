"""Statements about orders."""

from sqlalchemy.orm import selectinload

from shop.models import Order, OrderItem, Product
from shop.repositories.base import PagedRepository

ITEMS = (
    selectinload(Order.items)
    .joinedload(OrderItem.product, innerjoin=True)
    .load_only(Product.sku, Product.name, Product.price, raiseload=True)
)


class OrderRepository(PagedRepository[Order]):
    model = Order
    whole = (ITEMS,)
    listed = (ITEMS,)
