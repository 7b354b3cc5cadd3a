"""A history in each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.history.making import BACKENDS, NewDatabase, database


@pytest.fixture(scope="module", params=BACKENDS)
def url(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A history's database, with tables that are the module's own."""
    with ExitStack() as stack:
        yield database(request.param, new_database, tmp_path_factory.mktemp("history"), stack)


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    with ExitStack() as stack:
        yield database(request.param, new_database, tmp_path, stack, empty=True)


@pytest.fixture(scope="module")
def postgres_history(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A history in PostgreSQL."""
    with ExitStack() as stack:
        yield database("asyncpg", new_database, tmp_path_factory.mktemp("history"), stack)
