"""Statements that take long by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from querytoll.detect.common import ignores, net_seconds
from querytoll.detect.index import Index
from querytoll.detect.rule import SECONDS, Rule, Signs
from querytoll.model import Finding, Statement, Trace, new_finding


@dataclass(frozen=True, slots=True)
class SlowQuery(Rule):
    """`slow-query`: a statement above the threshold, time in which the event loop was blocked not counted.

    Args:
        seconds: the threshold.
    """

    seconds: float = 0.1

    def find(self, index: Index) -> Iterator[Finding]:
        trace = index.trace
        slow: dict[str, list[Statement]] = {}
        for statement, elapsed in zip(trace.statements, index.elapsed, strict=True):
            if (
                elapsed > self.seconds
                and net_seconds(statement) > self.seconds
                and not ignores(statement, "slow-query")
            ):
                slow.setdefault(statement.fingerprint, []).append(statement)
        for group in slow.values():
            yield _finding(trace, group)

    def signs(self) -> Signs:
        return {SECONDS: self.seconds}


def _finding(trace: Trace, group: list[Statement]) -> Finding:
    total = sum(map(net_seconds, group))
    worst = max(group, key=net_seconds)
    times = f"{len(group)} times, up to " if len(group) > 1 else ""
    share = min(1.0, total / trace.elapsed) if trace.elapsed else 0.0
    ended = "; it failed with " + worst.error if worst.error else ""
    return new_finding(
        rule="slow-query",
        title=f"{worst.summary} took {times}{net_seconds(worst) * 1000:.0f} ms, {share:.0%} of {trace.name}{ended}",
        advice="Look at its plan (EXPLAIN): an index for WHERE and ORDER BY, fewer rows, or a narrower select.",
        site=worst.site,
        fingerprint=worst.fingerprint,
        summary=worst.summary,
        count=len(group),
        cost=total,
        evidence={
            "statement": worst.shape.text,
            "seconds": net_seconds(worst),
            "stall_seconds": worst.stall,
            "share": share,
            "rows": worst.rows,
            "error": worst.error,
        },
    )
