"""Relationships and columns that were loaded and never read: found where proven, and nothing else."""

from __future__ import annotations

import pickle
import threading
from inspect import getattr_static
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from sqlalchemy import create_engine, event, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    InstrumentedAttribute,
    Session,
    contains_eager,
    joinedload,
    lazyload,
    load_only,
    selectinload,
    subqueryload,
)

from querytoll import Profiler, ProfilerMiddleware, Report, Settings, ignore
from querytoll.capture import reads
from querytoll.detect import default_detectors
from querytoll.detect.loads import OverFetch, UnusedEagerLoad
from tests.detect.shelf import ORDERS, Customer, Item, Order, OrderContract, OrderDetail, OrderRead
from tests.detect.shop import ORDERS_ONLY, Endpoint, Shop, found, load_all, sync

pytestmark = pytest.mark.usefixtures("unwatched")


def _unused(*relations: str) -> list[tuple[str, str]]:
    return [("unused-eager-load", relation) for relation in relations]


@pytest.mark.parametrize(
    ("option", "relation"),
    [
        (selectinload(Order.items), "Order.items"),
        (joinedload(Order.items), "Order.items"),
        (subqueryload(Order.items), "Order.items"),
        (selectinload(Order.customer), "Order.customer"),
        (joinedload(Order.customer), "Order.customer"),
    ],
    ids=["selectin", "joined", "subquery", "selectin-one", "joined-one"],
)
async def test_a_relationship_that_nobody_reads_is_found(engine: AsyncEngine, option: Any, relation: str) -> None:
    """However it was loaded."""
    assert await found(engine, lambda session: load_all(session, option)) == _unused(relation)


async def test_the_finding_names_the_line_the_count_and_the_option(engine: AsyncEngine) -> None:
    """It can be acted upon without looking further."""
    shop = Shop(engine)
    shop.serve(lambda session: load_all(session, selectinload(Order.items)), list[OrderRead])
    (finding,) = await shop.get()
    assert finding.site is not None
    assert (finding.site.function, finding.summary) == ("load_all", "SELECT items")
    assert finding.title == f"Order.items was loaded for {ORDERS} Order and never read"
    assert "lazyload() or noload()" in finding.advice
    assert finding.cost > 0


async def test_a_relationship_that_is_eager_by_its_mapping_is_found(engine: AsyncEngine) -> None:
    """The advice is another one: there is no option to take off."""

    async def endpoint(session: AsyncSession) -> Any:
        return list(await session.scalars(select(Order).options(load_only(Order.number))))

    shop = Shop(engine)
    shop.serve(endpoint, list[OrderRead])
    (finding,) = await shop.get()
    assert finding.title.startswith("Order.parcels was loaded")
    assert ".options(lazyload(Order.parcels))" in finding.advice


async def test_of_nested_loads_the_outermost_is_found(engine: AsyncEngine) -> None:
    """One cause, one finding: without items, nobody can read what they lead to."""
    option = selectinload(Order.items).joinedload(Item.order, innerjoin=True)
    assert ("unused-eager-load", "Item.order") not in await found(engine, lambda session: load_all(session, option))


async def test_sync_code_is_watched_too(url: str) -> None:
    """Sessions without asyncio."""
    engine, reports = create_engine(sync(url)), list[Report]()
    settings = Settings(watch_loads=True, explain="off")
    profiler = Profiler(settings, detectors=Shop.rules(), sinks=[reports.append])
    app = FastAPI()
    app.add_middleware(ProfilerMiddleware, profiler=profiler)

    @app.get("/orders", response_model=list[OrderRead])
    async def orders() -> Any:
        with Session(engine) as session:
            return list(session.scalars(ORDERS_ONLY.options(selectinload(Order.items))))

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        assert (await client.get("/orders")).status_code == 200
    await profiler.aclose()
    engine.dispose()
    assert [finding.rule for finding in reports[0].findings] == ["unused-eager-load"]


async def _touch_one(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    assert orders[-1].items is not None
    return orders


async def _read_in_a_thread(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    thread = threading.Thread(target=lambda: [order.items for order in orders])  # a context of its own
    thread.start()
    thread.join()
    return orders


async def _pickle(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    assert pickle.dumps(orders)
    return orders


async def _expire(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    session.expire(orders[0], ["contract"])
    return orders


async def _rely_on_the_identity_map(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.customer))
    customer = await session.get(Customer, 1)
    assert customer is not None
    assert customer.name
    return orders


async def _merge(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    async with AsyncSession(session.bind) as other:
        merged = [await other.merge(order, load=False) for order in orders]
        assert all(order.items for order in merged)
    return orders


async def _write(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    await session.execute(update(Customer).where(Customer.id == 0).values(name=""))
    return orders


async def _join_by_hand(session: AsyncSession) -> Any:
    statement = ORDERS_ONLY.join(Order.items).where(Item.name != "").options(contains_eager(Order.items))
    return list((await session.scalars(statement)).unique())


async def _fail_once(session: AsyncSession) -> Any:
    orders = await load_all(session, selectinload(Order.items))
    with pytest.raises(Exception, match="division"):
        await session.scalar(select(1 / func.length("")))
    return orders


async def _stream(session: AsyncSession) -> Any:
    result = await session.stream_scalars(ORDERS_ONLY.options(selectinload(Order.items)).execution_options(yield_per=2))
    return [order async for order in result]


async def _only_count(session: AsyncSession) -> Any:
    return [OrderRead(id=len(await load_all(session, selectinload(Order.items))), number="")]


_kept: list[Any] = []


async def _keep(session: AsyncSession) -> Any:
    _kept[:] = await load_all(session, selectinload(Order.items))
    return _kept


@pytest.mark.parametrize(
    "endpoint",
    [
        _touch_one,
        _read_in_a_thread,
        _pickle,
        _expire,
        _rely_on_the_identity_map,
        _merge,
        _write,
        _join_by_hand,
        _fail_once,
        _stream,
        _only_count,
        _keep,
    ],
)
async def test_where_it_may_be_of_use_nothing_is_found(engine: AsyncEngine, endpoint: Endpoint) -> None:
    """Read once, read elsewhere, or not to be known: silence."""
    try:
        assert await found(engine, endpoint) == []
    finally:
        _kept.clear()


async def test_what_the_response_model_reads_is_of_use(engine: AsyncEngine) -> None:
    """Pydantic reads attributes as other code does."""
    assert await found(engine, lambda session: load_all(session, selectinload(Order.items)), list[OrderDetail]) == []


async def test_without_a_response_model_nothing_is_found(engine: AsyncEngine) -> None:
    """FastAPI then reads objects in a way that leaves no trace."""
    assert await found(engine, lambda session: load_all(session, selectinload(Order.items)), None) == []


async def test_of_a_request_that_failed_nothing_is_found(engine: AsyncEngine) -> None:
    """What it would have read is not known."""

    async def endpoint(session: AsyncSession) -> Any:
        assert [order.number for order in await load_all(session, selectinload(Order.items))]
        raise HTTPException(409)

    shop = Shop(engine)
    shop.serve(endpoint, list[OrderRead])
    assert await shop.get(409) == []


async def test_what_a_streaming_response_reads_is_of_use(engine: AsyncEngine) -> None:
    """The body is a part of the request."""

    async def endpoint(session: AsyncSession) -> Any:
        orders = await load_all(session, selectinload(Order.items))
        return StreamingResponse(f"{order.id}: {len(order.items)}\n" for order in orders)

    assert await found(engine, endpoint) == []


async def test_an_ignored_load_is_not_told(engine: AsyncEngine) -> None:
    """`querytoll.ignore` holds for these rules as for the others."""

    async def endpoint(session: AsyncSession) -> Any:
        with ignore("unused-eager-load", reason="warms the cache"):
            return await load_all(session, selectinload(Order.items))

    assert await found(engine, endpoint) == []


async def _plain(session: AsyncSession) -> Any:
    return list(await session.scalars(select(Order).options(lazyload(Order.parcels))))


async def test_a_long_column_that_is_never_returned_is_found(engine: AsyncEngine) -> None:
    """With its name, its bytes and the option that leaves it out; keys are SQLAlchemy's own business."""
    shop = Shop(engine)
    shop.serve(_plain, list[OrderRead])
    (finding,) = await shop.get()
    assert finding.rule == "over-fetch"
    assert finding.evidence["columns"] == ["contract"]
    assert finding.evidence["bytes"] == ORDERS * 5_000
    assert "load_only" in finding.advice
    assert finding.site is not None
    assert finding.site.function == "_plain"


async def test_a_short_column_that_is_never_returned_is_fine(engine: AsyncEngine) -> None:
    """Below both thresholds nobody would gain anything."""

    async def endpoint(session: AsyncSession) -> Any:
        return [await session.get(Order, 1, options=[lazyload(Order.parcels)])]

    assert await found(engine, endpoint) == []


async def test_columns_count_from_the_threshold_on(engine: AsyncEngine) -> None:
    """`columns` and `size` are fields of the rule."""
    shop = Shop(engine)
    shop.serve(_plain, list[OrderRead])
    await shop.get()
    trace = shop.reports[0].trace
    assert [unread.columns for unread in trace.unread] == [("contract",)]
    assert list(OverFetch(columns=2, size=1_000_000)(trace)) == []
    assert len(list(OverFetch(columns=1, size=1_000_000)(trace))) == 1
    assert list(OverFetch()(trace._replace(status=500))) == []


async def _read_contract(session: AsyncSession) -> Any:
    orders = await _plain(session)
    assert orders[0].contract
    return orders


async def _load_twice(session: AsyncSession) -> Any:
    assert (await session.scalars(select(Order).where(Order.id == 1).options(lazyload(Order.parcels)))).one()
    return await _plain(session)


async def _assign(session: AsyncSession) -> Any:
    orders = await _plain(session)
    orders[0].contract = ""
    session.expunge_all()
    return orders


@pytest.mark.parametrize(
    ("endpoint", "model"),
    [
        (_plain, list[OrderContract]),
        (_plain, None),
        (_read_contract, list[OrderRead]),
        (_load_twice, list[OrderRead]),
        (_assign, list[OrderRead]),
        (load_all, list[OrderRead]),
    ],
    ids=["returned", "no-model", "read", "twice", "assigned", "load-only"],
)
async def test_columns_that_may_be_of_use_are_fine(engine: AsyncEngine, endpoint: Endpoint, model: Any) -> None:
    """Returned, read, changed, or not to be known: silence."""
    assert await found(engine, endpoint, model) == []


async def test_off_means_that_nothing_is_installed(engine: AsyncEngine) -> None:
    """Neither listener nor descriptor nor fact, by default."""
    shop = Shop(engine, watch=False)
    shop.serve(lambda session: load_all(session, selectinload(Order.items)), list[OrderRead])
    assert await shop.get() == []
    assert (shop.reports[0].trace.loads, shop.reports[0].trace.unread) == ((), ())
    assert not any(event.contains(target, name, listener) for target, name, listener, _ in reads._LISTENERS)
    assert type(getattr_static(Order, "items")) is InstrumentedAttribute


def test_the_setting_adds_the_rules() -> None:
    """And nothing else does."""
    plain, watching = default_detectors(Settings()), default_detectors(Settings(watch_loads=True))
    assert [type(rule) for rule in watching[len(plain) :]] == [UnusedEagerLoad, OverFetch]
    assert not {UnusedEagerLoad, OverFetch} & {type(rule) for rule in plain}


async def test_watching_holds_no_object(engine: AsyncEngine) -> None:
    """The session sends what it would send without us: an object that is let go of is loaded anew."""
    shop = Shop(engine)

    async def endpoint(session: AsyncSession) -> Any:
        for _ in range(3):
            assert await session.get(Customer, 1) is not None
        return []

    shop.serve(endpoint, list[OrderRead])
    assert await shop.get() == []
    assert len(shop.reports[0].trace.statements) == 3


async def test_an_insert_of_watched_classes_works(engine: AsyncEngine) -> None:
    """Watched descriptors build, compare and write as before."""
    shop = Shop(engine)

    async def endpoint(session: AsyncSession) -> Any:
        orders = await load_all(session, selectinload(Order.items))
        item = Item(id=1_000, name="new", order=orders[0])
        session.add(item)
        await session.flush()
        assert item in orders[0].items
        await session.execute(insert(Customer).values(id=1_000, name="new"))
        assert await session.scalar(select(Item.name).where(Item.order == orders[0], Item.id == 1_000)) == "new"
        await session.rollback()
        return []

    shop.serve(endpoint, list[OrderRead])
    assert await shop.get() == []
