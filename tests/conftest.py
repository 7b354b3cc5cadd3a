"""One shop of 200,000 rows for all tests that want a large one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.shopping import furnish


@pytest.fixture(scope="session")
def seeded(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a shop that is migrated and filled; what a test adds to its schema, it takes away again."""
    with new_database() as url:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # `run` unsets pytest-asyncio's loop
            runner.run(furnish(url))
        yield url
