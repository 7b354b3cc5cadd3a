# Planted: the generator behind the response asks for the total of each order while the client reads.
# querytoll: n-plus-one in the phase `response`, at the `await` in the loop.
# Fix: one SELECT with `func.sum(...)` and `group_by(Order.id)`.
"""Export the newest orders as CSV."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shop.db.dependencies import Sessions
from shop.models import Order, OrderItem
from shop.routers.parts import Paged

router = APIRouter()


@router.get("/streaming")
async def export_orders(sessions: Sessions, paging: Paged) -> StreamingResponse:
    return StreamingResponse(order_lines(sessions, paging.limit), media_type="text/csv")


async def order_lines(sessions: async_sessionmaker[AsyncSession], limit: int) -> AsyncIterator[str]:
    yield "order,status,total\n"
    async with sessions() as session:
        for order in await session.scalars(select(Order).order_by(Order.id.desc()).limit(limit)):
            amount = func.sum(OrderItem.quantity * OrderItem.unit_price)
            total = await session.scalar(select(amount).where(OrderItem.order_id == order.id))
            yield f"{order.id},{order.status},{total}\n"
