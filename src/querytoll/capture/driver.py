"""Statements that the application sends through a raw asyncpg connection, past SQLAlchemy, to rows.

SQLAlchemy itself talks to asyncpg through prepared statements, so that nothing is seen twice.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from querytoll.capture.binds import NONE, binds_of
from querytoll.capture.calls import PLAIN, Call, Rare, Row
from querytoll.capture.connections import faults, first_checkout
from querytoll.capture.failure import code_of
from querytoll.capture.scope import NOWHERE, current
from querytoll.capture.stays import Tap
from querytoll.capture.window import detached, everywhere

_METHODS: Final = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
_WATCHED: Final = "_querytoll_watched"
_TAP: Final = Tap("asyncpg", is_async=True)


def on_connect(dbapi_connection: Any, record: Any) -> None:
    """Pool event: a connection was made."""
    _watch(dbapi_connection)


def _watch(dbapi_connection: Any) -> None:
    """Watch the class of asyncpg's connections, once."""
    try:
        connection = type(getattr(dbapi_connection, "driver_connection", None))
        if connection.__module__.startswith("asyncpg.") and not hasattr(connection, _WATCHED):
            setattr(connection, _WATCHED, True)
            for name in _METHODS:
                setattr(connection, name, _watched(name, getattr(connection, name)))
    except Exception as fault:
        faults.caught("capture", fault)


def _watched(
    name: str, original: Callable[..., Awaitable[Any]], now: Callable[[], float] = time.perf_counter
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def call(connection: Any, query: Any, *args: Any, **options: Any) -> Any:
        scope = current.get()
        if (scope is None and not everywhere) or _is_internal():
            return await original(connection, query, *args, **options)
        started = now()
        result = error = None
        done = False
        try:
            result = await original(connection, query, *args, **options)
            done = True
        finally:
            if not done:
                error = sys.exception()
            try:
                _record(name, str(query), args, started, now(), result, error)
            except Exception as fault:
                faults.caught("capture", fault)
        return result

    return call


def _is_internal() -> bool:
    """Tell whether the driver or SQLAlchemy made the call: BEGIN, a ping, the look-up of a type."""
    caller = sys._getframe(2).f_code.co_filename.replace("\\", "/")
    return "/sqlalchemy/" in caller or ("/asyncpg/" in caller and not caller.endswith("/asyncpg/pool.py"))


def _record(
    name: str, query: str, args: Any, started: float, ended: float, result: Any, error: BaseException | None
) -> None:
    scope = current.get() or NOWHERE
    windows = [window for window in (*scope.windows, *everywhere) if window.capture.only is None]
    if not windows:
        return
    many = name == "executemany"
    stack = windows[0].capture.sites.stack(3)
    call = Call(query, stack, _TAP, many=many)
    binds = NONE if many else binds_of(args)
    row: Row = (
        call,
        started,
        ended,
        _rows(name, result) if error is None else -1,
        binds,
        PLAIN if error is None else Rare(error=code_of(error)),
        None,
        scope.ignores,
        windows[0].serial,
    )
    for window in windows:
        if not window.closed:
            window.add(row)
        elif window is windows[0]:
            row = detached(windows, row)


def _rows(name: str, result: Any) -> int:
    if name == "fetch":
        return len(result)
    if name in ("fetchrow", "fetchval"):
        return 0 if result is None else 1
    count = str(result or "").rpartition(" ")[2]
    return int(count) if count.isdigit() else -1


first_checkout.append(_watch)
