"""The endpoints of the planted faults, each changed as the advice of its finding says, and in nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, status
from fastapi.responses import StreamingResponse
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    any_,
    column,
    func,
    literal,
    select,
    update,
    values,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import joinedload, selectinload

from shop.carrier import Carrier
from shop.db.dependencies import Db, Engine, Sessions
from shop.models import Customer, Inventory, Order, OrderItem, OrderStatus, Product, Review
from shop.routers.faults.duplicate_reads import current_customer
from shop.routers.faults.lazy_load import OrderTotal
from shop.routers.faults.row_explosion import Activity
from shop.routers.parts import Paged, found
from shop.schemas.customer import CustomerRead

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/fixed")
inventory = Inventory.__table__
products = Product.__table__


@router.get("/lazy-load")
async def list_totals(db: Db, paging: Paged) -> list[OrderTotal]:
    query = select(Order).order_by(Order.id.desc()).limit(paging.limit).options(selectinload(Order.items))
    totals = []
    for order in await db.scalars(query):
        items = await order.awaitable_attrs.items
        totals.append(OrderTotal(order_id=order.id, total=sum(item.quantity * item.unit_price for item in items)))
    return totals


@router.get("/core-loop-in")
async def list_stock_with_in(engine: Engine, paging: Paged) -> dict[str, int]:
    async with engine.connect() as connection:
        newest = select(products.c.id, products.c.sku).order_by(products.c.id.desc()).limit(paging.limit)
        skus = dict((await connection.execute(newest)).all())
        stock = select(inventory.c.product_id, inventory.c.quantity).where(inventory.c.product_id.in_(skus))
        quantities = dict((await connection.execute(stock)).all())
    return {sku: quantities[product_id] for product_id, sku in skus.items()}


@router.get("/core-loop-any")
async def list_stock_with_any(engine: Engine, paging: Paged) -> dict[str, int]:
    async with engine.connect() as connection:
        newest = select(products.c.id, products.c.sku).order_by(products.c.id.desc()).limit(paging.limit)
        skus = dict((await connection.execute(newest)).all())
        keys = literal(list(skus), ARRAY(BigInteger))
        stock = select(inventory.c.product_id, inventory.c.quantity).where(inventory.c.product_id == any_(keys))
        quantities = dict((await connection.execute(stock)).all())
    return {sku: quantities[product_id] for product_id, sku in skus.items()}


@router.get("/core-loop-join")
async def list_stock_with_join(engine: Engine, paging: Paged) -> dict[str, int]:
    async with engine.connect() as connection:
        newest = (
            select(products.c.sku, inventory.c.quantity)
            .join_from(products, inventory)
            .order_by(products.c.id.desc())
            .limit(paging.limit)
        )
        return dict((await connection.execute(newest)).all())


@router.get("/duplicate-reads", response_model=CustomerRead)
async def read_profile(current: Annotated[Customer, Depends(current_customer)]) -> Customer:
    return current


@router.post("/write-loop-rows")
async def refill_with_rows(db: Db, paging: Paged) -> dict[str, int]:
    stock = await read_stock(db, paging.limit)
    await db.execute(
        update(Inventory), [{"product_id": product_id, "quantity": quantity + 1} for product_id, quantity in stock]
    )
    await db.commit()
    return {"refilled": len(stock)}


@router.post("/write-loop-values")
async def refill_with_values(db: Db, paging: Paged) -> dict[str, int]:
    stock = await read_stock(db, paging.limit)
    rows = values(column("product_id", BigInteger), column("quantity", Integer), name="refilled").data(
        [(product_id, quantity + 1) for product_id, quantity in stock]
    )
    await db.execute(
        update(Inventory)
        .where(Inventory.product_id == rows.c.product_id)
        .values(quantity=rows.c.quantity)
        .execution_options(synchronize_session=False)
    )
    await db.commit()
    return {"refilled": len(stock)}


@router.post("/write-loop-unnest")
async def refill_with_unnest(db: Db, paging: Paged) -> dict[str, int]:
    stock = await read_stock(db, paging.limit)
    keys = literal([product_id for product_id, _ in stock], ARRAY(BigInteger))
    quantities = literal([quantity + 1 for _, quantity in stock], ARRAY(Integer))
    rows = func.unnest(keys, quantities).table_valued("product_id", "quantity", name="refilled").render_derived()
    await db.execute(
        update(Inventory)
        .where(Inventory.product_id == rows.c.product_id)
        .values(quantity=rows.c.quantity)
        .execution_options(synchronize_session=False)
    )
    await db.commit()
    return {"refilled": len(stock)}


@router.post("/write-loop-any")
async def refill_with_any(db: Db, paging: Paged) -> dict[str, int]:
    ids = [product_id for product_id, _ in await read_stock(db, paging.limit)]
    await db.execute(
        update(Inventory)
        .where(Inventory.product_id == any_(literal(ids, ARRAY(BigInteger))))
        .values(quantity=Inventory.quantity + 1)
        .execution_options(synchronize_session=False)
    )
    await db.commit()
    return {"refilled": len(ids)}


@router.post("/write-loop-in")
async def refill_with_in(db: Db, paging: Paged) -> dict[str, int]:
    ids = [product_id for product_id, _ in await read_stock(db, paging.limit)]
    await db.execute(update(Inventory).where(Inventory.product_id.in_(ids)).values(quantity=Inventory.quantity + 1))
    await db.commit()
    return {"refilled": len(ids)}


async def read_stock(db: AsyncSession, limit: int) -> Sequence[Row[tuple[int, int]]]:
    query = select(Inventory.product_id, Inventory.quantity).order_by(Inventory.product_id).limit(limit)
    return (await db.execute(query.with_for_update())).all()


@router.post("/background", status_code=status.HTTP_202_ACCEPTED)
async def request_digest(tasks: BackgroundTasks, sessions: Sessions, paging: Paged) -> dict[str, str]:
    tasks.add_task(mail_digest, sessions, paging.limit)
    return {"status": "accepted"}


async def mail_digest(sessions: async_sessionmaker[AsyncSession], limit: int) -> None:
    async with sessions() as session:
        query = select(Review).order_by(Review.id.desc()).limit(limit).options(selectinload(Review.product))
        lines = []
        for review in await session.scalars(query):
            product = await review.awaitable_attrs.product
            lines.append(f"{product.name}: {review.rating} of 5")
    logger.info("mailed a digest of %d reviews", len(lines))


@router.get("/streaming-in")
async def export_orders_with_in(sessions: Sessions, paging: Paged) -> StreamingResponse:
    return StreamingResponse(order_lines(sessions, paging.limit, OrderItem.order_id.in_), media_type="text/csv")


@router.get("/streaming-any")
async def export_orders_with_any(sessions: Sessions, paging: Paged) -> StreamingResponse:
    def among(ids: Sequence[int]) -> ColumnElement[bool]:
        return OrderItem.order_id == any_(literal(ids, ARRAY(BigInteger)))

    return StreamingResponse(order_lines(sessions, paging.limit, among), media_type="text/csv")


async def order_lines(
    sessions: async_sessionmaker[AsyncSession], limit: int, among: Callable[[Sequence[int]], ColumnElement[bool]]
) -> AsyncIterator[str]:
    yield "order,status,total\n"
    async with sessions() as session:
        orders = (await session.scalars(select(Order).order_by(Order.id.desc()).limit(limit))).all()
        amount = func.sum(OrderItem.quantity * OrderItem.unit_price)
        items = among([order.id for order in orders])
        query = select(OrderItem.order_id, amount).where(items).group_by(OrderItem.order_id)
        totals = dict((await session.execute(query)).all())
        for order in orders:
            yield f"{order.id},{order.status},{totals.get(order.id)}\n"


@router.get("/streaming-join")
async def export_orders_with_join(sessions: Sessions, paging: Paged) -> StreamingResponse:
    return StreamingResponse(order_lines_with_join(sessions, paging.limit), media_type="text/csv")


async def order_lines_with_join(sessions: async_sessionmaker[AsyncSession], limit: int) -> AsyncIterator[str]:
    yield "order,status,total\n"
    async with sessions() as session:
        amount = func.sum(OrderItem.quantity * OrderItem.unit_price)
        query = select(Order, amount).outerjoin(Order.items).group_by(Order.id).order_by(Order.id.desc()).limit(limit)
        for order, total in await session.execute(query):
            yield f"{order.id},{order.status},{total}\n"


@router.post("/long-transaction-commit/{order_id}")
async def ship_order_after_commit(order_id: int, db: Db, carrier: Carrier) -> dict[str, str]:
    order = found(await db.scalar(select(Order).where(Order.id == order_id).with_for_update()), "order")
    await db.commit()
    quote = await carrier.get(f"/quotes/{order.id}")
    order.status = OrderStatus.SHIPPED
    await db.commit()
    return {"status": order.status, "price": quote.json()["price"]}


@router.post("/long-transaction-first/{order_id}")
async def ship_order_with_quote(order_id: int, db: Db, carrier: Carrier) -> dict[str, str]:
    quote = await carrier.get(f"/quotes/{order_id}")
    order = found(await db.scalar(select(Order).where(Order.id == order_id).with_for_update()), "order")
    order.status = OrderStatus.SHIPPED
    await db.commit()
    return {"status": order.status, "price": quote.json()["price"]}


@router.get("/pool-hog-back/{order_id}")
async def read_label_without_connection(order_id: int, engine: Engine, carrier: Carrier) -> dict[str, str]:
    async with engine.connect() as connection:
        found(await connection.scalar(select(Order.customer_id).where(Order.id == order_id)), "order")
        await connection.commit()
    label = await carrier.get(f"/labels/{order_id}")
    return {"label": label.json()["number"]}


@router.get("/pool-hog-later/{order_id}")
async def read_label_first(order_id: int, engine: Engine, carrier: Carrier) -> dict[str, str]:
    label = await carrier.get(f"/labels/{order_id}")
    async with engine.connect() as connection:
        found(await connection.scalar(select(Order.customer_id).where(Order.id == order_id)), "order")
        await connection.commit()
    return {"label": label.json()["number"]}


@router.get("/row-explosion", response_model=list[Activity])
async def list_activity(db: Db, paging: Paged) -> Sequence[Customer]:
    query = (
        select(Customer)
        .order_by(Customer.id)
        .limit(paging.limit)
        .options(joinedload(Customer.orders), selectinload(Customer.reviews))
    )
    return (await db.scalars(query)).unique().all()
