"""Deparsed conditions, as PostgreSQL prints them, to predicates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.explain.predicates import Predicate, cast_at_fault, predicates, sort_keys, without_qualifiers


def _one(condition: str, alias: str | None = None) -> Predicate:
    (predicate,) = predicates(condition, alias)
    return predicate


@pytest.mark.parametrize(
    ("condition", "column", "operator", "wrap", "function"),
    [
        ("(o.id = 5)", "id", "=", "", None),
        ("((status)::text = 'open'::text)", "status", "=", "cast", None),
        ("(lower((email)::text) = 'x'::text)", "email", "=", "function", "lower"),
        ("(EXTRACT(year FROM at) = '2024'::numeric)", "at", "=", "function", "extract"),
        ("((at)::date = '2024-01-01'::date)", "at", "=", "cast", None),
        ("((at AT TIME ZONE 'UTC'::text) > now())", "at", ">", "function", "timezone"),
        ("((total * 2) > 5)", "total", ">", "operator", "*"),
        ("((data ->> 'a'::text) = 'b'::text)", "data", "=", "operator", "->>"),
        ("(id = ANY ('{1,2}'::integer[]))", "id", "ANY", "", None),
        ("((a = 1) OR (a = 2))", "a", "ANY", "", None),
        ("((a = 1) OR (b = 2))", None, "OR", "", None),
        ("(deleted_at IS NULL)", "deleted_at", "IS NULL", "", None),
        ("(NOT active)", "active", "FALSE", "", None),
        ("active", "active", "TRUE", "", None),
        ("(5 < id)", "id", ">", "", None),
        ('("Order"."userId" = 5)', "userId", "=", "", None),
        ("('x'::text = ANY (tags))", None, "ANY", "", None),
        ("(NOT (hashed SubPlan 1))", None, "", "", None),
        ("(tags @> '{a}'::text[])", "tags", "@>", "", None),
        ("((data -> 'a'::text) ? 'b'::text)", "data", "?", "operator", "->"),
        ("(a IS DISTINCT FROM 5)", None, "", "", None),
        ("(id <> ALL ('{1,2}'::integer[]))", "id", "", "", None),
        ("(COALESCE(a, 0) = 5)", "a", "=", "function", "coalesce"),
        ("(CASE WHEN (a > 1) THEN b ELSE c END = 5)", None, "=", "", None),
    ],
)
def test_a_condition_is_read(
    condition: str, column: str | None, operator: str, wrap: str, function: str | None
) -> None:
    """Column, operator, and what stands around the column."""
    found = _one(condition)
    assert (found.column, found.operator, found.wrap, found.function) == (column, operator, wrap, function)


def test_conjunctions_are_split_at_every_depth() -> None:
    """With strings that look like keywords."""
    terms = predicates("((a = ' AND (') AND ((b > 1) AND (c < 2)) AND d)")
    assert [term.column for term in terms] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("condition", ["(o.customer_id = c.id)", "(c.id = o.customer_id)"])
def test_a_join_condition_is_seen_from_the_scanned_table(condition: str) -> None:
    """Whichever side it stands on."""
    found = _one(condition, "o")
    assert (found.column, found.others[0], found.constant) == ("customer_id", ("c", "id"), True)


def test_a_comparison_of_two_own_columns_is_no_constant() -> None:
    """No index serves it."""
    assert not _one("(a = b)").constant
    assert not _one("(o.a = o.b)", "o").constant


@pytest.mark.parametrize(
    ("condition", "wildcard"),
    [("(a ~~ '%x'::text)", True), ("(a ~~* '%...'::text)", True), ("(a ~~ 'x%'::text)", False), ("(a ~~ $1)", False)],
)
def test_a_leading_wildcard_is_seen_also_when_redacted(condition: str, wildcard: bool) -> None:
    """A parameter tells nothing."""
    assert _one(condition).wildcard is wildcard


@pytest.mark.parametrize(
    ("condition", "type_name", "fault"),
    [
        ("((email)::text = 'x'::text)", "character varying(80)", False),
        ("((email)::text = 'x'::text)", None, False),
        ("((id)::text = '5'::text)", "integer", True),
        ("((id)::text = '5'::text)", None, True),
        ("((id)::numeric = '5'::numeric)", None, True),
        ("((id)::double precision = '5'::double precision)", "integer", True),
        ("((state)::text = 'open'::text)", "order_state", True),
        ("((user_id)::text = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::text)", None, True),
        ("((code)::text = '5'::text)", None, False),
        ("((at)::date = '2024-01-01'::date)", "timestamp with time zone", False),
        ("(total = (5)::numeric)", "numeric", False),
        ("((a)::bigint = b)", "integer", False),
    ],
)
def test_a_cast_is_a_fault_unless_it_is_a_relabelling(condition: str, type_name: str | None, fault: bool) -> None:
    """Varchar is always printed with a cast to text."""
    assert cast_at_fault(_one(condition), type_name) is fault


def test_sort_keys_are_read() -> None:
    """Direction, NULLS, expressions."""
    keys = sort_keys(["o.at DESC NULLS LAST", "lower(name)", "id"])
    assert [(key.column and key.column.column, key.descending, key.nulls) for key in keys] == [
        ("at", True, "NULLS LAST"),
        (None, False, ""),
        ("id", False, ""),
    ]


def test_qualifiers_are_taken_off_columns_only() -> None:
    """Schemas of functions stay."""
    assert without_qualifiers("public.f(o.a, 'o.b', o.\"C d\")") == "public.f(a, 'o.b', \"C d\")"


@given(st.text(alphabet="ab.()'\"=:,[]E%1 ANDORIS$?<>|\\", max_size=60))
def test_nothing_makes_the_reader_fail(condition: str) -> None:
    """Foreign tools cut and change conditions."""
    predicates(condition, "a")
    sort_keys([condition])
