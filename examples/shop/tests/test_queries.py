"""How many statements the shop's endpoints send; written with querytoll's own assertions."""

import httpx
import pytest

from querytoll.testing import assert_max_queries, assert_no_findings, assert_no_n_plus_one, assert_num_queries, record

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_page_of_orders_costs_the_same_for_any_number_of_orders(client: httpx.AsyncClient) -> None:
    """Eager loading takes one statement per relationship, not per order."""
    with record() as few:
        await client.get("/orders?limit=2")
    with record() as many:
        await client.get("/orders?limit=25")
    assert few.count == many.count


async def test_a_product_takes_few_statements(client: httpx.AsyncClient) -> None:
    """A single object is read with a fixed number of statements."""
    with assert_max_queries(3):
        await client.get("/products/1")


async def test_the_category_tree_takes_one_statement(client: httpx.AsyncClient) -> None:
    """The tree is read at once, not level by level."""
    async with assert_num_queries(1):
        await client.get("/categories")


@pytest.mark.parametrize("path", ["/products", "/orders", "/customers", "/customers/1", "/reviews?product_id=1"])
async def test_clean_endpoints_load_nothing_per_row(client: httpx.AsyncClient, path: str) -> None:
    """No endpoint outside of the planted faults has an N+1, or any other finding."""
    with assert_no_n_plus_one(), assert_no_findings():
        await client.get(path)


async def test_the_planted_lazy_load_is_an_n_plus_one(client: httpx.AsyncClient) -> None:
    """The assertion fails where it should, and its message names the relationship and the line."""
    with pytest.raises(AssertionError) as failure, assert_no_n_plus_one():
        await client.get("/faults/lazy-load")
    assert "Order.items" in str(failure.value)
    assert "lazy_load.py:" in str(failure.value)
