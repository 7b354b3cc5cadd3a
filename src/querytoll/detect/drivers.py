"""Drivers used in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from querytoll.capture.failure import remedy
from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.detect.rule import BLOCKING, FAILED, Rule, Signs
from querytoll.model import Finding, Site, Statement, new_finding

_ASYNC_METHODS: Final = "Use the methods of the AsyncSession, or session.run_sync() around code that loads on access."


@dataclass(frozen=True, slots=True)
class MissingGreenlet(Rule):
    """`missing-greenlet`: an attribute that was not loaded was read in async code, which cannot load it."""

    def find(self, index: Index) -> Iterator[Finding]:
        seen: set[tuple[str | None, Site | None]] = set()
        for relation, site, fingerprint in _failures(index):
            if (relation, site) in seen:
                continue
            seen.add((relation, site))
            yield new_finding(
                rule="missing-greenlet",
                title=f"{relation or 'SQL'} was to be loaded on access in async code, which raised MissingGreenlet",
                advice=remedy(relation) if relation is not None else _ASYNC_METHODS,
                severity="error",
                site=site,
                fingerprint=fingerprint,
                evidence={"relation": relation},
            )

    def signs(self) -> Signs:
        return {FAILED: 1}


@dataclass(frozen=True, slots=True)
class BlockingDriver(Rule):
    """`blocking-driver`: a synchronous engine used on the event loop, where every other request waits for it."""

    def find(self, index: Index) -> Iterator[Finding]:
        groups: dict[tuple[str, str], list[Statement]] = {}
        if index.trace.kind == "test":
            return
        for statement in index.statements:
            if statement.blocking and not ignores(statement, "blocking-driver"):
                site = statement.site
                groups.setdefault((site.file, site.function) if site is not None else ("", ""), []).append(statement)
        for group in groups.values():
            seconds = sum(statement.elapsed for statement in group)
            yield new_finding(
                rule="blocking-driver",
                title=f"{len(group)} statements of a sync engine blocked the event loop for {seconds * 1000:.0f} ms",
                advice="Use an async engine, a plain `def` endpoint (it runs in a thread), or asyncio.to_thread().",
                severity="error",
                site=group[0].site,
                count=len(group),
                cost=seconds,
                evidence={"engine": group[0].engine, "statement": group[0].shape.text},
            )

    def signs(self) -> Signs:
        return {BLOCKING: 1}


def _failures(index: Index) -> Iterator[tuple[str | None, Site | None, str | None]]:
    for statement in index.failed():
        if statement.error == "MissingGreenlet" and not ignores(statement, "missing-greenlet"):
            yield statement.relation, statement.site, statement.fingerprint
    for checkout in index.trace.connections:
        if checkout.error == "MissingGreenlet":
            yield checkout.relation, checkout.site, None
