"""A plan and the catalog to the proof that a statement only reads, or to the reason why that cannot be proven.

The plan names the steps, the functions and the operators that will run, through every view, policy and rewrite; it
leaves out LIMIT, VALUES lists and window frames, which only the texts of the statement and of its views have. So both
are scanned, every name is looked up, and what is volatile or of somebody's own making is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from querytoll.explain.predicates import words
from querytoll.explain.redact import STRUCTURAL
from querytoll.explain.scan import Name, Scanned, scan, scan_once

Look = Callable[[str, Mapping[str, object]], Iterable[Mapping[str, Any]]]
"""Runs one of the queries below; parameters by name."""

WRITING_STEPS: Final = frozenset({"ModifyTable", "LockRows", "Foreign Scan", "Custom Scan"})
HARMLESS: Final = words(
    "random random_normal clock_timestamp timeofday gen_random_uuid uuidv4 uuidv7 pg_relation_size pg_table_size"
    " pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size system bernoulli timezone"
    " array_sample array_shuffle current_query pg_is_in_recovery pg_partition_tree pg_partition_ancestors"
)
"""Functions of PostgreSQL that are volatile because their result changes, and change nothing themselves."""
DENIED: Final = words(
    "txid_current pg_current_xact_id pg_export_snapshot ts_stat ts_rewrite st_findextent"
    " table_to_xml table_to_xml_and_xmlschema schema_to_xml schema_to_xml_and_xmlschema database_to_xml"
    " database_to_xml_and_xmlschema pg_input_is_valid pg_input_error_info domain_in record_in array_in range_in"
    " multirange_in"
)
"""Functions that are not all volatile by name, and take a transaction id, or run what a string names: SQL, the view of
a name, the checks of a type."""
TRUSTED_EXTENSIONS: Final = words(
    "btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray isn ltree pg_trgm pgcrypto postgis"
    " seg tsm_system_rows tsm_system_time unaccent uuid-ossp vector"
)
"""Extensions whose functions count as PostgreSQL's own: refused where volatile, else not."""
_COMMON_OPERATORS: Final = frozenset(("=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~", "%"))
"""Operators that words stand for: IN, LIKE, BETWEEN, DISTINCT, NULLIF."""
_SAMPLING: Final = frozenset(("system", "bernoulli", "system_rows", "system_time"))
_MAX_ROUNDS: Final = 10
_OWN: Final = 16_384
"""PostgreSQL's own objects have lower ids."""

_EXTENSION: Final = """
    (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = '{catalog}'::pg_catalog.regclass AND d.objid = {oid} AND d.deptype = 'e' LIMIT 1)
"""
_MULTIRANGE: Final = "CAST(pg_catalog.to_jsonb(r) ->> 'rngmultitypid' AS oid)"
"""Of a row `r` of pg_range; PostgreSQL 13 has no such column."""
VIEWS: Final = f"""
    SELECT c.relname AS name, pg_catalog.pg_get_viewdef(c.oid) AS definition
    FROM pg_catalog.pg_class c WHERE c.relkind = 'v' AND c.relname = ANY (CAST(:names AS text[]))
    UNION ALL
    SELECT t.typname, pg_catalog.pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_constraint k ON k.contypid = t.oid
    WHERE t.typname = ANY (CAST(:names AS text[]))
    UNION ALL
    SELECT t.typname, pg_catalog.format_type(t.typbasetype, NULL)
    FROM pg_catalog.pg_type t WHERE t.typtype = 'd' AND t.typname = ANY (CAST(:names AS text[]))
    UNION ALL
    SELECT t.typname, pg_catalog.concat(pg_catalog.format_type(r.rngsubtype, NULL), ' ', r.rngcanonical, '(')
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_range r ON t.oid IN (r.rngtypid, {_MULTIRANGE})
    WHERE t.oid >= {_OWN} AND t.typname = ANY (CAST(:names AS text[]))
    UNION ALL
    SELECT c.relname, pg_catalog.string_agg(pg_catalog.format_type(a.atttypid, NULL), ', ')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
    WHERE c.relname = ANY (CAST(:names AS text[])) AND a.atttypid >= {_OWN} AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY c.oid, c.relname
"""
"""What stands behind names: of views their definitions, of domains their checks and base types, of ranges their
subtypes and canonical functions, of tables and row types the types of their columns that are somebody's own."""
FUNCTIONS: Final = f"""
    SELECT p.proname AS name, n.nspname AS schema, p.provolatile::text AS volatility,
           pg_catalog.pg_function_is_visible(p.oid) AS visible, p.oid >= {_OWN} AS own,
           p.pronargs >= 1 AND EXISTS (
               SELECT FROM pg_catalog.pg_type t
               WHERE t.oid = p.proargtypes[0] AND (t.typrelid <> 0 OR t.typtype IN ('p', 'd'))
           ) AS of_row,
           {_EXTENSION.format(catalog="pg_catalog.pg_proc", oid="p.oid")} AS extension
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = ANY (CAST(:names AS text[]))
      AND (p.provolatile = 'v' OR p.oid >= {_OWN} OR p.proname = ANY (CAST(:denied AS text[])))
"""
OPERATORS: Final = f"""
    SELECT o.oprname AS name, n.nspname AS schema, p.provolatile::text AS volatility,
           pg_catalog.pg_operator_is_visible(o.oid) AS visible, o.oid >= {_OWN} OR p.oid >= {_OWN} AS own,
           {_EXTENSION.format(catalog="pg_catalog.pg_operator", oid="o.oid")} AS extension
    FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
    WHERE o.oprname = ANY (CAST(:names AS text[])) AND (p.provolatile = 'v' OR o.oid >= {_OWN} OR p.oid >= {_OWN})
"""
TYPES: Final = f"""
    SELECT t.typname AS name, 'type' AS kind,
           {_EXTENSION.format(catalog="pg_catalog.pg_type", oid="t.oid")} AS extension
    FROM pg_catalog.pg_type t
    WHERE t.oid >= {_OWN} AND t.typtype = 'b' AND t.typelem = 0 AND t.typname = ANY (CAST(:casts AS text[]))
    UNION ALL
    SELECT 'to ' || pg_catalog.format_type(c.casttarget, NULL), 'cast',
           {_EXTENSION.format(catalog="pg_catalog.pg_cast", oid="c.oid")}
    FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
    WHERE (c.castfunc >= {_OWN} OR (c.castmethod = 'i' AND t.oid >= {_OWN} AND t.typtype <> 'e'))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_range r WHERE r.rngtypid = c.castsource AND {_MULTIRANGE} = t.oid)
    UNION ALL
    SELECT p.amproc::text, 'support function', NULL FROM pg_catalog.pg_amproc p
    WHERE p.amproc >= {_OWN}::oid
      AND {_EXTENSION.format(catalog="pg_catalog.pg_proc", oid="p.amproc::oid")} IS NULL
"""
"""Types whose input runs code of their owner, and what is in no plan: every cast that does, as casts may be implicit,
and the functions by which operator classes compare and hash, those of extensions excepted."""


def refusal(document: Mapping[str, object], statement: str, look: Look) -> str | None:
    """Return why the statement may not be executed again; None where it is proven to read only.

    Args:
        document: its plain EXPLAIN (VERBOSE, FORMAT JSON) on the connection that would execute it.
        statement: its text.
        look: runs a catalog query on that connection.
    """
    own = scan(statement)
    if not own.reading:
        return "not a read" if own.explainable else "not a statement that EXPLAIN takes"
    plan = document.get("Plan")
    if not isinstance(plan, Mapping):
        return "no plan"
    steps = list(_steps(plan))
    if reason := next((f"a {step.get('Node Type')} step" for step in steps if _writes(step)), None):
        return reason
    texts = [own, *(scan_once(text) for text in _expressions(document, steps))]
    behind = _closure(texts, {str(step["Relation Name"]) for step in steps if "Relation Name" in step}, look)
    if behind is None:
        return "views nested too deeply"
    everything = [*texts, *behind]
    if not all(item.readable for item in everything):
        return "a name that the server may read otherwise"
    return _functions(everything, steps, look) or _operators(everything, look) or _types(everything, look)


def _steps(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _steps(child)


def _writes(step: Mapping[str, Any]) -> bool:
    return (
        step.get("Node Type") in WRITING_STEPS
        or "Operation" in step
        or str(step.get("Sampling Method", "system")).lower() not in _SAMPLING
    )


def _expressions(document: Mapping[str, object], steps: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Every string of the plan that is an expression, or may be one."""
    for step in steps:
        for key, value in step.items():
            if key not in STRUCTURAL and key != "Plans":
                yield from _strings(value)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)


def _closure(texts: Iterable[Scanned], relations: Iterable[str], look: Look) -> list[Scanned] | None:
    """The texts behind the names in the texts: views, types, to any depth; None where there is no end."""
    found: list[Scanned] = []
    known: set[str] = set()
    names = set(relations).union(*(text.words for text in texts))
    for _ in range(_MAX_ROUNDS):
        known |= names
        new = [scan(row["definition"]) for row in look(VIEWS, {"names": sorted(names)})]
        found += new
        names = set().union(*(text.words for text in new)) - known
        if not names:
            return found
    return None


def _functions(texts: Sequence[Scanned], steps: Iterable[Mapping[str, Any]], look: Look) -> str | None:
    called = set().union(*(text.called for text in texts))
    called |= {Name(step.get("Schema"), str(step["Function Name"])) for step in steps if "Function Name" in step}
    dotted = set().union(*(text.dotted for text in texts))
    names = {name.name for name in called} | dotted
    for row in look(FUNCTIONS, {"names": sorted(names), "denied": sorted(DENIED)}):
        name, schema = row["name"], row["schema"]
        meant = Name(schema, name) in called or (row["visible"] and Name(None, name) in called)
        if meant or (name in dotted and row["of_row"] and row["own"]):
            harmless = not row["own"] and name in HARMLESS
            if not harmless and (reason := _suspicion(row, name in DENIED)):
                return f"{reason} function {name}()"
    return None


def _operators(texts: Sequence[Scanned], look: Look) -> str | None:
    names = set().union(_COMMON_OPERATORS, *(text.operators for text in texts))
    names |= {name[:end] for name in names for end in range(1, len(name))}  # `=-1` is `=` and a sign
    qualified = any("operator" in text.words for text in texts)
    for row in look(OPERATORS, {"names": sorted(names)}):
        if (row["visible"] or qualified) and (reason := _suspicion(row)):
            return f"{reason} operator {row['name']}"
    return None


def _suspicion(row: Mapping[str, Any], denied: bool = False) -> str | None:
    if row["volatility"] == "v":
        return "volatile"
    if denied:
        return "unsafe"
    return None if not row["own"] or row["extension"] in TRUSTED_EXTENSIONS else "user-defined"


def _types(texts: Sequence[Scanned], look: Look) -> str | None:
    casts = set().union(*(text.casts for text in texts))
    for row in look(TYPES, {"casts": sorted(casts)}):
        if row["extension"] not in TRUSTED_EXTENSIONS:
            return f"user-defined {row['kind']} {row['name']}"
    return None
