"""Statements about stock."""

from collections.abc import Mapping

from sqlalchemy import ARRAY, BigInteger, Integer, func, literal, select, update

from shop.models import Inventory
from shop.repositories.base import Repository


class InventoryRepository(Repository[Inventory]):
    model = Inventory

    async def reserve(self, quantities: Mapping[int, int]) -> bool:
        """Take quantities per product out of stock, all or none; False where one is short."""
        stock = await self._lock(quantities)
        if any(stock.get(product_id, 0) < quantity for product_id, quantity in quantities.items()):
            return False
        await self._take(quantities)
        return True

    async def _lock(self, quantities: Mapping[int, int]) -> dict[int, int]:
        # Locked in order of the key: two orders for the same products wait for each other, and never deadlock.
        query = (
            select(Inventory.product_id, Inventory.quantity)
            .where(Inventory.product_id.in_(quantities))
            .order_by(Inventory.product_id)
            .with_for_update()
        )
        return dict((await self.session.execute(query)).all())

    async def _take(self, quantities: Mapping[int, int]) -> None:
        keys, values = list(quantities.keys()), list(quantities.values())
        rows = func.unnest(literal(keys, ARRAY(BigInteger)), literal(values, ARRAY(Integer)))
        taken = rows.table_valued("product_id", "quantity", name="taken").render_derived()
        await self.session.execute(
            update(Inventory)
            .where(Inventory.product_id == taken.c.product_id)
            .values(quantity=Inventory.quantity - taken.c.quantity)
            .execution_options(synchronize_session=False)
        )
