"""`/inventory`."""

from fastapi import APIRouter

from shop.db.dependencies import Work
from shop.models import Inventory
from shop.routers.parts import found
from shop.schemas.inventory import InventoryRead, InventoryUpdate

router = APIRouter(prefix="/inventory", tags=["inventory"])


@router.get("/{product_id}", response_model=InventoryRead)
async def read_inventory(product_id: int, work: Work) -> Inventory:
    return found(await work.inventory.get(product_id), "product")


@router.patch("/{product_id}", response_model=InventoryRead)
async def update_inventory(product_id: int, body: InventoryUpdate, work: Work) -> Inventory:
    async with work:
        inventory = found(await work.inventory.get(product_id), "product")
        work.inventory.change(inventory, body.changes())
    return inventory
