# Planted: the stock of each product is looked up on its own, with a Core SELECT in a loop.
# querytoll: n-plus-one, at the `await` in the loop.
# Fix: one SELECT with `inventory.c.product_id.in_(ids)`, or a join.
"""Stock of the newest products."""

from fastapi import APIRouter
from sqlalchemy import select

from shop.db.dependencies import Engine
from shop.models import Inventory, Product
from shop.routers.parts import Paged

router = APIRouter()

inventory = Inventory.__table__
products = Product.__table__


@router.get("/core-loop")
async def list_stock(engine: Engine, paging: Paged) -> dict[str, int]:
    stock = {}
    async with engine.connect() as connection:
        newest = select(products.c.id, products.c.sku).order_by(products.c.id.desc()).limit(paging.limit)
        for product_id, sku in await connection.execute(newest):
            quantity = select(inventory.c.quantity).where(inventory.c.product_id == product_id)
            stock[sku] = (await connection.execute(quantity)).scalar_one()
    return stock
