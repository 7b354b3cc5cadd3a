"""SQLAlchemy's dialect events to rows of the open windows.

The dialect events run the driver's call themselves and cost about 2,000 instructions; cursor events cost 37,000,
because they switch on SQLAlchemy's general event path.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import ExecuteStyle
from sqlalchemy.pool import Pool

from querytoll.capture import connections, driver, orm
from querytoll.capture.binds import NONE, binds_of
from querytoll.capture.calls import CALL, PLAIN, Call, Rare, Row
from querytoll.capture.failure import annotate, code_of
from querytoll.capture.pools import SEAT, Seat
from querytoll.capture.sampling import Slow
from querytoll.capture.scope import NOWHERE, Scope, get_scope
from querytoll.capture.stays import MAX_TEXT, Link, Span, Tap
from querytoll.capture.stream import Stream, is_streamed, timed
from querytoll.capture.window import Window, detached, everywhere
from querytoll.model import Site

# Frames between the call-site walk and the first that can be the application's: record, the listener, and
# SQLAlchemy's _exec_single_context, _execute_context, exec_driver_sql at the least.
_SKIP: Final = 5
_SINGLE: Final = ExecuteStyle.EXECUTE
_NOTHING: Final = object()
"""The parameters of a statement that the driver gets without any."""
_MANY_ROWS: Final = 200
_LONG_SECONDS: Final = 0.005
_LONG_TEXT: Final = 1_000


def attach(engines: Iterable[Any] | None = None) -> None:
    """Listen to every engine of the process, made before or after, or to the given ones; again is a no-op.

    Args:
        engines: `Engine`s or `AsyncEngine`s.
    """
    if engines is None:
        _listen(Engine, Pool)
        return
    for engine in engines:
        sync = getattr(engine, "sync_engine", engine)
        _listen(sync, sync)


def detach(engines: Iterable[Any] | None = None) -> None:
    """Undo `attach`."""
    targets = [(Engine, Pool)] if engines is None else [(sync, sync) for sync in map(_sync, engines)]
    for engine, pool in targets:
        for target, name, listener in _listeners(engine, pool):
            if event.contains(target, name, listener):
                event.remove(target, name, listener)


def disown(engine: Any) -> None:
    """Mark an engine as querytoll's own: its statements are never seen."""
    connections.disown_dialect(_sync(engine).dialect)


def _sync(engine: Any) -> Any:
    return getattr(engine, "sync_engine", engine)


def _listen(engine: Any, pool: Any) -> None:
    for target, name, listener in _listeners(engine, pool):
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)


def _listeners(engine: Any, pool: Any) -> list[tuple[Any, str, Callable[..., Any]]]:
    return [
        (engine, "do_execute", do_execute),
        (engine, "do_executemany", do_executemany),
        (engine, "do_execute_no_params", do_execute_no_params),
        (engine, "do_connect", connections.on_do_connect),
        (pool, "connect", connections.on_connect),
        (pool, "connect", driver.on_connect),
        (pool, "checkout", connections.on_checkout),
        (pool, "checkin", connections.on_checkin),
        (pool, "detach", connections.on_checkin),
        (pool, "detach", connections.on_close),
        (pool, "close", connections.on_close),
    ]


# Clocks are kept as default arguments, where freezegun does not find them.
def _usual_listener(now: Callable[[], float] = time.perf_counter) -> Callable[..., bool | None]:
    """Make the listener of `do_execute`; as any other's, without the price of what `do_execute` never needs."""

    def listen(cursor: Any, statement: str, parameters: Any, context: Any) -> bool | None:
        scope = get_scope()
        if scope is None:
            if not everywhere:
                return None
            scope = NOWHERE
        streamed: Stream | None = None
        error: BaseException | None = None
        started = now()
        done = False
        try:
            dialect = context.dialect
            chain = dialect.dispatch.do_execute
            if len(chain.parent_listeners) > 1 or chain.listeners:
                _run("do_execute", chain, cursor, statement, parameters, context)
            else:
                dialect.do_execute(cursor, statement, parameters, context)
            if context._is_server_side and is_streamed(context):
                streamed = timed(context, now)
            done = True
        finally:
            if not done:
                error = sys.exception()
            record(scope, cursor, statement, parameters, context, started, now(), streamed, error)
            error = None  # its traceback holds this frame
        return True

    return listen


def _listener(name: str, now: Callable[[], float] = time.perf_counter) -> Callable[..., bool | None]:
    """Make the listener of one dialect event."""
    without_parameters = name == "do_execute_no_params"

    def listen(cursor: Any, statement: str, parameters: Any, context: Any = None) -> bool | None:
        scope = get_scope()
        if scope is None:
            if not everywhere:
                return None
            scope = NOWHERE
        if without_parameters:
            context, parameters = parameters, _NOTHING
        streamed: Stream | None = None
        error: BaseException | None = None
        started = now()
        done = False
        try:
            _run(name, getattr(context.dialect.dispatch, name), cursor, statement, parameters, context)
            if context._is_server_side and is_streamed(context):
                streamed = timed(context, now)
            done = True
        finally:
            if not done:
                error = sys.exception()
            record(scope, cursor, statement, parameters, context, started, now(), streamed, error)
            error = None  # its traceback holds this frame
        return True

    return listen


def _run(name: str, chain: Any, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    """Do what SQLAlchemy would do without us: ask the listeners behind us, else let the dialect run the statement."""
    arguments = (cursor, statement, context) if parameters is _NOTHING else (cursor, statement, parameters, context)
    behind = False
    for listener in chain:
        if listener in _OURS:
            behind = True
        elif behind and listener(*arguments):
            return
    getattr(context.dialect, name)(*arguments)


do_execute = _usual_listener()
do_executemany = _listener("do_executemany")
do_execute_no_params = _listener("do_execute_no_params")
_OURS: Final = (do_execute, do_executemany, do_execute_no_params)


def record(
    scope: Scope,
    cursor: Any,
    statement: str,
    parameters: Any,
    context: Any,
    started: float,
    ended: float,
    stream: Stream | None,
    error: BaseException | None,
) -> None:
    """Add what ran to the windows that see it.

    What is the same whenever a line sends a statement is remembered: the call.
    """
    windows = scope.windows
    try:
        if everywhere or not scope.plain:
            windows = _seeing(scope, context)
        tap = connections.tap_of(context)
        if not windows or tap.own or not context.root_connection._allow_autobegin:
            return  # nobody looks; it is the profiler's own; it is SQLAlchemy's, on a new connection
        first = windows[0]
        stack = first.capture.sites.stack(_SKIP, statement)
        subject = orm.subject(context)
        single = context.execute_style is _SINGLE and parameters is not _NOTHING
        key = (statement, id(stack)) if subject is None else (statement, id(stack), id(subject[0]))
        call = tap.calls.get(key) if single else None
        if (
            call is None
            or (subject is not None and not call.loads(subject))
            or (not tap.is_async and call.blocking is not _on_a_loop())
        ):
            call = Call(statement, stack, tap, False, subject, not tap.is_async and _on_a_loop())
            if not single:
                _take_for_many(call, context, first)
            elif len(statement) <= MAX_TEXT and call.loads(subject):
                tap.remember(key, call)
        pooled = context._dbapi_connection._connection_record
        seat: Seat | None = None if pooled is None else pooled.record_info.get(SEAT)
        link = None if seat is None else seat.link
        if link is None:
            link = connections.link_of(context._dbapi_connection, started)
        span = None if link is None else link.span or _span(link, context, tap, started, stack)
        seconds = ended - started
        if error is None:
            rows = cursor.rowcount
            rare = PLAIN
            if stream is not None or rows >= _MANY_ROWS or (rows > 0 and seconds > _LONG_SECONDS):
                rare = Rare(stream, None, *_weight(context, cursor, rows, seconds))
        else:
            rows = -1
            rare = Rare(stream, _failed(error, subject, stack))
        binds = binds_of(parameters) if single else NONE
        row = (call, started, ended, rows, binds, rare, span, scope.ignores, first.serial)
        for window in windows:
            if not window.closed:
                # As `Window.add` does, without the price of a call per statement.
                if len(window.rows) < window.limit:
                    window.rows.append(row)
                else:
                    window.dropped += 1
            elif window is first:
                row = detached(windows, row)
        if seconds >= first.capture.sampler_seconds:
            given = None if parameters is _NOTHING else parameters
            sample(Slow(first, call, started, ended, rare.error, scope.ignores, cursor, given, context))
    except Exception as fault:
        if windows:
            windows[0].capture.faults.caught("capture", fault)


def _take_for_many(call: Call, context: Any, first: Window) -> None:
    """Note whether it is a batch."""
    call.many = context.execute_style is not _SINGLE
    if call.many and len(call.sql) >= _LONG_TEXT:
        call.sql = _kept(first.rows, call.sql)


def _on_a_loop() -> bool:
    return asyncio._get_running_loop() is not None


def _seeing(scope: Scope, context: Any) -> tuple[Window, ...]:
    return tuple([window for window in (*scope.windows, *everywhere) if window.sees(context.dialect)])


def _kept(rows: list[Row], sql: str) -> str:
    """Return an equal text that is kept already: insertmanyvalues makes one of many kilobytes for every batch."""
    return next((row[CALL].sql for row in rows[-8:] if row[CALL].sql == sql), sql)


def _weight(context: Any, cursor: Any, rows: int, seconds: float) -> tuple[int, int]:
    """Return the entities of a large joined load, and the bytes of a long one's rows; 0 where there is none of it."""
    return (
        orm.entities(context, cursor) if rows >= _MANY_ROWS else 0,
        orm.size(cursor, rows) if rows > 0 and seconds > _LONG_SECONDS else 0,
    )


def _failed(error: BaseException, subject: orm.Subject | None, stack: tuple[Site, ...]) -> str:
    annotate(error, orm.relation(subject), stack[0] if stack else None)
    return code_of(error)


def sample(slow: Slow) -> None:
    """Hand a slow statement to the sampler; a cancellation that arrives meanwhile passes through."""
    capture = slow.window.capture
    if capture.sampler is not None and slow.window.sees(slow.context.dialect):
        try:
            capture.sampler(slow)
        except Exception as fault:
            capture.faults.caught("explain", fault)


def _span(link: Link, context: Any, tap: Tap, started: float, stack: tuple[Any, ...]) -> Span:
    """Note the transaction that begins with a statement."""
    isolation = context.root_connection.get_execution_options().get("isolation_level")
    isolation = isolation or context.dialect._on_connect_isolation_level or ""
    hold = link.hold
    span = link.span = Span(tap, started, stack, hold, autocommit=isolation.upper() == "AUTOCOMMIT")
    hold.tap = hold.tap or tap
    hold.stack = hold.stack or stack
    return span
