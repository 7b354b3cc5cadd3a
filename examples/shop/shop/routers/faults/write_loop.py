# Planted: stock is refilled row by row, one UPDATE per product.
# querytoll: write-loop, at the `await` in the loop.
# Fix: one UPDATE with `Inventory.product_id.in_(ids)`; for a value per row `unnest`, as in repositories/inventory.py.
"""Refill the stock of the products that came first."""

from fastapi import APIRouter
from sqlalchemy import select, update

from shop.db.dependencies import Db
from shop.models import Inventory
from shop.routers.parts import Paged

router = APIRouter()


@router.post("/write-loop")
async def refill(db: Db, paging: Paged) -> dict[str, int]:
    ids = (await db.scalars(select(Inventory.product_id).order_by(Inventory.product_id).limit(paging.limit))).all()
    for product_id in ids:
        await db.execute(
            update(Inventory).where(Inventory.product_id == product_id).values(quantity=Inventory.quantity + 1)
        )
    await db.commit()
    return {"refilled": len(ids)}
