"""Random requests against a running shop: clean ones, and some that hit the planted faults."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import NamedTuple

import httpx

from shop.models import OrderStatus
from shop.seed import SENTENCES, Sizes

ROWS = 200_000
NO_ANSWER = 0


class Call(NamedTuple):
    """A request to send."""

    method: str
    path: str
    json: dict[str, object] | None = None
    headers: dict[str, str] | None = None


class Dice:
    """Random values that fit a shop of that size."""

    def __init__(self, rng: random.Random, sizes: Sizes) -> None:
        self.rng = rng
        self.sizes = sizes

    def category(self) -> int:
        return self.rng.randint(1, self.sizes.categories)

    def customer(self) -> int:
        return self.rng.randint(1, self.sizes.customers)

    def product(self) -> int:
        return self.rng.randint(1, self.sizes.products)

    def order(self) -> int:
        return self.rng.randint(1, self.sizes.orders)

    def review(self) -> int:
        return self.rng.randint(1, self.sizes.reviews)

    def new(self, seeded: int) -> int:
        """Pick the id of a row that an earlier request may have made: what was seeded is never deleted."""
        return seeded + self.rng.randint(1, 200)

    def limit(self) -> int:
        return self.rng.randint(1, 100)

    def status(self) -> str:
        return self.rng.choice([status.value for status in OrderStatus])

    def price(self) -> str:
        return f"{self.rng.randint(100, 50_000) / 100:.2f}"

    def name(self) -> str:
        return f"{self.rng.getrandbits(48):012x}"

    def customer_body(self) -> dict[str, object]:
        return {"email": f"{self.name()}@example.org", "name": self.name()}

    def product_body(self) -> dict[str, object]:
        return {
            "sku": self.name(),
            "name": self.name(),
            "description": self.rng.choice(SENTENCES),
            "price": self.price(),
            "category_id": self.category(),
            "stock": self.rng.randint(0, 100),
        }

    def order_body(self) -> dict[str, object]:
        products = self.rng.sample(range(1, self.sizes.products + 1), self.rng.randint(1, 5))
        items = [{"product_id": product_id, "quantity": self.rng.randint(1, 3)} for product_id in products]
        return {"customer_id": self.customer(), "items": items}

    def review_body(self) -> dict[str, object]:
        return {
            "product_id": self.product(),
            "customer_id": self.customer(),
            "rating": self.rng.randint(1, 5),
            "body": self.rng.choice(SENTENCES),
        }


Make = Callable[[Dice], Call]

CLEAN: tuple[tuple[int, Make], ...] = (
    (3, lambda dice: Call("GET", "/healthz")),
    (6, lambda dice: Call("GET", "/categories")),
    (6, lambda dice: Call("GET", "/products")),
    (6, lambda dice: Call("GET", f"/products?before={dice.product()}&limit={dice.limit()}")),
    (6, lambda dice: Call("GET", f"/products?category_id={dice.category()}")),
    (20, lambda dice: Call("GET", f"/products/{dice.product()}")),
    (1, lambda dice: Call("GET", f"/products/{dice.new(dice.sizes.products)}")),
    (2, lambda dice: Call("GET", f"/customers?before={dice.customer()}")),
    (6, lambda dice: Call("GET", f"/customers/{dice.customer()}")),
    (4, lambda dice: Call("GET", f"/orders?limit={dice.limit()}")),
    (6, lambda dice: Call("GET", f"/orders?customer_id={dice.customer()}")),
    (3, lambda dice: Call("GET", f"/orders?order_status={dice.status()}")),
    (8, lambda dice: Call("GET", f"/orders/{dice.order()}")),
    (6, lambda dice: Call("GET", f"/reviews?product_id={dice.product()}")),
    (3, lambda dice: Call("GET", f"/reviews?customer_id={dice.customer()}")),
    (5, lambda dice: Call("GET", f"/inventory/{dice.product()}")),
    (1, lambda dice: Call("POST", "/customers", dice.customer_body())),
    (1, lambda dice: Call("POST", "/products", dice.product_body())),
    (3, lambda dice: Call("POST", "/orders", dice.order_body())),
    (2, lambda dice: Call("POST", "/reviews", dice.review_body())),
    (1, lambda dice: Call("PATCH", f"/categories/{dice.category()}", {"name": dice.name()})),
    (1, lambda dice: Call("PATCH", f"/customers/{dice.customer()}", {"name": dice.name()})),
    (2, lambda dice: Call("PATCH", f"/products/{dice.product()}", {"price": dice.price()})),
    (2, lambda dice: Call("PATCH", f"/orders/{dice.order()}", {"status": dice.status()})),
    (1, lambda dice: Call("PATCH", f"/reviews/{dice.review()}", {"rating": dice.rng.randint(1, 5)})),
    (1, lambda dice: Call("PATCH", f"/inventory/{dice.product()}", {"quantity": dice.rng.randint(1_000, 9_000)})),
    (1, lambda dice: Call("DELETE", f"/products/{dice.new(dice.sizes.products)}")),
    (1, lambda dice: Call("DELETE", f"/orders/{dice.new(dice.sizes.orders)}")),
    (1, lambda dice: Call("DELETE", f"/reviews/{dice.new(dice.sizes.reviews)}")),
)


class Planted(NamedTuple):
    """A planted fault: its module in `routers/faults`, the rules that find it, a request that hits it."""

    module: str
    rules: tuple[str, ...]
    make: Make


PLANTED = (
    Planted("lazy_load", ("n-plus-one",), lambda dice: Call("GET", "/faults/lazy-load")),
    Planted("core_loop", ("n-plus-one",), lambda dice: Call("GET", "/faults/core-loop")),
    Planted(
        "duplicate_reads",
        ("duplicate-query",),
        lambda dice: Call(
            "GET", "/faults/duplicate-reads", headers={"X-Customer-Email": f"customer{dice.customer()}@example.org"}
        ),
    ),
    Planted("slow_search", ("slow-query",), lambda dice: Call("GET", "/faults/slow-search?q=titanium")),
    Planted("write_loop", ("write-loop",), lambda dice: Call("POST", "/faults/write-loop")),
    Planted("background", ("n-plus-one",), lambda dice: Call("POST", "/faults/background")),
    Planted("streaming", ("n-plus-one",), lambda dice: Call("GET", "/faults/streaming")),
    Planted(
        "long_transaction",
        ("long-transaction", "idle-in-transaction"),
        lambda dice: Call("POST", f"/faults/long-transaction/{dice.order()}"),
    ),
    Planted("pool_hog", ("connection-held",), lambda dice: Call("GET", f"/faults/pool-hog/{dice.order()}")),
    Planted("row_explosion", ("row-explosion",), lambda dice: Call("GET", "/faults/row-explosion?limit=10")),
)


def clean_requests(rng: random.Random, rows: int = ROWS) -> Iterator[Call]:
    """Make requests without end that no rule may find fault with, for a shop seeded with that many rows."""
    dice = Dice(rng, Sizes(rows))
    weights, makes = zip(*CLEAN, strict=True)
    while True:
        yield rng.choices(makes, weights)[0](dice)


def faulty_requests(rng: random.Random, rows: int = ROWS) -> Iterator[Call]:
    """Make requests without end that hit the planted faults."""
    dice = Dice(rng, Sizes(rows))
    while True:
        yield rng.choice(PLANTED).make(dice)


def mixed_requests(rng: random.Random, rows: int = ROWS, faulty: float = 0.1) -> Iterator[Call]:
    """Make requests without end of which the share `faulty` hits planted faults."""
    clean, faults = clean_requests(rng, rows), faulty_requests(rng, rows)
    while True:
        yield next(faults if rng.random() < faulty else clean)


async def send(client: httpx.AsyncClient, call: Call) -> int:
    """Send the request and read the answer; give its status, `NO_ANSWER` where none came."""
    try:
        response = await client.request(call.method, call.path, json=call.json, headers=call.headers)
    except httpx.TransportError:
        return NO_ANSWER
    return response.status_code


async def drive(
    base_url: str = "http://127.0.0.1:8000",
    *,
    seconds: float,
    rate: float,
    seed: int,
    rows: int = ROWS,
    faulty: float = 0.1,
    concurrency: int = 8,
    client: httpx.AsyncClient | None = None,
) -> Counter[int]:
    """Send mixed requests for a time and count the answers by status.

    Args:
        base_url: where the shop is; unused with a client.
        seconds: how long, from the first answer of `/healthz`.
        rate: requests per second; fewer are sent where the shop is slower.
        seed: of the random requests.
        rows: what the shop was seeded with.
        faulty: share of requests that hit planted faults.
        concurrency: most requests at a time.
        client: sends the requests, for a shop without a server.

    Raises:
        TimeoutError: `/healthz` did not answer 200 for half a minute.
    """
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=base_url, timeout=30.0))
        await _ready(client)
        calls = mixed_requests(random.Random(seed), rows, faulty)
        return await _paced(client, calls, seconds=seconds, rate=rate, concurrency=concurrency)


async def _ready(client: httpx.AsyncClient) -> None:
    for _ in range(300):
        if await send(client, Call("GET", "/healthz")) == httpx.codes.OK:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the shop does not answer /healthz with 200")


async def _paced(
    client: httpx.AsyncClient, calls: Iterator[Call], *, seconds: float, rate: float, concurrency: int
) -> Counter[int]:
    counts: Counter[int] = Counter()
    slots = asyncio.Semaphore(concurrency)
    began = time.monotonic()

    async def send_one(call: Call) -> None:
        try:
            counts[await send(client, call)] += 1
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for turn in range(int(seconds * rate)):
            await asyncio.sleep(began + turn / rate - time.monotonic())
            await slots.acquire()
            if time.monotonic() - began > seconds:
                break
            group.create_task(send_one(next(calls)))
    return counts
