"""`/orders`."""

from fastapi import APIRouter, HTTPException, status

from shop.db.dependencies import Work
from shop.models import Order, OrderItem, OrderStatus
from shop.repositories.unit_of_work import UnitOfWork
from shop.routers.parts import Paged, found
from shop.schemas.base import Page
from shop.schemas.order import OrderCreate, OrderRead, OrderUpdate

router = APIRouter(prefix="/orders", tags=["orders"])


@router.get("")
async def list_orders(
    work: Work, paging: Paged, customer_id: int | None = None, order_status: OrderStatus | None = None
) -> Page[OrderRead]:
    where = [] if customer_id is None else [Order.customer_id == customer_id]
    if order_status is not None:
        where.append(Order.status == order_status)
    rows = await work.orders.page(*where, before=paging.before, limit=paging.limit)
    return Page[OrderRead].of(rows, paging.limit)


@router.get("/{order_id}", response_model=OrderRead)
async def read_order(order_id: int, work: Work) -> Order:
    return found(await work.orders.get_whole(order_id), "order")


@router.post("", status_code=status.HTTP_201_CREATED, response_model=OrderRead)
async def create_order(body: OrderCreate, work: Work) -> Order:
    async with work:
        items = await lines(body.quantities(), work)
        return work.orders.add(Order(customer_id=body.customer_id, status=OrderStatus.PENDING, items=items))


async def lines(quantities: dict[int, int], work: UnitOfWork) -> list[OrderItem]:
    """Reserve the quantities per product, at today's price."""
    products = {product.id: product for product in await work.products.with_ids(quantities)}
    if products.keys() != quantities.keys():
        raise HTTPException(status.HTTP_404_NOT_FOUND, "no such product")
    if not await work.inventory.reserve(quantities):
        raise HTTPException(status.HTTP_409_CONFLICT, "out of stock")
    return [
        OrderItem(product=products[product_id], quantity=quantity, unit_price=products[product_id].price)
        for product_id, quantity in quantities.items()
    ]


@router.patch("/{order_id}", response_model=OrderRead)
async def update_order(order_id: int, body: OrderUpdate, work: Work) -> Order:
    async with work:
        order = found(await work.orders.get_whole(order_id), "order")
        work.orders.change(order, body.changes())
    return order


@router.delete("/{order_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_order(order_id: int, work: Work) -> None:
    async with work:
        await work.orders.delete(found(await work.orders.get(order_id), "order"))
