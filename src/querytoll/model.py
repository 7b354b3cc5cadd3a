"""Frozen data types: what a request did to the database, and what was found in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["request", "websocket", "task", "test", "block"]
Phase = Literal["dependency", "endpoint", "response", "background"]
Load = Literal["lazy", "eager", "refresh"]
Outcome = Literal["committed", "rolled back", "autocommit", "prepared", "open"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Site:
    """A line of the application's code.

    Args:
        file: the file as Python knows it (`co_filename`).
        line: line number, from 1.
        function: qualified name (`Repository.get`).
        path: the file as people read it: relative to the project root where it lies below it.
        looping: the instruction lies inside a loop of its function.
    """

    file: str
    line: int
    function: str
    path: str = ""
    looping: bool = False

    def __str__(self) -> str:
        return f"{self.path or self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is equal in all executions of a statement: its text without literals.

    Args:
        fingerprint: id of the shape, 16 hexadecimal digits, the same in every process and version of Python.
        text: the normalised statement; holds no literal, so that it may be shown and stored.
        operation: first verb in capitals: `SELECT`, `INSERT`; the verb behind a CTE, not `WITH`.
        summary: `OPERATION table`, in OpenTelemetry's sense of db.query.summary.
        tables: the tables read or written, in order of appearance, unquoted.
        writes: the tables that it writes, also inside a CTE.
        control: transaction control or housekeeping (`BEGIN`, `SAVEPOINT`, `PRAGMA`), not the application's work.
        locking: a read that locks rows (`FOR UPDATE`, `FOR SHARE`).
        inlined: the text held literals of its own besides placeholders.
    """

    fingerprint: str
    text: str
    operation: str
    summary: str
    tables: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    control: bool = False
    locking: bool = False
    inlined: bool = False


class Ignore(NamedTuple):
    """A rule that the application asked not to hear of, and why."""

    rule: str
    reason: str


class Statement(NamedTuple):
    """One execution of a statement, as the driver saw it.

    A tuple and not a dataclass: one is made per statement, and a frozen dataclass of this width costs ten times more.

    Args:
        sql: the text sent to the driver, placeholders included; cut at `Settings.max_sql_length`.
        shape: what it has in common with its other executions.
        started: seconds since the trace began.
        elapsed: seconds until the driver answered; of a streamed result, until it was closed.
        stall: seconds of `elapsed` that were not the database's: the event loop was blocked and could not see the
            answer, or the reader of a stream did something else.
        rows: rows returned or changed; None where the driver does not tell.
        many: an executemany or insertmanyvalues batch.
        streamed: the rows came through a server-side cursor.
        stack: application frames, innermost first; empty where no application code was on the stack.
        relation: `Order.items` where SQLAlchemy says that the statement loads it; `Order.note` where it refreshes that.
        load: how: `lazy` (on attribute access), `eager` (with its parents), `refresh` (expired or deferred columns).
        binds: keyed digest of the bind values, comparable within one process; never the values.
        transaction: ordinal of its transaction in `Trace.transactions`.
        phase: the part of the request that it ran in.
        error: SQLSTATE, else the name of the exception's class; None on success.
        engine: the engine's name: database name and driver, no credentials.
        blocking: a synchronous driver used on the thread of a running event loop.
        detached: ran after the request that started it had ended.
        ignored: rules that `querytoll.ignore` switched off around it.
        window: serial number of its request, message of a websocket, task, or else of the innermost window.
        bind_digests: the same for each value, where there are at most 16.
        bind_count: bind values, those inside of arrays counted.
        entities: of a large joined eager load, the distinct rows of its most frequent entity.
        size: bytes of text and binary values in the rows, estimated; only for statements that took some milliseconds.
    """

    sql: str
    shape: Shape
    started: float
    elapsed: float
    stall: float = 0.0
    rows: int | None = None
    many: bool = False
    streamed: bool = False
    stack: tuple[Site, ...] = ()
    relation: str | None = None
    load: Load | None = None
    binds: int = 0
    transaction: int | None = None
    phase: Phase = "endpoint"
    error: str | None = None
    engine: str = ""
    blocking: bool = False
    detached: bool = False
    ignored: tuple[Ignore, ...] = ()
    window: int = 0
    bind_digests: tuple[int, ...] = ()
    bind_count: int = 0
    entities: int | None = None
    size: int | None = None

    @property
    def fingerprint(self) -> str:
        """Id of the statement's shape."""
        return self.shape.fingerprint

    @property
    def operation(self) -> str:
        """First verb: `SELECT`."""
        return self.shape.operation

    @property
    def summary(self) -> str:
        """`SELECT orders`."""
        return self.shape.summary

    @property
    def site(self) -> Site | None:
        """The innermost application frame."""
        return self.stack[0] if self.stack else None


class Transaction(NamedTuple):
    """A transaction, from its first statement to its end.

    Args:
        engine: as `Statement.engine`.
        began: seconds since the trace began.
        elapsed: seconds until it ended, or until the trace did.
        ending: seconds spent in COMMIT or ROLLBACK themselves.
        outcome: `open` where the trace ended first.
        statements: statements of this trace that ran in it.
        site: the line that sent its first statement.
    """

    engine: str
    began: float
    elapsed: float
    ending: float
    outcome: Outcome
    statements: int
    site: Site | None


class Checkout(NamedTuple):
    """A pooled connection's stay with the request.

    Args:
        engine: as `Statement.engine`.
        began: seconds since the trace began, of the moment the connection was asked for.
        wait: seconds until it was handed out, connecting included.
        hold: seconds until it was given back, or until the trace ended.
        busy: seconds of `hold` in which statements ran.
        site: the line that asked for it.
        error: why it was not to be had (`TimeoutError`); None where it was.
        relation: the relationship whose lazy load asked for it in vain.
        holders: who held the pool's connections when the wait had ended.
    """

    engine: str
    began: float
    wait: float
    hold: float
    busy: float
    site: Site | None
    error: str | None = None
    relation: str | None = None
    holders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A relationship that was loaded with its parents, and proven never to be read.

    Args:
        relation: `Order.items`.
        statement: the first that loaded it.
        joined: it was joined to its parents' statement, and had none of its own.
        mapped: eager by its mapping, not by an option of the statement.
        entities: parents that were loaded.
        statements: how many loaded it.
        seconds: time of the statements of its own.
    """

    relation: str
    statement: Statement
    joined: bool
    mapped: bool
    entities: int
    statements: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unread:
    """Columns that were loaded with an entity, and proven never to be read.

    Args:
        entity: name of the mapped class.
        statement: the one that loaded them.
        columns: attributes of the columns, sorted.
        loaded: columns that were loaded in all.
        entities: instances that were loaded.
        size: bytes of text and binary values in the unread columns of all instances.
    """

    entity: str
    statement: Statement
    columns: tuple[str, ...]
    loaded: int
    entities: int
    size: int


class Trace(NamedTuple):
    """What one request, task, test or block did to the database; plain data, complete once its window closed.

    Args:
        id: 32 hexadecimal digits.
        kind: what was observed.
        name: `GET /orders/{id}` or the name given to `profile()`.
        method: the HTTP method, `_OTHER` for unknown ones.
        route: the full route template (`/api/orders/{id}`).
        path: the path as requested.
        status: the response's status; 500 when the application raised.
        began: wall clock, UTC.
        elapsed: seconds.
        statements: in the order in which they ended; a sequence that is equal to the tuple of them.
        transactions: in order of their first statement.
        connections: in order of checkout.
        controls: transaction control statements, which are not in `statements`.
        dropped: statements over `Settings.max_statements`, counted and not kept.
        database_seconds: union of the intervals in which statements, commits and rollbacks ran.
        endpoint: the function that answered; known where a statement has no line of the application on its stack.
        stalls: intervals in which the event loop was blocked, in seconds since the trace began.
        loads: relationships loaded and never read; only with `Settings.watch_loads`.
        unread: columns loaded and never read; only with `Settings.watch_loads`.
    """

    id: str
    kind: Kind
    name: str
    began: datetime
    elapsed: float
    statements: Sequence[Statement] = ()
    transactions: tuple[Transaction, ...] = ()
    connections: tuple[Checkout, ...] = ()
    method: str | None = None
    route: str | None = None
    path: str | None = None
    status: int | None = None
    controls: int = 0
    dropped: int = 0
    database_seconds: float = 0.0
    stalls: tuple[tuple[float, float], ...] = ()
    endpoint: Site | None = None
    loads: tuple[Loaded, ...] = ()
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fault, its place, its price and its remedy; complete on its own.

    Args:
        rule: slug of the rule (`n-plus-one`).
        title: one line: what happened, with its number.
        advice: what to change.
        severity: how much it matters.
        site: the line to change.
        fingerprint: the shape at fault, where there is one.
        summary: that shape's summary (`SELECT orders`).
        count: statements involved.
        cost: seconds that the fix would have saved.
        confidence: 0 to 1.
        evidence: facts behind it, for people and for JSON; no bind values.
        plan: the execution plan that it was found in, redacted.
        id: stable over line moves, counts and bind values: digest of rule, fingerprint, file and function.
    """

    rule: str
    title: str
    advice: str
    severity: Severity = "warning"
    site: Site | None = None
    fingerprint: str | None = None
    summary: str | None = None
    count: int = 1
    cost: float = 0.0
    confidence: float = 1.0
    evidence: Mapping[str, object] = field(default_factory=dict)
    plan: Plan | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _id_of(self.rule, self.fingerprint, self.site))


class _Draft:
    """A finding that is being made: with the same slots, so that it can become one, and nothing that forbids to set."""

    __slots__ = tuple(each.name for each in fields(Finding))


def new_finding(
    *,
    rule: str,
    title: str,
    advice: str,
    severity: Severity = "warning",
    site: Site | None = None,
    fingerprint: str | None = None,
    summary: str | None = None,
    count: int = 1,
    cost: float = 0.0,
    confidence: float = 1.0,
    evidence: Mapping[str, object],
) -> Finding:
    """Return a finding as its class does, at a fifth of the cost: a frozen class sets each field through a call."""
    made: Any = _Draft()
    made.rule = rule
    made.title = title
    made.advice = advice
    made.severity = severity
    made.site = site
    made.fingerprint = fingerprint
    made.summary = summary
    made.count = count
    made.cost = cost
    made.confidence = confidence
    made.evidence = evidence
    made.plan = None
    made.id = _id_of(rule, fingerprint, site)
    made.__class__ = Finding
    finding: Finding = made
    return finding


def _id_of(rule: str, fingerprint: str | None, site: Site | None) -> str:
    path, function = (site.path or site.file, site.function) if site is not None else ("", "")
    return _finding_id(rule, fingerprint or "", path, function)


@lru_cache(maxsize=4_096)
def _finding_id(*parts: str) -> str:
    key = "\0".join(parts)
    return hashlib.blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()


class Report(NamedTuple):
    """A trace and what was found in it.

    Args:
        trace: what was observed.
        findings: what was found in it.
        plans: execution plans of its statements. They come after the trace's own report, in one of their own: its trace
            has the same id and names and no statements, so that nothing is counted twice.
    """

    trace: Trace
    findings: tuple[Finding, ...] = ()
    plans: tuple[Plan, ...] = ()


class Detector(Protocol):
    """Finds faults in a trace; adding one is one function."""

    def __call__(self, trace: Trace, /) -> Iterable[Finding]: ...


Sink = Callable[[Report], None]
"""Takes a report somewhere: a log, a metric, a store."""


# Execution plans

PlanSource = Literal["estimate", "analyze", "auto_explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanNode:
    """One step of an execution plan, its totals corrected for loops and parallel workers.

    Args:
        id: position in the tree in preorder; 0 is the root.
        kind: the server's name of the step (`Seq Scan`).
        relation: the table, without schema.
        schema: the table's schema, where the plan tells.
        alias: the table's alias in the statement.
        index: the index that is read.
        join: `Inner`, `Left`, `Semi`, ... of a join.
        strategy: `Hashed`, `Sorted`, `Plain`, ... of an aggregate or set operation.
        role: relation to the parent: `Outer`, `Inner`, `Member`, `Subquery`, `InitPlan`, `SubPlan`.
        name: name of the subplan, CTE or function.
        estimated_rows: rows that the planner expected over all loops.
        rows: rows returned over all loops; None without ANALYZE.
        loops: executions over all workers; 0 for a step that never ran, None without ANALYZE.
        cost: the planner's cost of the step with everything below it, over all loops.
        own_cost: the same without its children.
        seconds: time of the step with everything below it, over all loops; None without timing.
        own_seconds: the same without its children.
        share: own time, or own cost without timing, of the whole statement's: 0 to 1.
        facts: the server's own fields of the step, in the server's names and units.
        children: in the plan's order.
    """

    id: int
    kind: str
    relation: str | None = None
    schema: str | None = None
    alias: str | None = None
    index: str | None = None
    join: str | None = None
    strategy: str | None = None
    role: str | None = None
    name: str | None = None
    estimated_rows: float = 0.0
    rows: float | None = None
    loops: float | None = None
    cost: float = 0.0
    own_cost: float = 0.0
    seconds: float | None = None
    own_seconds: float | None = None
    share: float = 0.0
    facts: Mapping[str, object] = field(default_factory=dict)
    children: tuple[PlanNode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the server executes a statement.

    Args:
        tree: the root step.
        shape: digest of what stays equal over bind values, costs and row counts.
        source: a plain EXPLAIN, an EXPLAIN ANALYZE, or the server's report of the real execution.
        fingerprint: the statement's shape, where it is known.
        elapsed: seconds of execution as the server counted them; None without ANALYZE.
        planning: seconds of planning, where the plan tells.
        captured: wall clock, UTC.
        settings: planner settings that differ from the server's defaults.
        facts: the server's own fields beside the tree (`Triggers`, `JIT`, `Serialization`, `Planning`).
    """

    tree: PlanNode
    shape: str = ""
    source: PlanSource = "estimate"
    fingerprint: str | None = None
    elapsed: float | None = None
    planning: float | None = None
    captured: datetime | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
