"""Suggestions on a live server: plan, suggestion, real index in a rolled-back transaction, finding gone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from querytoll.advise.index import UNVERIFIED, Suggestion
from querytoll.advise.verify import VerificationError, verified, verify
from querytoll.explain.catalog import Catalog, read_catalog
from querytoll.explain.document import Analysis, analyse, read_document
from querytoll.explain.plan import plan_from, walk

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TABLE people (id int PRIMARY KEY, email varchar(80), name text, tags text[], active boolean, deleted_at date,
    data jsonb, born date, span int4range, body text, code varchar(40));
INSERT INTO people SELECT i, 'user' || i || '@example.org', 'name ' || md5(i::text), ARRAY['t' || i % 300], i % 100 = 0,
    CASE WHEN i % 60 > 0 THEN '2024-01-01'::date END, jsonb_build_object('color', 'c' || i % 500),
    '1950-01-01'::date + i % 20000, int4range(i, i + 3), 'words ' || i || ' of w' || i % 700, 'c' || md5(i::text)
    FROM generate_series(1, 40000) i;
CREATE TABLE orders (id int PRIMARY KEY, person_id int, status text, total int, at timestamptz, note text);
INSERT INTO orders SELECT i, i % 4000 + 1, (ARRAY['done','done','open'])[i % 3 + 1], i % 1000,
    '2024-01-01'::timestamptz + (i * 7919 % 120000) * interval '1 min', 'note ' || i FROM generate_series(1, 120000) i;
CREATE INDEX orders_status_idx ON orders (status);
CREATE TABLE picks (id int PRIMARY KEY, person_id int);
INSERT INTO picks SELECT i, i * 10 FROM generate_series(1, 200) i;
CREATE TABLE events (id int, kind text, at timestamptz, tenant int) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-04-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-04-01') TO ('2024-07-01');
CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
INSERT INTO events SELECT i, 'k' || i % 100, '2024-01-01'::timestamptz + i * interval '8 min', i % 700
    FROM generate_series(1, 60000) i;
CREATE SCHEMA "Shop";
CREATE TABLE "Shop"."Order" (id int PRIMARY KEY, "userId" int, "order" int);
INSERT INTO "Shop"."Order" SELECT i, i % 9000, i FROM generate_series(1, 50000) i;
"""


@dataclasses.dataclass(frozen=True)
class Want:
    """A statement and what its index must look like."""

    sql: str
    index: str
    setup: str = ""
    options: str = "ANALYZE, BUFFERS, VERBOSE, FORMAT JSON"


WANTS = {
    "equality": Want("SELECT * FROM orders WHERE person_id = 77", "ON orders (person_id)"),
    "equality-and-range": Want(
        "SELECT * FROM orders WHERE person_id = 77 AND at > '2024-02-01' AND at < '2024-02-09'",
        "ON orders (person_id, at)",
    ),
    "weak-equality-left-out": Want(
        "SELECT * FROM orders WHERE status = 'done' AND person_id = 77", "ON orders (person_id)"
    ),
    "order-and-limit": Want(
        "SELECT * FROM orders WHERE person_id = 77 ORDER BY at DESC LIMIT 5", "ON orders (person_id, at DESC)"
    ),
    "newest": Want("SELECT * FROM orders ORDER BY at LIMIT 5", "ON orders (at)"),
    "list": Want("SELECT * FROM orders WHERE person_id IN (7, 8, 9)", "ON orders (person_id)"),
    "range": Want("SELECT id FROM orders WHERE at < '2024-01-02'", "ON orders (at)"),
    "lower": Want("SELECT * FROM people WHERE lower(email) = 'user7@example.org'", "ON people (lower((email)::text))"),
    "arithmetic": Want("SELECT * FROM people WHERE id * 2 = 154", "ON people ((id * 2))"),
    "json-key": Want("SELECT id FROM people WHERE data->>'color' = 'c7'", "ON people ((data ->> 'color'::text))"),
    "json-contains": Want(
        """SELECT id FROM people WHERE data @> '{"color": "c7"}'""", "USING gin (data jsonb_path_ops)"
    ),
    "array-contains": Want("SELECT id FROM people WHERE tags @> '{t7}'", "USING gin (tags)"),
    "ranges-overlap": Want("SELECT id FROM people WHERE span && '[5,7)'", "USING gist (span)"),
    "words": Want(
        "SELECT id FROM people WHERE to_tsvector('english', body) @@ to_tsquery('english', 'w77')",
        "USING gin (to_tsvector('english'::regconfig, body))",
    ),
    "trigram-like": Want("SELECT id FROM people WHERE name LIKE '%abcde%'", "USING gin (name gin_trgm_ops)"),
    "trigram-ilike": Want("SELECT id FROM people WHERE email ILIKE '%R777@%'", "USING gin (email gin_trgm_ops)"),
    "prefix": Want("SELECT id FROM people WHERE name LIKE 'name abc%'", "(name text_pattern_ops)"),
    "prefix-varchar": Want("SELECT id FROM people WHERE code LIKE 'cabc%'", "(code varchar_pattern_ops)"),
    "partial-null": Want(
        "SELECT id FROM people WHERE deleted_at IS NULL AND born < '1955-01-01'", "WHERE deleted_at IS NULL"
    ),
    "partial-boolean": Want("SELECT id FROM people WHERE active", "ON people (active) WHERE active"),
    "partial-order": Want(
        "SELECT * FROM people WHERE deleted_at IS NULL ORDER BY born LIMIT 3", "(born) WHERE deleted_at IS NULL"
    ),
    "covering": Want(
        "SELECT person_id, total FROM orders WHERE at < '2024-01-08'", "ON orders (at) INCLUDE (person_id, total)"
    ),
    "composite": Want(
        "SELECT * FROM orders WHERE status = 'open' AND total = 77",
        "ON orders (total",
        "SET LOCAL enable_seqscan = off",
    ),
    "join": Want(
        "SELECT * FROM picks p JOIN orders o ON o.person_id = p.person_id WHERE p.id < 9", "ON orders (person_id)"
    ),
    "subplan": Want(
        "SELECT p.id, (SELECT count(*) FROM people q WHERE q.born = '1950-01-01'::date + p.id) FROM picks p",
        "ON people (born)",
    ),
    "nested-loop": Want(
        "SELECT count(*) FROM picks p JOIN people q ON q.born = '1950-01-01'::date + p.id WHERE p.id <= 60",
        "ON people (born)",
        "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off;"
        " SELECT set_config(name, 'off', true) FROM pg_settings WHERE name = 'enable_memoize'",
    ),
    "partitions": Want("SELECT * FROM events WHERE tenant = 7 AND kind = 'k7'", "ON ONLY events (tenant, kind)"),
    "quoted-names": Want('SELECT * FROM "Shop"."Order" WHERE "userId" = 77', 'ON "Shop"."Order" ("userId")'),
    "update": Want("UPDATE orders SET total = 0 WHERE person_id = 77", "ON orders (person_id)", "", "FORMAT JSON"),
    "delete": Want("DELETE FROM orders WHERE note = 'note 77'", "ON orders (note)", "", "VERBOSE, FORMAT JSON"),
}
CAUSES = {
    "missing-index",
    "seq-scan-filter",
    "seq-scan-join",
    "nested-loop-inner-scan",
    "limit-sort",
    "inefficient-index",
}


@pytest.fixture(scope="module")
def filled(postgres_url: str) -> str:
    asyncio.run(_fill(postgres_url))
    return postgres_url


async def _fill(url: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in filter(str.strip, SCHEMA.split(";\n")):
            await connection.exec_driver_sql(statement)
        await connection.exec_driver_sql("VACUUM ANALYZE")
    await engine.dispose()


@pytest.fixture
async def connection(filled: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(filled)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
        await connection.commit()
        yield connection
        await connection.rollback()
    await engine.dispose()


async def _analysis(connection: AsyncConnection, want: Want) -> tuple[Analysis, Catalog]:
    result = await connection.exec_driver_sql(f"EXPLAIN ({want.options}) {want.sql}")
    document = read_document(result.scalar_one())
    names = {node.relation for node in walk(plan_from(document).tree) if node.relation}
    catalog = await read_catalog(connection, names)
    return analyse(document, catalog), catalog


async def _suggestion(connection: AsyncConnection, want: Want) -> tuple[Analysis, Suggestion]:
    for statement in filter(None, want.setup.split(";")):
        await connection.exec_driver_sql(statement)
    analysis, _ = await _analysis(connection, want)
    assert analysis.suggestions, [finding.title for finding in analysis.findings]
    return analysis, analysis.suggestions[0]


@pytest.mark.parametrize("want", WANTS.values(), ids=WANTS)
async def test_the_suggested_index_is_used_and_ends_the_finding(connection: AsyncConnection, want: Want) -> None:
    """The index is the expected one, the planner takes it, its cost falls, and the finding goes away."""
    analysis, suggestion = await _suggestion(connection, want)
    assert want.index in suggestion.sql
    verdict = await verify(connection, suggestion, want.sql, real=True)
    assert verdict.helps, verdict
    assert verdict.bytes
    await connection.exec_driver_sql(suggestion.creation)
    await connection.exec_driver_sql(f"ANALYZE {suggestion.target}")
    after, _ = await _analysis(connection, want)
    before = {finding.rule for finding in analysis.findings} & CAUSES
    assert before - {finding.rule for finding in after.findings} == before


async def test_the_statements_run_as_they_are_printed(connection: AsyncConnection) -> None:
    """Every exact statement is accepted by the server once CONCURRENTLY is taken out."""
    for want in WANTS.values():
        _, suggestion = await _suggestion(connection, want)
        for statement in suggestion.statements:
            await connection.exec_driver_sql(statement.replace(" CONCURRENTLY", ""))
        await connection.rollback()


async def test_a_verification_leaves_nothing_behind(connection: AsyncConnection) -> None:
    """Neither an index nor a setting survives, and the transaction around it goes on."""
    _, suggestion = await _suggestion(connection, WANTS["equality"])
    await connection.execute(text("CREATE TEMP TABLE kept (n int)"))
    await verify(connection, suggestion, WANTS["equality"].sql, real=True)
    assert await connection.scalar(text("SELECT to_regclass(:name)"), {"name": suggestion.name}) is None
    assert await connection.scalar(text("SHOW lock_timeout")) == "0"
    assert await connection.scalar(text("SELECT count(*) FROM kept")) == 0


async def test_parameters_are_bound_and_not_executed(connection: AsyncConnection) -> None:
    """A statement with placeholders is planned with its parameters, and not run."""
    _, suggestion = await _suggestion(connection, WANTS["equality"])
    sql = "DELETE FROM orders WHERE person_id = $1"
    assert (await verify(connection, suggestion, sql, (77,), real=True)).helps
    assert await connection.scalar(text("SELECT count(*) FROM orders WHERE person_id = 77")) == 30


async def test_an_index_that_does_not_help_is_not_called_verified(connection: AsyncConnection) -> None:
    """The verdict is the planner's, not ours."""
    _, suggestion = await _suggestion(connection, WANTS["equality"])
    verdict = await verify(connection, suggestion, "SELECT count(*) FROM orders", real=True)
    assert not verdict.helps


async def test_autocommit_is_refused(filled: str) -> None:
    """On such a connection the index would stay."""
    engine = create_async_engine(filled, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        _, suggestion = await _suggestion(connection, WANTS["equality"])
        with pytest.raises(VerificationError, match="autocommit"):
            await verify(connection, suggestion, WANTS["equality"].sql, real=True)
        assert await connection.scalar(text("SELECT to_regclass(:name)"), {"name": suggestion.name}) is None
    await engine.dispose()


async def test_without_hypopg_the_finding_stays_unverified(connection: AsyncConnection) -> None:
    """It says so, and why."""
    analysis, suggestion = await _suggestion(connection, WANTS["equality"])
    (finding,) = [finding for finding in analysis.findings if finding.rule == "missing-index"]
    assert finding.advice.endswith(UNVERIFIED)
    verdict = await verify(connection, suggestion, WANTS["equality"].sql)
    assert verdict.method == "none"
    assert verified(finding, verdict).advice.endswith("Unverified: HypoPG is not installed.")


async def test_a_verified_finding_says_how_and_how_much(connection: AsyncConnection) -> None:
    """Method, cost before and after, and the size of the index are in advice and evidence."""
    analysis, suggestion = await _suggestion(connection, WANTS["equality"])
    (finding,) = [finding for finding in analysis.findings if finding.rule == "missing-index"]
    verdict = await verify(connection, suggestion, WANTS["equality"].sql, real=True)
    proven = verified(finding, verdict)
    assert "Verified with a real index in a rolled-back transaction: cost" in proven.advice
    assert proven.evidence["verified"] == "index"
    assert proven.evidence["cost_after"] == verdict.after < verdict.before
    assert proven.id == finding.id
    useless = verified(finding, dataclasses.replace(verdict, after=verdict.before))
    assert "no gain" in useless.advice


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders WHERE status = 'done'",
        "SELECT * FROM picks WHERE person_id = 70",
        "SELECT * FROM orders WHERE person_id = 77::numeric",
        "SELECT * FROM orders WHERE at::date = '2024-01-05'",
        "SELECT * FROM people WHERE name LIKE '%a%'",
        "SELECT * FROM orders WHERE status <> 'done' AND total * random() > 990",
        "SELECT count(*) FROM orders",
        "SELECT * FROM orders WHERE person_id = 77 OR total = 3",
        "SELECT * FROM people WHERE data = '{}'",
    ],
)
async def test_no_index_is_suggested_where_none_would_help(connection: AsyncConnection, sql: str) -> None:
    """Most rows kept, a tiny table, a cast at fault, a function that is only STABLE, a pattern too short."""
    analysis, _ = await _analysis(connection, Want(sql, ""))
    assert not analysis.suggestions


@pytest.mark.parametrize(
    ("existing", "sql"),
    [
        ("orders (person_id)", "SELECT * FROM orders WHERE person_id = 77"),
        ("orders (person_id, total)", "SELECT * FROM orders WHERE person_id = 77"),
        ("orders (total, person_id)", "SELECT * FROM orders WHERE person_id = 77 AND total = 5"),
        ("people (lower(email))", "SELECT * FROM people WHERE lower(email) = 'x'"),
        ("people USING gin (name gin_trgm_ops)", "SELECT * FROM people WHERE name LIKE '%abcdef%'"),
        ("people USING gin (tags)", "SELECT id FROM people WHERE tags @> '{t7}'"),
        ("people ((data ->> 'color'))", "SELECT id FROM people WHERE data->>'color' = 'c7'"),
        ("events (tenant, kind)", "SELECT * FROM events WHERE tenant = 7 AND kind = 'k7'"),
    ],
)
async def test_an_index_that_exists_is_not_suggested_again(
    connection: AsyncConnection, existing: str, sql: str
) -> None:
    """Even where the planner does not use it: neither a duplicate nor a prefix."""
    await connection.exec_driver_sql(f"CREATE INDEX ON {existing}")
    for setting in ("indexscan", "indexonlyscan", "bitmapscan"):
        await connection.exec_driver_sql(f"SET LOCAL enable_{setting} = off")
    analysis, _ = await _analysis(connection, Want(sql, ""))
    assert "seq-scan-filter" in {finding.rule for finding in analysis.findings}
    assert not analysis.suggestions


async def test_hypopg_agrees_where_it_is_installed(connection: AsyncConnection) -> None:
    """Nothing is built, and the verdict says how it was reached."""
    available = text("SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'")
    if not await connection.scalar(available):
        pytest.skip("the server has no HypoPG")
    await connection.execute(text("CREATE EXTENSION hypopg"))
    for name in ("equality", "equality-and-range", "order-and-limit", "range", "quoted-names", "covering", "lower"):
        _, suggestion = await _suggestion(connection, WANTS[name])
        verdict = await verify(connection, suggestion, WANTS[name].sql)
        assert verdict.helps, (name, verdict)
        assert verdict.method == "hypopg"
    _, gin = await _suggestion(connection, WANTS["array-contains"])
    assert (await verify(connection, gin, WANTS["array-contains"].sql)).method == "none"
