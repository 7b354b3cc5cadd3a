"""All rules' findings to the report: one finding per cause, dearest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from querytoll.capture.recorded import new
from querytoll.detect.ignoring import Ignoring
from querytoll.detect.index import Index
from querytoll.detect.panel import Panel, panel_of
from querytoll.detect.rule import IGNORED
from querytoll.errors import Faults
from querytoll.model import Detector, Finding, Report, Site, Statement, Trace

_SEVERAL: Final = ("websocket", "test")
_REPEATS: Final = frozenset(("n-plus-one", "duplicate-query", "write-loop", "commit-loop"))


def judge(trace: Trace, detectors: Sequence[Detector], faults: Faults, ignoring: Ignoring | None = None) -> Report:
    """Return what the detectors find: one finding per cause, dearest first, without what is ignored."""
    panel = panel_of(detectors)
    patterns = ignoring is not None and ignoring.patterns
    if not patterns and panel.passes(trace):
        return new(Report, (trace, (), ()))
    findings, signs = _found(trace, panel, faults)
    if ignoring is not None:
        if signs & IGNORED:
            ignoring.note_blocks(trace, _silenced(trace, findings, panel, faults))
        if patterns:
            findings = ignoring.apply(findings)
    if len(findings) > 1:
        findings = merge(trace, findings)
    return new(Report, (trace, tuple(findings), ()))


def _found(trace: Trace, panel: Panel, faults: Faults) -> tuple[list[Finding], int]:
    """Return all findings, and the signs that the trace shows."""
    findings: list[Finding] = []
    shown = 0
    for part in (trace,) if trace.kind not in _SEVERAL else _parts(trace):
        # An index costs more than all else that is done for one statement.
        index = Index(part) if len(part.statements) > 1 else None
        signs = panel.signs(part, index)
        shown |= signs
        asked = panel.questions.get(signs)
        for detector, ask in asked if asked is not None else panel.ask(signs):
            try:
                if index is None:
                    index = Index(part)
                found = list(ask(index))
                if found:
                    findings += _checked(trace, detector, found)
            except Exception as fault:
                faults.caught("detect", fault)
    return findings, shown


def _parts(trace: Trace) -> list[Trace]:
    """Split what holds several units of work: messages of a websocket, requests within a test."""
    windows: dict[int, list[Statement]] = {}
    for statement in trace.statements:
        windows.setdefault(statement.window, []).append(statement)
    if len(windows) < 2:
        return [trace]
    return [trace._replace(statements=tuple(part), dropped=0) for part in windows.values()]


def _checked(trace: Trace, detector: Detector, found: list[Finding]) -> list[Finding]:
    """Return what a detector found, all of it findings; those without a line of their own with the endpoint's."""
    unplaced = False
    for finding in found:
        if not isinstance(finding, Finding):
            raise TypeError(f"{detector!r} gave something else than findings")
        if finding.site is None:
            unplaced = True
    endpoint = trace.endpoint if unplaced else None
    if endpoint is None:
        return found
    return [dataclasses.replace(each, site=endpoint) if each.site is None else each for each in found]


def _silenced(trace: Trace, findings: list[Finding], panel: Panel, faults: Faults) -> list[Finding]:
    """Return what would have been found without the `querytoll.ignore` blocks."""
    bare = tuple(statement._replace(ignored=()) for statement in trace.statements)
    kept = {(finding.id, finding.count) for finding in findings}
    everything, _ = _found(trace._replace(statements=bare), panel, faults)
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
