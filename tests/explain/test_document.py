"""Every form in which an EXPLAIN document reaches people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytoll.errors import QuerytollError
from querytoll.explain.catalog import Catalog
from querytoll.explain.document import analyse, read_document
from querytoll.explain.plan import PlanDocumentError

SCAN = {
    "Node Type": "Seq Scan",
    "Relation Name": "orders",
    "Alias": "orders",
    "Filter": "((note = 'a | b + \"c\"'::text) AND (customer_id = 5))",
    "Rows Removed by Filter": 119_999,
    "Plan Rows": 1,
    "Actual Rows": 1,
    "Actual Loops": 1,
    "Actual Total Time": 20.0,
    "Total Cost": 3000.0,
}
ONE: dict[str, Any] = {"Plan": SCAN, "Execution Time": 21.0}
PRETTY = json.dumps([ONE], indent=2)
LINES = PRETTY.splitlines()
WIDTH = max(map(len, LINES))
PSQL = "\n".join(
    ["QUERY PLAN".center(WIDTH + 2), "-" * (WIDTH + 2)]
    + [f" {line:<{WIDTH}}+" for line in LINES[:-1]]
    + [f" {LINES[-1]}", "(1 row)", "", "Time: 21.300 ms"]
)
BORDER = "\n".join(
    [f"+{'-' * (WIDTH + 2)}+", f"|{'QUERY PLAN'.center(WIDTH + 2)}|", f"+{'-' * (WIDTH + 2)}+"]
    + [f"| {line:<{WIDTH}}+|" for line in LINES[:-1]]
    + [f"| {LINES[-1]:<{WIDTH}} |", f"+{'-' * (WIDTH + 2)}+", "(1 row)"]
)
UNICODE = "\n".join([f"│ {line:<{WIDTH}}↵│" for line in LINES[:-1]] + [f"│ {LINES[-1]:<{WIDTH}} │"])
EXPANDED = "\n".join(
    ["-[ RECORD 1 ]" + "-" * WIDTH, f"QUERY PLAN | {LINES[0]:<{WIDTH}}+"]
    + [f"           | {line:<{WIDTH}}+" for line in LINES[1:-1]]
    + [f"           | {LINES[-1]}"]
)
FRAMED = "\n".join(
    ["┌─[ RECORD 1 ]" + "─" * WIDTH + "┐", f"│ QUERY PLAN │ {LINES[0]:<{WIDTH}}↵│"]
    + [f"│            │ {line:<{WIDTH}}↵│" for line in LINES[1:-1]]
    + [f"│            │ {LINES[-1]:<{WIDTH}} │"]
)
LOGGED = {"Query Text": "SELECT *\nFROM orders", "Plan": SCAN}
AUTO_EXPLAIN = "2026-11-21 10:00:00.123 UTC [77] LOG:  duration: 20.1 ms  plan:\n" + "\n".join(
    f"\t{line}" for line in json.dumps(LOGGED, indent=2).splitlines()
)
CSV = '2026-11-21,"app","duration: 20.1 ms  plan:\n' + json.dumps(LOGGED).replace('"', '""') + '",,,'
FORMS: dict[str, Any] = {
    "object": ONE,
    "list": [ONE],
    "node": SCAN,
    "text": PRETTY,
    "compact": json.dumps(ONE),
    "bytes": PRETTY.encode(),
    "byte-order-mark": "\ufeff".encode() + PRETTY.encode(),
    "utf-16": PRETTY.encode("utf-16"),
    "psql": PSQL,
    "psql-crlf": PSQL.replace("\n", "\r\n"),
    "psql-border": BORDER,
    "psql-unicode": UNICODE,
    "psql-expanded": EXPANDED,
    "psql-expanded-border": FRAMED,
    "psql-unaligned": f"QUERY PLAN\n{PRETTY}\n(1 row)\n",
    "driver-row": [([ONE],)],
    "mapping-row": [{"QUERY PLAN": [ONE]}],
    "mapping-row-text": json.dumps([{"QUERY PLAN": PRETTY}]),
    "auto-explain": AUTO_EXPLAIN,
    "auto-explain-csv": CSV,
    "auto-explain-json-log": json.dumps({"message": "duration: 20.1 ms  plan:\n" + json.dumps(LOGGED)}),
    "python": repr([([ONE],)]),
    "markdown": f"Here it is:\n```json\n{PRETTY}\n```\nSlow [sometimes] {{!}}.",
    "two-plans": [{"Plan": {"Node Type": "Result", "Total Cost": 0.01}}, ONE],
    "pasted-with-sql": json.dumps({"plan": PRETTY, "query": "SELECT 1", "title": "x"}),
}


@pytest.mark.parametrize("document", FORMS.values(), ids=FORMS)
def test_a_document_is_found_in_whatever_surrounds_it(document: Any) -> None:
    """And read to the same plan."""
    assert read_document(document)["Plan"] == SCAN
    assert "seq-scan-filter" in {finding.rule for finding in analyse(document).findings}


def test_auto_explain_is_recognised() -> None:
    """It has a query text and no execution time."""
    assert analyse(AUTO_EXPLAIN).plan.source == "auto_explain"
    assert analyse(PSQL).plan.source == "analyze"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "empty"),
        ("Seq Scan on orders  (cost=0.00..3000.00 rows=1 width=8)", "text format"),
        ("<explain xmlns='http://www.postgresql.org/2009/explain'>", "XML"),
        ("- Plan: \n    Node Type: Seq Scan", "YAML"),
        ("{'Plan': 3}", "not JSON"),
        ('{"a": 1}', "holds no plan"),
        ("[]", "holds no plan"),
        ('[{"Plan": {"Plans": []}}]', "Node Type"),
        (b"\xff\x00\x81", "UTF-8"),
        (PRETTY[: len(PRETTY) // 2], "not JSON, it is cut off"),
        (PRETTY[: PRETTY.rindex("}")], "cut off"),
        ("2026-11-22 LOG:  duration: 4.7 ms  plan:\n\tSeq Scan on a  (cost=0.00..1.00 rows=1 width=8)", "log_format"),
        ("<table border='1'><tr><td>[<br />", "HTML"),
        ("SELECT * FROM orders", "this is a statement"),
        ("[" * 5000, "JSON|nested"),
        ([], "holds no plan"),
        ({"Plan": None}, "holds no plan"),
    ],
)
def test_what_is_no_document_is_refused_clearly(document: Any, message: str) -> None:
    """What is wrong and what to do, within our own tree of errors."""
    with pytest.raises(PlanDocumentError, match=message) as caught:
        analyse(document)
    assert isinstance(caught.value, QuerytollError)


def test_the_json_form_has_the_promised_fields() -> None:
    """Rule, node, advice and index."""
    catalog = Catalog.from_json({"tables": [{"name": "orders", "rows": 120_000, "columns": ["note", "customer_id"]}]})
    document = analyse(PSQL, catalog).to_json()
    json.dumps(document)
    insights = {insight["rule"]: insight for insight in document["insights"]}  # type: ignore[attr-defined]
    missing = insights["missing-index"]
    assert missing["node"] == "Seq Scan on orders"
    assert missing["index"].startswith(
        "CREATE INDEX CONCURRENTLY ix_orders_note_customer_id ON orders (note, customer_id"
    )
    assert "Unverified" in missing["advice"]
    assert insights["seq-scan-filter"]["index"] == missing["index"]


def test_exact_statements_are_for_the_caller_only() -> None:
    """A JSON key is part of the index, and of no finding."""
    node = {**SCAN, "Filter": "((data ->> 'my key'::text) = 'x'::text)"}
    analysis = analyse({"Plan": node, "Execution Time": 21.0})
    assert "'my key'" in analysis.suggestions[0].sql
    assert "my key" in json.dumps(analysis.to_json())
    assert all("my key" not in repr(finding) for finding in analysis.findings)


def test_a_lock_shows_when_the_statement_took_longer_than_its_plan() -> None:
    """A second run cannot show the wait of the first."""
    waited = analyse(ONE, observed=3.0)
    assert "lock-wait" in {finding.rule for finding in waited.findings}
    assert "lock-wait" not in {finding.rule for finding in analyse(ONE, observed=0.05).findings}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*SCAN, "Workers", "Plans", "Sort Key", "Output", "Join Filter"]), JSON))
def test_fields_of_wrong_types_are_survived(changes: dict[str, Any]) -> None:
    """Other tools write numbers as strings, and worse: a plan or our own error, nothing else."""
    child = {**SCAN, **changes, "Node Type": "Bitmap Heap Scan", "Parent Relationship": "Outer"}
    document = {"Plan": {**SCAN, **changes, "Plans": [child]}, "Execution Time": 21.0, "Triggers": changes.get("Alias")}
    try:
        analyse(document)
    except PlanDocumentError:
        assert changes.get("Node Type", "x") != "Seq Scan"
