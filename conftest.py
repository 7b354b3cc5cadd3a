"""Real PostgreSQL for every test that asks for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import hypothesis
import psycopg
import pytest

from scripts.postgres import CACHE, Server, ServerError, embedded
from tests.explain import servers

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search")
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of the URL `QUERYTOLL_TEST_POSTGRES`, else an embedded one that all workers and sessions share.

    Where `QUERYTOLL_TEST_PROGRAMS` names the programs of a server, it is that one.
    """
    if servers.GIVEN:
        yield request.getfixturevalue("debian_server")
        return
    given = os.environ.get("QUERYTOLL_TEST_POSTGRES")
    try:
        with nullcontext(Server(given)) if given else embedded(CACHE / "postgres-18") as server:
            _execute(server, "SELECT 1") if given else _drop_abandoned(server)
            yield server
    except (ServerError, psycopg.OperationalError) as error:
        give_up = pytest.fail if "PYTEST_XDIST_WORKER" in os.environ else pytest.exit
        give_up(f"No database to test against: {error}")


@pytest.fixture(scope="session")
def new_database(postgres_server: Server) -> Callable[[], AbstractContextManager[str]]:
    """Make an empty database, give SQLAlchemy's asyncpg URL of it, and drop it afterwards."""

    @contextmanager
    def database() -> Iterator[str]:
        name = f"querytoll_test_{os.getpid()}_{next(_numbers)}"
        _execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield postgres_server.url(name)
        finally:
            _execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")

    return database


@pytest.fixture(scope="module")
def postgres_url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """SQLAlchemy's asyncpg URL of a database that is empty and the module's own."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="session")
def debian_server() -> Iterator[Server]:
    """Debian's own PostgreSQL 15, or the one that is given, on data of its own; skips where it is not installed."""
    if not servers.PROGRAMS.exists():
        pytest.skip(servers.ABSENT)
    with servers.private(shared_preload_libraries="pg_stat_statements") as server:
        yield server


def _execute(server: Server, statement: str) -> list[tuple[str, ...]]:
    with psycopg.connect(server.url(driver=None), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def _drop_abandoned(server: Server) -> None:
    """Drop the databases of sessions that were killed; the number in the name is their process."""
    for (name,) in _execute(server, r"SELECT datname FROM pg_database WHERE datname LIKE 'querytoll\_test\_%'"):
        try:
            os.kill(int(name.split("_")[2]), 0)
        except ProcessLookupError:
            _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
