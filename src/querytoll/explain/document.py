"""Any text or object that holds an EXPLAIN (FORMAT JSON) document, to its plan and findings."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from querytoll.advise.index import Suggestion
from querytoll.explain.catalog import Catalog
from querytoll.explain.insights import RULES, inspect
from querytoll.explain.insights.case import Case
from querytoll.explain.insights.missing import MissingIndex
from querytoll.explain.plan import MAX_DEPTH, PlanDocumentError, plan_from
from querytoll.explain.redact import redact
from querytoll.explain.scan import EXPLAINABLE
from querytoll.model import Finding, Plan, PlanSource

MAX_LENGTH = 50_000_000
"""Characters of a document that are read."""
HOW = "make it with: EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) <statement>"
MAX_PYTHON_LENGTH = 1_000_000
_WHOLE = "pass the whole output of EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
_OPENED = re.compile(r'"Plan"\s*:')
_STATEMENT = re.compile(rf"\s*(?:{'|'.join(sorted(EXPLAINABLE))})\b", re.IGNORECASE)
_LOGGED = re.compile(r"\bduration: [\d.]+ ms\s+plan:")
_TEXT_PLAN = re.compile(r"\(cost=[\d.]+\.\.[\d.]+ rows=\d+|\(actual time=")


@dataclass(frozen=True, slots=True)
class Analysis:
    """A plan, redacted, and what was found in it.

    Args:
        plan: without literals.
        findings: the costliest first; without literals; each carries the plan.
        suggestions: exact indexes. An expression that they index may hold a constant of the statement (a JSON key):
            they are for the person who asked, not for storage.
    """

    plan: Plan
    findings: tuple[Finding, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain data: `insights` with rule, node, advice and index, and facts about the plan."""
        plan = self.plan
        return {
            "insights": [self._insight(finding) for finding in self.findings],
            "plan": {
                "node": plan.tree.kind,
                "source": plan.source,
                "shape": plan.shape,
                "execution_seconds": plan.elapsed,
                "planning_seconds": plan.planning,
                "cost": round(plan.tree.cost, 2),
            },
        }

    def _insight(self, finding: Finding) -> dict[str, object]:
        evidence = dict(finding.evidence)
        index = evidence.pop("index", None)
        exact = {suggestion.public: suggestion.sql for suggestion in self.suggestions}
        return {
            "rule": finding.rule,
            "node": evidence.pop("node", None),
            "node_id": evidence.pop("node_id", None),
            "title": finding.title,
            "advice": finding.advice,
            "severity": finding.severity,
            "confidence": finding.confidence,
            "cost_seconds": finding.cost,
            "index": exact.get(str(index), index),
            "evidence": evidence,
        }


def analyse(
    document: str | bytes | Sequence[object] | Mapping[str, object],
    catalog: Catalog | None = None,
    *,
    source: PlanSource | None = None,
    fingerprint: str | None = None,
    observed: float | None = None,
    captured: datetime | None = None,
) -> Analysis:
    """Read a document and apply every rule to it; only the redacted plan is kept.

    Args:
        document: EXPLAIN (FORMAT JSON) output as psql, a driver, auto_explain or another tool gives it.
        catalog: facts about its tables.
        source: where the plan comes from; None: seen from the document.
        fingerprint: the statement's shape.
        observed: seconds that the statement itself took, where the plan is of a second run.
        captured: when, UTC.

    Raises:
        PlanDocumentError: there is no such document in it.
    """
    found = read_document(document)
    if source is None and "Query Text" in found and "Execution Time" not in found:
        source = "auto_explain"
    raw = plan_from(found, source=source, fingerprint=fingerprint, captured=captured)
    plan = plan_from(redact(found), source=raw.source, fingerprint=fingerprint, captured=captured)
    findings = inspect(raw, catalog, observed=observed)
    rule = next((rule for rule in RULES if isinstance(rule, MissingIndex)), MissingIndex())
    suggestions = tuple(suggestion for _, _, suggestion in rule.hits(Case(raw, catalog)))
    return Analysis(plan, tuple(replace(finding, plan=plan) for finding in findings), suggestions)


def read_document(document: str | bytes | Sequence[object] | Mapping[str, object]) -> Mapping[str, object]:
    """The object that holds `Plan`, out of whatever surrounds it; of several the costliest.

    Raises:
        PlanDocumentError: there is none.
    """
    value: object = document
    if isinstance(value, bytes | bytearray):
        value = _decoded(bytes(value))
    if isinstance(value, str):
        value = _parsed(value)
    plans = list(_plans(value))
    if not plans:
        raise PlanDocumentError(f"the JSON holds no plan: no object with 'Plan' or 'Node Type' in it; {HOW}")
    return max(plans, key=_weight)


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise PlanDocumentError(f"the document is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _parsed(source: str) -> object:
    if len(source) > MAX_LENGTH:
        raise PlanDocumentError(f"the document is longer than {MAX_LENGTH} characters; pass one plan at a time")
    if not source.strip():
        raise PlanDocumentError(f"the document is empty; {HOW}")
    for candidate in _candidates(source.lstrip("\ufeff")):
        value = _loaded(candidate)
        if value is not None and any(True for _ in _plans(value)):
            return value
    raise PlanDocumentError(_complaint(source))


def _loaded(source: str) -> object | None:
    for read in (json.loads, _python, _embedded):
        try:
            return read(source)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _python(source: str) -> object:
    """What `print(rows)` shows of a plan that a driver has decoded already."""
    if len(source) > MAX_PYTHON_LENGTH or "'Node Type'" not in source:
        raise ValueError("not Python's")
    return ast.literal_eval(source.strip())


def _candidates(source: str) -> Iterator[str]:
    """The text as it is, then without psql's frame, then with the doubled quotes of CSV undone."""
    yield source
    bare = "\n".join(_unframed(source))
    yield bare
    if '""' in source:
        yield bare.replace('""', '"')


def _unframed(source: str) -> Iterator[str]:
    for line in source.splitlines():
        line = re.sub(r"^\s*[|│║]?\s*(?:QUERY PLAN)?\s*[|│║]", "", line)
        yield re.sub(r"\s*[+↵]?\s*[|│║]?\s*[+↵]?\s*$", "", line)


def _embedded(source: str) -> object | None:
    """The first JSON value with a plan that starts somewhere in the text."""
    decoder = json.JSONDecoder()
    for attempt, match in enumerate(re.finditer(r"[\[{]", source)):
        if attempt > 200:
            return None
        try:
            value, _ = decoder.raw_decode(source, match.start())
        except (ValueError, RecursionError):
            continue
        if any(True for _ in _plans(value)):
            cut = _bare(value) and _OPENED.search(source, 0, match.start())
            return None if cut else value
    return None


def _bare(value: object) -> bool:
    """Only a step, or some of them: what is left of a document whose beginning could not be read."""
    items = value if isinstance(value, list) else [value]
    return not any(isinstance(item, Mapping) and "Plan" in item for item in items)


def _complaint(source: str) -> str:
    if _LOGGED.search(source) and '"Node Type"' not in source:
        return "this is a plan of auto_explain's, but not in JSON; set auto_explain.log_format = 'json'"
    if _TEXT_PLAN.search(source):
        return f"this is EXPLAIN's text format, which loses fields; {HOW}"
    if source.lstrip().lower().startswith(("<table", "<!doctype html", "<html")):
        return (
            "this is HTML; write the plan to a file with: psql -XqAt -c 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ...'"
        )
    if source.lstrip().startswith("<"):
        return f"this is XML; {HOW}"
    if re.search(r"^\s*-?\s*Plan:", source, re.MULTILINE):
        return f"this is YAML; {HOW}"
    if _STATEMENT.match(source):
        return (
            'this is a statement and no plan of one; pass it as the argument: querytoll explain "SELECT ..." --url ...'
        )
    try:
        json.loads(source)
    except ValueError as error:
        if _OPENED.search(source):
            return f"the document is not JSON, it is cut off or damaged: {error}; {_WHOLE}"
        return f"the document is not JSON: {error}; {HOW}"
    except RecursionError:
        return f"the document is nested too deeply; {HOW}"
    return f"the JSON holds no plan: no object with 'Plan' or 'Node Type' in it; {HOW}"


def _plans(value: object, depth: int = 0) -> Iterator[Mapping[str, object]]:
    """Documents inside lists, rows (`{"QUERY PLAN": ...}`), log records and strings."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        if isinstance(value.get("Plan"), Mapping):
            yield value
        elif isinstance(value.get("Node Type"), str):
            yield {"Plan": value}
        else:
            for item in value.values():
                yield from _plans(item, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _plans(item, depth + 1)
    elif isinstance(value, str) and '"Node Type"' in value:
        try:
            yield from _plans(json.loads(value), depth + 1)
        except (ValueError, RecursionError):
            yield from _plans(_embedded(value), depth + 1)


def _weight(document: Mapping[str, object]) -> tuple[float, float]:
    plan = document.get("Plan")
    facts = plan if isinstance(plan, Mapping) else {}
    times = [value for value in (document.get("Execution Time"), facts.get("Actual Total Time")) if _real(value)]
    cost = facts.get("Total Cost")
    return max((float(str(value)) for value in times), default=0.0), float(str(cost)) if _real(cost) else 0.0


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
