"""Ordinary services: what handlers call, two and three layers above the statements."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from fastapi import Depends, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from tests.detect.corpus.database import Db
from tests.detect.corpus.models import Customer, Order, Product, User
from tests.detect.corpus.repositories import (
    CustomerRepository,
    ItemRepository,
    OrderRepository,
    ProductRepository,
    SettingRepository,
    TenantRepository,
    UserRepository,
)
from tests.detect.corpus.scenario import Row

T = TypeVar("T")

EMAIL = "user7@shop.test"
timings: deque[tuple[str, float]] = deque(maxlen=100)


class PricingService:
    """Prices with tax."""

    def __init__(self, session: AsyncSession) -> None:
        self.products = ProductRepository(session)
        self.settings = SettingRepository(session)

    async def price(self, product_id: int) -> Decimal:
        product = await self.products.get(product_id)
        assert product is not None
        return product.price

    async def tax_rate(self) -> Decimal:
        return Decimal(await self.settings.value("tax_rate") or "0")

    async def with_tax(self, price: Decimal) -> Decimal:
        return price * (1 + await self.tax_rate())


class CustomerService:
    """What the shop knows of its customers."""

    def __init__(self, session: AsyncSession) -> None:
        self.customers = CustomerRepository(session)
        self.orders = OrderRepository(session)
        self.items = ItemRepository(session)

    async def last_order_day(self, customer: Customer) -> str | None:
        order = await self.orders.newest_of(customer.id)
        return order.placed.date().isoformat() if order else None

    async def card(self, customer: Customer) -> Row:
        return {"name": customer.name, "last": await self.last_order_day(customer)}


def timed(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Time a call, as decorators of applications do."""

    @functools.wraps(function)
    async def timing(*args: Any, **kwargs: Any) -> T:
        started = time.monotonic()
        try:
            return await function(*args, **kwargs)
        finally:
            timings.append((function.__qualname__, time.monotonic() - started))

    return timing


def tried_again(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Call once more after a lost connection."""

    @functools.wraps(function)
    async def trying(*args: Any, **kwargs: Any) -> T:
        try:
            return await function(*args, **kwargs)
        except ConnectionError:
            return await function(*args, **kwargs)

    return trying


class ShippingFacade:
    """Many layers: facade, use case, service, unit of work, repository, each of them timed or tried again."""

    def __init__(self, session: AsyncSession) -> None:
        self.orders = OrderRepository(session)

    @timed
    async def label(self, customer_id: int) -> str:
        return await self._use_case(customer_id)

    @timed
    @tried_again
    async def _use_case(self, customer_id: int) -> str:
        return f"label {await self._newest(customer_id)}"

    @timed
    async def _newest(self, customer_id: int) -> int:
        return await self._in_unit_of_work(customer_id)

    @tried_again
    async def _in_unit_of_work(self, customer_id: int) -> int:
        order = await self.orders.newest_of(customer_id)
        return order.id if order else 0


class TenantService:
    """Limits by plan."""

    def __init__(self, session: AsyncSession) -> None:
        self.tenants = TenantRepository(session)

    async def limit(self, tenant_id: int) -> int:
        return 100 if await self.tenants.plan_of(tenant_id) == "basic" else 1000  # MARK: tenant-limit

    async def badge(self, tenant_id: int) -> str:
        return f"plan {await self.tenants.plan_of(tenant_id)}"  # MARK: tenant-badge

    async def invoice_header(self, tenant_id: int) -> str:
        return f"billed as {await self.tenants.plan_of(tenant_id)}"  # MARK: tenant-invoice


async def current_user(session: Db) -> User:
    """The user of the request, as an authentication dependency finds it."""
    user = await UserRepository(session).by_email(EMAIL)  # MARK: current-user
    if user is None:
        raise HTTPException(401)
    return user


CurrentUser = Annotated[User, Depends(current_user)]


def serialize_order(order: Order) -> Row:
    return {"id": order.id, "customer": order.customer.name, "items": [item.quantity for item in order.items]}


async def resolve_each(parents: Iterable[Any], resolver: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Resolve one field of many parents, as a GraphQL server does."""
    return await asyncio.gather(*(resolver(parent) for parent in parents))  # MARK: resolve-each


class ProductLoader:
    """A dataloader: what is asked for in one turn of the event loop is loaded at once."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._wanted: dict[int, asyncio.Future[Product]] = {}

    async def load(self, key: int) -> Product:
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._dispatch)
        if key not in self._wanted:
            self._wanted[key] = asyncio.get_running_loop().create_future()
        return await self._wanted[key]

    def _dispatch(self) -> None:
        wanted, self._wanted = self._wanted, {}
        self._task = asyncio.ensure_future(self._load(wanted))

    async def _load(self, wanted: dict[int, asyncio.Future[Product]]) -> None:
        products: Sequence[Product] = await ProductRepository(self._session).list_by_ids(sorted(wanted))
        for product in products:
            wanted[product.id].set_result(product)


def orders_of(session: Session, limit: int) -> Sequence[Order]:
    """The newest orders, each of another customer."""
    return session.scalars(select(Order).order_by(Order.id).limit(limit)).all()
