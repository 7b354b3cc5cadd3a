"""Where some code reads objects past their attributes, nothing is proven."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import lazyload, selectinload

from tests.detect import opaque
from tests.detect.shelf import Order
from tests.detect.shop import Endpoint, found, load_all

pytestmark = pytest.mark.usefixtures("unwatched")


async def _relations(session: AsyncSession) -> Any:
    return opaque.as_schemas(await load_all(session, selectinload(Order.items)))


async def _columns(session: AsyncSession) -> Any:
    return opaque.as_schemas(await session.scalars(select(Order).options(lazyload(Order.parcels))))


@pytest.mark.parametrize("endpoint", [_relations, _columns])
async def test_code_that_looks_into_objects_silences_the_rules(engine: AsyncEngine, endpoint: Endpoint) -> None:
    """A helper that the endpoint imports calls `vars()`: what it takes is not to be seen."""
    assert await found(engine, endpoint) == []
