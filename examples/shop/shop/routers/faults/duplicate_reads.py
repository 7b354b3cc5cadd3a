# Planted: the dependency that authenticates reads the customer, and the endpoint reads the same row again.
# querytoll: duplicate-query, two equal statements with equal values from two places.
# Fix: use the customer that the dependency returns.
"""The customer's own page."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, status
from sqlalchemy import select

from shop.db.dependencies import Db
from shop.models import Customer
from shop.schemas.customer import CustomerRead

router = APIRouter()


async def current_customer(db: Db, x_customer_email: Annotated[str, Header()]) -> Customer:
    customer = await db.scalar(select(Customer).where(Customer.email == x_customer_email))
    if customer is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED)
    return customer


@router.get("/duplicate-reads", response_model=CustomerRead)
async def read_profile(db: Db, current: Annotated[Customer, Depends(current_customer)]) -> Customer:
    profile = await db.scalars(select(Customer).where(Customer.email == current.email))
    return profile.one()
