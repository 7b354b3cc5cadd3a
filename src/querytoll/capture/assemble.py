"""A closed window to a frozen trace."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from querytoll.capture.connections import Hold, Span
from querytoll.capture.orm import relation
from querytoll.capture.reads import Returned
from querytoll.capture.stalls import Interval, overlap
from querytoll.capture.window import Entry, Window
from querytoll.fingerprint import shape
from querytoll.model import Checkout, Load, Loaded, Phase, Site, Statement, Trace, Transaction, Unread

Function = tuple[str, str]
"""File and qualified name."""


@dataclass(slots=True)
class Request:
    """What the middleware knows of the request behind a window; moments of the monotonic clock.

    Args:
        response_began: its first message was sent.
        response_ended: its last byte was sent.
        dependencies: functions that ran before the endpoint, for it.
        endpoint: the function that answered, known where statements have no line of their own.
        returned: how the answer was made of objects, where that is known.
    """

    method: str | None = None
    route: str | None = None
    path: str | None = None
    status: int | None = None
    response_began: float = float("inf")
    response_ended: float = float("inf")
    dependencies: Collection[Function] = ()
    endpoint: Site | None = None
    returned: Returned | None = None

    def phase(self, moment: float, stack: tuple[Site, ...]) -> Phase:
        """Tell in which part of the request a statement started."""
        if moment >= self.response_ended:
            return "background"
        if moment >= self.response_began:
            return "response"
        if self.dependencies and any((site.file, site.function) in self.dependencies for site in stack):
            return "dependency"
        return "endpoint"


def assemble(window: Window, request: Request | None = None, *, max_sql_length: int = 20_000) -> Trace:
    """Return the trace of a closed window, and let go of what the window held."""
    request = request or Request()
    entries, holds = window.entries, window.holds
    window.entries, window.holds = [], []
    spans: dict[int, tuple[int, Span]] = {}
    controls = 0
    statements: list[Statement] = []
    relations: dict[object, str | None] = {}
    stalls = window.stalls()
    start = window.started
    for entry in entries:
        what = shape(entry.sql)
        if what.control:
            controls += 1
            continue
        span = entry.span
        ordinal = None
        if span is not None and not span.autocommit:
            known = spans.get(id(span))
            if known is None:
                known = spans[id(span)] = (len(spans), span)
            ordinal = known[0]
        stream = entry.stream
        ended = _end(entry, window)
        name: str | None = None
        load: Load | None = None
        if entry.subject is not None:
            load = entry.subject[1]
            if entry.subject not in relations:
                relations[entry.subject] = relation(entry.subject)
            name = relations[entry.subject]
        rows = entry.rows if stream is None else stream.rows
        statements.append(
            Statement._make(
                (
                    entry.sql if len(entry.sql) <= max_sql_length else entry.sql[:max_sql_length],
                    what,
                    entry.started - start,
                    ended - entry.started,
                    _not_database(entry, ended, stalls) if stalls or stream is not None else 0.0,
                    rows if rows >= 0 else None,
                    entry.many,
                    stream is not None,
                    entry.stack,
                    name,
                    load if name is not None else None,
                    entry.binds.digest,
                    ordinal,
                    "background" if entry.detached else request.phase(entry.started, entry.stack),
                    entry.error if stream is None else stream.error or entry.error,
                    entry.tap.name,
                    entry.blocking,
                    entry.detached,
                    entry.ignores,
                    entry.window,
                    entry.binds.each,
                    entry.binds.total,
                    entry.entities or None,
                    entry.size or None,
                )
            )
        )
    loads, unread = _watched(window, entries, statements, request)
    return Trace(
        id=os.urandom(16).hex(),
        kind=window.kind,
        name=window.name,
        began=window.began,
        elapsed=window.ended - start,
        statements=tuple(statements),
        transactions=_transactions([span for _, span in spans.values()], statements, window),
        connections=_checkouts(holds, entries, window),
        method=request.method,
        route=request.route,
        path=request.path,
        status=request.status,
        controls=controls,
        dropped=window.dropped,
        database_seconds=_union(_busy(entries, window)),
        endpoint=request.endpoint,
        loads=loads,
        unread=unread,
        stalls=tuple((max(0.0, since - start), until - start) for since, until in stalls),
    )


def _watched(
    window: Window, entries: list[Entry], statements: list[Statement], request: Request
) -> tuple[tuple[Loaded, ...], tuple[Unread, ...]]:
    if window.reads is None:
        return (), ()
    kept = (entry for entry in entries if not shape(entry.sql).control)
    try:
        return window.reads.facts(zip(kept, statements, strict=True), request.returned)
    except Exception as fault:
        window.capture.faults.caught("capture", fault)
        return (), ()
    finally:
        window.reads.forget()


def _not_database(entry: Entry, ended: float, stalls: list[Interval]) -> float:
    """Return the seconds of a statement that were not the database's: stalls of the loop, the reader of a stream."""
    stalled = overlap(entry.started, ended, stalls) if stalls and entry.tap.is_async else 0.0
    if entry.stream is None:
        return stalled
    return max(stalled, ended - entry.ended - entry.stream.fetching)


def so_far(window: Window) -> tuple[int, float]:
    """Return the number of statements and the database time of a window that is still open."""
    count = sum(not shape(entry.sql).control for entry in window.entries)
    return count + window.dropped, _union(_busy(window.entries, window))


def _end(entry: Entry, window: Window) -> float:
    """Return when a statement ended: a streamed one with its result, else its connection's stay, else the window."""
    if entry.stream is None:
        return entry.ended
    back = entry.hold.back if entry.hold is not None else None
    return entry.stream.ended or back or window.ended or entry.ended


def _busy(entries: Iterable[Entry], window: Window) -> list[tuple[float, float]]:
    intervals = []
    spans: dict[int, Span] = {}
    for entry in entries:
        intervals.append((entry.started, _end(entry, window)))
        if entry.span is not None:
            spans[id(entry.span)] = entry.span
    intervals.extend((span.ended - span.ending, span.ended) for span in spans.values() if span.ended is not None)
    return intervals


def _union(intervals: list[tuple[float, float]]) -> float:
    """Return the length of the union, so that overlapping statements count once."""
    intervals.sort()
    total, reached = 0.0, float("-inf")
    for start, end in intervals:
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def _transactions(spans: list[Span], statements: list[Statement], window: Window) -> tuple[Transaction, ...]:
    counts = [0] * len(spans)
    for statement in statements:
        if statement.transaction is not None:
            counts[statement.transaction] += 1
    return tuple(
        Transaction(
            engine=span.tap.name,
            began=max(0.0, span.began - window.started),
            elapsed=min(span.ended or window.ended, window.ended) - max(span.began, window.started),
            ending=span.ending,
            outcome=span.outcome,
            statements=count,
            site=span.stack[0] if span.stack else None,
        )
        for span, count in zip(spans, counts, strict=True)
    )


def _checkouts(holds: list[Hold], entries: list[Entry], window: Window) -> tuple[Checkout, ...]:
    busy: dict[int, list[tuple[float, float]]] = {id(hold): [] for hold in holds}
    seen = {id(hold): hold for hold in holds}
    for entry in entries:
        if entry.hold is not None:
            seen.setdefault(id(entry.hold), entry.hold)
            end = _end(entry, window)
            busy.setdefault(id(entry.hold), []).append((entry.started, end))
    ordered = sorted(seen.items(), key=lambda item: item[1].got)
    return tuple(_checkout(hold, _union(busy[key]), window) for key, hold in ordered)


def _checkout(hold: Hold, busy: float, window: Window) -> Checkout:
    asked, got = max(hold.asked, window.started), max(hold.got, window.started)
    return Checkout(
        engine=hold.tap.name if hold.tap is not None else "",
        began=asked - window.started,
        wait=got - asked,
        hold=max(0.0, min(hold.back or window.ended, window.ended) - got),
        busy=busy,
        site=hold.stack[0] if hold.stack else None,
        error=hold.error,
        relation=hold.relation,
        holders=tuple(sorted({other.holder.name or "a request" for other in hold.others if other.holder is not None})),
    )
