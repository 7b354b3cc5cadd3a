"""The tables; importing this package fills `Base.metadata`."""

from shop.models.category import Category
from shop.models.customer import Customer
from shop.models.inventory import Inventory
from shop.models.order import Order, OrderItem, OrderStatus
from shop.models.product import Product
from shop.models.review import Review

__all__ = ["Category", "Customer", "Inventory", "Order", "OrderItem", "OrderStatus", "Product", "Review"]
