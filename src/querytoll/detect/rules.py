"""The default set of rules."""

from __future__ import annotations

from typing import Final

from querytoll.detect.budget import TooManyQueries, TooMuchDbTime
from querytoll.detect.drivers import BlockingDriver, MissingGreenlet
from querytoll.detect.loads import OverFetch, UnusedEagerLoad
from querytoll.detect.repeats import DuplicateQuery, NPlusOne
from querytoll.detect.results import LargeResult, RowExplosion
from querytoll.detect.slow import SlowQuery
from querytoll.detect.texts import InlinedLiterals, StatementChurn
from querytoll.detect.transactions import ConnectionHeld, IdleInTransaction, LongTransaction, PoolWait
from querytoll.detect.writes import CommitLoop, WriteLoop
from querytoll.model import Detector
from querytoll.settings import Settings

RULES: Final = frozenset(
    (
        "blocking-driver",
        "commit-loop",
        "connection-held",
        "duplicate-query",
        "idle-in-transaction",
        "inlined-literals",
        "large-result",
        "long-transaction",
        "missing-greenlet",
        "n-plus-one",
        "over-fetch",
        "pool-wait",
        "row-explosion",
        "slow-query",
        "statement-churn",
        "too-many-queries",
        "too-much-db-time",
        "unused-eager-load",
        "write-loop",
    )
)
"""The slugs of what a trace is judged by."""


def default_detectors(settings: Settings) -> list[Detector]:
    """Return the rules that are on unless others are passed; order is of no account."""
    watching: list[Detector] = [UnusedEagerLoad(), OverFetch()] if settings.watch_loads else []
    return [
        NPlusOne(),
        DuplicateQuery(),
        WriteLoop(),
        CommitLoop(),
        SlowQuery(seconds=settings.slow_statement_seconds),
        TooManyQueries(budget=settings.statement_budget),
        TooMuchDbTime(seconds=settings.database_budget_seconds),
        LargeResult(),
        RowExplosion(),
        MissingGreenlet(),
        BlockingDriver(),
        IdleInTransaction(seconds=settings.idle_transaction_seconds),
        LongTransaction(seconds=settings.long_transaction_seconds, idle_seconds=settings.idle_transaction_seconds),
        ConnectionHeld(seconds=settings.held_connection_seconds),
        PoolWait(seconds=settings.pool_wait_seconds),
        InlinedLiterals(),
        StatementChurn(),
        *watching,
    ]
