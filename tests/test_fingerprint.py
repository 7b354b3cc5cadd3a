"""Texts that are one statement share an id, others do not, and no literal gets through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Dialect,
    ForeignKey,
    Select,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.mysql import pymysql
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.dialects.sqlite import aiosqlite
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)
from sqlalchemy.pool import StaticPool

from querytoll import fingerprint
from querytoll.fingerprint import Fingerprinter, literals, patterns, shape


def ids(*texts: str) -> set[str]:
    return {shape(each).fingerprint for each in texts}


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    address_1: Mapped[str] = mapped_column(default="")
    address_2: Mapped[str] = mapped_column(default="")
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    total: Mapped[int | None]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    customer: Mapped[Customer] = relationship(back_populates="orders")
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    user: Mapped[str] = mapped_column(default="")


DIALECTS: dict[str, Dialect] = {
    "asyncpg": asyncpg.dialect(),
    "psycopg": psycopg.dialect(),
    "sqlite": aiosqlite.dialect(),
    "mysql": pymysql.dialect(),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


def compiled(statement: Any, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))


SAME = {
    "literals": ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = $1"),
    "strings": (
        "SELECT a FROM t WHERE b = 'it''s'",
        r"SELECT a FROM t WHERE b = E'it\'s'",
        "SELECT a FROM t WHERE b = $$it's$$",
        "SELECT a FROM t WHERE b = $q$ $$ it's $q$",
        r"SELECT a FROM t WHERE b = U&'d\0061t'",
        "SELECT a FROM t WHERE b = N'x'",
        "SELECT a FROM t WHERE b = B'01'",
        "SELECT a FROM t WHERE b = X'ff'",
        "SELECT a FROM t WHERE b = 'one'\n  'two'",
    ),
    "numbers": tuple(
        f"SELECT a FROM t WHERE b = {number}"
        for number in ("1", "1.5", ".5", "1.", "1e-5", "1.5E+10", "0x1F", "0b101", "0o17", "1_000", "-5", "+5", "- 5")
    ),
    "placeholders": tuple(
        f"SELECT a FROM t WHERE b = {bind}"
        for bind in (
            *("$1", "$27", "%s", "%(b)s", "%(b_1)s", "%(b_1)s::INTEGER", ":b", ":1", "?", "?1", "@p1", "@p12"),
            *("$1::INTEGER", "$1::BIGINT", "$1::TIMESTAMP WITHOUT TIME ZONE", "$1::TIMESTAMP(6) WITH TIME ZONE"),
            *("$1::NUMERIC(10, 2)", "$1::VARCHAR[]", "$1::shop.status", '$1::shop."Status"', "$1::DOUBLE PRECISION"),
            "$1::text::int",
        )
    ),
    "no space": tuple(f"SELECT a FROM t WHERE b={value}" for value in ("?", ":b", "$1", "%s", "@p1", "-1", "'x'")),
    "typed literals": (
        "SELECT a FROM t WHERE b > DATE '2030-01-01'",
        "SELECT a FROM t WHERE b > date'2030-01-01'",
        "SELECT a FROM t WHERE b > TIMESTAMP WITH TIME ZONE '2030-01-01 00:00:00+00'",
        "SELECT a FROM t WHERE b > INTERVAL '1 day'",
        "SELECT a FROM t WHERE b > '1 day'::interval",
        "SELECT a FROM t WHERE b > $1",
    ),
    "lists": (
        "SELECT a FROM t WHERE b IN (1)",
        "SELECT a FROM t WHERE b IN (1, 2, 3)",
        "SELECT a FROM t WHERE b IN (-1, NULL, 3)",
        "SELECT a FROM t WHERE b IN ('x', 'y''z', E'\\'')",
        "SELECT a FROM t WHERE b IN ($1::INTEGER, $2::INTEGER)",
        "SELECT a FROM t WHERE b IN (%(b_1_1)s::INTEGER, %(b_1_2)s::INTEGER)",
        "SELECT a FROM t WHERE b IN (?, ?, ?)",
        "SELECT a FROM t WHERE b IN (DATE '2030-01-01', TRUE)",
        "SELECT a FROM t WHERE b IN ((1), (2))",
        "SELECT a FROM t WHERE b IN ()",
    ),
    "lists of expressions": (
        "SELECT a FROM t WHERE b IN (lower($1), c)",
        "SELECT a FROM t WHERE b IN (lower($1), c, lower($2), lower('x'))",
    ),
    "lists of tuples": (
        "SELECT a FROM t WHERE (a, b) IN ((1, 2))",
        "SELECT a FROM t WHERE (a, b) IN (($1, $2), ($3, NULL))",
        "SELECT a FROM t WHERE (a, b) IN (VALUES (?, ?), (?, ?))",
    ),
    "arrays": (
        "SELECT a FROM t WHERE b = ANY(ARRAY[1, 2, 3])",
        "SELECT a FROM t WHERE b = ANY (ARRAY['x'])",
        "SELECT a FROM t WHERE b = any(array[$1::INTEGER, $2::INTEGER])",
    ),
    "nested arrays": ("SELECT ARRAY[[1, 2], [3, 4]]", "SELECT ARRAY[[$1]]"),
    "rows": (
        "INSERT INTO t (a, b) VALUES (1, 'x')",
        "INSERT INTO t (a, b) VALUES ($1::INTEGER, $2::VARCHAR), ($3::INTEGER, $4::VARCHAR)",
        "INSERT INTO t (a, b) VALUES (NULL, TRUE), (?, ?), (1, E'\\'')",
    ),
    "rows of expressions": (
        "INSERT INTO t (a, b) VALUES ($1, now())",
        "INSERT INTO t (a, b) VALUES ($1, now()), ($2, now()), (3, now())",
    ),
    "SQLAlchemy's bulk insert": (
        "INSERT INTO t (a, b) VALUES ($1::INTEGER, $2::VARCHAR) RETURNING t.id",
        "INSERT INTO t (a, b) SELECT p0::INTEGER, p1::VARCHAR FROM (VALUES ($1::INTEGER, $2::VARCHAR, 0)) "
        "AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING t.id, t.id AS id__1",
        "INSERT INTO t (a, b) SELECT p0::INTEGER, p1::VARCHAR FROM (VALUES ($1, $2, 0), ($3, $4, 1)) "
        "AS imp_sen(p0, p1, sen_counter) ORDER BY sen_counter RETURNING t.id, t.id AS id__1",
    ),
    "space, case, comments, end": (
        "SELECT a FROM t WHERE b IS NULL",
        "select  a\n\tfrom t where b is null ;",
        "Select a From t -- why\nWhere b Is Null;;",
        "/* who */ SELECT a /* outer /* inner */ ' */ FROM t WHERE b IS /**/ NULL",
    ),
    "case of functions and clauses": (
        "SELECT COUNT(*) FILTER (WHERE a > 1) OVER (PARTITION BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        "select count (*) filter (where a > 2) over (partition by b rows between 2 preceding and current row) from t",
    ),
    "case of locks": ("SELECT a FROM t FOR NO KEY UPDATE SKIP LOCKED", "select a from t for no key update skip locked"),
    "case of types": ("SELECT CAST(a AS varchar), a::int FROM t", "SELECT cast(a as VARCHAR), a::INT FROM t"),
    "anonymous names": (
        "SELECT anon_1.id, anon_2.id FROM (SELECT id FROM t) AS anon_1, (SELECT id FROM t) AS anon_2",
        "SELECT anon_4.id, anon_2.id FROM (SELECT id FROM t) AS anon_4, (SELECT id FROM t) AS anon_2",
    ),
    "anonymous aliases": (
        "SELECT items_1.id AS items_1_id FROM shop.items AS items_1 WHERE items_1.x = 1",
        "SELECT items_2.id AS items_2_id FROM shop.items AS items_2 WHERE items_2.x = 1",
    ),
    "quoted anonymous aliases": (
        'SELECT "Order_1".id FROM "Order" AS "Order_1"',
        'SELECT "Order_3".id FROM "Order" AS "Order_3"',
    ),
    "anonymous labels": (
        "SELECT count(t.id) AS count_1, t.id AS id_1 FROM t ORDER BY count_1",
        "SELECT count(t.id) AS count_3, t.id AS id_7 FROM t ORDER BY count_3",
    ),
    "chains of OR": tuple(
        f"SELECT a FROM t WHERE {' OR '.join(['(b = 1 AND c = $1)'] * n)} ORDER BY a" for n in (2, 3, 40)
    ),
    "chains of OR without parentheses": tuple(
        f"SELECT a FROM t JOIN u ON {' OR '.join(['t.i = u.i AND b LIKE $1'] * n)} WHERE c = 1 AND (d OR e)"
        for n in (2, 5)
    ),
    "limits": tuple(
        f"SELECT a FROM t LIMIT {limit} OFFSET {offset}" for limit, offset in ((10, 5), (20, "$1"), (-1, "?"))
    ),
    "needless quotes": ('SELECT "id" FROM "t"', "SELECT id FROM t", "SELECT `id` FROM `t`"),
    "escaped percent": ("SELECT a % $1 FROM t", "SELECT a %% %(a)s FROM t"),
    "JSON operators": ("SELECT a FROM t WHERE b ? 'x'", "SELECT a FROM t WHERE b ? $1", "SELECT a FROM t WHERE b ? ?"),
    "MySQL's strings": (
        "SELECT `a` FROM `T` WHERE b = 'x' AND c = 'y'",
        'SELECT `a` FROM `T` WHERE b = "it\'s" AND c = "y"',
        r"SELECT `a` FROM `T` WHERE b = 'it\'s' AND c = 'y'",
    ),
    "savepoints": ("SAVEPOINT sa_savepoint_1", "savepoint sa_savepoint_12"),
    "releases": ("RELEASE SAVEPOINT sa_savepoint_1", "release savepoint other"),
    "ways back": ("ROLLBACK TO SAVEPOINT sa_savepoint_1", "rollback to savepoint sa_savepoint_2"),
    "two phases": ("PREPARE TRANSACTION 'a'", "prepare transaction 'b'"),
}

OPERATORS = ("=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "%", "~", "~*", "@>", "<@", "&&", "<->")
JSON_OPERATORS = ("?", "?|", "?&", "@?", "@@", "->", "->>", "#>", "#>>", "||", "#-")
DIFFERENT = {
    "tables": ("SELECT a FROM t", "SELECT a FROM u", "SELECT a FROM shop.t", 'SELECT a FROM "T"'),
    "columns": ("SELECT a FROM t", "SELECT b FROM t", "SELECT a, b FROM t"),
    "numbered columns": ("SELECT address_1 FROM t", "SELECT address_2 FROM t", "SELECT t.address_1 FROM t"),
    "numbered tables": ("SELECT a FROM t_1", "SELECT a FROM t_2"),
    "numbered columns beside a label": (
        "SELECT t.address AS address_1, t.address_1 FROM t",
        "SELECT t.address AS address_2, t.address_2 FROM t",
    ),
    "labels": ("SELECT a AS x_1 FROM t", "SELECT a AS x_2 FROM t"),
    "operators": tuple(f"SELECT a FROM t WHERE b {operator} 1" for operator in OPERATORS),
    "JSON operators": tuple(f"SELECT a FROM t WHERE b {operator} 'x'" for operator in JSON_OPERATORS),
    "order": ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", "SELECT a FROM t ORDER BY b"),
    "joins": ("SELECT a FROM t JOIN u ON t.i = u.i", "SELECT a FROM t LEFT JOIN u ON t.i = u.i", "SELECT a FROM t, u"),
    "null tests": tuple(f"SELECT a FROM t WHERE b {test}" for test in ("IS NULL", "IS NOT NULL", "= 1", "IS TRUE")),
    "booleans": ("SELECT a FROM t WHERE TRUE", "SELECT a FROM t WHERE FALSE", "SELECT a FROM t WHERE NULL"),
    "difference and sign": ("SELECT a - 5 FROM t", "SELECT a, -5 FROM t"),
    "arguments": ("SELECT f(1)", "SELECT f(1, 2)"),
    "lists of columns": tuple(f"SELECT a FROM t WHERE b IN ({each})" for each in ("1", "c", "c, d", "c, 1")),
    "in and not in": ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b NOT IN (1)"),
    "a list and a tuple": ("SELECT a FROM t WHERE b IN (1, 2)", "SELECT a FROM t WHERE b IN ((1, 2))"),
    "a list and a query": ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (SELECT b FROM u)"),
    "widths of rows": ("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1, 2)"),
    "rows and defaults": ("INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (DEFAULT, 2)"),
    "one condition and a chain of OR": tuple(
        f"SELECT a FROM t WHERE {where}"
        for where in ("b = 1", "b = 1 OR b = 2", "b = 1 OR c = 2 OR b = 3", "b = 1 OR b = c")
    ),
    "elements of arrays": ("SELECT a[1] FROM t", "SELECT a[1:2] FROM t", "SELECT a[b] FROM t", "SELECT a FROM t"),
    "subscripts": ("SELECT a[i:j] FROM t", "SELECT a[i] FROM t", "SELECT a[i:k] FROM t"),
    "casts of columns": ("SELECT a::INTEGER FROM t", "SELECT a::TEXT FROM t", "SELECT a FROM t"),
    "one alias and two": (
        "SELECT orders_1.id FROM orders AS orders_1, orders AS orders_2 WHERE orders_1.x = orders_1.y",
        "SELECT orders_1.id FROM orders AS orders_1, orders AS orders_2 WHERE orders_1.x = orders_2.y",
    ),
}


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_what_is_one_statement_shares_one_id(texts: tuple[str, ...]) -> None:
    """Texts that differ in values, spelling or SQLAlchemy's numbering only are one shape."""
    assert len({shape(each).text for each in texts}) == 1
    assert len(ids(*texts)) == 1


@pytest.mark.parametrize("texts", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_in_meaning_differs_in_id(texts: tuple[str, ...]) -> None:
    """Texts that do different things are never folded into one."""
    assert len(ids(*texts)) == len(texts)


def test_quoted_user_is_not_quoted_order() -> None:
    """Names in quotes are names, not values."""
    assert (
        len(ids('SELECT * FROM "user"', 'SELECT * FROM "order"', 'SELECT "user" FROM t', 'SELECT "order" FROM t')) == 4
    )
    assert shape('SELECT * FROM "user"').tables == ("user",)


def test_quoted_capitals_are_not_lower_case() -> None:
    """`"Order"` and `order` are two tables."""
    assert len(ids('SELECT * FROM "Orders"', "SELECT * FROM orders")) == 2


def test_quotes_inside_quoted_names_are_part_of_them() -> None:
    """`"a""b"` is one name, and what follows is still read."""
    assert shape('SELECT "a""b" FROM t WHERE x = 1').text == 'SELECT "a""b" FROM t WHERE x = ?'


@pytest.mark.parametrize("count", [1, 2, 3, 19, 500, 5_000])
def test_in_lists_of_any_length_share_one_id(count: int, dialect: Dialect) -> None:
    """The number of values in an IN list never makes another shape, on any driver."""
    short = compiled(select(Order.id).where(Order.id.in_([1, 2]), Order.total == 3), dialect)
    long = compiled(select(Order.id).where(Order.id.in_(range(count)), Order.total == 3), dialect)
    assert shape(short) is shape(long)
    assert shape(long).text == "SELECT orders.id FROM orders WHERE orders.id IN (?) AND orders.total = ?"
    assert not shape(long).inlined


def test_lists_longer_than_the_cap_are_read_to_the_statements_end() -> None:
    """The cap on a shape's length counts what is kept, not the values that are skipped."""
    read = Fingerprinter(max_length=200).shape
    values = ", ".join(f"${n}::INTEGER" for n in range(1, 20_001))
    assert read(f"SELECT a FROM t WHERE b IN ({values}) AND c = 1").text == "SELECT a FROM t WHERE b IN (?) AND c = ?"
    rows = ", ".join(f"(%(a__{n})s, %(b__{n})s)" for n in range(20_000))
    assert (
        read(f"INSERT INTO t (a, b) VALUES {rows} RETURNING id").text
        == "INSERT INTO t (a, b) VALUES (?, ?) RETURNING id"
    )


def test_empty_in_lists_share_the_id_of_full_ones(dialect: Dialect) -> None:
    """What SQLAlchemy renders for `in_([])` is the same statement."""
    column, pair = Order.id, tuple_(Order.id, Order.total)
    for full, empty in (
        (column.in_([1]), column.in_([])),
        (column.not_in([1]), column.not_in([])),
        (pair.in_([(1, 2)]), pair.in_([])),
    ):
        one, other = (compiled(select(Order.total).where(where), dialect) for where in (full, empty))
        assert shape(one).text == shape(other).text
        assert not shape(other).inlined
        assert shape(other).summary == "SELECT orders"


@pytest.mark.parametrize(
    "empty",
    [
        "SELECT a FROM t WHERE b IN (SELECT CAST(NULL AS INTEGER) WHERE 1!=1)",
        "SELECT a FROM t WHERE b IN (SELECT 1 FROM (SELECT 1) WHERE 1!=1)",
        "SELECT a FROM t WHERE b IN (SELECT _in_0 FROM (SELECT 1 AS _in_0) as _empty_set WHERE 1!=1)",
        "SELECT a FROM t WHERE b IN (NULL) AND (1 != 1)",
    ],
)
def test_every_form_of_an_empty_list_is_known(empty: str) -> None:
    """All of SQLAlchemy's empty sets, over its dialects and versions, are an IN list."""
    assert ids(empty) == ids("SELECT a FROM t WHERE b IN (1, 2)")
    assert shape(empty).tables == ("t",)


def bulk(rows: int, dialect: Dialect) -> str:
    """Return the text that SQLAlchemy sends for the first batch of rows of a flush."""
    statement = insert(Order).returning(Order.id, sort_by_parameter_order=True)
    names = ["customer_id", "total"]
    if rows == 1:
        return str(insert(Order).returning(Order.id).compile(dialect=dialect, column_keys=names))
    compiler = statement.compile(dialect=dialect, column_keys=names, for_executemany=True)
    parameters: list[Any] = [compiler.construct_params({"customer_id": n, "total": n}) for n in range(rows)]
    if compiler.positional:
        parameters = [tuple(each[name] for name in compiler.positiontup or ()) for each in parameters]
    batches = compiler._deliver_insertmanyvalues_batches(
        compiler.string, parameters, parameters, None, 1000, True, None
    )  # type: ignore[attr-defined]
    batch = next(iter(batches))
    return str(getattr(batch, "replaced_statement", batch[0]))


@pytest.mark.parametrize("name", ["asyncpg", "psycopg"])
def test_bulk_inserts_of_any_size_share_one_id(name: str) -> None:
    """One flushed object and a batch of a thousand are the same INSERT, its counters no literals of the application."""
    shapes = {shape(bulk(rows, DIALECTS[name])) for rows in (1, 2, 3, 1_000)}
    assert len(shapes) == 1
    one = shapes.pop()
    assert one.text == "INSERT INTO orders (customer_id, total) VALUES (?, ?) RETURNING orders.id"
    assert (one.summary, one.writes, one.inlined) == ("INSERT orders", ("orders",), False)


def test_multiple_rows_of_core_share_one_id(dialect: Dialect) -> None:
    """`insert().values([...])` is one shape for any number of rows."""
    texts = [
        compiled(insert(Customer).values([{"name": "x", "address_1": "", "address_2": ""}] * rows), dialect)
        for rows in (1, 2, 19)
    ]
    assert len(ids(*texts)) == 1


def statements() -> Iterator[tuple[str, Any]]:
    alias, other, item = aliased(Order), aliased(Order), aliased(Item)
    totals = select(Order.customer_id, func.count(Order.id)).group_by(Order.customer_id).subquery()
    yield "get", select(Order).where(Order.id == 5)
    yield "aliases", select(alias.id).join(other, other.id == alias.customer_id).where(other.total > 5)
    yield "joined", select(Customer).options(joinedload(Customer.orders).joinedload(Order.items)).limit(5)
    yield "selectin", select(Order).where(Order.customer_id.in_([1, 2]))
    yield "subquery", select(Customer, totals).join(totals, totals.c.customer_id == Customer.id)
    yield "exists", select(select(item.id).where(item.order_id == 5).exists())
    yield "cte", select(select(Order.id).cte("recent"))
    yield "count", select(func.count()).select_from(select(Order).subquery())
    yield "json", select(Order.data["a"]["b"].as_string())
    yield "like", select(Customer.id).where(Customer.name.contains("x%", autoescape=True))
    yield "update", update(Order).values(total=Order.total - 5).where(Order.id == 1)


STATEMENTS = dict(statements())


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_no_statement_of_sqlalchemy_counts_as_inlined(statement: Any, dialect: Dialect) -> None:
    """What SQLAlchemy writes by itself, such as `'%' ||` and `ESCAPE '/'`, are no literals of the application."""
    assert not shape(compiled(statement, dialect)).inlined


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_both_postgresql_drivers_give_one_id(statement: Any) -> None:
    """asyncpg's `$1::INTEGER` and psycopg's `%(id_1)s::INTEGER` are the same statement."""
    assert len(ids(*(compiled(statement, DIALECTS[name]) for name in ("asyncpg", "psycopg")))) == 1


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_a_normalised_text_is_its_own_normal_form(statement: Any, dialect: Dialect) -> None:
    """The text of a shape has the fingerprint of that shape."""
    known = shape(compiled(statement, dialect))
    assert shape(known.text).text == known.text
    assert shape(known.text).fingerprint == known.fingerprint


def test_joined_eager_loading_names_real_tables_only() -> None:
    """Aliases and subqueries of the ORM are not tables."""
    known = shape(compiled(STATEMENTS["joined"], DIALECTS["asyncpg"]))
    assert known.tables == ("customers", "orders", "items")
    assert known.summary == "SELECT SELECT customers orders items"


def test_the_orm_runs_a_handful_of_shapes_however_many_rows_it_loads() -> None:
    """Flush, eager loads and lazy loads of 3 and of 9 customers are the same shapes, on a real database."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))

    def work(session: Session, count: int) -> set[str]:
        sent.clear()
        session.add_all(Customer(name=f"c{n}", orders=[Order(items=[Item()]) for _ in range(n)]) for n in range(count))
        session.flush()
        session.expire_all()
        session.scalars(select(Customer).options(selectinload(Customer.orders).selectinload(Order.items))).all()
        session.expire_all()
        session.scalars(select(Customer).options(subqueryload(Customer.orders)).limit(count)).all()
        with session.begin_nested():
            session.execute(text("SELECT 1"))
        return {shape(each).fingerprint for each in sent if not shape(each).control}

    with Session(engine) as session:
        assert work(session, 3) == work(session, 9)
    engine.dispose()


TABLES = [
    ("SELECT 1", "SELECT", "SELECT", "", ""),
    ("SELECT * FROM orders", "SELECT", "SELECT orders", "orders", ""),
    ("SELECT * FROM shop.orders o", "SELECT", "SELECT shop.orders", "shop.orders", ""),
    ('SELECT * FROM "shop"."Order Lines"', "SELECT", 'SELECT "shop.Order Lines"', "shop.Order Lines", ""),
    ("SELECT * FROM a, b AS c, d e", "SELECT", "SELECT a b d", "a,b,d", ""),
    ("SELECT * FROM a JOIN b ON a.i = b.i LEFT JOIN c USING (i)", "SELECT", "SELECT a b c", "a,b,c", ""),
    ("SELECT * FROM a JOIN (b JOIN c ON b.i = c.i) ON a.i = b.i, d", "SELECT", "SELECT a b c d", "a,b,c,d", ""),
    ("SELECT * FROM (SELECT * FROM a) AS x, b", "SELECT", "SELECT SELECT a b", "a,b", ""),
    ("SELECT (SELECT max(i) FROM a) FROM b", "SELECT", "SELECT SELECT a b", "a,b", ""),
    ("SELECT * FROM a WHERE i IN (SELECT i FROM b)", "SELECT", "SELECT a SELECT b", "a,b", ""),
    ("(SELECT i FROM a) UNION ALL (SELECT i FROM b) LIMIT 1", "SELECT", "SELECT a SELECT b", "a,b", ""),
    ("SELECT * FROM ONLY a", "SELECT", "SELECT a", "a", ""),
    ("SELECT * FROM a CROSS JOIN LATERAL (SELECT * FROM b) x", "SELECT", "SELECT a SELECT b", "a,b", ""),
    ("SELECT * FROM a, LATERAL (SELECT * FROM b) x, c", "SELECT", "SELECT a SELECT b c", "a,b,c", ""),
    ("SELECT * FROM generate_series(1, 3) AS g, unnest($1) WITH ORDINALITY AS u, a", "SELECT", "SELECT a", "a", ""),
    ("SELECT EXTRACT(year FROM b) FROM a", "SELECT", "SELECT a", "a", ""),
    (
        "SELECT substring(b FROM 1 FOR 2), trim(BOTH ' ' FROM c), overlay(d placing 'x' from 1) FROM a",
        "SELECT",
        "SELECT a",
        *("a", ""),
    ),
    ("SELECT * FROM a WHERE b IS DISTINCT FROM c AND d IS NOT DISTINCT FROM e", "SELECT", "SELECT a", "a", ""),
    ("SELECT * FROM a TABLESAMPLE SYSTEM (10)", "SELECT", "SELECT a", "a", ""),
    ("SELECT * FROM a FOR UPDATE OF b", "SELECT", "SELECT a", "a", ""),
    ("SELECT * INTO b FROM a", "SELECT", "SELECT b a", "b,a", "b"),
    (
        "WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y JOIN b ON true",
        "SELECT",
        "SELECT a SELECT SELECT b",
        "a,b",
        "",
    ),
    ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "SELECT", "SELECT a SELECT", "a", ""),
    (
        "WITH RECURSIVE x (i) AS (SELECT i FROM a UNION SELECT x.i FROM x) SELECT * FROM x",
        "SELECT",
        "SELECT a SELECT SELECT",
        "a",
        "",
    ),
    (
        "WITH x AS (INSERT INTO a (b) VALUES (1) RETURNING i) SELECT * FROM x, c",
        "SELECT",
        "INSERT a SELECT c",
        "a,c",
        "a",
    ),
    ("WITH x AS MATERIALIZED (SELECT 1 FROM a) UPDATE b SET i = 1 FROM x", "UPDATE", "SELECT a UPDATE b", "a,b", "b"),
    (
        "WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x",
        "INSERT",
        "DELETE a INSERT b SELECT",
        "a,b",
        "a,b",
    ),
    ("INSERT INTO a (b) VALUES (1)", "INSERT", "INSERT a", "a", "a"),
    ("INSERT INTO a AS x (b) VALUES (1) ON CONFLICT (b) DO UPDATE SET b = excluded.b", "INSERT", "INSERT a", "a", "a"),
    ("INSERT INTO archive SELECT * FROM orders", "INSERT", "INSERT archive SELECT orders", "archive,orders", "archive"),
    ("INSERT INTO a DEFAULT VALUES", "INSERT", "INSERT a", "a", "a"),
    ("INSERT INTO a VALUES (1) ON DUPLICATE KEY UPDATE b = VALUES(b)", "INSERT", "INSERT a", "a", "a"),
    ("REPLACE INTO a VALUES (1)", "REPLACE", "REPLACE a", "a", "a"),
    ("INSERT OR REPLACE INTO a VALUES (1)", "INSERT", "INSERT a", "a", "a"),
    ("UPDATE a SET b = 1, c = 2", "UPDATE", "UPDATE a", "a", "a"),
    ("UPDATE ONLY a AS x SET b = y.b FROM c AS y, d WHERE x.i = y.i", "UPDATE", "UPDATE a c d", "a,c,d", "a"),
    ("DELETE FROM a USING b WHERE a.i = b.i", "DELETE", "DELETE a b", "a,b", "a"),
    ("DELETE FROM ONLY a", "DELETE", "DELETE a", "a", "a"),
    (
        "MERGE INTO a USING b ON a.i = b.i "
        "WHEN MATCHED THEN UPDATE SET c = 1 WHEN NOT MATCHED THEN INSERT (c) VALUES (1)",
        "MERGE",
        "MERGE a b",
        "a,b",
        "a",
    ),
    (
        "MERGE INTO a USING (SELECT * FROM b) s ON a.i = s.i WHEN MATCHED THEN DELETE",
        "MERGE",
        "MERGE a SELECT b",
        "a,b",
        "a",
    ),
    ("TRUNCATE a, shop.b CASCADE", "TRUNCATE", "TRUNCATE a shop.b", "a,shop.b", "a,shop.b"),
    ("TRUNCATE TABLE ONLY a", "TRUNCATE", "TRUNCATE a", "a", "a"),
    ("CREATE TABLE IF NOT EXISTS a (i int REFERENCES b (i) ON DELETE CASCADE)", "CREATE", "CREATE TABLE a", "a", "a"),
    ("CREATE TABLE a AS SELECT * FROM b", "CREATE", "CREATE TABLE a SELECT b", "a,b", "a"),
    (
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ix ON shop.a (b)",
        "CREATE",
        "CREATE INDEX shop.a",
        "shop.a",
        "shop.a",
    ),
    ("ALTER TABLE IF EXISTS ONLY a ADD COLUMN b int, ADD COLUMN c int", "ALTER", "ALTER TABLE a", "a", "a"),
    ("DROP TABLE IF EXISTS a, b", "DROP", "DROP TABLE a b", "a,b", "a,b"),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY a", "REFRESH", "REFRESH a", "a", "a"),
    ("LOCK TABLE a, b IN SHARE MODE", "LOCK", "LOCK a b", "a,b", ""),
    ("GRANT SELECT, UPDATE ON a TO bob", "GRANT", "GRANT", "", ""),
    ("COPY a (b) FROM STDIN", "COPY", "COPY a", "a", "a"),
    ("COPY a TO STDOUT", "COPY", "COPY a", "a", ""),
    ("COPY (SELECT * FROM a) TO STDOUT", "COPY", "COPY SELECT a", "a", ""),
    ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM a", "EXPLAIN", "EXPLAIN SELECT a", "a", ""),
    ("CALL shop.refresh(1)", "CALL", "CALL shop.refresh", "", ""),
    ("VALUES (1, 2), (3, 4)", "VALUES", "VALUES", "", ""),
    ("TABLE a", "TABLE", "TABLE a", "a", ""),
    ("SET search_path TO shop", "SET", "SET", "", ""),
    ("SHOW server_version", "SHOW", "SHOW", "", ""),
    ("LISTEN changes", "LISTEN", "LISTEN", "", ""),
    ("DO $$ BEGIN DELETE FROM a; END $$", "DO", "DO", "", ""),
    ("-- nothing", "", "", "", ""),
]


@pytest.mark.parametrize(
    ("sql", "operation", "summary", "tables", "writes"), TABLES, ids=[row[0][:60] for row in TABLES]
)
def test_operations_and_tables_are_read(sql: str, operation: str, summary: str, tables: str, writes: str) -> None:
    """Verb, summary in OpenTelemetry's sense, tables and written tables; nothing that only looks like a table."""
    known = shape(sql)
    assert (known.operation, known.summary) == (operation, summary)
    assert (",".join(known.tables), ",".join(known.writes)) == (tables, writes)


@pytest.mark.parametrize("sql", [row[0] for row in TABLES if '"' not in row[0]])
def test_keywords_are_known_in_either_case(sql: str) -> None:
    """What a statement does is read alike from lower case."""
    known, lower = shape(sql), shape(sql.lower())
    assert (lower.operation, lower.tables, lower.writes) == (known.operation, known.tables, known.writes)


def test_summaries_are_cut_between_words() -> None:
    """A summary of many tables has at most 255 characters and whole names."""
    names = [f"table_number_{n:03}" for n in range(100)]
    summary = shape("SELECT * FROM " + ", ".join(names)).summary
    assert 230 < len(summary) <= 255
    assert summary.split() == ["SELECT", *names[: len(summary.split()) - 1]]


CONTROLS = [
    "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "START TRANSACTION", "COMMIT", "END", "ROLLBACK", "ABORT",
    "SAVEPOINT sa_savepoint_1", "RELEASE SAVEPOINT sa_savepoint_1", "ROLLBACK TO SAVEPOINT sa_savepoint_1",
    "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "SET TRANSACTION READ ONLY",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "PRAGMA foreign_keys=ON",
]  # fmt: skip


@pytest.mark.parametrize("sql", CONTROLS)
def test_transaction_control_is_told_from_work(sql: str) -> None:
    """Statements that only rule the transaction are marked, in either case, and are one shape in both."""
    assert shape(sql).control
    assert shape(sql.lower() + ";").control
    assert sql.startswith("PRAGMA") or ids(sql) == ids(sql.lower())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SET search_path TO x",
        "PREPARE p AS SELECT 1",
        "UPDATE t SET transaction = 1",
        "BEGIN; DELETE FROM t",
    ],
)
def test_work_is_no_transaction_control(sql: str) -> None:
    """Settings, prepared statements and texts with work in them are the application's."""
    assert not shape(sql).control


@pytest.mark.parametrize(
    "lock", ["UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE", "UPDATE OF t SKIP LOCKED", "UPDATE NOWAIT"]
)
def test_locking_reads_are_known(lock: str) -> None:
    """Every strength of a row lock counts, also in a subquery."""
    assert shape(f"SELECT a FROM t FOR {lock}").locking
    assert shape(f"UPDATE u SET a = 1 WHERE i IN (SELECT i FROM t FOR {lock})".lower()).locking


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT substring(a FROM 1 FOR 2) FROM t",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1",
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        "CREATE POLICY p ON t FOR UPDATE USING (true)",
    ],
)
def test_other_uses_of_for_and_update_lock_nothing(sql: str) -> None:
    """Only the clause at a SELECT's end locks."""
    assert not shape(sql).locking


@pytest.mark.parametrize(
    ("sql", "inlined"),
    [
        ("SELECT a FROM t WHERE b = 5", True),
        ("SELECT a FROM t WHERE b = 'x'", True),
        ("SELECT a FROM t WHERE b IN (1, 2)", True),
        ("SELECT a FROM t WHERE b IN ($1, 2)", True),
        ("INSERT INTO t VALUES ($1, 0)", True),
        ("INSERT INTO t VALUES ($1, 0), ($2, 0)", True),
        ("SELECT a FROM t WHERE b > DATE '2030-01-01'", True),
        ("SELECT 'x'", True),
        ("SELECT a FROM t WHERE b = $1", False),
        ("SELECT a FROM t WHERE b IN ($1::INTEGER, $2::INTEGER)", False),
        ("SELECT 1", False),
        ("SELECT EXISTS (SELECT 1 FROM t WHERE a = $1)", False),
        ("SELECT count(1) FROM t", False),
        ("SELECT a FROM t ORDER BY 1, 2 LIMIT 10 OFFSET 20", False),
        ("SELECT a FROM t LIMIT 20, 10", False),
        ("SELECT a FROM t FETCH FIRST 5 ROWS ONLY", False),
        ("SELECT a FROM t WHERE b IS NULL AND c IS TRUE", False),
        ("SELECT a FROM t WHERE 1 = 1", False),
        ("SELECT a FROM t WHERE 0 = 1", False),
        ("SELECT CAST(a AS NUMERIC(10, 2)), b::VARCHAR(20) FROM t", False),
        ("SELECT a FROM t WHERE b LIKE '%%' || $1 || '%%' ESCAPE '/'", False),
        ("CREATE TABLE t (a varchar(20) DEFAULT 'x')", False),
        ("SET application_name = 'x'", False),
        ("BEGIN", False),
    ],
)
def test_literals_of_the_application_are_told_from_sqlalchemys(sql: str, inlined: bool) -> None:
    """A text is inlined if it holds data that could have been bound."""
    assert shape(sql).inlined is inlined


def test_inlined_and_bound_texts_share_the_id_but_not_the_mark() -> None:
    """`id = 5` and `id = $1` are one shape; only the first held a literal."""
    written, bound = shape("SELECT a FROM t WHERE id = 5"), shape("SELECT a FROM t WHERE id = $1")
    assert written.fingerprint == bound.fingerprint
    assert (written.inlined, bound.inlined) == (True, False)


def test_literals_are_compared_without_being_kept() -> None:
    """Texts with equal literals have equal hashes, however they are spelled otherwise; bounds of pages do not count."""
    one = literals("SELECT a FROM t WHERE b = 'x' AND c IN (1, 2) LIMIT 10")
    assert one == literals("select a from t where b='x' and c in (1, 2) limit 20")
    others = (("y", "1, 2"), ("x", "1, 3"), ("x", "1, 2, 3"), ("x", "f(1), 2"))
    assert all(one != literals(f"SELECT a FROM t WHERE b = '{b}' AND c IN ({c}) LIMIT 10") for b, c in others)
    assert literals("SELECT a FROM t WHERE b = $1 LIMIT 5") == literals("SELECT 1")


def test_the_text_reads_like_sql() -> None:
    """Single spaces, capital keywords, the names as they were written."""
    sql = """select Foo.bar, COUNT( * )as n,a [ 1 ]::int
             from Foo left join b on(Foo.x=b.x)where y in(1 , 2) and not exists(select 1)"""
    assert shape(sql).text == (
        "SELECT Foo.bar, count(*) AS n, a[?]::INT FROM Foo LEFT JOIN b ON (Foo.x = b.x) WHERE y IN (?) "
        "AND NOT EXISTS (SELECT ?)"
    )


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Ids are 16 hexadecimal digits and do not depend on hash randomisation; they are kept in stores and dashboards."""
    sql = "SELECT a FROM t WHERE b IN (1, 2)"
    known = shape(sql).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", known)
    code = f"from querytoll.fingerprint import shape; print(shape({sql!r}).fingerprint)"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == known
    assert known == "ec077c83bf1d0963"


def test_known_texts_are_one_dictionary_lookup() -> None:
    """A hit runs no Python code of ours."""
    read = Fingerprinter().shape
    sql = "SELECT a FROM t"
    read(sql)
    calls: list[str] = []
    assert steps(lambda: read(sql), calls) == 0


def test_equal_shapes_are_one_object() -> None:
    """Texts of one shape share it, so that thousands of texts cost one normalised text."""
    read = Fingerprinter().shape
    assert read("SELECT a FROM t WHERE b = $1") is read("select a from t where b = %(b_1)s")
    assert read("SELECT a FROM t WHERE b = 1") is read("SELECT a FROM t WHERE b = 2")
    assert read("SELECT a FROM t WHERE b = 1") is not read("SELECT a FROM t WHERE b = $1")


def test_the_cache_is_bounded_in_entries() -> None:
    """A million different texts are not kept."""
    read = Fingerprinter(max_entries=10)
    for n in range(1_000):
        read(f"SELECT a FROM t WHERE b = {n}")
        read(f"SELECT a FROM t{n}")
        assert len(read) <= 10


def test_the_cache_is_bounded_in_characters() -> None:
    """Long texts push out others, and texts longer than the whole cache are not kept at all."""
    read = Fingerprinter(max_entries=10)
    for n in range(50):
        read(f"SELECT a FROM t WHERE b = '{n}{'x' * 3_000}'")
        assert len(read) <= 2
    read("SELECT '" + "x" * 20_000 + "'")
    assert len(read) <= 2


def test_texts_in_use_outlive_a_flood_of_others() -> None:
    """A text that keeps being sent keeps its shape while others come and go."""
    read = Fingerprinter(max_entries=10).shape
    known = read("SELECT a FROM t")
    for n in range(1_000):
        read(f"SELECT a FROM t{n}")
        assert read("SELECT a FROM t") is known


def test_threads_share_a_fingerprinter() -> None:
    """Concurrent misses and overflows neither fail nor give wrong answers."""
    read = Fingerprinter(max_entries=20).shape
    texts = [f"SELECT c{n % 37} FROM t WHERE b = {n}" for n in range(3_000)]
    expected = [f"SELECT c{n % 37} FROM t WHERE b = ?" for n in range(3_000)]
    with ThreadPoolExecutor(8) as pool:
        assert [known.text for known in pool.map(read, texts)] == expected


def test_the_length_of_a_shape_is_capped() -> None:
    """What lies behind the cap is not read, and the text before it stays its own normal form."""
    read = Fingerprinter(max_length=100).shape
    known = read("SELECT " + ", ".join(f"column_{n}" for n in range(1_000)) + " FROM t")
    assert 80 < len(known.text) <= 100
    assert read(known.text).text == known.text


def steps(work: Any, calls: list[str]) -> int:
    """Return how many Python functions of ours ran."""

    def count(frame: FrameType, what: str, _: object) -> None:
        if what == "call" and os.path.dirname(frame.f_code.co_filename) == fingerprint.__path__[0]:
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return len(calls)


GROWING = {
    "columns": lambda n: "SELECT " + ", ".join(f"c{i}" for i in range(n)),
    "conditions": lambda n: "SELECT a FROM t WHERE " + " AND ".join(f"b = {i}" for i in range(n)),
    "expressions in a list": lambda n: "SELECT a FROM t WHERE b IN (" + ", ".join(f"f({i})" for i in range(n)) + ")",
    "rows of expressions": lambda n: "INSERT INTO t VALUES " + ", ".join(f"({i}, now())" for i in range(n)),
    "nested parentheses": lambda n: "SELECT " + "(" * n + "1" + ")" * n,
    "nested lists": lambda n: "SELECT " + "a IN (1, " * n,
    "nested comments": lambda n: "SELECT " + "/*" * n + "*/" * n,
    "open comments": lambda n: "SELECT " + "/* /* */ a " * n,
    "open quotes": lambda n: "SELECT " + "$a$ $b$ " * n,
    "labels": lambda n: "SELECT " + "f(" * n + "1" + ") AS f_1" * n,
    "chains of OR": lambda n: "SELECT a FROM t WHERE " + " OR ".join(["(b = 1)"] * n),
    "nested chains of OR": lambda n: "SELECT a WHERE " + "(a OR " * n + "b" + ")" * n,
    "empty lists": lambda n: "SELECT " + " AND ".join(["a IN (NULL) AND (1 != 1)"] * n),
}


@pytest.mark.parametrize("growing", GROWING.values(), ids=GROWING)
def test_work_grows_with_the_text_and_no_faster(growing: Any) -> None:
    """Four times the text is four times the steps: nothing is read again and again."""
    read = Fingerprinter(max_entries=2).shape
    small, large = (steps(lambda n=n: read(growing(n)), []) for n in (250, 1_000))  # type: ignore[misc]
    assert large <= 4.5 * small


def test_values_in_lists_are_skipped_without_work() -> None:
    """The steps for a list do not depend on its length: no Python code runs per value."""
    read = Fingerprinter(max_entries=2).shape

    def listed(n: int) -> str:
        return "SELECT a FROM t WHERE b IN (" + ", ".join(f"${i}::INTEGER" for i in range(n)) + ")"

    read(listed(1))
    assert steps(lambda: read(listed(10)), []) == steps(lambda: read(listed(10_000)), [])


def test_no_pattern_can_backtrack() -> None:
    """Every repetition in every regular expression is possessive, so that matching is linear by construction."""
    single = [each.pattern for each in vars(patterns).values() if isinstance(each, re.Pattern)]
    lists = [each.pattern for each in patterns.LISTS.values()]
    assert len(single) > 5
    for pattern in (*single, *lists):
        bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]", "x", pattern)
        groups = "" if patterns._POSSESSIVE_GROUPS else ")"  # where CPython loses its place, groups are plainly greedy
        assert not re.search(rf"(?<![*+?({groups}])[*+](?![+])", bare)


HOSTILE = [
    *("", " ", ";", "\0", "--", "\\", "?", ":", "::", "%(", ")", "((((", "]", "[", ",", ".", "FROM", "WITH", "IN ("),
    *("SELECT '", 'SELECT "', "SELECT `", "SELECT $$", "SELECT $a$", "SELECT /*", "SELECT /* /* */", "SELECT E'\\"),
    *(
        "SELECT \ud800",
        "SELECT '\udfff' FROM \ud800t",
        "SELECT a\0b FROM t",
        "\ufeffSELECT 1",
        "SELECT \xdf FROM \u0130",
    ),
    *("\u017felect 1", "SELECT 1!=1", "1e", "0x", "RELEASE", "SAVEPOINT", "INSERT INTO", "VALUES (", "'a\\'b"),
    *("AS imp_sen(", "INSERT INTO t SELECT p0 FROM (VALUES (1, 0)) AS imp_sen("),
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_broken_texts_still_have_a_shape(sql: str) -> None:
    """Whatever was sent has a shape whose text every output can encode."""
    known = shape(sql)
    assert re.fullmatch("[0-9a-f]{16}", known.fingerprint)
    assert known.text.encode().decode() == known.text
    assert "\0" not in known.text


WORDS = """
    SELECT FROM WHERE IN NOT AND VALUES INSERT INTO UPDATE SET DELETE WITH AS NULL TRUE CASE END DATE INTERVAL ON JOIN
    USING LATERAL FOR KEY SHARE NO LIMIT UNION DISTINCT IS BEGIN SAVEPOINT TO CREATE TABLE INDEX MERGE COPY CALL ARRAY
    t orders orders_1 orders_2 anon_1 anon_3 id id_1 count \xe9 "user" "Order" ( ) ( ) , , . ; [ ] - * % ? ?| ?1 @> ||
    CAST( lower( 1 -5 1_000 $1 $2::INTEGER %s %(a)s::VARCHAR :name @p1 1!=1 1=1 'it''s' E'\\'' $$x$$ /**/
"""


@given(st.text() | st.text(alphabet="'\"\\$`/*-?:;()[]eE \n1a\ud800\0"))
@example("SELECT 'a\\' FROM t -- '")
def test_no_text_raises(sql: str) -> None:
    """Any string at all has a shape."""
    assert len(shape(sql).fingerprint) == 16


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join))
@example("é 1 ?| $$x$$ + 1")
@example("SELECT a.id AS id_2, id_1, b.id AS id_3")
@example(": ::int")
def test_shapes_of_shapes_are_the_same(sql: str) -> None:
    """Normalising twice changes nothing, for any sequence of SQL's words."""
    known = shape(sql)
    assert shape(known.text).text == known.text
    assert shape(known.text).fingerprint == known.fingerprint


secrets = st.text(alphabet="abcXYZ '\"\\%;-/*$?()[]é\n", max_size=8).map(lambda noise: f"{noise}s3cr3t{noise}")
QUOTES = {
    "standard": lambda secret: "'" + secret.replace("'", "''") + "'",
    "escaped": lambda secret: "E'" + secret.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "doubled": lambda secret: "E'" + secret.replace("\\", "\\\\").replace("'", "''") + "'",
    "national": lambda secret: "N'" + secret.replace("'", "''") + "'",
    "unicode": lambda secret: "U&'" + secret.replace("'", "''") + "'",
    "dollar": lambda secret: "$$" + secret.replace("$", "") + "$$",
    "tagged": lambda secret: "$tag$" + secret.replace("$", "") + "$tag$",
    "typed": lambda secret: "DATE '" + secret.replace("'", "''") + "'",
    "number": lambda secret: "90210.4711",
}
TEMPLATES = [
    "SELECT a FROM t WHERE b = {0} AND c = {1}",
    "SELECT a FROM t WHERE b IN ({0}, {1}, $1)",
    "INSERT INTO t (a, b) VALUES ({0}, {1}), ({1}, {0})",
    "INSERT INTO t (a, b) VALUES (lower({0}), {1})",
    "UPDATE t SET a = {0} || {1}",
    "SELECT {0} AS a, f({1}) FROM t LIMIT 90210",
    "SELECT a FROM t WHERE b = ANY(ARRAY[{0}, {1}])",
    "SELECT a FROM t WHERE b ? {0} AND c->>{1} = 'x'",
    "/* {0} */ SET x TO {1}",
    "SELECT a -- s3cr3t\n FROM t WHERE b = {0}::text AND c = {1}",
    "SELECT a FROM t WHERE b = {0} AND c = {1} AND d = '{2}",
]


@settings(max_examples=300)
@given(st.sampled_from(TEMPLATES), st.sampled_from([*QUOTES]), st.sampled_from([*QUOTES]), secrets)
def test_no_literal_survives(template: str, one: str, other: str, secret: str) -> None:
    """In whatever quotes a literal stands, nothing of it is in a shape."""
    if template.startswith("/*"):
        secret = secret.replace("/", "").replace("*", "")
    if template.endswith("'{2}"):  # a text that ends in a string may be MySQL's, if there are backslashes before quotes
        secret = secret.replace("\\", "")
    known = shape(template.format(QUOTES[one](secret), QUOTES[other](secret), secret.replace("'", "")))
    shown = " ".join((known.text, known.summary, known.operation, *known.tables, *known.writes))
    assert "s3cr3t" not in shown
    assert "90210" not in shown
    assert "4711" not in shown


@given(secrets, secrets)
@example("'s3cr3t", "s3cr3t")
def test_no_literal_of_mysql_survives(one: str, other: str) -> None:
    """Backslashes that escape are noticed by what they leave behind; double quotes by backticks."""
    first, second = (each.replace("\\", "\\\\").replace("'", "\\'") for each in (one, other))
    assert "s3cr3t" not in shape(f"SELECT a FROM t WHERE b = '{first}' AND c = '{second}'").text
    double = one.replace("\\", "\\\\").replace('"', '\\"')
    assert "s3cr3t" not in shape(f"SELECT `a` FROM t WHERE b = \"{double}\" AND c = '{second}'").text


def test_an_upsert_of_sqlalchemy_writes_its_table() -> None:
    """`ON CONFLICT DO UPDATE SET` is no second statement."""
    statement = upsert(Order).values(total=1, customer_id=1)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={"total": statement.excluded.total})
    known = shape(compiled(statement, DIALECTS["asyncpg"]))
    assert (known.operation, known.summary, known.writes) == ("INSERT", "INSERT orders", ("orders",))


def test_locking_selects_of_sqlalchemy_are_locking() -> None:
    """`with_for_update()` is seen on PostgreSQL and MySQL."""
    statement: Select[Any] = select(Order.id).with_for_update(skip_locked=True)
    for name in ("asyncpg", "psycopg", "mysql"):
        assert shape(compiled(statement, DIALECTS[name])).locking
        assert "SKIP LOCKED" in shape(compiled(statement, DIALECTS[name])).text
