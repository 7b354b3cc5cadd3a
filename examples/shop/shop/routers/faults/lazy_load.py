# Planted: each order's items are loaded on access, one SELECT per order of the page.
# querytoll: n-plus-one, at the line of the loop's `await`.
# Fix: `.options(selectinload(Order.items))`, as in repositories/orders.py.
"""Totals of the newest orders."""

from decimal import Decimal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import select

from shop.db.dependencies import Db
from shop.models import Order
from shop.routers.parts import Paged

router = APIRouter()


class OrderTotal(BaseModel):
    order_id: int
    total: Decimal


@router.get("/lazy-load")
async def list_totals(db: Db, paging: Paged) -> list[OrderTotal]:
    orders = await db.scalars(select(Order).order_by(Order.id.desc()).limit(paging.limit))
    totals = []
    for order in orders:
        items = await order.awaitable_attrs.items
        totals.append(OrderTotal(order_id=order.id, total=sum(item.quantity * item.unit_price for item in items)))
    return totals
