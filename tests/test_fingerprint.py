"""Statement texts to shapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.orm import aliased, declarative_base, joinedload, relationship
from sqlalchemy.sql.expression import ClauseElement

from querytoll.fingerprint import Fingerprinter, literals, read, shape

metadata = MetaData()
orders = Table(
    "orders", metadata, Column("id", Integer, primary_key=True), Column("status", String), Column("a", Integer)
)

DIALECTS = {
    "asyncpg": asyncpg.dialect(),
    "psycopg": psycopg.dialect(),
    "sqlite": sqlite.dialect(),
    "mysql": mysql.dialect(),
    "plain": postgresql.dialect(),
}


def compiled(statement: ClauseElement, dialect: str) -> str:
    return str(statement.compile(dialect=DIALECTS[dialect], compile_kwargs={"render_postcompile": True}))


SAME = {
    "in_lists_of_any_length": [
        "SELECT * FROM t WHERE id IN ($1::INTEGER)",
        "SELECT * FROM t WHERE id IN ($1::INTEGER, $2::INTEGER, $3::INTEGER)",
        "SELECT * FROM t WHERE id IN (%(id_1_1)s::INTEGER, %(id_1_2)s::INTEGER)",
        "SELECT * FROM t WHERE id IN (?, ?)",
        "SELECT * FROM t WHERE id IN (%s, %s)",
        "SELECT * FROM t WHERE id IN (1, 2, 3, 4, -5)",
        "SELECT * FROM t WHERE id IN (:a, :b)",
        "SELECT * FROM t WHERE id IN (NULL, 3)",
    ],
    "empty_in": [
        "SELECT * FROM t WHERE id IN (1)",
        "SELECT * FROM t WHERE id IN (SELECT CAST(NULL AS INTEGER) WHERE 1!=1)",
        "SELECT * FROM t WHERE id IN (NULL) AND (1 != 1)",
    ],
    "tuples": [
        "SELECT 1 FROM t WHERE (a, b) IN ((1, 2))",
        "SELECT 1 FROM t WHERE (a, b) IN ((1, 2), (3, 4), ($1, $2))",
    ],
    "arrays": ["SELECT 1 FROM t WHERE a = ANY(ARRAY[1])", "SELECT 1 FROM t WHERE a = ANY(ARRAY[1, 2, 3])"],
    "values_rows": [
        "INSERT INTO t (a, b) VALUES ($1, $2)",
        "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)",
        "INSERT INTO t (a, b) VALUES (1, NULL), ('x', TRUE), ($1::INTEGER, $2::TEXT)",
    ],
    "insertmanyvalues": [
        "INSERT INTO t (a) SELECT p0::INTEGER FROM (VALUES ($1, 0)) AS imp_sen(p0, sen_counter) RETURNING t.id",
        "INSERT INTO t (a) SELECT p0::INTEGER FROM (VALUES ($1, 0), ($2, 1), ($3, 2)) AS imp_sen(p0, sen_counter) "
        "RETURNING t.id",
    ],
    "whitespace_comments_and_case": [
        "SELECT a FROM t WHERE b = 1",
        "select  a\n\tfrom t -- a comment\nwhere b = 1;",
        "SELECT a /* outer /* nested */ still */ FROM t WHERE b=1 ; ;",
    ],
    "literals": [
        "SELECT a FROM t WHERE b = 'x'",
        "SELECT a FROM t WHERE b = 'it''s'",
        "SELECT a FROM t WHERE b = E'it\\'s'",
        "SELECT a FROM t WHERE b = $$x$$",
        "SELECT a FROM t WHERE b = $tag$a $$ b$tag$",
        "SELECT a FROM t WHERE b = N'x'",
        "SELECT a FROM t WHERE b = U&'x'",
        "SELECT a FROM t WHERE b = 1.5e-3",
        "SELECT a FROM t WHERE b = -5",
        "SELECT a FROM t WHERE b = 0x1F",
        "SELECT a FROM t WHERE b = DATE '2020-01-01'",
        "SELECT a FROM t WHERE b = $1::TIMESTAMP WITH TIME ZONE",
        "SELECT a FROM t WHERE b = $1::VARCHAR(20)[]",
    ],
    "anonymous_names": [
        "SELECT anon_1.a AS anon_1_a FROM (SELECT t_1.a AS a FROM t AS t_1) AS anon_1",
        "SELECT anon_7.a AS anon_1_a FROM (SELECT t_3.a AS a FROM t AS t_3) AS anon_7",
    ],
    "simple_quotes": ['SELECT "id" FROM "t"', "SELECT id FROM t"],
    "page": ["SELECT a FROM t ORDER BY a LIMIT 10 OFFSET 20", "SELECT a FROM t ORDER BY a LIMIT $1 OFFSET $2"],
}

DIFFERENT = {
    "quoted_user_is_not_quoted_order": ('SELECT * FROM "user"', 'SELECT * FROM "order"'),
    "case_of_quoted_names": ('SELECT * FROM "Orders"', "SELECT * FROM orders"),
    "tables": ("SELECT * FROM a", "SELECT * FROM b"),
    "columns": ("SELECT address_1 FROM t", "SELECT address_2 FROM t"),
    "operators": ("SELECT a FROM t WHERE b < 1", "SELECT a FROM t WHERE b > 1"),
    "json_operators": ("SELECT a FROM t WHERE b ?| $1", "SELECT a FROM t WHERE b ?& $1"),
    "null_tests": ("SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL"),
    "order": ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC"),
    "subtraction_is_not_a_sign": ("SELECT a - 5 FROM t", "SELECT a FROM t"),
    "columns_written": ("INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a, b) VALUES (1, 2)"),
}

FACTS = [
    ("SELECT * FROM orders", "SELECT", "SELECT orders", ("orders",), ()),
    ("SELECT * FROM shop.orders o JOIN customers c ON c.id = o.c", "SELECT", "SELECT shop.orders customers", None, ()),
    ("SELECT extract(year FROM d) FROM t WHERE a IS DISTINCT FROM b", "SELECT", "SELECT t", ("t",), ()),
    ("SELECT substring(a FROM 2), trim(BOTH ' ' FROM b) FROM t", "SELECT", "SELECT t", ("t",), ()),
    ("SELECT * FROM generate_series(1, 3) g, a, LATERAL (SELECT 1 FROM b) x", "SELECT", "SELECT a b", ("a", "b"), ()),
    ("WITH w AS (SELECT * FROM a) SELECT * FROM w JOIN b ON true", "SELECT", "SELECT a b", ("a", "b"), ()),
    ("WITH w AS (INSERT INTO a VALUES (1) RETURNING id) SELECT * FROM w", "SELECT", "SELECT a", ("a",), ("a",)),
    ("WITH RECURSIVE r (n) AS (SELECT 1 UNION SELECT n FROM r) SELECT * FROM r", "SELECT", "SELECT", (), ()),
    ("INSERT INTO archive SELECT * FROM orders", "INSERT", "INSERT archive SELECT orders", None, ("archive",)),
    ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "INSERT", "INSERT t", ("t",), ("t",)),
    ("UPDATE t SET a = 1 FROM u WHERE u.id = t.id", "UPDATE", "UPDATE t u", ("t", "u"), ("t",)),
    ("DELETE FROM ONLY t USING u WHERE u.id = t.id", "DELETE", "DELETE t u", ("t", "u"), ("t",)),
    (
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET a = 1",
        "MERGE",
        "MERGE t s",
        ("t", "s"),
        ("t",),
    ),
    ("TRUNCATE TABLE a, b", "TRUNCATE", "TRUNCATE a b", ("a", "b"), ("a", "b")),
    ("COPY t FROM STDIN", "COPY", "COPY t", ("t",), ("t",)),
    ("COPY t TO STDOUT", "COPY", "COPY t", ("t",), ()),
    ('SELECT * FROM "user"', "SELECT", "SELECT user", ("user",), ()),
    ("SELECT 1", "SELECT", "SELECT", (), ()),
    ("(SELECT * FROM a) UNION (SELECT * FROM b)", "SELECT", "SELECT a b", ("a", "b"), ()),
    ("EXPLAIN SELECT * FROM a", "EXPLAIN", "EXPLAIN a", ("a",), ()),
    ("SET search_path TO x", "SET", "SET", (), ()),
    ("", "", "", (), ()),
]


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_executions_of_one_statement_share_one_id(texts: list[str]) -> None:
    """Literals, list lengths, rows, whitespace, comments and anonymous names do not make another shape."""
    assert {shape(text).fingerprint for text in texts} == {shape(texts[0]).fingerprint}, {shape(t).text for t in texts}


@pytest.mark.parametrize("texts", DIFFERENT.values(), ids=DIFFERENT)
def test_other_statements_have_other_ids(texts: tuple[str, str]) -> None:
    """What means something else is another shape."""
    assert shape(texts[0]).fingerprint != shape(texts[1]).fingerprint


@pytest.mark.parametrize(
    ("sql", "operation", "summary", "tables", "writes"), FACTS, ids=[fact[0][:40] for fact in FACTS]
)
def test_operation_tables_and_summary(
    sql: str, operation: str, summary: str, tables: tuple[str, ...] | None, writes: tuple[str, ...]
) -> None:
    """The verb, the tables read and written, and the summary are those of the statement, not of its keywords."""
    read_shape = shape(sql)
    assert (read_shape.operation, read_shape.summary, read_shape.writes) == (operation, summary, writes)
    assert tables is None or read_shape.tables == tables


@pytest.mark.parametrize("dialect", DIALECTS)
def test_in_lists_of_any_length_share_one_id(dialect: str) -> None:
    """Two to a thousand values are one statement, as each driver's dialect writes them; so are tuples and none."""
    ids = {
        shape(compiled(select(orders).where(orders.c.id.in_(range(size))), dialect)).fingerprint for size in (1, 2, 999)
    }
    pairs = tuple_(orders.c.id, orders.c.a)
    tuples = {shape(compiled(select(orders).where(pairs.in_([(1, 2)] * size)), dialect)).fingerprint for size in (1, 3)}
    assert len(ids) == 1
    assert len(tuples) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_rows_of_an_insert_share_one_id(dialect: str) -> None:
    """An INSERT of one row and of many is one statement."""
    rows = [{"id": number, "status": "x", "a": number} for number in range(19)]
    assert (
        shape(compiled(insert(orders).values(rows[:1]), dialect)).fingerprint
        == shape(compiled(insert(orders).values(rows), dialect)).fingerprint
        or dialect == "plain"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_orm_statements_are_read(dialect: str) -> None:
    """Joined eager loading names both tables; its aliases are numbered by appearance."""
    base = declarative_base()

    class Parent(base):  # type: ignore[misc, valid-type]
        __tablename__ = "parents"
        id = Column(Integer, primary_key=True)
        children = relationship(lambda: Child)

    class Child(base):  # type: ignore[misc, valid-type]
        __tablename__ = "children"
        id = Column(Integer, primary_key=True)
        parent_id = Column(ForeignKey("parents.id"))

    first, second = aliased(Child), aliased(Child)
    query = (
        select(Parent).join(first, Parent.children).join(second, Parent.children).options(joinedload(Parent.children))
    )
    result = shape(compiled(query, dialect))
    assert result.tables == ("parents", "children")
    assert "children_1" in result.text
    assert "children_2" in result.text
    assert "children_3" in result.text


def test_a_chain_of_equal_or_terms_is_a_list() -> None:
    """An OR of three look-ups is the same statement as an OR of two; a single one, and other calls, are not."""
    ids = [
        shape(
            compiled(select(orders).where(or_(*(orders.c.id == number for number in range(size)))), "asyncpg")
        ).fingerprint
        for size in (1, 2, 3, 9)
    ]
    assert len(set(ids)) == 2
    assert shape("SELECT coalesce(a, 1) FROM t") != shape("SELECT coalesce(a, 1, 2) FROM t")
    assert "count" in shape(compiled(select(func.count()).select_from(orders), "asyncpg")).text


@pytest.mark.parametrize(
    ("sql", "inlined"),
    [
        ("SELECT a FROM t WHERE b = $1", False),
        ("SELECT a FROM t WHERE b = 5", True),
        ("SELECT a FROM t WHERE b = 'x'", True),
        ("SELECT a FROM t LIMIT 5 OFFSET 10", False),
        ("SELECT 1 FROM t", False),
    ],
)
def test_literals_in_the_text_are_told(sql: str, inlined: bool) -> None:
    """A text with values of its own is told from one with placeholders, though they share the id."""
    assert shape(sql).inlined is inlined


def test_literals_tell_texts_apart_that_share_an_id() -> None:
    """Values that were written into the text can be compared without being kept."""
    assert literals("SELECT a FROM t WHERE b = 5") == literals("SELECT a  FROM t WHERE b = 5")
    assert literals("SELECT a FROM t WHERE b = 5") != literals("SELECT a FROM t WHERE b = 6")
    assert compiled(select(literal_column("1")), "asyncpg") == "SELECT 1"


@pytest.mark.parametrize("sql", ["BEGIN", "commit", "ROLLBACK TO SAVEPOINT a", "SAVEPOINT a", "RELEASE SAVEPOINT a"])
def test_transaction_control_is_told_from_work(sql: str) -> None:
    """BEGIN and its kin are not the application's statements."""
    assert shape(sql).control


@pytest.mark.parametrize(
    "sql", ["PRAGMA foreign_keys=ON", "START TRANSACTION", "PREPARE TRANSACTION 'x'", "SET TRANSACTION READ ONLY"]
)
def test_housekeeping_is_told_from_work(sql: str) -> None:
    """So are two-phase commits, PRAGMA and SET TRANSACTION."""
    assert shape(sql).control


@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR SHARE", "FOR NO KEY UPDATE OF t", "FOR KEY SHARE SKIP LOCKED"])
def test_locking_reads_are_told(lock: str) -> None:
    """A read that locks is not a plain read, nor a write."""
    result = shape(f"SELECT * FROM t WHERE a = 1 {lock}")
    assert result.locking
    assert result.writes == ()
    assert result.tables == ("t",)


_WORDS = "SELECT FROM t 'a '' $$ $x$ /* */ -- ( ) , IN VALUES [ ] :: ? $1 %s :a \" E'\\ WITH AS 1.5 - \\ ARRAY ."
_PARTS = _WORDS.split()
_SQL = st.lists(st.sampled_from([*_PARTS, "\n", "\x00", "\ud800"]), max_size=40).map(" ".join)


@given(st.one_of(st.text(max_size=200), _SQL))
@settings(max_examples=500, deadline=None)
def test_no_text_is_too_strange(sql: str) -> None:
    """Unterminated quotes, NULs, lone surrogates: a shape comes back, and reading its text again gives the same."""
    first = read(sql)
    assert len(first.fingerprint) == 16
    assert len(first.summary) <= 255


_MARKER = "zq7secret7qz"
_QUOTED = [
    f"'{_MARKER}'",
    f"E'\\'{_MARKER}'",
    f"$${_MARKER}$$",
    f"$a${_MARKER}$a$",
    f"'it''s {_MARKER}'",
    f"N'{_MARKER}'",
]


@given(
    st.lists(st.sampled_from(_QUOTED), min_size=1, max_size=4),
    st.sampled_from(
        [
            "SELECT a FROM t WHERE b = {}",
            "SELECT a FROM t WHERE b IN ({})",
            "INSERT INTO t (a) VALUES ({})",
            "UPDATE t SET a = concat({})",
            "SELECT {} -- x",
            "SELECT a FROM t WHERE b LIKE {}",
        ]
    ),
)
@settings(deadline=None)
def test_no_literal_survives_in_a_shape(quoted: list[str], template: str) -> None:
    """The text of a shape may be shown and stored: whatever the quoting, no literal is in it."""
    result = read(template.format(", ".join(quoted)))
    assert _MARKER not in f"{result}"


def test_numbers_do_not_survive_either() -> None:
    """Card numbers are numbers."""
    assert "4111" not in f"{read('SELECT a FROM t WHERE card = 4111111111111111 AND b = -4111.5')}"


def test_reading_is_linear_in_the_length() -> None:
    """Ten times the values make ten times the tokens, not a hundred times the work; no nested rescans of the list."""
    from querytoll import fingerprint

    steps = 0
    original = fingerprint._closing

    def counting(tokens: list[str], at: int) -> int:
        nonlocal steps
        end = original(tokens, at)
        steps += end - at
        return end

    def work(size: int) -> int:
        nonlocal steps
        steps = 0
        fingerprint._closing = counting  # type: ignore[assignment]
        try:
            read(f"SELECT a FROM t WHERE id IN ({', '.join(f'${n}::INTEGER' for n in range(size))})")
        finally:
            fingerprint._closing = original
        return steps

    assert work(10_000) <= 11 * work(1_000)


def test_the_cache_is_bounded_and_shapes_are_shared() -> None:
    """Endless different texts do not grow the process, and equal shapes are one object."""
    cached = Fingerprinter(max_entries=100)
    shapes = {id(cached(f"SELECT a FROM t WHERE b = {number}")) for number in range(1_000)}
    assert len(cached) <= 200
    assert len(shapes) <= 11
    texts = Fingerprinter(max_entries=1_000, max_characters=10_000)
    for number in range(100):
        texts("SELECT a FROM t WHERE b = " + f"{number}" * 500)
    assert len(texts) <= 30


def test_a_known_text_is_not_read_again() -> None:
    """The second look at a text costs a lookup and gives the same object."""
    cached = Fingerprinter()
    assert cached("SELECT 1 FROM a") is cached("SELECT 1 FROM a")
