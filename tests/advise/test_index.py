"""Needs to indexes, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from querytoll.advise.index import Need, Suggestion, suggest
from querytoll.explain.catalog import Catalog
from querytoll.explain.document import analyse
from querytoll.explain.predicates import predicates, sort_keys

COLUMNS = [
    {"name": "id", "type": "integer", "distinct": -1, "width": 4},
    {"name": "customer_id", "type": "integer", "distinct": 5000, "width": 4},
    {"name": "status", "type": "text", "distinct": 2, "width": 5},
    {"name": "shop_id", "type": "integer", "distinct": 40, "width": 4},
    {"name": "at", "type": "timestamp with time zone", "width": 8},
    {"name": "made", "type": "timestamp without time zone", "width": 8},
    {"name": "active", "type": "boolean", "true_fraction": 0.02, "null_fraction": 0.0},
    {"name": "deleted_at", "type": "date", "null_fraction": 0.97},
    {"name": "email", "type": "character varying(80)", "distinct": -1},
    {"name": "order", "type": "integer", "distinct": 5000},
    {"name": "data", "type": "json"},
]


def _catalog(*indexes: str | dict[str, Any], rows: int = 1_000_000) -> Catalog:
    return Catalog.from_json([{"name": "orders", "rows": rows, "columns": COLUMNS, "indexes": list(indexes)}])


def _suggest(
    condition: str, catalog: Catalog | None = None, order: list[str] | None = None, **more: Any
) -> Suggestion | None:
    need = Need(
        node=0,
        relation="orders",
        predicates=predicates(condition),
        order=sort_keys(order or []),
        limited=bool(order),
        scanned=more.pop("scanned", 1_000_000),
        kept=more.pop("kept", 10),
        **more,
    )
    return suggest(need, catalog)


def _keys(condition: str, *indexes: str | dict[str, Any], **more: Any) -> tuple[str, ...] | None:
    found = _suggest(condition, _catalog(*indexes), **more)
    return found.columns if found else None


def test_the_most_selective_column_comes_first() -> None:
    """Whatever the order of the condition."""
    assert _keys("((shop_id = 3) AND (customer_id = 4))") == ("customer_id", "shop_id")


def test_a_column_that_keeps_half_of_the_rows_is_left_out() -> None:
    """It would only make the index larger."""
    assert _keys("((status = 'a'::text) AND (customer_id = 4))") == ("customer_id",)


def test_a_range_comes_last_and_alone() -> None:
    """Nothing behind it could narrow the search."""
    assert _keys("((at > '2024-01-01') AND (made > '2024-01-01') AND (customer_id = 4))") == ("customer_id", "at")


def test_lists_stand_behind_single_values_and_exclude_an_order() -> None:
    """The rows of several values are not in one order."""
    assert _keys("((customer_id = ANY ('{1,2}')) AND (shop_id = 1))") == ("shop_id", "customer_id")
    assert _keys("(customer_id = ANY ('{1,2}'))", order=["at DESC"]) == ("customer_id",)


def test_the_order_keeps_its_direction_and_nulls() -> None:
    """Else the index would not give it."""
    found = _suggest("(customer_id = 4)", _catalog(), order=["at DESC NULLS LAST", "id"])
    assert found is not None
    assert found.sql.endswith("ON orders (customer_id, at DESC NULLS LAST, id)")


def test_partial_only_for_rare_tests_without_a_value() -> None:
    """NULL in 97 % of the rows selects nothing; a boolean true in 2 % does."""
    found = _suggest("((customer_id = 4) AND active)", _catalog())
    assert found is not None
    assert found.sql.endswith("(customer_id) WHERE active")
    assert any("partial" in note for note in found.notes)
    plain = _suggest("((customer_id = 4) AND (deleted_at IS NULL))", _catalog())
    assert plain is not None
    assert plain.sql.endswith("(customer_id)")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("(lower((email)::text) = 'x'::text)", ("lower((email)::text)",)),
        (
            "(date_trunc('day'::text, made) = '2024-01-01'::timestamp without time zone)",
            ("date_trunc('day'::text, made)",),
        ),
        ("(date_trunc('day'::text, at) = '2024-01-01'::timestamp with time zone)", None),
        ("((at)::date = '2024-01-01'::date)", None),
        ("(my_function(id) = 3)", None),
        ("((customer_id + (random() * 5)) = 3)", None),
        ("((customer_id)::numeric = 4.0)", None),
        ("((customer_id = 4) OR (shop_id = 3))", None),
        ("(customer_id <> 4)", None),
        ("(customer_id = shop_id)", None),
        ("(data = '{}'::json)", None),
        ("(unknown_column = 4)", None),
    ],
)
def test_expressions_only_where_the_server_allows_them(condition: str, expected: tuple[str, ...] | None) -> None:
    """IMMUTABLE functions of the table's own columns."""
    assert _keys(condition) == expected


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        ("CREATE INDEX i ON orders (customer_id)", True),
        ("CREATE INDEX i ON orders (customer_id, at)", True),
        ("CREATE INDEX i ON orders (customer_id, shop_id, at)", False),
        ("CREATE INDEX i ON orders (customer_id, active, shop_id)", True),
        ("CREATE INDEX i ON orders (shop_id, customer_id)", False),
        ("CREATE UNIQUE INDEX i ON orders (shop_id)", False),
        ("CREATE INDEX i ON orders (at, customer_id)", True),
        ("CREATE INDEX i ON orders USING hash (customer_id)", True),
        ("CREATE INDEX i ON orders (customer_id) WHERE active", True),
        ("CREATE INDEX i ON orders (lower(email))", True),
    ],
)
def test_existing_indexes_are_respected(index: str, kept: bool) -> None:
    """No duplicate, no prefix, no permutation that serves as well."""
    found = _keys("((customer_id = 4) AND (shop_id = 3))", index, scanned=100_000)
    assert (found is not None) is kept


def test_an_invalid_index_is_rebuilt_and_a_prefix_is_named() -> None:
    """Neither is silently built again."""
    broken = {"name": "i", "columns": ["customer_id"], "valid": False}
    found = _suggest("(customer_id = 4)", _catalog(broken))
    assert found is not None
    assert found.statements == ("REINDEX INDEX CONCURRENTLY i",)
    longer = _suggest("((customer_id = 4) AND (at > '2024-01-01'))", _catalog("CREATE INDEX i ON orders (customer_id)"))
    assert longer is not None
    assert "makes i redundant" in longer.notes


def test_tiny_tables_get_no_index() -> None:
    """By the catalog's count, and by what was scanned."""
    assert _suggest("(customer_id = 4)", _catalog(rows=300), scanned=300) is None
    assert _suggest("(customer_id = 4)", None, scanned=300) is None


def test_without_a_catalog_the_doubt_is_said() -> None:
    """Existing indexes are unknown then."""
    found = _suggest("(customer_id = 4)")
    assert found is not None
    assert any("unknown" in note for note in found.notes)


def test_names_are_quoted_and_short_enough() -> None:
    """Reserved words, capitals, and 63 bytes."""
    found = _suggest('("order" = 4)', _catalog())
    assert found is not None
    assert found.sql.endswith('ON orders ("order")')
    need = Need(node=0, relation="T" * 60, predicates=predicates('("userId" = 4)'), scanned=10_000)
    long = suggest(need)
    assert long is not None
    assert len(long.name.encode()) <= 63
    assert long.sql.endswith(f'ON "{"T" * 60}" ("userId")')


def test_size_and_write_cost_are_told() -> None:
    """A million integers take about twenty megabytes."""
    found = _suggest("(customer_id = 4)", _catalog())
    assert found is not None
    assert found.bytes is not None
    assert 18_000_000 < found.bytes < 28_000_000
    assert "per UPDATE of customer_id" in found.write_cost
    assert found.why[0].startswith("1. customer_id: compared by equality")


@pytest.mark.parametrize(("extensions", "needed"), [(None, True), ([], True), (["pg_trgm"], False)])
def test_an_extension_that_is_not_installed_comes_before_its_index(extensions: list[str] | None, needed: bool) -> None:
    """Without it the operator class of the suggested index does not exist; what is installed is not asked for."""
    tables = [{"name": "orders", "rows": 1_000_000, "columns": COLUMNS, "indexes": []}]
    catalog = None if extensions is None else Catalog.from_json({"tables": tables, "extensions": extensions})
    scan = {"Node Type": "Seq Scan", "Relation Name": "orders", "Alias": "orders", "Plan Rows": 10, "Plan Width": 8}
    actual = {"Actual Rows": 10, "Actual Loops": 1, "Actual Startup Time": 0, "Actual Total Time": 90.0}
    condition = {"Filter": "(status ~~ '%abcdef%'::text)", "Rows Removed by Filter": 999_990, "Total Cost": 20_000}
    analysis = analyse({"Plan": {**scan, **actual, **condition, "Startup Cost": 0}, "Execution Time": 91.0}, catalog)
    (suggestion,) = analysis.suggestions
    assert "gin_trgm_ops" in suggestion.sql
    assert suggestion.preparation == ("CREATE EXTENSION IF NOT EXISTS pg_trgm" if needed else None)
    found = {finding.rule: finding for finding in analysis.findings}
    for rule in ("seq-scan-filter", "leading-wildcard", "missing-index"):
        assert ("Before it run CREATE EXTENSION IF NOT EXISTS pg_trgm." in found[rule].advice) is needed
        assert found[rule].evidence.get("extension") == ("pg_trgm" if needed else None)
        assert str(found[rule].evidence["index"]).startswith("CREATE INDEX")
