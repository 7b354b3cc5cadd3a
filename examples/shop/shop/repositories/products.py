"""Statements about products."""

from collections.abc import Iterable, Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import joinedload, load_only

from shop.models import OrderItem, Product
from shop.repositories.base import PagedRepository


class ProductRepository(PagedRepository[Product]):
    model = Product
    whole = (joinedload(Product.category, innerjoin=True), joinedload(Product.inventory, innerjoin=True))
    listed = (load_only(Product.sku, Product.name, Product.price, raiseload=True),)

    async def with_ids(self, ids: Iterable[int]) -> Sequence[Product]:
        """Get those of the products that exist, as in a list."""
        query = select(Product).where(Product.id.in_(ids)).options(*self.listed)
        return (await self.session.scalars(query)).all()

    async def ordered(self, product_id: int) -> bool:
        """Tell whether an order holds the product."""
        return bool(await self.session.scalar(select(exists().where(OrderItem.product_id == product_id))))
