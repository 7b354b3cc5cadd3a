"""Ordinary repositories: the application's only way to its tables where a scenario goes through layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from tests.detect.corpus.database import driver_of
from tests.detect.corpus.models import (
    AuditEntry,
    Base,
    Customer,
    Grant,
    Item,
    Notice,
    Order,
    Product,
    Review,
    Setting,
    Stock,
    Tenant,
    User,
)

M = TypeVar("M", bound=Base)


class Repository(Generic[M]):
    """What all tables have in common."""

    model: type[M]

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, key: Any) -> M | None:
        return await self.session.get(self.model, key)

    async def find(self, **equals: Any) -> M | None:
        statement = select(self.model).filter_by(**equals)
        return (await self.session.scalars(statement)).first()  # MARK: repository-find

    async def list_by_ids(self, ids: Iterable[Any]) -> Sequence[M]:
        return (await self.session.scalars(select(self.model).where(self.model.id.in_(list(ids))))).all()

    async def count(self, *criteria: Any) -> int:
        statement = select(func.count()).select_from(self.model).where(*criteria)
        return await self.session.scalar(statement) or 0

    async def page(self, offset: int, limit: int) -> Sequence[M]:
        statement = select(self.model).order_by(self.model.id).offset(offset).limit(limit)
        return (await self.session.scalars(statement)).all()

    async def add(self, row: M) -> M:
        self.session.add(row)
        await self.session.flush()
        return row

    async def save(self, row: M) -> M:
        self.session.add(row)
        await self.session.commit()
        return row


class ProductRepository(Repository[Product]):
    model = Product

    async def get_each(self, ids: Iterable[int]) -> list[Product | None]:
        return [await self.get(key) for key in ids]  # MARK: repository-get-each

    async def sku_exists(self, sku: str) -> bool:
        return bool(await self.session.scalar(select(exists().where(Product.sku == sku))))

    async def price_by_driver(self, sku: str) -> Any:
        driver = await driver_of(self.session)
        return await driver.fetchval("SELECT price FROM products WHERE sku = $1", sku)


class CustomerRepository(Repository[Customer]):
    model = Customer


class OrderRepository(Repository[Order]):
    model = Order

    async def of_customer(self, customer_id: int) -> Sequence[Order]:
        return (await self.session.scalars(select(Order).where(Order.customer_id == customer_id))).all()

    async def newest_of(self, customer_id: int) -> Order | None:
        statement = select(Order).where(Order.customer_id == customer_id).order_by(Order.placed.desc()).limit(1)
        return (await self.session.scalars(statement)).first()


class ItemRepository(Repository[Item]):
    model = Item

    async def quantity_of(self, order_id: int) -> int:
        return await self.session.scalar(select(func.sum(Item.quantity)).where(Item.order_id == order_id)) or 0


class ReviewRepository(Repository[Review]):
    model = Review

    async def stars_of(self, book_id: int) -> float:
        statement = text("SELECT avg(stars) FROM reviews WHERE book_id = :book")
        return float(await self.session.scalar(statement, {"book": book_id}) or 0)


class UserRepository(Repository[User]):
    model = User

    async def by_email(self, email: str) -> User | None:
        return await self.find(email=email)

    async def may(self, user_id: int, scope: str) -> bool:
        statement = select(exists().where(Grant.user_id == user_id, Grant.scope == scope))
        return bool(await self.session.scalar(statement))  # MARK: repository-may


class TenantRepository(Repository[Tenant]):
    model = Tenant

    async def plan_of(self, tenant_id: int) -> str | None:
        statement = select(Tenant.plan).where(Tenant.id == tenant_id)
        return await self.session.scalar(statement)  # MARK: repository-plan


class SettingRepository(Repository[Setting]):
    model = Setting

    async def value(self, key: str) -> str | None:
        statement = select(Setting.value).where(Setting.key == key)
        return await self.session.scalar(statement)


class NoticeRepository(Repository[Notice]):
    model = Notice


class AuditRepository(Repository[AuditEntry]):
    model = AuditEntry

    async def note(self, action: str, subject: str) -> None:
        await self.add(AuditEntry(action=action, subject=subject))


class StockRepository(Repository[Stock]):
    model = Stock

    async def take(self, product_id: int, quantity: int) -> None:
        statement = update(Stock).where(Stock.product_id == product_id).values(quantity=Stock.quantity - quantity)
        await self.session.execute(statement)

    async def put(self, product_id: int, quantity: int) -> None:
        statement = upsert(Stock).values(product_id=product_id, quantity=quantity)
        changed = statement.on_conflict_do_update(index_elements=["product_id"], set_={"quantity": quantity})
        await self.session.execute(changed)
