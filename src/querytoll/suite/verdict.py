"""Results, baseline and lock to what fails a run, and what is worth a word."""

from __future__ import annotations

from dataclasses import dataclass

from querytoll.suite.baseline import Baseline, Known
from querytoll.suite.lock import FAILING, Change, Lock
from querytoll.suite.results import Found, Results


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a run.

    Args:
        results: the run.
        new: findings that are not in the baseline, the worst first; all of them without one.
        known: findings that are.
        stale: entries of the baseline that the run did not show.
        changes: differences to the lock, those that fail first.
        strict: findings that are new fail.
    """

    results: Results
    new: tuple[Found, ...] = ()
    known: tuple[Found, ...] = ()
    stale: tuple[Known, ...] = ()
    changes: tuple[Change, ...] = ()
    strict: bool = True

    @property
    def failing(self) -> tuple[Change, ...]:
        """The changes that fail the run."""
        return tuple(change for change in self.changes if change.kind in FAILING)

    @property
    def failed(self) -> bool:
        """There is something new, and it matters."""
        return bool((self.new and self.strict) or self.failing)


def verdict(
    results: Results,
    baseline: Baseline | None = None,
    lock: Lock | None = None,
    *,
    per_test: bool = False,
    strict: bool = True,
) -> Verdict:
    """Compare a run to what a team has committed.

    Args:
        results: the run.
        baseline: known findings; None: none are.
        lock: queries by route; None: they are not compared.
        per_test: the lock is by test.
        strict: findings that are not in the baseline fail the run.
    """
    ids = baseline.ids if baseline is not None else frozenset()
    findings = sorted(results.findings.values(), key=lambda found: (-found.count, found.rule, found.place, found.id))
    traffic = results.tests if per_test else results.routes
    changes = lock.changes(traffic, complete=results.complete) if lock is not None else []
    return Verdict(
        results,
        new=tuple(found for found in findings if found.id not in ids),
        known=tuple(found for found in findings if found.id in ids),
        stale=baseline.stale(findings) if baseline is not None and results.complete else (),
        changes=tuple(sorted(changes, key=lambda change: change.kind not in FAILING)),
        strict=strict,
    )
