"""One transaction and the repositories that take part in it."""

from types import TracebackType
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession

from shop.repositories.categories import CategoryRepository
from shop.repositories.customers import CustomerRepository
from shop.repositories.inventory import InventoryRepository
from shop.repositories.orders import OrderRepository
from shop.repositories.products import ProductRepository
from shop.repositories.reviews import ReviewRepository


class UnitOfWork:
    """The repositories of one session; `async with` it to commit at the end, or roll back on an error."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.categories = CategoryRepository(session)
        self.customers = CustomerRepository(session)
        self.inventory = InventoryRepository(session)
        self.orders = OrderRepository(session)
        self.products = ProductRepository(session)
        self.reviews = ReviewRepository(session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.session.commit()
        else:
            await self.session.rollback()
