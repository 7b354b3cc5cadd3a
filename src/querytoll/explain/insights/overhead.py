"""Rules about time that no step explains: I/O, JIT, planning, absent workers, serialization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from querytoll.explain.insights.case import Case, count, duration, percent
from querytoll.explain.plan import number
from querytoll.model import Finding, PlanNode

_IO_KEYS = ("Shared I/O Read Time", "I/O Read Time")
"""PostgreSQL 17 and later, and before."""


@dataclass(frozen=True, slots=True)
class IoHeavy:
    """The statement waited for blocks to be read.

    Judged by time alone: a table larger than a quarter of shared_buffers is always "read", mostly from the
    operating system's cache.

    Args:
        share: of the execution time (ours).
        seconds: spent in reads (ours).
        blocks: read (ours).
    """

    slug: ClassVar[str] = "io-heavy"
    share: float = 0.3
    seconds: float = 0.05
    blocks: int = 1_000

    def __call__(self, case: Case) -> Iterator[Finding]:
        root = case.plan.tree
        spent = _io_seconds(root) / _processes(case)
        blocks = number(root.facts.get("Shared Read Blocks"))
        if not case.seconds or spent < max(self.seconds, self.share * case.seconds) or blocks < self.blocks:
            return
        node = max(case.nodes, key=lambda item: sum(case.own(item, key) for key in _IO_KEYS))
        yield case.finding(
            self,
            node,
            f"{duration(spent)} of {duration(case.seconds)} spent reading {count(blocks)} blocks",
            "Read less (a more selective or covering index, fewer columns), or give the data room in memory: "
            "shared_buffers and the operating system's cache.",
            share=min(1.0, spent / case.seconds),
            read_seconds=spent,
            blocks_read=blocks,
        )


def _io_seconds(node: PlanNode) -> float:
    return max(number(node.facts.get(key)) for key in _IO_KEYS) / 1000


def _processes(case: Case) -> float:
    """Workers add up their waits, the statement waits for them at once."""
    return 1 + max((number(node.facts.get("Workers Launched")) for node in case.nodes), default=0.0)


@dataclass(frozen=True, slots=True)
class JitOverhead:
    """Compiling the statement took a large part of it.

    Args:
        seconds: of compilation (ours).
        share: of the execution time (ours).
    """

    slug: ClassVar[str] = "jit-overhead"
    seconds: float = 0.02
    share: float = 0.2

    def __call__(self, case: Case) -> Iterator[Finding]:
        jit = _mapping(case.plan.facts.get("JIT"))
        spent = number(_mapping(jit.get("Timing")).get("Total")) / 1000
        if case.seconds and spent >= max(self.seconds, self.share * case.seconds):
            yield case.finding(
                self,
                case.plan.tree,
                f"JIT compilation took {duration(spent)} of {duration(case.seconds)}",
                "Raise jit_above_cost, or ALTER ROLE ... SET jit = off for the application's role.",
                share=min(1.0, spent / case.seconds),
                jit_seconds=spent,
                functions=number(jit.get("Functions")),
            )


@dataclass(frozen=True, slots=True)
class PlanningTime:
    """Planning took longer than executing.

    Args:
        seconds: of planning (ours).
    """

    slug: ClassVar[str] = "planning-time"
    seconds: float = 0.01

    def __call__(self, case: Case) -> Iterator[Finding]:
        planning, execution = case.plan.planning, case.plan.elapsed
        if planning is None or execution is None or planning < self.seconds or planning <= execution:
            return
        finding = case.finding(
            self,
            case.plan.tree,
            f"Planning took {duration(planning)}, execution {duration(execution)}",
            "Join fewer tables, prune or merge partitions, let the driver prepare the statement, and see whether "
            "plan_cache_mode = force_generic_plan keeps a good plan.",
            planning_seconds=planning,
            execution_seconds=execution,
        )
        yield _with_cost(finding, planning)


def _with_cost(finding: Finding, seconds: float) -> Finding:
    return replace(finding, cost=seconds)


@dataclass(frozen=True, slots=True)
class WorkersNotLaunched:
    """Parallel workers that the plan counted on were not there.

    Transient: one plan is a hint; only its repetition is a fault.
    """

    slug: ClassVar[str] = "workers-not-launched"

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Gather", "Gather Merge"):
            planned, launched = number(node.facts.get("Workers Planned")), node.facts.get("Workers Launched")
            if launched is not None and number(launched) < planned:
                yield case.finding(
                    self,
                    node,
                    f"{count(number(launched))} of {count(planned)} planned workers were launched",
                    "If this repeats: raise max_parallel_workers and max_worker_processes, or let fewer connections "
                    "run parallel statements at once.",
                    severity="info",
                    confidence=0.5,
                    workers_planned=planned,
                    workers_launched=number(launched),
                )


@dataclass(frozen=True, slots=True)
class SerializeHeavy:
    """Turning the result into bytes took a large part of the statement (PostgreSQL 17 and later, with SERIALIZE).

    Args:
        seconds: of serialization (ours).
        share: of the execution time (ours).
    """

    slug: ClassVar[str] = "serialize-heavy"
    seconds: float = 0.05
    share: float = 0.3

    def __call__(self, case: Case) -> Iterator[Finding]:
        facts = _mapping(case.plan.facts.get("Serialization"))
        spent = number(facts.get("Time")) / 1000
        if case.seconds and spent >= max(self.seconds, self.share * case.seconds):
            share = min(1.0, spent / case.seconds)
            yield case.finding(
                self,
                case.plan.tree,
                f"Serializing the result took {duration(spent)}, {percent(share)} of the statement",
                "Select fewer columns (large text and JSON above all) and fewer rows.",
                share=share,
                serialize_seconds=spent,
                kilobytes=number(facts.get("Output Volume")),
            )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
