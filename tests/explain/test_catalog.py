"""Facts of the catalog: from JSON in many spellings, and from a live server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from querytoll.explain.catalog import Catalog, CatalogError, Index, index_from_definition, read_catalog
from querytoll.explain.document import analyse

SPELLINGS: dict[str, Any] = {
    "own": {"tables": [{"name": "orders", "rows": 5000, "columns": [{"name": "id", "type": "integer"}]}]},
    "list": [{"table_name": "orders", "reltuples": 5000, "columns": {"id": "integer"}}],
    "keyed": {"orders": {"reltuples": 5000, "columns": {"id": {"data_type": "integer"}}}},
    "keyed-with-schema": {"tables": {"public.orders": {"row_count": 5000, "columns": {"id": "integer"}}}},
}


@pytest.mark.parametrize("document", SPELLINGS.values(), ids=SPELLINGS)
def test_a_catalog_may_be_written_by_hand(document: Any) -> None:
    """Lists or objects, our names or PostgreSQL's."""
    for form in (document, json.dumps(document)):
        table = Catalog.from_json(form).table("orders", "public")
        assert table is not None
        assert (table.rows, table.columns[0].name, table.columns[0].type) == (5000, "id", "integer")


def test_partitions_find_their_parent() -> None:
    """By the parts' own word."""
    parts = [{"name": f"e_{number}", "parent": "e"} for number in range(3)]
    catalog = Catalog.from_json([{"name": "e", "partition_key": "RANGE (at)"}, *parts])
    parent, part = catalog.table("e"), catalog.table("e_1")
    assert parent is not None
    assert part is not None
    assert (parent.kind, parent.partition_key, parent.partitions) == ("partitioned", ("at",), ("e_0", "e_1", "e_2"))
    assert catalog.root(part) is parent


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (
            "CREATE UNIQUE INDEX u ON public.orders USING btree (a, b DESC) INCLUDE (c) WHERE (d IS NULL)",
            Index("u", ("a", "b"), ("c",), True, True, "btree", "(d IS NULL)", (False, True), ("", "")),
        ),
        (
            "CREATE INDEX g ON t USING gin (name gin_trgm_ops)",
            Index("g", ("name",), method="gin", descending=(False,), opclasses=("gin_trgm_ops",)),
        ),
        (
            "CREATE INDEX e ON t (lower((email)::text) text_pattern_ops, ((data ->> 'a,b'::text)) DESC NULLS LAST)",
            Index(
                "e",
                ("lower((email)::text)", "data ->> 'a,b'::text"),
                descending=(False, True),
                opclasses=("text_pattern_ops", ""),
            ),
        ),
        (
            'CREATE INDEX CONCURRENTLY "My ix" ON "T" ("userId" COLLATE "C")',
            Index("My ix", ("userId",), descending=(False,), opclasses=("",)),
        ),
    ],
)
def test_an_index_is_read_from_its_definition(definition: str, expected: Index) -> None:
    """As `pg_get_indexdef` prints it."""
    assert index_from_definition(definition) == expected


@pytest.mark.parametrize("document", ["{", '"x"', {"tables": 5}])
def test_what_is_no_catalog_is_refused(document: Any) -> None:
    """With what is expected instead."""
    with pytest.raises(CatalogError, match="catalog"):
        Catalog.from_json(document)


async def test_a_live_catalog_is_read_and_survives_json(postgres_url: str) -> None:
    """Partitions with their parent, references, statistics, volatility, and not one value of a row."""
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        for statement in (
            "CREATE TABLE a (id int PRIMARY KEY)",
            "CREATE TABLE b (id int PRIMARY KEY, a_id int CONSTRAINT b_a_fkey REFERENCES a)",
            "CREATE TABLE p (id int, at timestamptz, active bool, note varchar(20)) PARTITION BY RANGE (at)",
            "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
            "CREATE INDEX x ON p (lower(note) DESC, id) WHERE active",
            "INSERT INTO p SELECT i, '2024-05-05', i % 5 = 0, 'secret' FROM generate_series(1, 1000) i",
            "ANALYZE p",
        ):
            await connection.execute(text(statement))
        catalog = await read_catalog(connection, ["p1", "a", "absent"], functions=["lower", "now"])
        await connection.rollback()
    await engine.dispose()
    assert {table.name for table in catalog.tables} == {"a", "b", "p", "p1"}
    parent = catalog.table("p")
    assert parent is not None
    assert (parent.rows, parent.partition_key, parent.partitions) == (1000, ("at",), ("p1",))
    active, note = parent.column("active"), parent.column("note")
    assert active is not None
    assert active.true_fraction == pytest.approx(0.2)
    assert note is not None
    assert (note.type, note.distinct, note.common) == ("character varying(20)", 1, (1.0,))
    assert parent.indexes[0].keys == ("lower((note)::text)", "id")
    reference = catalog.table("b")
    assert reference is not None
    assert reference.foreign_keys[0].columns == ("a_id",)
    assert catalog.volatility == {"lower": "i", "now": "s"}
    assert "secret" not in json.dumps(catalog.to_json())
    assert Catalog.from_json(json.dumps(catalog.to_json())) == catalog


@pytest.mark.parametrize(
    "tables",
    [
        [{"name": "e", "partition_key": ["at"]}],
        [{"name": "e", "partition_key": ["at"], "partitions": [f"e_{month:02}" for month in range(12)]}],
        [{"name": "e", "partition_key": "at"}, *({"name": f"e_{month:02}", "parent": "e"} for month in range(12))],
    ],
    ids=["parent-only", "listed-by-the-parent", "listed-by-themselves"],
)
def test_partitions_are_known_however_the_catalog_names_them(tables: list[dict[str, Any]]) -> None:
    """The parent alone is enough, by its name and the numbered aliases of the plan."""
    scans = [
        {
            "Node Type": "Seq Scan",
            "Relation Name": f"e_{month:02}",
            "Alias": f"x_{month + 1}",
            "Filter": "(kind = 'a'::text)",
            "Parent Relationship": "Member",
            "Actual Rows": 1,
            "Actual Loops": 1,
            "Actual Total Time": 1.0,
            "Rows Removed by Filter": 5000,
        }
        for month in range(12)
    ]
    root = {"Node Type": "Append", "Actual Rows": 12, "Actual Loops": 1, "Actual Total Time": 12.5, "Plans": scans}
    analysis = analyse({"Plan": root}, Catalog.from_json({"tables": tables}))
    rules = [finding.rule for finding in analysis.findings]
    assert sorted(rules) == ["missing-index", "partition-pruning", "seq-scan-filter"]
    assert analysis.suggestions[0].statements[0] == "CREATE INDEX ix_e_kind ON ONLY e (kind)"
    assert len(analysis.suggestions[0].statements) == 25


async def test_a_parent_that_was_never_analyzed_is_known_by_its_partitions(postgres_url: str) -> None:
    """Autovacuum analyzes partitions only; an empty table that nobody counted has no number of rows at all."""
    engine = create_async_engine(postgres_url)
    async with engine.connect() as connection:
        for statement in (
            "CREATE TABLE q (id int, kind int) PARTITION BY RANGE (id)",
            "CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (1000)",
            "CREATE TABLE q2 PARTITION OF q FOR VALUES FROM (1000) TO (5000)",
            "CREATE TABLE fresh (id int)",
            "INSERT INTO q SELECT i, i % 70 FROM generate_series(1, 3000) i",
            "ANALYZE q1",
            "ANALYZE q2",
        ):
            await connection.execute(text(statement))
        catalog = await read_catalog(connection, ["q1", "fresh"])
        await connection.rollback()
    await engine.dispose()
    parent, fresh = catalog.table("q"), catalog.table("fresh")
    assert parent is not None
    assert (parent.rows, parent.column("kind").distinct) == (3000, 70)  # type: ignore[union-attr]
    assert fresh is not None
    assert fresh.rows is None
