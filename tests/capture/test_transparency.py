"""Promise 1: with us everything is as without us - results, exceptions, and what other people's listeners see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import CursorResult, Engine, create_engine, event, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from querytoll.callsite import CallSites
from querytoll.capture import Capture, Window, attach, connections, detach, listeners, orm, stream
from querytoll.capture import window as window_module
from tests.capture.models import Author, Shelf
from tests.capture.watching import Database, Watch, run, sync_of

Watching = Callable[[], Watch]
ONE = text("SELECT 1")
ALL = ("asyncpg", "psycopg-async", "psycopg", "aiosqlite", "sqlite")
EVENTS = ("do_execute", "do_executemany", "do_execute_no_params")


def of(engine: Any) -> Engine:
    return sync_of(engine)


# Exceptions

STRANGE = object()


def in_a_failed_transaction(connection: Connection) -> None:
    with contextlib.suppress(DBAPIError):
        connection.execute(text("SELECT * FROM nowhere"))
    connection.execute(ONE)
    raise LookupError("SQLite goes on after an error")


def in_an_invalid_session(connection: Connection) -> None:
    with Session(connection) as session:
        session.add_all([Author(id=1, name="x", biography="")])
        with contextlib.suppress(DBAPIError):
            session.flush()
        session.execute(ONE)
    raise LookupError("the session went on")


def inside_a_savepoint(connection: Connection) -> None:
    with connection.begin_nested():
        connection.execute(text("INSERT INTO authors (id, name, biography) VALUES (1, 'x', 'y')"))


FAILURES: dict[str, Callable[[Connection], Any]] = {
    "syntax": lambda c: c.execute(text("SELEKT 1")),
    "no such table": lambda c: c.execute(text("SELECT * FROM nowhere")),
    "unique": lambda c: c.execute(insert(Author).values(id=1, name="x", biography="")),
    "executemany": lambda c: c.execute(
        text("INSERT INTO authors (id, name, biography) VALUES (:id, 'x', '')"), [{"id": 100}, {"id": 1}]
    ),
    "insertmanyvalues": lambda c: c.execute(
        insert(Author).returning(Author.id), [{"id": n, "name": "x", "biography": ""} for n in (100, 1)]
    ),
    "driver sql": lambda c: c.exec_driver_sql("SELEKT 1"),
    "without parameters": lambda c: c.execution_options(no_parameters=True).exec_driver_sql("SELEKT 1"),
    "wrong parameters": lambda c: c.execute(text("SELECT :missing")),
    "unknown type": lambda c: c.execute(text("SELECT * FROM authors WHERE id = :id"), {"id": STRANGE}),
    "stream": lambda c: c.execution_options(stream_results=True).execute(text("SELECT * FROM nowhere")).all(),
    "session": in_an_invalid_session,
    "transaction": in_a_failed_transaction,
    "savepoint": inside_a_savepoint,
    "the application's own": lambda c: [c.execute(ONE), {}["key"]],
}


def shown(error: BaseException | None) -> Any:
    """All that the application can tell of an exception, but for its traceback and the addresses of objects."""
    if error is None:
        return None
    facts = {
        name: repr(getattr(error, name, None))
        for name in ("statement", "connection_invalidated", "code", "ismulti", "detail", "hide_parameters")
    }
    return (
        type(error),
        [re.sub(r"c_\w+", "cursor", each) if isinstance(each, str) else type(each) for each in error.args],
        facts,
        getattr(error, "__notes__", None),
        error.__suppress_context__,
        shown(error.__cause__),
        shown(error.__context__),
        shown(getattr(error, "orig", None)) if not isinstance(getattr(error, "orig", None), type(error)) else None,
    )


async def raised_by(engine: Any, work: Callable[[Connection], Any]) -> Any:
    try:
        await run(engine, work)
    except Exception as error:
        return shown(error)
    return "nothing"


@pytest.mark.drivers("asyncpg", "psycopg-async", "sqlite")
@pytest.mark.parametrize("failure", FAILURES)
async def test_an_exception_is_the_same_with_and_without_us(database: Database, watch: Watching, failure: str) -> None:
    """Type, arguments, cause, context, notes and all of `DBAPIError`'s attributes."""
    engine = database.engine()
    bare = await raised_by(engine, FAILURES[failure])
    with watch():
        watched = await raised_by(engine, FAILURES[failure])
    detach()
    unlistened = await raised_by(engine, FAILURES[failure])
    assert bare == watched == unlistened != "nothing"


@pytest.mark.drivers("asyncpg", "psycopg-async")
@pytest.mark.parametrize("message", [None, "because"])
async def test_a_cancellation_passes_through(database: Database, watch: Watching, message: str | None) -> None:
    """With its message, and `uncancel` and all: `asyncio.timeout` still tells its own from others'."""
    engine = database.engine()

    async def sleep() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))

    with watch():
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0.05)
        task.cancel(message)
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert task.cancelled()
        assert cancelled.value.args == (() if message is None else (message,))
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sleep()


# Results

RESULTS: dict[str, Callable[[Connection], Any]] = {
    "rows": lambda c: c.execute(select(Author.id, Author.name)).all(),
    "keys": lambda c: list(c.execute(select(Author.id, Author.name)).keys()),
    "rowcount": lambda c: c.execute(update(Author).values(name=Author.name)).rowcount,
    "select rowcount": lambda c: c.execute(select(Author.id)).rowcount,
    "many rowcount": lambda c: c.execute(insert(Shelf), [{"label": "a"}, {"label": "b"}]).rowcount,
    "primary key": lambda c: type(c.execute(insert(Shelf).values(label="x")).inserted_primary_key[0]),
    "explicit key": lambda c: c.execute(insert(Shelf).values(id=77, label="x")).inserted_primary_key,
    "lastrow params": lambda c: c.execute(insert(Shelf).values(id=77, label="x")).last_inserted_params(),
    "returned": lambda c: c.execute(insert(Shelf).values(id=77, label="x").returning(Shelf.id, Shelf.label)).one(),
    "returns no rows": lambda c: c.execute(update(Author).values(name=Author.name)).returns_rows,
    "closed": lambda c: c.execute(update(Author).values(name=Author.name)).closed,
    "freeze": lambda c: c.execute(select(Author.id)).freeze()().all(),
    "preserved rowcount": lambda c: (
        c.execute(
            insert(Shelf).returning(Shelf.label),
            [{"label": f"{n}"} for n in range(5)],
            execution_options={"preserve_rowcount": True, "insertmanyvalues_page_size": 2},
        ).rowcount
    ),
}


@pytest.mark.drivers("asyncpg", "psycopg", "sqlite")
@pytest.mark.parametrize("result", RESULTS)
async def test_a_result_is_the_same_with_and_without_us(database: Database, watch: Watching, result: str) -> None:
    engine = database.engine()
    bare = await run(engine, RESULTS[result])
    with watch() as seen:
        assert await run(engine, RESULTS[result]) == bare
    assert len(seen.statements) >= 1


@pytest.mark.parametrize("ordered", [False, True])
async def test_insertmanyvalues_returns_its_rows_in_the_order_of_the_parameters(
    database: Database, watch: Watching, ordered: bool
) -> None:
    """`sort_by_parameter_order` over several batches, as the unit of work needs it."""
    engine = database.engine()
    labels = [f"label {n}" for n in (5, 3, 9, 1, 7, 2, 8)]

    def work(connection: Connection) -> list[str]:
        result = connection.execute(
            insert(Shelf).returning(Shelf.label, sort_by_parameter_order=ordered),
            [{"label": label} for label in labels],
            execution_options={"insertmanyvalues_page_size": 3},
        )
        return list(result.scalars())

    bare = await run(engine, work)
    with watch():
        watched = await run(engine, work)
    assert sorted(watched) == sorted(bare) == sorted(labels)
    if ordered:
        assert watched == bare == labels


async def test_flushed_objects_have_their_own_keys(database: Database, watch: Watching) -> None:
    engine = database.engine()

    def work(connection: Connection) -> bool:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            shelves = [Shelf(label=f"{n}") for n in range(30)]
            session.add_all(shelves)
            session.flush()
            labels = {row.id: row.label for row in session.execute(select(Shelf.id, Shelf.label))}
            return all(labels[shelf.id] == shelf.label for shelf in shelves)

    with watch():
        assert await run(engine, work)


# Other people's listeners on the dialect events

Call = tuple[str, str]


class Recorder:
    """A library that listens to the same dialect events.

    Args:
        answer: what its listener returns; True: it ran the statement itself.
    """

    def __init__(self, answer: bool | None = None) -> None:
        self.calls: list[Call] = []
        self.answer = answer

    def listeners(self) -> dict[str, Callable[..., bool | None]]:
        return {name: self._listener(name) for name in EVENTS}

    def _listener(self, name: str) -> Callable[..., bool | None]:
        def listen(cursor: Any, statement: str, *rest: Any) -> bool | None:
            self.calls.append((name, statement))
            if self.answer:
                getattr(rest[-1].dialect, name)(cursor, statement, *rest)
            return self.answer

        return listen


@contextlib.contextmanager
def listening(target: Any, recorder: Recorder, **options: Any) -> Iterator[None]:
    made = recorder.listeners()
    for name, listener in made.items():
        event.listen(target, name, listener, **options)
    try:
        yield
    finally:
        for name, listener in made.items():
            event.remove(target, name, listener)


def everything(connection: Connection) -> Any:
    """One statement through each of the events, and two batches."""
    connection.execute(text("INSERT INTO shelves (label) VALUES (:label)"), [{"label": "a"}, {"label": "b"}])
    connection.exec_driver_sql("SELECT name FROM authors", execution_options={"no_parameters": True}).all()
    labels = [{"label": f"{n}"} for n in range(4)]
    options = {"insertmanyvalues_page_size": 2}
    found = connection.execute(insert(Shelf).returning(Shelf.label), labels, execution_options=options).all()
    return len(found), connection.scalar(ONE)


EXPECTED = ["do_executemany", "do_execute_no_params", "do_execute", "do_execute", "do_execute"]
PLACES = ["class, before ours", "class, after ours", "engine", "engine, first"]


@contextlib.contextmanager
def placed(engine: Any, recorder: Recorder, place: str) -> Iterator[None]:
    """Listen at a place relative to ours."""
    if place == "class, before ours":
        detach()
        with listening(Engine, recorder):
            attach()
            yield
    elif place == "class, after ours":
        with listening(Engine, recorder):
            yield
    else:
        with listening(of(engine), recorder, insert=place.endswith("first")):
            yield


@pytest.mark.drivers("asyncpg", "psycopg", "sqlite")
@pytest.mark.parametrize("answer", [None, True], ids=["looks on", "executes"])
@pytest.mark.parametrize("place", PLACES)
async def test_another_librarys_listener_is_called_exactly_once(
    database: Database, watch: Watching, place: str, answer: bool | None
) -> None:
    """Before or behind ours, on the class or on the engine: once per call of the driver, and its answer counts.

    One that executes and stands before ours ends the chain, as SQLAlchemy says: we see nothing then.
    """
    engine = database.engine()
    await run(engine, lambda c: c.execute(ONE))
    recorder = Recorder(answer)
    with placed(engine, recorder, place):
        bare = await run(engine, everything)
        alone, recorder.calls = recorder.calls, []
        with watch() as seen:
            assert await run(engine, everything) == bare == (4, 1)
    assert [name for name, _ in recorder.calls] == EXPECTED
    assert recorder.calls == alone
    unseen = answer and place == "class, before ours"
    assert len(seen.statements) == (0 if unseen else 5)


@pytest.mark.drivers("asyncpg", "sqlite")
async def test_a_statement_runs_once_however_many_listen(database: Database, watch: Watching) -> None:
    """Three libraries, one of which executes, ours on the class and on the engine: one row is written."""
    engine = database.engine()
    await run(engine, lambda c: c.execute(ONE))
    first, second, third = Recorder(), Recorder(True), Recorder()
    attach([engine])
    with (
        listening(Engine, first),
        listening(of(engine), second),
        listening(of(engine), third),
        watch() as seen,
    ):
        rows = await run(
            engine,
            lambda c: (c.execute(insert(Shelf).values(label="x")), c.scalar(text("SELECT count(*) FROM shelves")))[1],
        )
    detach([engine])
    assert rows == 1
    assert (len(first.calls), len(second.calls), len(third.calls)) == (2, 2, 0)
    assert len(seen.statements) == 2


@pytest.mark.drivers("asyncpg", "sqlite")
@pytest.mark.parametrize("place", PLACES)
async def test_another_librarys_exception_reaches_the_application(
    database: Database, watch: Watching, place: str
) -> None:
    engine = database.engine()

    class Refusing(Recorder):
        def _listener(self, name: str) -> Callable[..., bool | None]:
            def listen(*args: Any) -> bool | None:
                raise PermissionError("read only")

            return listen

    await run(engine, lambda c: c.execute(ONE))
    with placed(engine, Refusing(), place):
        bare = await raised_by(engine, lambda c: c.execute(ONE))
        with watch():
            watched = await raised_by(engine, lambda c: c.execute(ONE))
    assert watched == bare
    assert bare[0] is PermissionError


# Other people's listeners on connection events


@pytest.mark.drivers("asyncpg", "psycopg", "aiosqlite")
@pytest.mark.parametrize("way", ["single", "many", "batches", "failing"])
async def test_cursor_events_of_others_are_as_without_us(database: Database, watch: Watching, way: str) -> None:
    """Same calls, same arguments, same order; theirs see the cursor before and after it ran."""
    engine = database.engine()
    works: dict[str, Callable[[Connection], Any]] = {
        "single": lambda c: c.execute(select(Author.id).where(Author.id == 1)).all(),
        "many": lambda c: c.execute(text("INSERT INTO shelves (label) VALUES (:l)"), [{"l": "a"}, {"l": "b"}]),
        "batches": lambda c: c.execute(
            insert(Shelf).returning(Shelf.id),
            [{"label": f"{n}"} for n in range(4)],
            execution_options={"insertmanyvalues_page_size": 2},
        ).all(),
        "failing": lambda c: c.execute(text("SELEKT")),
    }
    calls: list[Any] = []

    def note(name: str) -> Callable[..., None]:
        def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
            calls.append((name, statement, repr(parameters), executemany, cursor.description is not None))

        return listen

    def failed(context: Any) -> None:
        calls.append(("error", type(context.original_exception), type(context.sqlalchemy_exception), context.statement))

    event.listen(of(engine), "before_cursor_execute", note("before"))
    event.listen(of(engine), "after_cursor_execute", note("after"))
    event.listen(of(engine), "handle_error", failed)
    with contextlib.suppress(DBAPIError):
        await run(engine, works[way])
    bare, calls = calls, []
    with watch() as seen, contextlib.suppress(DBAPIError):
        await run(engine, works[way])
    assert calls == bare != []
    assert len(seen.statements) == (2 if way == "batches" else 1)


async def test_a_statement_that_others_change_runs_changed_and_is_seen_changed(
    database: Database, watch: Watching
) -> None:
    """`before_cursor_execute(retval=True)`: sqlcommenter and its kin."""
    engine = database.engine()

    @event.listens_for(of(engine), "before_cursor_execute", retval=True)
    def comment(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        return f"{statement.replace('1', '41 + 1')} /* route='x' */", parameters

    with watch() as seen:
        assert await run(engine, lambda c: c.scalar(ONE)) == 42
    assert seen.texts == ["SELECT 41 + 1 /* route='x' */"]


async def test_execute_events_of_others_are_as_without_us(database: Database, watch: Watching) -> None:
    engine = database.engine()
    calls: list[str] = []
    target = of(engine)

    @event.listens_for(target, "before_execute", retval=True)
    def before(conn: Any, clause: Any, multi: Any, params: Any, options: Any) -> tuple[Any, Any, Any]:
        calls.append("before")
        return clause, multi, params

    @event.listens_for(target, "after_execute")
    def after(conn: Any, clause: Any, multi: Any, params: Any, options: Any, result: Any) -> None:
        calls.append("after")

    for name in ("begin", "commit", "rollback"):
        event.listen(target, name, lambda conn, name=name: calls.append(name))
    for name in ("checkout", "checkin"):
        event.listen(target, name, lambda *args, name=name: calls.append(name))

    def work(connection: Connection) -> None:
        connection.execute(ONE)
        connection.commit()
        connection.execute(ONE)
        connection.rollback()

    await run(engine, work)
    bare, calls[:] = list(calls), []
    with watch():
        await run(engine, work)
    assert calls == bare
    assert calls.count("before") == calls.count("after") == 2


@pytest.mark.parametrize("how", ["replace", "raise", "disconnect"])
async def test_handle_error_of_others_is_called_once_and_decides(database: Database, watch: Watching, how: str) -> None:
    """It may replace the exception or call the connection lost; we neither add a call nor take one away."""
    engine = database.engine()
    calls: list[type] = []

    @event.listens_for(of(engine), "handle_error", retval=how == "replace")
    def decide(context: Any) -> BaseException | None:
        calls.append(type(context.original_exception))
        if how == "raise":
            raise LookupError("raised")
        if how == "disconnect":
            context.is_disconnect = True
        return LookupError("replaced") if how == "replace" else None

    bare = await raised_by(engine, FAILURES["syntax"])
    with watch() as seen:
        assert await raised_by(engine, FAILURES["syntax"]) == bare
    assert len(calls) == 2
    assert calls[0] is calls[1]
    assert seen.only.error in {"42601", "OperationalError"}
    if how != "disconnect":
        assert bare[0] is LookupError


@pytest.mark.drivers("asyncpg", "sqlite")
async def test_what_sqlalchemy_logs_is_as_without_us(
    database: Database, watch: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    engine = database.engine()
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"):
        await run(engine, lambda c: c.execute(select(Author.id)).all())
        caplog.clear()
        await run(engine, lambda c: c.execute(select(Author.id)).all())
        bare = texts(caplog)
        with watch():
            await run(engine, lambda c: c.execute(select(Author.id)).all())
        assert texts(caplog) == bare != []


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage().partition(" in ")[0].partition("cached since")[0] for record in caplog.records]
    caplog.clear()
    return found


@pytest.mark.drivers("sqlite", "psycopg")
def test_a_pool_that_others_have_wrapped_still_works(database: Database, watch: Watching) -> None:
    """Somebody else replaced `pool.connect` first: theirs is called, once per checkout."""
    engine = of(database.engine())
    pool: Any = engine.pool
    original, calls = pool.connect, []

    def counted() -> Any:
        calls.append(1)
        return original()

    pool.connect = counted
    with watch() as seen:
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(ONE)
    assert len(calls) == 3
    assert len(seen.statements) == len(seen.trace.connections) == 3


@pytest.mark.drivers("sqlite")
async def test_a_base_exception_of_the_application_passes(database: Database, watch: Watching) -> None:
    """`KeyboardInterrupt` in the middle of a statement: it is recorded, and goes on its way."""
    engine = of(database.engine())

    @event.listens_for(engine, "do_execute")
    def interrupt(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if "interrupt" in statement:
            raise KeyboardInterrupt

    with watch() as seen, pytest.raises(KeyboardInterrupt), engine.connect() as connection:
        connection.execute(text("SELECT 'interrupt'"))
    assert seen.only.error == "KeyboardInterrupt"


# Faults of our own


def explode(*args: Any, **options: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


INJECTIONS: dict[str, tuple[Any, str]] = {
    "span": (listeners, "_span"),
    "binds": (listeners, "binds_of"),
    "tap": (connections, "tap_of"),
    "call": (listeners, "Call"),
    "call site": (CallSites, "stack"),
    "subject": (orm, "subject"),
    "only": (Window, "sees"),
    "annotate": (listeners, "annotate"),
    "code": (listeners, "code_of"),
    "checkout": (Window, "checked_out"),
    "hold": (connections, "Link"),
    "wait": (connections, "_note_checkout"),
    "failure": (connections, "_note_failure"),
    "tell": (connections, "_tell"),
}


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """A capture whose faults are expected, on a clean count of the pool's."""
    made = Capture(CallSites(__file__))  # type: ignore[arg-type]
    made.only = None
    monkeypatch.setattr(connections.faults, "counts", Counter())
    monkeypatch.setattr(connections.faults, "_logged", set())
    yield made
    assert all("requests go on" in record.getMessage() for record in caplog.get_records("call"))


@pytest.mark.drivers("sqlite")
async def test_a_fault_of_ours_on_a_connection_that_was_out_before(
    database: Database, faulty: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not known of it is made at its first statement, which runs whatever becomes of that."""
    with of(database.engine()).connect() as connection:
        monkeypatch.setattr(connections, "link_of", explode)
        with Watch(faulty) as seen:
            assert connection.scalar(text("SELECT 1")) == 1
    assert seen.statements == ()
    assert faulty.faults.counts["capture"] == 1


@pytest.mark.drivers("asyncpg", "psycopg", "sqlite")
@pytest.mark.parametrize("injection", INJECTIONS)
async def test_a_fault_of_ours_never_reaches_the_application(
    database: Database, faulty: Capture, monkeypatch: pytest.MonkeyPatch, injection: str
) -> None:
    """Wherever it happens: the application gets its rows and its exceptions, the fault is counted and logged once."""
    engine = database.engine(pool_size=1, max_overflow=0)

    def work(connection: Connection) -> Any:
        rows = connection.execute(select(Author.id).order_by(Author.id)).scalars().all()
        connection.commit()
        with pytest.raises(DBAPIError, match="SELEKT"):
            connection.execute(text("SELEKT"))
        connection.rollback()
        with Session(connection) as session:
            assert len(session.get_one(Author, 1).books) == 2
        return rows

    await run(engine, work)
    if injection == "only":
        faulty.only = frozenset([id(of(engine).dialect)])
    with Watch(faulty):
        monkeypatch.setattr(*INJECTIONS[injection], explode)
        assert await run(engine, work) == [1, 2, 3]
        assert await run(engine, work) == [1, 2, 3]
    if injection != "failure":
        assert faulty.faults.counts["capture"] + connections.faults.counts["capture"] >= 1


@pytest.mark.drivers("asyncpg", "sqlite")
@pytest.mark.parametrize("outer", [False, True])
async def test_a_fault_in_one_window_is_logged_once(
    database: Database, faulty: Capture, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, outer: bool
) -> None:
    """A hundred faults of one kind are a hundred counts and one line."""
    engine = database.engine()
    with Watch(faulty), Watch(faulty) if outer else contextlib.nullcontext():
        monkeypatch.setattr(orm, "subject", explode)
        await run(engine, lambda c: [c.execute(ONE) for _ in range(100)])
    assert faulty.faults.counts == {"capture": 100}
    assert len([record for record in caplog.records if record.name == "querytoll"]) == 1


@pytest.mark.drivers("asyncpg", "aiosqlite")
async def test_a_stream_goes_on_when_the_strategy_of_ours_cannot_be_made(
    database: Database, faulty: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy makes its own then, as without us."""
    engine = database.engine()
    monkeypatch.setattr(stream.TimedFetch, "__init__", explode)
    with Watch(faulty) as seen:
        async with engine.connect() as connection:
            result = await connection.stream(select(Author.id).order_by(Author.id))
            assert [number async for (number,) in result] == [1, 2, 3]
    assert connections.faults.counts["capture"] == 1
    assert not seen.only.streamed


def test_a_fault_outside_of_windows_never_reaches_the_application(
    sqlite_url: str, faulty: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs for nobody's sake harms nobody either."""
    for target, name in INJECTIONS.values():
        monkeypatch.setattr(target, name, explode)
    monkeypatch.setattr(window_module, "_outlived", explode)
    engine = create_engine(sqlite_url, poolclass=NullPool)
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.scalar(ONE) == 1
            with pytest.raises(DBAPIError):
                connection.execute(text("SELEKT"))


# Others' assumptions


@pytest.mark.drivers("sqlite", "psycopg")
def test_sqlalchemys_own_exceptions_before_a_statement_are_not_statements(database: Database, watch: Watching) -> None:
    """A parameter that is missing, a session that must be rolled back: nothing was sent, nothing is counted."""
    with watch() as seen, of(database.engine()).connect() as connection:
        with pytest.raises(StatementError):
            connection.execute(text("SELECT :missing"))
        transaction = connection.begin()
        transaction.close()
        nested = connection.begin()
        connection.execute(ONE)
        nested.rollback()
        with pytest.raises((PendingRollbackError, DBAPIError, StatementError)):
            connection.execute(text("SELECT :a"), {"b": 1})
    assert seen.texts == ["SELECT 1"]


@pytest.mark.drivers("sqlite")
def test_results_are_sqlalchemys_own(database: Database, watch: Watching) -> None:
    """No proxy stands between the application and its results or connections."""
    with watch(), of(database.engine()).connect() as connection:
        assert type(connection) is Connection
        assert type(connection.execute(ONE)) is CursorResult
        assert type(connection.connection.cursor()).__module__ == "sqlite3"
