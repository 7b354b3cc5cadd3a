"""EXPLAIN documents to documents without literals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from querytoll.explain.predicates import words

TOP_LEVEL = words(
    "Plan|Planning|Planning Time|Execution Time|Triggers|JIT|Settings|Serialization|Query Identifier|Planning Memory"
    "|Total Runtime",
    "|",
)
"""Keys of the document itself that are kept; `Query Text` and `Query Parameters` are not among them."""
STRUCTURAL = words(
    "Node Type|Parent Relationship|Subplan Name|Join Type|Strategy|Partial Mode|Operation|Command|Scan Direction"
    "|Relation Name|Schema|Alias|Index Name|CTE Name|Function Name|Table Function Name|Tuplestore Name|Sampling Method"
    "|Sort Method|Sort Space Type|Sort Methods Used|Cache Mode|Conflict Resolution|Conflict Arbiter Indexes"
    "|Custom Plan Provider|Trigger Name|Constraint Name|Relation|Format|Storage|Target Tables",
    "|",
)
"""Keys whose strings are names of the schema or of the planner's making; every other string is scanned."""
_DROPPED = frozenset({"Query Text", "Query Parameters"})
_SETTING = re.compile(r'[\w$", .-]*\Z')
_TOKEN = re.compile(
    r"""
    (?P<keep>"(?:[^"]|"")*" | \b(?:SubPlan|InitPlan|CTE)\ [\d.]+(?!\w) | \$\d+)
  | (?P<string>(?:\b[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)) | (?:(?:\b[bBxXnN]|\b[uU]&)?'(?:[^']|'')*(?:'|\Z)))
  | (?P<dollar>\$(?P<tag>[^\W\d]\w*)?\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<number>(?<![\w$])\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
    """,
    re.VERBOSE | re.DOTALL,
)


def redact_text(expression: str, keep: frozenset[str] = frozenset()) -> str:
    """The expression with `?` for every literal; `'%...'` for a string that starts with a wildcard.

    That one bit is kept because a leading wildcard is a fault of its own, and tells nothing of the value.

    Args:
        expression: a deparsed condition, or a statement.
        keep: strings that are no values but words of PostgreSQL (`day`), and stay.
    """
    return _TOKEN.sub(lambda match: _mask(match, keep), expression)


def _mask(match: re.Match[str], keep: frozenset[str]) -> str:
    if match["keep"]:
        return match["keep"]
    if match["string"] and match["string"].strip("'").lower() in keep:
        return match["string"]
    if match["number"]:
        return "?"
    body = match["string"] or ""
    return "'%...'" if body.partition("'")[2].startswith("%") else "'?'"


def redact(document: Mapping[str, object]) -> dict[str, object]:
    """The document without literals: allowed keys only at the top, every expression scanned below."""
    return {
        key: _settings(value) if key == "Settings" else _redacted(key, value)
        for key, value in document.items()
        if key in TOP_LEVEL
    }


def _settings(value: object) -> dict[str, str]:
    """Planner settings only: a name with a dot is the application's own, and may hold a tenant or a user."""
    if not isinstance(value, Mapping):
        return {}
    return {
        str(name): setting if _SETTING.match(setting := str(raw)) else "?"
        for name, raw in value.items()
        if "." not in str(name)
    }


def _redacted(key: str, value: object) -> object:
    if isinstance(value, str):
        return value if key in STRUCTURAL else redact_text(value)
    if isinstance(value, Mapping):
        return {str(name): _redacted(str(name), item) for name, item in value.items() if name not in _DROPPED}
    if isinstance(value, Sequence):
        return [_redacted(key, item) for item in value]
    return value
