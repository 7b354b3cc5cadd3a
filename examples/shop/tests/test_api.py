"""Every endpoint answers."""

import random

import httpx
import pytest

from shop.seed import Sizes
from shop.traffic import PLANTED, Dice, Planted

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZES = Sizes(2_000)
NOWHERE = 999_999_999


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/metrics",
        "/categories",
        "/customers",
        "/customers/1",
        "/products",
        "/products?category_id=10",
        "/products/1",
        "/inventory/1",
        "/orders",
        "/orders?customer_id=1&order_status=shipped",
        "/orders/1",
        "/reviews",
        "/reviews?product_id=1&customer_id=1",
    ],
)
async def test_reads(client: httpx.AsyncClient, path: str) -> None:
    """Each resource can be read."""
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("resource", ["customers", "products", "inventory", "orders"])
async def test_what_is_not_there(client: httpx.AsyncClient, resource: str) -> None:
    """An unknown id is a 404."""
    assert (await client.get(f"/{resource}/{NOWHERE}")).status_code == 404


async def test_pages_follow_each_other(client: httpx.AsyncClient) -> None:
    """Two pages are what one page of twice the size is."""
    whole = (await client.get("/products?limit=10")).json()
    first = (await client.get("/products?limit=5")).json()
    second = (await client.get(f"/products?limit=5&before={first['next']}")).json()
    assert first["items"] + second["items"] == whole["items"]


async def test_the_last_page_has_no_next(client: httpx.AsyncClient) -> None:
    """Paging ends."""
    page = (await client.get("/products?before=3")).json()
    assert [item["id"] for item in page["items"]] == [2, 1]
    assert page["next"] is None


async def test_the_tree_holds_every_category(client: httpx.AsyncClient) -> None:
    """Roots at the top, their children below."""
    tree = (await client.get("/categories")).json()
    children = [child for root in tree for child in root["children"]]
    assert len(tree) + len(children) >= SIZES.categories
    assert {len(root["children"]) for root in tree} >= {6}


async def test_a_product_is_made_changed_and_deleted(client: httpx.AsyncClient) -> None:
    """The stock comes and goes with it."""
    body = {"sku": "A-1", "name": "Lamp", "description": "Bright.", "price": "9.90", "category_id": 9, "stock": 3}
    made = (await client.post("/products", json=body)).json()
    path = f"/products/{made['id']}"
    assert (await client.patch(path, json={"price": "8.50"})).json()["price"] == "8.50"
    detail = (await client.get(path)).json()
    assert (detail["inventory"]["quantity"], detail["category"]["id"]) == (3, 9)
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(f"/inventory/{made['id']}")).status_code == 404


@pytest.mark.parametrize("changes", [{"price": None}, {"price": "-1"}, {"colour": "red"}])
async def test_bad_changes_are_refused(client: httpx.AsyncClient, changes: dict[str, object]) -> None:
    """Null, values out of range and unknown fields are 422."""
    assert (await client.patch("/products/1", json=changes)).status_code == 422


async def test_a_product_that_was_ordered_stays(client: httpx.AsyncClient) -> None:
    """Orders keep what they refer to."""
    product_id = (await client.get("/orders/1")).json()["items"][0]["product"]["id"]
    assert (await client.delete(f"/products/{product_id}")).status_code == 409


async def test_an_order_takes_from_the_stock(client: httpx.AsyncClient) -> None:
    """Placed, shipped, deleted; the stock is what the orders left of it."""
    before = [(await client.get(f"/inventory/{product_id}")).json()["quantity"] for product_id in (7, 8)]
    items = [{"product_id": 8, "quantity": 2}, {"product_id": 7, "quantity": 1}]
    made = await client.post("/orders", json={"customer_id": 1, "items": items})
    assert made.status_code == 201
    assert [item["product"]["id"] for item in made.json()["items"]] == [8, 7]
    after = [(await client.get(f"/inventory/{product_id}")).json()["quantity"] for product_id in (7, 8)]
    assert after == [before[0] - 1, before[1] - 2]
    path = f"/orders/{made.json()['id']}"
    assert (await client.patch(path, json={"status": "shipped"})).json()["status"] == "shipped"
    assert (await client.get(path)).json()["items"] == made.json()["items"]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("customer", "product", "status"), [(1, NOWHERE, 404), (NOWHERE, 1, 409)], ids=["product", "customer"]
)
async def test_an_order_for_nobody_or_nothing(
    client: httpx.AsyncClient, customer: int, product: int, status: int
) -> None:
    """Unknown products and customers are refused, and the stock is untouched."""
    before = (await client.get("/inventory/1")).json()
    body = {"customer_id": customer, "items": [{"product_id": product, "quantity": 1}]}
    assert (await client.post("/orders", json=body)).status_code == status
    assert (await client.get("/inventory/1")).json() == before


async def test_out_of_stock(client: httpx.AsyncClient) -> None:
    """An order for more than there is takes nothing."""
    await client.patch("/inventory/3", json={"quantity": 1})
    items = [{"product_id": 2, "quantity": 1}, {"product_id": 3, "quantity": 2}]
    before = (await client.get("/inventory/2")).json()
    assert (await client.post("/orders", json={"customer_id": 1, "items": items})).status_code == 409
    assert (await client.get("/inventory/2")).json() == before


async def test_reviews_customers_and_categories_are_made_and_changed(client: httpx.AsyncClient) -> None:
    """The other resources can be written too."""
    customer = (await client.post("/customers", json={"email": "ann@example.org", "name": "Ann"})).json()
    twin = await client.post("/customers", json={"email": "ann@example.org", "name": "Ann"})
    assert twin.status_code == 409
    renamed = await client.patch(f"/customers/{customer['id']}", json={"name": "Anna"})
    assert renamed.json()["updated_at"] > customer["updated_at"]
    body = {"product_id": 1, "customer_id": customer["id"], "rating": 4, "body": "Good."}
    review = (await client.post("/reviews", json=body)).json()
    assert (await client.patch(f"/reviews/{review['id']}", json={"rating": 5})).json()["rating"] == 5
    assert (await client.get(f"/reviews?customer_id={customer['id']}")).json()["items"][0]["rating"] == 5
    assert (await client.delete(f"/reviews/{review['id']}")).status_code == 204
    category = (await client.post("/categories", json={"name": "Lamps", "parent_id": 1})).json()
    assert (await client.patch(f"/categories/{category['id']}", json={"name": "Light"})).json()["name"] == "Light"


@pytest.mark.parametrize("planted", PLANTED, ids=[planted.module for planted in PLANTED])
async def test_faults_answer(client: httpx.AsyncClient, planted: Planted) -> None:
    """A planted fault is a fault of cost, not of outcome."""
    call = planted.make(Dice(random.Random(1), SIZES))
    response = await client.request(call.method, call.path, json=call.json, headers=call.headers)
    assert response.status_code == (202 if planted.module == "background" else 200)
    assert response.text


async def test_searches_and_exports_show_rows(client: httpx.AsyncClient) -> None:
    """The seeded shop is large enough for the faults to show."""
    assert (await client.get("/faults/slow-search?q=TITANIUM")).json()["items"]
    assert len((await client.get("/faults/streaming")).text.splitlines()) == 26
    assert len((await client.get("/faults/lazy-load")).json()) == 25
    activity = (await client.get("/faults/row-explosion?limit=10")).json()
    assert sum(len(customer["orders"]) * len(customer["reviews"]) for customer in activity) > 500


async def test_nobody_has_no_profile(client: httpx.AsyncClient) -> None:
    """An unknown address is a 401."""
    response = await client.get("/faults/duplicate-reads", headers={"X-Customer-Email": "nobody@example.org"})
    assert response.status_code == 401
