# Planted: a connection of the pool is kept, without a transaction, while the carrier is asked over HTTP.
# querytoll: connection-held; under load also pool-wait, in every endpoint that then waits for a connection.
# Fix: leave the `async with` before asking.
"""Get the label of an order."""

from fastapi import APIRouter
from sqlalchemy import select

from shop.carrier import Carrier
from shop.db.dependencies import Engine
from shop.models import Order
from shop.routers.parts import found

router = APIRouter()


@router.get("/pool-hog/{order_id}")
async def read_label(order_id: int, engine: Engine, carrier: Carrier) -> dict[str, str]:
    async with engine.connect() as connection:
        found(await connection.scalar(select(Order.customer_id).where(Order.id == order_id)), "order")
        await connection.commit()
        label = await carrier.get(f"/labels/{order_id}")
    return {"label": label.json()["number"]}
