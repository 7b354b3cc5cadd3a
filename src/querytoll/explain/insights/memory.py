"""Rules about memory: sorts, hashes and aggregates that went to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from querytoll.explain.insights.case import Case, count
from querytoll.explain.insights.steps import CteFence
from querytoll.explain.plan import number
from querytoll.model import Finding, PlanNode


@dataclass(frozen=True, slots=True)
class DiskSort:
    """A sort did not fit work_mem (pganalyze, pev2: any)."""

    slug: ClassVar[str] = "disk-sort"

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Sort", "Incremental Sort"):
            kilobytes = _disk_kilobytes(case, node)
            if kilobytes is not None:
                yield case.finding(
                    self,
                    node,
                    f"A sort of {count(_input(node))} rows wrote {count(kilobytes)} kB to disk",
                    "Let an index give the order, sort fewer or narrower rows, or raise work_mem for this statement "
                    f"(SET LOCAL work_mem = '{_megabytes(kilobytes)}MB').",
                    share=node.share,
                    disk_kilobytes=kilobytes,
                    rows=_input(node),
                )


def _input(node: PlanNode) -> float:
    return max(node.rows or 0.0, *(child.rows or 0.0 for child in node.children), 0.0)


def _disk_kilobytes(case: Case, node: PlanNode) -> float | None:
    used: list[float] = []
    for entry in (node.facts, *case.workers(node)):
        external = str(entry.get("Sort Method", "")).startswith("external")
        if entry.get("Sort Space Type") == "Disk" or external:
            used.append(number(entry.get("Sort Space Used")))
        for groups in ("Full-sort Groups", "Pre-sorted Groups"):
            disk = _mapping(_mapping(entry.get(groups)).get("Sort Space Disk"))
            if disk:
                used.append(number(disk.get("Peak Sort Space Used")))
    return max(used) if used else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _megabytes(kilobytes: float) -> int:
    """In memory a sort needs two to three times what it writes to disk."""
    return max(8, int(kilobytes * 3 / 1024) + 1)


@dataclass(frozen=True, slots=True)
class HashBatches:
    """A hash join's table did not fit in memory.

    Args:
        batches: more than so many (pganalyze, pev2: 1).
    """

    slug: ClassVar[str] = "hash-batches"
    batches: int = 1

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Hash"):
            batches = max((number(value) for value in case.everywhere(node, "Hash Batches")), default=0.0)
            if batches > self.batches:
                join = case.parents.get(node.id, node)
                yield case.finding(
                    self,
                    node,
                    f"The hash table of {count(node.rows or 0)} rows was split into {count(batches)} batches on disk",
                    "Raise work_mem or hash_mem_multiplier for this statement, or make the hashed side smaller: "
                    "filter it earlier, select fewer columns.",
                    share=min(1.0, node.share + join.share),
                    batches=batches,
                    original_batches=number(node.facts.get("Original Hash Batches")),
                    peak_memory_kilobytes=number(node.facts.get("Peak Memory Usage")),
                )


@dataclass(frozen=True, slots=True)
class HashaggSpill:
    """A hashed aggregate did not fit in memory (fields of PostgreSQL 13 and later).

    Args:
        batches: more than so many.
    """

    slug: ClassVar[str] = "hashagg-spill"
    batches: int = 1

    def __call__(self, case: Case) -> Iterator[Finding]:
        for node in case.of("Aggregate"):
            batches = max((number(value) for value in case.everywhere(node, "HashAgg Batches")), default=0.0)
            disk = sum(number(value) for value in case.everywhere(node, "Disk Usage"))
            if batches > self.batches or disk > 0:
                yield case.finding(
                    self,
                    node,
                    f"A hash aggregate spilled {count(disk)} kB to disk in {count(batches)} batches",
                    "Raise work_mem or hash_mem_multiplier for this statement, aggregate earlier or by fewer groups, "
                    "or let an index deliver the rows sorted by the group columns.",
                    share=node.share,
                    disk_kilobytes=disk,
                    batches=batches,
                    groups=node.rows,
                )


@dataclass(frozen=True, slots=True)
class TempIo:
    """A step that keeps its rows wrote them to temporary files.

    Args:
        blocks: written by the step itself, 8 kB each (ours).
    """

    slug: ClassVar[str] = "temp-io"
    blocks: int = 500
    fence: CteFence = field(default_factory=CteFence)

    def __call__(self, case: Case) -> Iterator[Finding]:
        fenced = {node.id for node in self.fence.hits(case)}
        for node in case.nodes:
            if node.loops == 0 or node.kind in _TOLD or node.id in fenced or "Temp Written Blocks" not in node.facts:
                continue
            if node.kind == "Aggregate" and node.strategy in ("Hashed", "Mixed"):
                continue
            written = case.own(node, "Temp Written Blocks")
            if written >= self.blocks:
                yield case.finding(
                    self,
                    node,
                    f"{node.kind} wrote {count(written * 8 / 1024)} MB of temporary files",
                    _advice(node),
                    share=node.share,
                    temp_blocks_written=written,
                )


_TOLD = frozenset({"Sort", "Incremental Sort", "Hash", "Hash Join", "Gather", "Gather Merge"})
"""Their temporary files are told by disk-sort and hash-batches."""


def _advice(node: PlanNode) -> str:
    if node.kind == "CTE Scan":
        return "Write the CTE AS NOT MATERIALIZED or select fewer columns and rows in it; else raise work_mem."
    return "Keep fewer and narrower rows at this step, or raise work_mem for this statement (SET LOCAL)."
