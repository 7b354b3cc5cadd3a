"""What the tests of loads need around them: a filled database, an engine, and proof that nothing stays installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from inspect import getattr_static

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute

from querytoll.capture import attach, detach, listeners, reads
from tests.detect.shelf import Order, create
from tests.detect.shop import sync


@pytest.fixture
def unwatched() -> Iterator[None]:
    """Listeners and descriptors are as before."""
    listened = event.contains(Engine, "do_execute", listeners.do_execute)
    yield
    reads.detach()
    attach() if listened else detach()
    assert type(getattr_static(Order, "items")) is InstrumentedAttribute


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    """The module's database with its tables filled."""
    engine = create_engine(sync(postgres_url))
    with engine.begin() as connection:
        create(connection)
    engine.dispose()
    return postgres_url


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(url)
    yield made
    await made.dispose()
