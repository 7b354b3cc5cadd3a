"""Stock as JSON; it is made and deleted with its product."""

from pydantic import NonNegativeInt

from shop.schemas.base import Timestamped, Update


class InventoryUpdate(Update):
    quantity: NonNegativeInt


class InventoryRead(Timestamped):
    product_id: int
    quantity: int
