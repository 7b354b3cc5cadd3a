"""No literal of a statement survives in a plan or a finding."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.explain.document import analyse
from querytoll.explain.redact import redact, redact_text

LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"')
SECRETS = st.text(LETTERS, max_size=12).map(lambda text: f"qz{text}zq")
NUMBERS = st.one_of(
    st.integers(10**11, 10**14).map(str),
    st.decimals(10**8, 10**9, places=4).map(str),
    st.integers(10**11, 10**14).map(lambda number: f"-{number}"),
    st.floats(1e20, 1e60).map(repr),
)
CONDITIONS = (
    "(email = {0}::text)",
    "((status)::text = {0}::text)",
    "(lower(email) = {0}::text)",
    "((data ->> {0}::text) = {0}::text)",
    "(name ~~ {0}::text)",
    "(name ~~* {0}::text)",
    "(id = ANY ({0}::integer[]))",
    "((a = {0}) AND (b > {1}) AND (c < '{1}'::numeric))",
    "((total * {1}) > {1})",
    "(created_at > ({0}::timestamp without time zone - '{1} days'::interval))",
    "(fn({0}, {1}, a) = {0})",
    "(id = {1})",
    '(o."Weird 1" = {0})',
)


def _quoted(secret: str) -> str:
    """As PostgreSQL prints a string."""
    body = secret.replace("'", "''")
    return "E'" + body.replace("\\", "\\\\") + "'" if "\\" in body else f"'{body}'"


def _document(condition: str) -> dict[str, Any]:
    ran = {"Plan Rows": 5, "Actual Rows": 4, "Actual Loops": 1, "Actual Total Time": 80.0, "Total Cost": 900.0}
    scan = {
        "Node Type": "Seq Scan",
        "Relation Name": "orders",
        "Alias": "o",
        "Parent Relationship": "Outer",
        "Filter": condition,
        "Rows Removed by Filter": 60_000,
        "Output": ["id", condition],
        "Function Call": condition,
        "TID Cond": condition,
        **ran,
    }
    sort = {
        "Node Type": "Sort",
        "Sort Key": [f"{condition} DESC", "id"],
        "Sort Space Type": "Disk",
        "Plans": [scan],
        **ran,
    }
    group = {"Node Type": "Aggregate", "Group Key": [condition], "Strategy": "Sorted", "Plans": [sort], **ran}
    loop = {"Node Type": "Hash Join", "Hash Cond": condition, "Join Filter": condition, "Plans": [group], **ran}
    return {
        "Query Text": f"SELECT {condition}",
        "Query Parameters": f"$1 = {condition}",
        "Plan": {"Node Type": "Limit", "Unknown Field": {"Deeper": [condition]}, "Plans": [loop], **ran},
        "Settings": {"work_mem": "64kB", "app.tenant": condition, "search_path": condition},
        "Triggers": [{"Trigger Name": "t", "Relation": "orders", "Time": 1.0, "Calls": 1}],
        "Surprise": condition,
        "Execution Time": 90.0,
    }


@given(st.sampled_from(CONDITIONS), SECRETS, NUMBERS)
def test_no_literal_survives_anywhere(condition: str, secret: str, number: str) -> None:
    """Neither in the redacted document nor in the plan nor in any finding."""
    filled = condition.replace("{0}", _quoted(secret)).replace("{1}", number)
    analysis = analyse(_document(filled))
    assert {"disk-sort", "seq-scan-filter"} <= {finding.rule for finding in analysis.findings}
    kept = [
        json.dumps(redact(_document(filled)), ensure_ascii=False),
        repr(analysis.plan),
        *map(repr, analysis.findings),
    ]
    digits = number.lstrip("-")
    for text in kept:
        assert secret not in text
        assert _quoted(secret) not in text
        assert "qz" not in text
        assert digits not in text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("(a = 'it''s')", "(a = '?')"),
        (r"(a = E'it\\''s\\')", "(a = '?')"),
        (r"(a = E'x\'y')", "(a = '?')"),
        ("(a ~~ '%abc')", "(a ~~ '%...')"),
        ("(a = $1)", "(a = $1)"),
        ('("Col 2" = 3)', '("Col 2" = ?)'),
        ("(t1.c2 = 3.5e-7)", "(t1.c2 = ?)"),
        ("(a = (SubPlan 1))", "(a = (SubPlan 1))"),
        ("((InitPlan 12).col1 > 12)", "((InitPlan 12).col1 > ?)"),
        ("(a = B'0101')", "(a = '?')"),
        ("(a = 'cut off", "(a = '?'"),
        ("f($tag$secret 'x'$tag$)", "f('?')"),
        ("(n = ANY ('{1,2}'::int[]))", "(n = ANY ('?'::int[]))"),
        ("(x = '-5'::integer)", "(x = '?'::integer)"),
    ],
)
def test_expressions_keep_their_form(source: str, expected: str) -> None:
    """Names, parameters and references to subplans stay."""
    assert redact_text(source) == expected


def test_structure_stays() -> None:
    """What the rules and the shape need is kept word for word."""
    document = _document("(id = 5)")
    kept = redact(document)
    assert set(kept) == {"Plan", "Settings", "Triggers", "Execution Time"}
    assert kept["Settings"] == {"work_mem": "64kB", "search_path": "?"}
    assert analyse(document).plan.shape == analyse(kept).plan.shape
