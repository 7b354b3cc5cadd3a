"""The default set of rules."""

from __future__ import annotations

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
