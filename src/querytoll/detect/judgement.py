"""All rules' findings to the report: one finding per cause, dearest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from querytoll.detect.ignoring import Ignoring
from querytoll.detect.index import Index
from querytoll.errors import Faults
from querytoll.model import Detector, Finding, Report, Site, Statement, Trace

_REPEATS: Final = frozenset(("n-plus-one", "duplicate-query", "write-loop", "commit-loop"))


def judge(trace: Trace, detectors: Sequence[Detector], faults: Faults, ignoring: Ignoring | None = None) -> Report:
    """Return what the detectors find: one finding per cause, dearest first, without what is ignored."""
    findings = [finding for part in _parts(trace) for finding in _ask(part, detectors, faults)]
    if ignoring is not None:
        if any(statement.ignored for statement in trace.statements):
            ignoring.note_blocks(trace, _silenced(trace, findings, detectors, faults))
        findings = ignoring.apply(findings)
    if len(findings) > 1:
        findings = merge(trace, findings)
    return Report(trace, tuple(findings))


def _parts(trace: Trace) -> list[Trace]:
    """Split what holds several units of work: messages of a websocket, requests within a test."""
    if trace.kind not in ("websocket", "test"):
        return [trace]
    windows: dict[int, list[Statement]] = {}
    for statement in trace.statements:
        windows.setdefault(statement.window, []).append(statement)
    if len(windows) < 2:
        return [trace]
    return [trace._replace(statements=tuple(part), dropped=0) for part in windows.values()]


def _ask(trace: Trace, detectors: Iterable[Detector], faults: Faults) -> list[Finding]:
    """Ask every detector; a detector that raises is counted and the others go on."""
    findings: list[Finding] = []
    index = Index(trace)
    for detector in detectors:
        try:
            # Our own rules share the index; a detector of the application's takes the trace.
            find = getattr(detector, "find", None)
            found = list(detector(trace) if find is None else find(index))
            if found and not all(isinstance(finding, Finding) for finding in found):
                raise TypeError(f"{detector!r} gave something else than findings")
            findings.extend(found if trace.endpoint is None else _located(trace.endpoint, found))
        except Exception as fault:
            faults.caught("detect", fault)
    return findings


def _located(endpoint: Site, findings: list[Finding]) -> list[Finding]:
    """Give findings without a line of their own that of the endpoint."""
    return [dataclasses.replace(each, site=endpoint) if each.site is None else each for each in findings]


def _silenced(trace: Trace, findings: list[Finding], detectors: Iterable[Detector], faults: Faults) -> list[Finding]:
    """Return what would have been found without the `querytoll.ignore` blocks."""
    bare = tuple(statement._replace(ignored=()) for statement in trace.statements)
    kept = {(finding.id, finding.count) for finding in findings}
    parts = _parts(trace._replace(statements=bare))
    everything = [finding for part in parts for finding in _ask(part, detectors, faults)]
    return [finding for finding in everything if (finding.id, finding.count) not in kept]


def merge(trace: Trace, findings: list[Finding]) -> list[Finding]:
    """Leave out what another finding explains, keep one of each place, and put the dearest first."""
    per_row = {finding.fingerprint for finding in findings if finding.rule == "n-plus-one"}
    loaded = {
        finding.site
        for finding in findings
        if finding.rule == "n-plus-one" and finding.evidence.get("load") != "refresh"
    }
    inlined = {finding.fingerprint for finding in findings if finding.rule == "inlined-literals"}
    excess = sum(finding.count - 1 for finding in findings if finding.rule in _REPEATS)
    saved = sum(finding.cost for finding in findings if finding.rule in _REPEATS or finding.rule == "slow-query")
    kept: dict[tuple[str, Site | None], Finding] = {}
    for finding in findings:
        explained = (
            (finding.rule == "n-plus-one" and finding.evidence.get("load") == "refresh" and finding.site in loaded)
            or (finding.rule == "duplicate-query" and finding.fingerprint in per_row)
            or (finding.rule == "statement-churn" and finding.fingerprint in inlined)
            or (finding.rule == "too-many-queries" and finding.count - excess <= _number(finding, "budget"))
            or (finding.rule == "too-much-db-time" and trace.database_seconds - saved <= _number(finding, "budget"))
        )
        key = (finding.id, finding.site)
        if not explained and (key not in kept or kept[key].cost < finding.cost):
            kept[key] = finding
    return sorted(kept.values(), key=lambda finding: (-finding.cost, finding.rule, finding.id))


def _number(finding: Finding, name: str) -> float:
    value = finding.evidence.get(name)
    return value if isinstance(value, (int, float)) else 0.0
