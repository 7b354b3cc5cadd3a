"""Rules about writing: foreign key checks and waits for locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from querytoll.advise.index import Need
from querytoll.explain.insights.case import Case, count, duration
from querytoll.explain.plan import number
from querytoll.explain.predicates import Predicate, quoted
from querytoll.model import Finding, PlanNode


@dataclass(frozen=True, slots=True)
class FkTriggerSlow:
    """Deleting or updating a row searches the tables that reference it without an index.

    Args:
        seconds: in the trigger (ours).
        share: of the execution time (ours).
    """

    slug: ClassVar[str] = "fk-trigger-slow"
    seconds: float = 0.01
    share: float = 0.3

    def __call__(self, case: Case) -> Iterator[Finding]:
        for constraint, trigger in self.hits(case):
            spent, calls = number(trigger.get("Time")) / 1000, number(trigger.get("Calls"))
            need = self.need(case, constraint)
            yield case.finding(
                self,
                _writer(case),
                f"The foreign key {constraint} took {duration(spent)} for {count(calls)} rows",
                f"Index the referencing columns of {constraint}"
                + (f" on {need.relation}" if need else "")
                + ": each check reads the whole referencing table without it.",
                share=min(1.0, spent / case.seconds),
                need=need,
                constraint=constraint,
                trigger_seconds=spent,
                calls=calls,
            )

    def hits(self, case: Case) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Foreign key triggers over the line, with the constraint's name."""
        triggers = case.plan.facts.get("Triggers")
        for trigger in triggers if isinstance(triggers, Sequence) and not isinstance(triggers, str) else ():
            name = trigger.get("Constraint Name") if isinstance(trigger, Mapping) else None
            spent = number(trigger.get("Time")) / 1000 if name else 0.0
            slow = case.seconds and spent >= max(self.seconds, self.share * case.seconds)
            if name and slow and _parent_side(case, trigger):
                yield str(name), trigger

    def need(self, case: Case, constraint: str) -> Need | None:
        """The access path by the referencing columns, where the catalog knows the constraint."""
        for table in case.catalog.tables if case.catalog else ():
            for key in table.foreign_keys:
                if key.name == constraint and not table.parent:
                    terms = tuple(_equal(column) for column in key.columns)
                    rows = table.rows or 0.0
                    return Need(
                        node=_writer(case).id,
                        relation=table.name,
                        schema=table.schema,
                        predicates=terms,
                        scanned=rows,
                        kept=1.0,
                    )
        return None


def _equal(column: str) -> Predicate:
    return Predicate(f"{quoted(column)} = $1", column, "=", expression=quoted(column), other="$1", constant=True)


def _writer(case: Case) -> PlanNode:
    return next(case.of("ModifyTable"), case.plan.tree)


def _parent_side(case: Case, trigger: Mapping[str, object]) -> bool:
    """The trigger guards the referenced table; the other side looks up a primary key, which is always indexed."""
    name = str(trigger.get("Trigger Name", ""))
    if name.startswith("RI_ConstraintTrigger_"):
        return name.startswith("RI_ConstraintTrigger_a")
    return any(node.facts.get("Operation") in ("Delete", "Update", "Merge") for node in case.of("ModifyTable"))


@dataclass(frozen=True, slots=True)
class LockWait:
    """A write or a locking read waited for another transaction.

    Args:
        seconds: own time of the locking step (ours).
        share: of the execution time (ours).
        seconds_per_row: of the rows it locks (ours).
        observed_seconds: by which the statement took longer than its plan did when run again (ours).
        observed_ratio: and how many times as long (ours).
    """

    slug: ClassVar[str] = "lock-wait"
    seconds: float = 0.1
    share: float = 0.5
    seconds_per_row: float = 0.01
    observed_seconds: float = 0.1
    observed_ratio: float = 5.0

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("LockRows", "ModifyTable"):
            own = (node.own_seconds or 0.0) - (_trigger_seconds(case) if node.kind == "ModifyTable" else 0.0)
            rows = max([child.rows or 0.0 for child in node.children] + [node.rows or 0.0, 1.0])
            long = own >= max(self.seconds, self.share * case.seconds)
            if long and own / rows >= self.seconds_per_row:
                yield case.finding(
                    self,
                    node,
                    f"{duration(own)} spent on {count(rows)} rows: most likely a wait for another transaction's locks",
                    "Keep the transactions that write these rows short, lock rows in one order, take work with "
                    "SKIP LOCKED, and set lock_timeout.",
                    share=min(1.0, own / case.seconds) if case.seconds else None,
                    confidence=0.8,
                    seconds=own,
                    rows=rows,
                )
        yield from self._not_reproduced(case)

    def _not_reproduced(self, case: Case) -> Iterator[Finding]:
        if case.observed is None or case.plan.source != "analyze" or case.plan.elapsed is None:
            return
        again = case.plan.elapsed
        if case.observed - again > self.observed_seconds and case.observed > self.observed_ratio * again:
            yield case.finding(
                self,
                case.plan.tree,
                f"The statement took {duration(case.observed)}, its plan run again {duration(again)}",
                "Not reproduced: a lock, I/O or a cold cache. Look at log_lock_waits and pg_stat_activity.",
                severity="info",
                confidence=0.5,
                observed_seconds=case.observed,
                repeated_seconds=again,
            )


def _trigger_seconds(case: Case) -> float:
    triggers = case.plan.facts.get("Triggers")
    entries = triggers if isinstance(triggers, Sequence) and not isinstance(triggers, str) else ()
    return sum(number(entry.get("Time")) / 1000 for entry in entries if isinstance(entry, Mapping))
