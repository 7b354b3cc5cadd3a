"""Transactions and connections that are kept while nobody needs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from querytoll.capture.stalls import overlap
from querytoll.detect.common import ignores
from querytoll.detect.index import Index
from querytoll.detect.rule import HELD_SECONDS, TRANSACTION_SECONDS, WAIT_SECONDS, Rule, Signs
from querytoll.model import Checkout, Finding, Statement, Trace, Transaction, new_finding


@dataclass(frozen=True, slots=True)
class IdleInTransaction(Rule):
    """`idle-in-transaction`: a transaction that stays open while the request does something else than SQL.

    Args:
        seconds: time in the transaction outside of SQL that is too long, in one pause.
    """

    seconds: float = 0.2

    def find(self, index: Index) -> Iterator[Finding]:
        trace = index.trace
        for ordinal, transaction in enumerate(trace.transactions):
            if transaction.elapsed < self.seconds:
                continue
            pause = _longest_pause(index, ordinal, transaction)
            if pause is not None and pause.seconds >= self.seconds and not ignores(pause.before, "idle-in-transaction"):
                yield _idle(trace, transaction, pause)

    def signs(self) -> Signs:
        return {TRANSACTION_SECONDS: self.seconds}


@dataclass(frozen=True, slots=True)
class LongTransaction(Rule):
    """`long-transaction`: a transaction that takes long, busy or not; told only where `idle-in-transaction` is not.

    Args:
        seconds: from its first statement to its end.
        idle_seconds: a single pause of this length makes it idle rather than long.
    """

    seconds: float = 1.0
    idle_seconds: float = 0.2

    def find(self, index: Index) -> Iterator[Finding]:
        trace = index.trace
        for ordinal, transaction in enumerate(trace.transactions):
            if transaction.elapsed < self.seconds or transaction.statements < 2:
                continue
            if transaction.elapsed - _blocked(trace, transaction.began, transaction.elapsed) < self.seconds:
                continue
            pause = _longest_pause(index, ordinal, transaction)
            if pause is None or pause.seconds >= self.idle_seconds or ignores(pause.before, "long-transaction"):
                continue
            yield new_finding(
                rule="long-transaction",
                title=f"a transaction of {transaction.statements} statements was open for {transaction.elapsed:.1f} s",
                advice="Split it, or move reads and slow statements out of it: its locks and snapshot last as long.",
                site=transaction.site,
                count=transaction.statements,
                cost=0.0,
                evidence={"seconds": transaction.elapsed, "outcome": transaction.outcome, "engine": transaction.engine},
            )

    def signs(self) -> Signs:
        return {TRANSACTION_SECONDS: self.seconds}


@dataclass(frozen=True, slots=True)
class ConnectionHeld(Rule):
    """`connection-held`: a pooled connection that is kept outside of transactions while no statement runs.

    Args:
        seconds: time held and not busy that is too long; open transactions are `idle-in-transaction`'s.
    """

    seconds: float = 0.5

    def find(self, index: Index) -> Iterator[Finding]:
        trace = index.trace
        for checkout in trace.connections:
            idle = checkout.hold - checkout.busy - _in_transactions(trace, checkout)
            if checkout.error is not None or idle < self.seconds:
                continue
            if idle - _blocked(trace, checkout.began + checkout.wait, checkout.hold) >= self.seconds:
                yield new_finding(
                    rule="connection-held",
                    title=f"a connection was held for {checkout.hold:.1f} s and busy for {checkout.busy:.1f} s of them",
                    advice="Check it out later, or give it back before other work: close the session in between.",
                    site=checkout.site,
                    cost=0.0,
                    evidence={"hold_seconds": checkout.hold, "busy_seconds": checkout.busy, "engine": checkout.engine},
                )

    def signs(self) -> Signs:
        return {HELD_SECONDS: self.seconds}


@dataclass(frozen=True, slots=True)
class PoolWait(Rule):
    """`pool-wait`: the request waited for a connection.

    Args:
        seconds: waits that are too long; making a new connection is not waiting for one.
    """

    seconds: float = 0.1

    def find(self, index: Index) -> Iterator[Finding]:
        trace = index.trace
        waits = [checkout for checkout in trace.connections if self._waited(checkout)]
        if not waits:
            return
        total = sum(checkout.wait for checkout in waits)
        holders = sorted({name for checkout in waits for name in checkout.holders})
        failed = sum(checkout.error is not None for checkout in waits)
        site = next((checkout.site for checkout in waits if checkout.site is not None), None)
        yield new_finding(
            rule="pool-wait",
            title=f"waited {total:.1f} s for a connection{f', {failed} times in vain' if failed else ''}"
            + (f"; held by {', '.join(holders)}" if holders else ""),
            advice="Hold connections for a shorter time where they are held; only then enlarge the pool.",
            site=site,
            count=len(waits),
            cost=total,
            evidence={"wait_seconds": total, "holders": holders, "timeouts": failed},
        )

    def signs(self) -> Signs:
        return {WAIT_SECONDS: self.seconds}

    def _waited(self, checkout: Checkout) -> bool:
        return checkout.wait >= self.seconds and bool(checkout.holders or checkout.error == "TimeoutError")


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float
    before: Statement
    after: Statement | None


def _longest_pause(index: Index, ordinal: int, transaction: Transaction) -> _Pause | None:
    """Return the longest time without SQL between the first statement of a transaction and its end."""
    trace = index.trace
    inside = index.within(ordinal)
    if not inside:
        return None
    pauses = [
        _Pause(later.started - earlier.started - earlier.elapsed, earlier, later) for earlier, later in pairwise(inside)
    ]
    last = max(inside, key=lambda each: each.started + each.elapsed)
    end = transaction.began + transaction.elapsed - transaction.ending
    pauses.append(_Pause(end - last.started - last.elapsed, last, None))
    if trace.stalls:
        pauses = [_waiting(trace, pause) for pause in pauses]
    return max(pauses, key=lambda pause: pause.seconds)


def _waiting(trace: Trace, pause: _Pause) -> _Pause:
    """Subtract the time in which the event loop was blocked: Python computed, or another request did."""
    start = pause.before.started + pause.before.elapsed
    return _Pause(pause.seconds - _blocked(trace, start, pause.seconds), pause.before, pause.after)


def _blocked(trace: Trace, start: float, seconds: float) -> float:
    """Return the seconds after a moment in which the event loop was blocked."""
    return overlap(start, start + seconds, trace.stalls)


def _idle(trace: Trace, transaction: Transaction, pause: _Pause) -> Finding:
    after = f"before {pause.after.summary} at {pause.after.site}" if pause.after is not None else "before it ended"
    return new_finding(
        rule="idle-in-transaction",
        title=f"a transaction waited {pause.seconds:.1f} s for something else than SQL, {after}",
        advice=(
            f"End the transaction (commit) before the other work that follows {pause.before.summary} at "
            f"{pause.before.site}, or do that work first; open transactions hold locks, a snapshot and a connection."
        ),
        site=transaction.site,
        count=transaction.statements,
        cost=0.0,
        evidence={
            "seconds": transaction.elapsed,
            "pause_seconds": pause.seconds,
            "last_statement": f"{pause.before.summary} at {pause.before.site}",
            "next_statement": f"{pause.after.summary} at {pause.after.site}" if pause.after is not None else None,
            "outcome": transaction.outcome,
            "meanwhile": _meanwhile(trace, pause),
        },
    )


def _meanwhile(trace: Trace, pause: _Pause) -> list[str]:
    """Return the other connections' statements during the pause."""
    start = pause.before.started + pause.before.elapsed
    return [
        f"{statement.summary} at {statement.site}"
        for statement in trace.statements
        if start <= statement.started < start + pause.seconds
    ][:5]


def _in_transactions(trace: Trace, checkout: Checkout) -> float:
    """Return the seconds of a hold in which transactions of its engine were open and no statement ran."""
    began, ended = checkout.began + checkout.wait, checkout.began + checkout.wait + checkout.hold
    spans = [
        (max(began, span.began), min(ended, span.began + span.elapsed))
        for span in trace.transactions
        if span.engine == checkout.engine
    ]
    return max(0.0, sum(max(0.0, end - start) for start, end in spans) - checkout.busy)
