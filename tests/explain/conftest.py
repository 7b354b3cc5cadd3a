"""The servers that plans are taken from: PostgreSQL 18 and Debian's, or the one that is given."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from querytoll.capture import stalls
from scripts.postgres import Server
from tests.explain.servers import GIVEN, execute

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["given"] if GIVEN else ["18", "15"])
def server(request: pytest.FixtureRequest) -> Server:
    """PostgreSQL 18, then Debian's; or the one that is given."""
    found: Server = request.getfixturevalue("postgres_server" if request.param == "18" else "debian_server")
    return found


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    """libpq's URL of a database that is empty and the module's own."""
    name = f"querytoll_test_{os.getpid()}_explain_{next(_numbers)}"
    execute(server.url(driver=None), f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield server.url(name, driver=None)
    finally:
        execute(server.url(driver=None), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(autouse=True)
def no_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine whole statements would count as stalls of the event loop, and not as slow."""
    monkeypatch.setattr(stalls, "STALL_SECONDS", 60.0)
