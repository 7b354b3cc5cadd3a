"""Every driver's database, and proof that no test leaves anything behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.engine import Engine

from querytoll.callsite import CallSites
from querytoll.capture import Capture, Window, attach, detach, everywhere, listeners, window
from querytoll.capture.scope import current
from tests.capture import models
from tests.capture.watching import Database, Watch

ASYNC = ("asyncpg", "psycopg-async", "aiosqlite")
SYNC = ("psycopg", "sqlite")
POSTGRES = ("asyncpg", "psycopg-async", "psycopg")
_DRIVERS = {
    "asyncpg": "postgresql+asyncpg",
    "psycopg-async": "postgresql+psycopg_async",
    "psycopg": "postgresql+psycopg",
    "aiosqlite": "sqlite+aiosqlite",
    "sqlite": "sqlite+pysqlite",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `database` on every driver, or on those of its marker `drivers`."""
    if "driver" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("drivers")
        metafunc.parametrize("driver", marker.args if marker else _DRIVERS, scope="module")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "drivers(*names): run on these drivers only")


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SQLAlchemy's URL of a file with the tables."""
    url = f"sqlite+pysqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.db'}"
    _create_tables(url)
    return url


@pytest.fixture(scope="module")
def filled_postgres_url(postgres_url: str) -> str:
    """The module's database, with the tables."""
    _create_tables(make_url(postgres_url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    return postgres_url


def _create_tables(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        models.create(connection)
    engine.dispose()


@pytest.fixture
async def database(driver: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The database of one driver, its tables filled; all connections are back when the test ends."""
    name = "filled_postgres_url" if driver in POSTGRES else "sqlite_url"
    url = make_url(request.getfixturevalue(name)).set(drivername=_DRIVERS[driver])
    made = Database(driver, url.render_as_string(hide_password=False))
    yield made
    await made.dispose()


@pytest.fixture
def capture() -> Iterator[Capture]:
    """How windows see; a fault of ours fails the test."""
    made = Capture(CallSites(Path(__file__).parents[2]))
    yield made
    assert not made.faults.counts


@pytest.fixture
def watch(capture: Capture) -> Callable[[], Watch]:
    """Open a window: `with watch() as seen: ...`."""
    return lambda: Watch(capture)


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Listen to every engine; afterwards as before."""
    listened = event.contains(Engine, "do_execute", listeners.do_execute)
    attach()
    yield
    attach() if listened else detach()


@pytest.fixture(autouse=True)
def nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No window stays open, no scope stays set, nothing sees the whole process, no clock ticks for nobody."""
    opened: dict[int, str] = {}
    open_window, close_window = Window.open, Window.close

    def open_and_note(self: Window) -> Window:
        opened[id(self)] = self.name
        return open_window(self)

    def close_and_note(self: Window) -> None:
        opened.pop(id(self), None)
        close_window(self)

    monkeypatch.setattr(Window, "open", open_and_note)
    monkeypatch.setattr(Window, "close", close_and_note)
    assert current.get() is None
    yield
    assert current.get() is None
    assert everywhere == []
    assert opened == {}
    assert dict(window._outliving) == {}
    assert [sampler.windows for sampler in window._samplers._samplers.values() if sampler.windows] == []


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing is logged by querytoll but in tests of faults."""
    with caplog.at_level(logging.INFO, logger="querytoll"):
        yield
    if "faulty" in request.fixturenames:
        return
    assert [record.getMessage() for record in caplog.get_records("call") if record.name.startswith("querytoll")] == []
