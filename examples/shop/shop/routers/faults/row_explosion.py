# Planted: two collections joined in one SELECT, so that every order is repeated for every review.
# querytoll: row-explosion.
# Fix: `selectinload` for both collections.
"""Customers with all that they did."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from shop.db.dependencies import Db
from shop.models import Customer, OrderStatus
from shop.routers.parts import Paged
from shop.schemas.base import Timestamped
from shop.schemas.customer import CustomerRead
from shop.schemas.review import ReviewRead

router = APIRouter()


class OrderState(Timestamped):
    id: int
    status: OrderStatus


class Activity(CustomerRead):
    orders: list[OrderState]
    reviews: list[ReviewRead]


@router.get("/row-explosion", response_model=list[Activity])
async def list_activity(db: Db, paging: Paged) -> Sequence[Customer]:
    query = (
        select(Customer)
        .order_by(Customer.id)
        .limit(paging.limit)
        .options(joinedload(Customer.orders), joinedload(Customer.reviews))
    )
    return (await db.scalars(query)).unique().all()
