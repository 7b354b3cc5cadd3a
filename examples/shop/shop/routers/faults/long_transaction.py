# Planted: the order's row stays locked, in an open transaction, while the carrier is asked over HTTP.
# querytoll: long-transaction and idle-in-transaction.
# Fix: ask the carrier first; then open the transaction, lock, update and commit.
"""Ship an order."""

from fastapi import APIRouter
from sqlalchemy import select

from shop.carrier import Carrier
from shop.db.dependencies import Db
from shop.models import Order, OrderStatus
from shop.routers.parts import found

router = APIRouter()


@router.post("/long-transaction/{order_id}")
async def ship_order(order_id: int, db: Db, carrier: Carrier) -> dict[str, str]:
    order = found(await db.scalar(select(Order).where(Order.id == order_id).with_for_update()), "order")
    quote = await carrier.get(f"/quotes/{order.id}")
    order.status = OrderStatus.SHIPPED
    await db.commit()
    return {"status": order.status, "price": quote.json()["price"]}
