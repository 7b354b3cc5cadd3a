"""The promise: nothing that can write is ever executed a second time, on PostgreSQL 18 and on Debian's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from querytoll.explain.estimate import Estimate, Limits, estimate
from querytoll.explain.own import Examined, Wanted, examine, own_engine
from querytoll.explain.ports import port_of, run
from querytoll.explain.scan import scan
from tests.explain.adversaries import CHANGING, READING, SCHEMA, WRONGLY_REFUSED
from tests.explain.servers import execute

STATE = """
    SELECT (SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o), (SELECT count(*) FROM log),
           (SELECT count(*) FROM doomed), (SELECT last_value::text || is_called FROM seq),
           (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_largeobject_metadata),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_replication_slots),
           (SELECT sum(xmin::text::bigint) FROM orders), (SELECT sum(xmax::text::bigint) FROM orders)
"""
MARK = Path("/tmp/querytoll-adversary")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def filled(url: str) -> Iterator[str]:
    number = f"{next(_numbers)}_{abs(hash(url))}"
    execute(url, SCHEMA.replace("{number}", number))
    yield url
    execute(url, f"DROP OWNED BY querytoll_app_{number}", f"DROP ROLE querytoll_app_{number}")


@pytest.fixture(scope="module")
def engine(filled: str) -> Iterator[Engine]:
    engine = create_engine(make_url(filled).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def own(engine: Engine) -> Iterator[Connection]:
    with own_engine(engine).connect() as connection:
        yield connection


def judged(engine: Engine, own: Connection, statement: str, role: str = "NONE") -> Examined | str:
    """What the sampler does with a slow statement, without the statement itself; the reason where nothing ran."""
    if not scan(statement).explainable:
        return "not explained at all"
    limits = Limits(1.0, 0.5)
    statement = statement.replace("%", "%%")  # as SQLAlchemy gives it to psycopg
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET ROLE {role}")
        port = port_of(connection.connection.dbapi_connection, engine.dialect)
        assert port is not None
        try:
            known: Estimate = run(port, estimate(port, statement, (), limits))
        except psycopg.Error as error:
            return type(error).__name__
        assert connection.exec_driver_sql("SELECT current_setting('transaction_read_only')").scalar_one() == "off"
    try:
        return examine(own, Wanted(statement, None, known, 0.01, True), limits, 10.0)
    except DBAPIError as error:
        own.rollback()
        return f"the server refused: {error.orig}"


@pytest.fixture(scope="module")
def witness(filled: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(filled, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def application(witness: psycopg.Connection[Any]) -> str:
    """Row-level security does not hold for the superuser as whom everything else is tried."""
    row = witness.execute(
        "SELECT grantee FROM information_schema.role_table_grants"
        " WHERE table_name = 'policed' AND grantee <> 'postgres'"
    ).fetchone()
    assert row is not None
    return str(row[0])


@contextmanager
def unchanged(witness: psycopg.Connection[Any]) -> Iterator[None]:
    """Nothing in the database, nor beside it, is different afterwards."""
    MARK.unlink(missing_ok=True)
    before = witness.execute(STATE).fetchall()
    yield
    assert witness.execute(STATE).fetchall() == before
    assert not MARK.exists()


def test_the_set_is_large_enough() -> None:
    """The adversary gets many tries."""
    assert len(CHANGING) >= 190
    assert len(READING) >= 75


@pytest.mark.parametrize("name", CHANGING)
def test_what_can_write_is_refused_and_leaves_no_trace(
    witness: psycopg.Connection[Any], application: str, engine: Engine, own: Connection, name: str
) -> None:
    """No statement that changes anything passes the judge, and asking about it changes nothing either."""
    with unchanged(witness):
        answer = judged(engine, own, CHANGING[name], application if "policy" in name else "NONE")
    if isinstance(answer, Examined):
        assert not answer.analyzed
        assert answer.reason


@pytest.mark.parametrize("name", READING)
def test_reads_are_executed_again(
    witness: psycopg.Connection[Any], application: str, engine: Engine, own: Connection, name: str
) -> None:
    """Ordinary reads are proven to be, and analysed."""
    with unchanged(witness):
        answer = judged(engine, own, READING[name], application if "policy" in name else "NONE")
    assert isinstance(answer, Examined), answer
    assert answer.reason is None
    assert answer.analyzed


@pytest.mark.parametrize("name", WRONGLY_REFUSED)
def test_what_is_wrongly_refused_is_known(
    witness: psycopg.Connection[Any], engine: Engine, own: Connection, name: str
) -> None:
    """The price of strictness: these reads keep their plain plan."""
    with unchanged(witness):
        answer = judged(engine, own, WRONGLY_REFUSED[name])
    assert isinstance(answer, Examined)
    assert not answer.analyzed


def test_a_cast_function_of_the_users_own_stops_every_analysis(filled: str, engine: Engine, own: Connection) -> None:
    """An implicit cast is in no plan: while the database has one with a function, nothing is executed again."""
    execute(
        filled,
        "CREATE FUNCTION to_mood(t text) RETURNS mood LANGUAGE sql AS $$ SELECT 'glad'::mood FROM nextval('seq') $$",
        "CREATE CAST (text AS mood) WITH FUNCTION to_mood AS IMPLICIT",
    )
    try:
        answer = judged(engine, own, "SELECT id FROM orders")
        assert isinstance(answer, Examined)
        assert answer.reason == "user-defined cast to mood"
    finally:
        execute(filled, "DROP CAST (text AS mood)")


def test_a_comparison_of_the_users_own_stops_every_analysis(filled: str, engine: Engine, own: Connection) -> None:
    """What an operator class calls to compare is in no plan either."""
    execute(
        filled,
        "CREATE FUNCTION compared(a int, b int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN PERFORM pg_advisory_lock(9); RETURN a - b; END $$",
        "CREATE OPERATOR CLASS sneaky_ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,"
        " OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compared(int, int)",
        "CREATE INDEX sneaky ON customers (id sneaky_ops)",
    )
    try:
        answer = judged(engine, own, "SELECT name FROM customers WHERE id < 7")
        assert isinstance(answer, Examined)
        assert answer.reason == "user-defined support function compared"
    finally:
        execute(filled, "DROP OPERATOR FAMILY sneaky_ops USING btree CASCADE", "DROP FUNCTION compared")


def test_an_operator_that_hides_an_ordinary_one_is_seen(filled: str, engine: Engine, own: Connection) -> None:
    """`=` is not what it was when somebody's own `=` is in the search path."""
    execute(filled, f"ALTER DATABASE {make_url(filled).database} SET search_path = hidden, public")
    try:
        with own.engine.connect() as fresh:
            engine.dispose()
            answer = judged(engine, fresh, "SELECT id FROM orders WHERE id = 7")
        assert isinstance(answer, Examined)
        assert answer.reason == "user-defined operator ="
    finally:
        execute(filled, f"ALTER DATABASE {make_url(filled).database} RESET search_path")
        engine.dispose()
