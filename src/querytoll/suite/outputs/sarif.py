"""A verdict to SARIF 2.1.0, which code hosts show as alerts."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

import querytoll
from querytoll.suite.lock import Change
from querytoll.suite.results import Found
from querytoll.suite.verdict import Verdict

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LOCK_RULE: Final = "more-queries"
_LEVELS: Final = {"info": "note", "warning": "warning", "error": "error"}


def to_sarif(verdict: Verdict) -> str:
    """Return a log of one run; known findings are in it as unchanged, so that a code host keeps their alerts open."""
    found = (*verdict.new, *verdict.known)
    rules = sorted({each.rule for each in found} | ({LOCK_RULE} if verdict.failing else set()))
    results = [_result(each, rules, new=each in verdict.new) for each in found]
    results += [_more(change, rules) for change in verdict.failing]
    driver = {
        "name": "querytoll",
        "version": querytoll.__version__,
        "rules": [{"id": rule, "name": rule, "shortDescription": {"text": rule.replace("-", " ")}} for rule in rules],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(found: Found, rules: list[str], *, new: bool) -> dict[str, object]:
    return {
        "ruleId": found.rule,
        "ruleIndex": rules.index(found.rule),
        "level": _LEVELS[found.severity],
        "baselineState": "new" if new else "unchanged",
        "message": {"text": f"{found.title}. {found.advice}"},
        "locations": _locations(found.path, found.line, found.function),
        "partialFingerprints": {"querytoll/v1": found.id},
        "properties": {"routes": list(found.routes), "statement": found.statement, "count": found.count},
    }


def _more(change: Change, rules: list[str]) -> dict[str, object]:
    return {
        "ruleId": LOCK_RULE,
        "ruleIndex": rules.index(LOCK_RULE),
        "level": "error",
        "message": {"text": str(change)},
        "locations": _locations(change.path, change.line, ""),
    }


def _locations(path: str, line: int, function: str) -> list[dict[str, object]]:
    if not path or not line:
        return []
    artifact = {"uri": quote(path)} if path.startswith("/") else {"uri": quote(path), "uriBaseId": "%SRCROOT%"}
    location: dict[str, object] = {
        "physicalLocation": {"artifactLocation": artifact, "region": {"startLine": line}},
    }
    if function:
        location["logicalLocations"] = [{"fullyQualifiedName": function, "kind": "function"}]
    return [location]
