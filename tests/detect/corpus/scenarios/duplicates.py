"""The same statement with the same values again, and what only looks like it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from tests.detect.corpus.database import Conn, Db, SyncDb, database, driver_of
from tests.detect.corpus.models import (
    AuditEntry,
    Currency,
    Customer,
    Grant,
    Item,
    Job,
    Order,
    Product,
    Setting,
    Stock,
    Tenant,
    User,
    Wallet,
)
from tests.detect.corpus.repositories import SettingRepository, TenantRepository, UserRepository
from tests.detect.corpus.scenario import Expect, Row, Rows, scenario
from tests.detect.corpus.services import EMAIL, CurrentUser, PricingService, TenantService


@scenario(
    "duplicate-auth-and-handler",
    "the authentication dependency and the handler load the same user through the repository",
    Expect("duplicate-query", ("current-user", "repository-find", "auth-handler")),
)
async def profile(user: CurrentUser, session: Db) -> Row:
    again = await UserRepository(session).by_email(user.email)  # MARK: auth-handler
    return {"email": again.email if again else None}


async def tenant_of_request(session: Db) -> Tenant | None:
    return (await session.scalars(select(Tenant).where(Tenant.id == 2))).first()  # MARK: tenant-dependency


async def plan_of_request(session: Db) -> str:
    tenant = (await session.scalars(select(Tenant).where(Tenant.id == 2))).one()  # MARK: plan-dependency
    return tenant.plan


@scenario(
    "duplicate-two-dependencies",
    "two dependencies read the same row, each with its own statement of the same shape",
    Expect("duplicate-query", ("tenant-dependency", "plan-dependency")),
)
async def two_dependencies(
    tenant: Annotated[Tenant | None, Depends(tenant_of_request)], plan: Annotated[str, Depends(plan_of_request)]
) -> Row:
    return {"tenant": tenant.name if tenant else None, "plan": plan}


async def flags(session: Db) -> dict[str, str]:
    found = await session.execute(select(Setting.key, Setting.value).where(Setting.key.like("m%")))  # MARK: flags
    return {row.key: row.value for row in found}


async def banner(found: Annotated[dict[str, str], Depends(flags, use_cache=False)]) -> str | None:
    return found.get("motto")


@scenario(
    "duplicate-uncached-dependency",
    "a dependency that is called for each of its three users: use_cache=False",
    Expect("duplicate-query", "flags"),
)
async def uncached(
    motto: Annotated[str | None, Depends(banner)],
    here: Annotated[dict[str, str], Depends(flags, use_cache=False)],
    there: Annotated[dict[str, str], Depends(flags, use_cache=False)],
) -> Row:
    return {"motto": motto, "same": here == there}


@scenario(
    "duplicate-setting-per-item", "a setting is read for each item", Expect("duplicate-query", "setting-per-item")
)
async def setting_per_item(session: Db) -> list[str]:
    pricing = PricingService(session)
    prices = []
    for product in (await session.scalars(select(Product).order_by(Product.id).limit(12))).all():
        prices.append(str(await pricing.with_tax(product.price)))  # MARK: setting-per-item
    return prices


@scenario("duplicate-three-in-loop", "the same three times in a loop", Expect("duplicate-query", "three-in-loop"))
async def three_in_loop(session: Db) -> Rows:
    page = []
    for order in (await session.scalars(select(Order).order_by(Order.id).limit(3))).all():
        rate = await session.scalar(select(Currency.rate).where(Currency.code == "USD"))  # MARK: three-in-loop
        page.append({"id": order.id, "rate": str(rate)})
    return page


@scenario(
    "duplicate-count-in-loop",
    "the total is counted for every row",
    Expect("duplicate-query", "count-in-loop"),
)
async def shares(session: Db) -> Rows:
    page = []
    for customer in (await session.scalars(select(Customer).order_by(Customer.id).limit(10))).all():
        total = await session.scalar(select(func.count()).select_from(Order)) or 1  # MARK: count-in-loop
        page.append({"name": customer.name, "share": 4 / total})
    return page


@scenario(
    "duplicate-three-services",
    "three methods of a service each read the tenant's plan",
    Expect("duplicate-query", ("repository-plan", "tenant-limit", "tenant-badge", "tenant-invoice")),
)
async def overview(session: Db) -> Row:
    service = TenantService(session)
    return {
        "limit": await service.limit(3),
        "badge": await service.badge(3),
        "header": await service.invoice_header(3),
    }


@scenario(
    "duplicate-page-count",
    "a dependency counts for the header, the handler for the page",
    Expect("duplicate-query", ("count-dependency", "count-handler")),
)
async def page_with_count(response: Response, session: Db) -> Row:
    async def header() -> None:
        statement = select(func.count()).select_from(Order).where(Order.status == "open")
        response.headers["x-total"] = str(await session.scalar(statement))  # MARK: count-dependency

    await header()
    orders = (await session.scalars(select(Order).where(Order.status == "open").limit(20))).all()
    statement = select(func.count()).select_from(Order).where(Order.status == "open")
    total = await session.scalar(statement)  # MARK: count-handler
    return {"total": total, "rows": [order.id for order in orders]}


async def _may_export(session: AsyncSession, user_id: int) -> bool:
    return await UserRepository(session).may(user_id, "export")  # MARK: may-export


async def _export_button(session: AsyncSession, user_id: int) -> str:
    return "on" if await _may_export(session, user_id) else "off"  # MARK: export-button


async def _export_menu(session: AsyncSession, user_id: int) -> list[str]:
    return ["csv"] if await _may_export(session, user_id) else []  # MARK: export-menu


@scenario(
    "duplicate-permission",
    "one permission is asked for by the guard, the button and the menu",
    Expect("duplicate-query", ("may-export", "export-guard", "export-button", "export-menu", "repository-may")),
)
async def export_page(session: Db) -> Row:
    if not await _may_export(session, 5):  # MARK: export-guard
        return {}
    return {"button": await _export_button(session, 5), "menu": await _export_menu(session, 5)}


async def _maintenance(request: Request, proceed: Any) -> Response:
    async with database.sessions() as session:
        if await session.scalar(select(Setting.value).where(Setting.key == "maintenance")) == "on":
            return Response(status_code=503)
    response: Response = await proceed(request)
    return response


@scenario(
    "duplicate-text",
    "text() with the same values in a helper and in the handler",
    Expect("duplicate-query", ("text-helper", "text-handler")),
)
async def balance(connection: Conn) -> Row:
    statement = text("SELECT sum(quantity) FROM items WHERE order_id = :order")

    async def weight() -> int:
        return 3 * await connection.scalar(statement, {"order": 8})  # MARK: text-helper

    quantity = await connection.scalar(statement, {"order": 8})  # MARK: text-handler
    return {"quantity": quantity, "weight": await weight()}


@scenario(
    "duplicate-driver",
    "asyncpg itself, in a helper and in the handler",
    Expect("duplicate-query", ("driver-helper", "driver-handler")),
)
async def driver_twice(session: Db) -> Row:
    driver = await driver_of(session)
    query = "SELECT plan FROM tenants WHERE id = $1"

    async def limit() -> int:
        return 100 if await driver.fetchval(query, 4) == "basic" else 1000  # MARK: driver-helper

    plan = await driver.fetchval(query, 4)  # MARK: driver-handler
    return {"plan": plan, "limit": await limit()}


@scenario(
    "duplicate-orm-select",
    "a select by primary key goes to the database although the session has the row",
    Expect("duplicate-query", ("orm-select-first", "orm-select-second")),
)
def reload(session: SyncDb) -> Row:
    def greeting() -> str:
        user = session.scalars(select(User).where(User.id == 9)).one()  # MARK: orm-select-first
        return f"hello {user.email}"

    user = session.scalars(select(User).where(User.id == 9)).one()  # MARK: orm-select-second
    return {"id": user.id, "greeting": greeting()}


@scenario(
    "duplicate-currency-per-row",
    "a repository in a comprehension, always the same key",
    Expect("duplicate-query", "currency-per-row"),
)
async def in_currency(session: Db) -> list[str]:
    settings = SettingRepository(session)
    items = (await session.scalars(select(Item).order_by(Item.id).limit(15))).all()
    return [f"{item.quantity} {await settings.value('currency')}" for item in items]  # MARK: currency-per-row


@scenario(
    "duplicate-job", "a job reads its own setting for each batch", Expect("duplicate-query", "job-setting"), kind="job"
)
async def batches() -> None:
    async with database.sessions() as session:
        for low in range(1, 301, 50):
            await session.scalar(select(Setting.value).where(Setting.key == "page_size"))  # MARK: job-setting
            await session.scalars(select(Product).where(Product.id.between(low, low + 49)))


# Clean


@scenario("reread-after-update", "a row is read again after it was written")
async def reread_after_update(session: Db) -> Row:
    statement = select(Wallet.balance).where(Wallet.id == 31)
    before = await session.scalar(statement)
    await session.execute(update(Wallet).where(Wallet.id == 31).values(balance=Wallet.balance + 5))
    after = await session.scalar(statement)
    await session.rollback()
    return {"before": before, "after": after}


@scenario("reread-after-cte", "the same after a writing CTE")
async def reread_after_cte(connection: Conn) -> Row:
    count = text("SELECT count(*) FROM audit_entries WHERE action = :action")
    write = text(
        "WITH made AS (INSERT INTO audit_entries (action, subject) VALUES ('cte', 'x') RETURNING id) "
        "SELECT count(*) FROM made"
    )
    before = await connection.scalar(count, {"action": "cte"})
    await connection.execute(write)
    after = await connection.scalar(count, {"action": "cte"})
    return {"before": before, "after": after}


@scenario("reread-after-flush", "a count before and after new rows")
async def reread_after_flush(session: Db) -> Row:
    statement = select(func.count()).select_from(AuditEntry).where(AuditEntry.action == "flush")
    before = await session.scalar(statement)
    session.add_all(AuditEntry(action="flush", subject=f"{n}") for n in range(5))
    await session.flush()
    after = await session.scalar(statement)
    return {"before": before, "after": after}


@scenario("reread-after-each-write", "a loop that writes and reads what is left", kind="job")
async def reread_after_each_write() -> None:
    left = select(func.count()).select_from(Stock).where(Stock.note == "surplus")
    async with database.sessions() as session:
        await session.execute(update(Stock).where(Stock.id <= 400).values(note="surplus"))
        while await session.scalar(left):
            some = select(Stock.id).where(Stock.note == "surplus").limit(100).scalar_subquery()
            await session.execute(update(Stock).where(Stock.id.in_(some)).values(note=None))
        await session.rollback()


@scenario("reread-after-set-config", "row level security: the same statement for two tenants")
async def reread_after_set_config(session: Db) -> Row:
    statement = select(func.count()).select_from(Order)
    await session.execute(text("SELECT set_config('shop.tenant', '1', true)"))
    first = await session.scalar(statement)
    await session.execute(text("SELECT set_config('shop.tenant', '2', true)"))
    second = await session.scalar(statement)
    return {"first": first, "second": second}


@scenario("reread-after-set", "the same after SET LOCAL of the search path")
async def reread_after_set(connection: Conn) -> Row:
    statement = text("SELECT sum(amount) FROM invoices")
    await connection.execute(text("SET LOCAL search_path TO tenant_1"))
    first = await connection.scalar(statement)
    await connection.execute(text("SET LOCAL search_path TO tenant_2"))
    second = await connection.scalar(statement)
    return {"first": first, "second": second}


@scenario("reread-locking", "a row is read, then read again under a lock, twice")
async def reread_locking(session: Db) -> int:
    plain = select(Wallet).where(Wallet.id == 33)
    await session.scalar(plain)
    locked = plain.with_for_update().execution_options(populate_existing=True)
    first = await session.scalar(locked)
    second = await session.scalar(locked)
    return first.balance + second.balance if first and second else 0


@scenario("reread-same-line-twice", "twice from one line")
async def same_line(session: Db) -> list[str]:
    async def motto() -> str:
        return await session.scalar(select(Setting.value).where(Setting.key == "motto")) or ""

    return [await motto() for _ in range(2)]


@scenario("reread-without-table", "statements without a table")
async def without_table(session: Db) -> list[str]:
    moments = []
    for _ in range(5):
        moments.append(str(await session.scalar(select(func.clock_timestamp()))))
    moments.append(str(await session.scalar(text("SELECT now()"))))
    moments.append(str(await session.scalar(text("SELECT now()"))))
    return moments


@scenario("reread-other-session", "a second session of its own looks at what others see")
async def other_session(session: Db) -> Row:
    statement = select(Wallet.balance).where(Wallet.id == 35)
    mine = await session.scalar(statement)
    async with database.sessions() as other:
        theirs = await other.scalar(statement)
    return {"mine": mine, "theirs": theirs}


@scenario("reread-other-values", "one shape, two values, two lines")
async def other_values(session: Db) -> Row:
    net = await session.scalar(select(Setting.value).where(Setting.key == "tax_rate"))
    unit = await session.scalar(select(Setting.value).where(Setting.key == "currency"))
    return {"rate": net, "currency": unit}


@scenario("reread-refresh", "refresh after a commit, for what the server made")
async def refresh() -> Row:
    async with database.sessions() as session:
        entry = AuditEntry(action="refresh", subject="x")
        session.add(entry)
        await session.commit()
        await session.refresh(entry)
        return {"id": entry.id}


@scenario("reread-cached-dependency", "FastAPI calls a dependency once, however many use it")
async def cached_dependency(
    user: CurrentUser,
    tenants: Annotated[str, Depends(plan_of_request)],
    again: Annotated[str, Depends(plan_of_request)],
) -> Row:
    return {"email": user.email, "plan": tenants == again}


@scenario("reread-next-request", "each request reads it once", requests=("", "", "", ""))
async def next_request(session: Db) -> str | None:
    return await SettingRepository(session).value("motto")


@scenario("reread-pages", "the same filter, another page")
async def other_page(session: Db) -> int:
    statement = select(Order.id).where(Order.status == "open").order_by(Order.id).limit(20)
    first = (await session.scalars(statement)).all()
    more = (await session.scalars(statement.offset(20))).all() if len(first) == 20 else []
    return len(first) + len(more)


@scenario("reread-after-rollback", "the transaction failed: its reads are done again")
async def after_rollback(session: Db) -> int:
    async def buy() -> int:
        balance = await session.scalar(select(Wallet.balance).where(Wallet.id == 37)) or 0
        await session.execute(text("SELECT 1 / (:n - 7)"), {"n": 7 if tries == 1 else 9})
        return balance

    tries = 1
    try:
        return await buy()
    except DBAPIError:
        await session.rollback()
    tries = 2
    return await buy()


@scenario("reread-in-background", "the background task looks at the state after the response")
async def in_background(tasks: BackgroundTasks, session: Db) -> Row:
    statement = select(Job.state).where(Job.id == 15)

    async def check() -> None:
        async with database.sessions() as own:
            await own.scalar(statement)

    tasks.add_task(check)
    return {"state": await session.scalar(statement)}


@scenario("reread-double-checked", "read, wait for the lock, read again: somebody else may have written meanwhile")
async def double_checked(session: Db) -> str:
    async def known() -> str | None:
        return await session.scalar(select(AuditEntry.subject).where(AuditEntry.action == "never"))

    value = await known()
    if value is None:
        await session.execute(text("SELECT pg_advisory_xact_lock(77)"))
        value = await known()
    if value is None:
        await session.execute(insert(AuditEntry).values(action="computed", subject="x"))
    await session.rollback()
    return value or "x"


@scenario(
    "reread-middleware-once", "a middleware and the handler read two different settings", middleware=(_maintenance,)
)
async def beneath_maintenance(session: Db) -> str | None:
    return await session.scalar(select(Setting.value).where(Setting.key == "motto"))


@scenario("reread-other-scopes", "three different grants of one user, each once")
async def other_scopes(session: Db) -> int:
    reading = await session.scalar(select(func.count()).where(Grant.user_id == 3, Grant.scope == "read"))
    writing = await session.scalar(select(func.count()).where(Grant.user_id == 3, Grant.scope == "write"))
    admin = await session.scalar(select(func.count()).where(Grant.user_id == 3, Grant.scope == "admin"))
    return (reading or 0) + (writing or 0) + (admin or 0)


@scenario("reread-price-and-tax", "a service used as it should be: one read of each setting")
async def price_and_tax(session: Db) -> list[str]:
    pricing = PricingService(session)
    rate: Decimal = await pricing.tax_rate()
    products = (await session.scalars(select(Product).order_by(Product.id).limit(20))).all()
    return [str(product.price * (1 + rate)) for product in products]


@scenario("reread-two-plans", "the plans of two tenants")
async def two_plans(session: Db) -> list[str | None]:
    tenants = TenantRepository(session)
    mine = await tenants.plan_of(1)
    theirs = await tenants.plan_of(2)
    return [mine, theirs, EMAIL]
