"""A verdict to one JSON document."""

from __future__ import annotations

import json
from dataclasses import asdict

from querytoll.suite.verdict import Verdict


def to_json(verdict: Verdict) -> str:
    """Return findings with `new`, the routes' sums, and the differences to baseline and lock."""
    results = verdict.results
    findings = [(found, found in verdict.new) for found in (*verdict.new, *verdict.known)]
    document = {
        "failed": verdict.failed,
        "complete": results.complete,
        "requests": results.requests,
        "statements": results.statements,
        "database_seconds": results.seconds,
        "findings": [{"new": new, **asdict(found)} for found, new in findings],
        "stale": [asdict(entry) for entry in verdict.stale],
        "lock": [asdict(change) for change in verdict.changes],
        "routes": {
            name: {"requests": each.requests, "statements": each.statements, "database_seconds": each.seconds}
            for name, each in sorted(results.routes.items())
        },
    }
    return json.dumps(document, indent=2) + "\n"
