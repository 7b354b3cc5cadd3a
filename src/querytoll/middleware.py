"""ASGI requests to traces."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from querytoll.capture import Window
from querytoll.capture.assemble import Request, so_far
from querytoll.capture.reads import Returned
from querytoll.errors import Faults
from querytoll.model import Kind
from querytoll.routing import (
    dependency_codes,
    endpoint_code,
    in_debug,
    method_label,
    response_fields,
    route_template,
)

_STARTS: Final = ("http.response.start", "websocket.http.response.start")
_BODIES: Final = (
    "http.response.body",
    "http.response.pathsend",
    "http.response.zerocopysend",
    "websocket.http.response.body",
)


class Profiling(Protocol):
    """What the middleware needs of a profiler."""

    @property
    def faults(self) -> Faults: ...
    @property
    def active(self) -> bool: ...
    @property
    def server_timing(self) -> bool | None: ...
    @property
    def answering(self) -> Callable[[Window], None] | None: ...
    def open(self, kind: Kind) -> Window | None: ...
    def close(self, window: Window, request: Request) -> None: ...


class ProfilerMiddleware:
    """Tell what every request and websocket of an application costs the database.

    Pure ASGI: messages, exceptions and cancellation pass through untouched. Installed twice, the outer one counts,
    unless its profiler is switched off.

    Args:
        app: the application.
        profiler: a `Profiler`; None: the process' default one, made from the environment.
    """

    key = "querytoll"
    """Marks a request's scope as observed; a subclass with another one observes besides."""

    @staticmethod
    def default_profiler() -> Profiling:
        """Return the process' default profiler; the composition root replaces this by its own."""
        importlib.import_module("querytoll.profiler")
        return ProfilerMiddleware.default_profiler()

    def __init__(self, app: ASGIApp, profiler: Profiling | None = None) -> None:
        self.app = app
        self.profiler = profiler if profiler is not None else type(self).default_profiler()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self.key in scope or not self.profiler.active:
            await self.app(scope, receive, send)
            return
        observed = self._begin(scope)
        scope[self.key] = True
        returned = False
        if observed is not None:
            send = observed.sending(send)
            receive = observed.receiving(receive) if scope["type"] == "websocket" else receive
        try:
            await self.app(scope, receive, send)
            returned = True
        finally:
            scope.pop(self.key, None)
            if observed is not None:
                # Without an exception of the application's, this would be one that a caller is handling.
                observed.end(None if returned else sys.exception())

    def _begin(self, scope: Scope) -> _Observed | None:
        try:
            window = self.profiler.open("request" if scope["type"] == "http" else "websocket")
            return None if window is None else _Observed(self.profiler, window, scope)
        except Exception as fault:
            self.profiler.faults.caught("middleware", fault)
            return None


class _Observed:
    """One request under observation."""

    __slots__ = ("_answering", "_context", "_profiler", "_request", "_scope", "_window")

    def __init__(self, profiler: Profiling, window: Window, scope: Scope) -> None:
        self._profiler = profiler
        self._window = window
        self._scope = scope
        self._request = Request(path=scope.get("path"))
        self._answering = profiler.answering
        # The last byte may be sent in another task or in a span of the application's own.
        self._context = copy_context() if self._answering is not None else None

    def sending(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            kind = message.get("type")
            last = kind in _BODIES and not message.get("more_body", False)
            try:
                if kind not in _BODIES:
                    message = self._sent(kind, message)
                elif last and self._answering is not None and self._context is not None:
                    self._context.run(self._answering, self._window)
            except Exception as fault:
                self._profiler.faults.caught("middleware", fault)
            await send(message)
            if last:
                self._request.response_ended = self._window.now()

        return watched

    def _sent(self, kind: Any, message: Message) -> Message:
        if kind in _STARTS:
            self._request.status = message["status"]
            self._request.response_began = self._window.now()
            if self._timed():
                return self._with_timing(message)
        elif kind == "websocket.accept":
            self._request.status = 101
        elif kind == "websocket.close" and self._request.status is None:
            self._request.status = 403
        return message

    def _timed(self) -> bool:
        wanted = self._profiler.server_timing
        return in_debug(self._scope) if wanted is None else wanted

    def _with_timing(self, message: Message) -> Message:
        count, seconds = so_far(self._window)
        value = f'db;dur={seconds * 1000:.1f};desc="{count} statement{"" if count == 1 else "s"}"'
        return {**message, "headers": [*message.get("headers", ()), (b"server-timing", value.encode())]}

    def receiving(self, receive: Receive) -> Receive:
        """Each message of a websocket is judged by itself, as a request is."""

        async def watched() -> Message:
            message = await receive()
            if message.get("type") == "websocket.receive":
                self._window.renew()
            return message

        return watched

    def _locate(self, request: Request) -> None:
        """Note what tells the parts of the request apart, and whose statements have no line of their own."""
        request.dependencies = dependency_codes(self._scope)
        if not all(row[0].stack for row in self._window.rows):
            code = endpoint_code(self._scope)
            if code is not None:
                request.endpoint = self._window.capture.sites.definition(code)

    def _returned(self) -> Returned | None:
        fields, code = response_fields(self._scope), endpoint_code(self._scope)
        if fields is None or code is None:
            return None
        names, files = fields
        return Returned(names, files | {code.co_filename})

    def end(self, error: BaseException | None) -> None:
        """Close the window, whatever became of the request."""
        try:
            request = self._request
            if request.status is None and error is not None:
                request.status = 499 if isinstance(error, asyncio.CancelledError) else 500
            request.method = method_label(self._scope)
            request.route = route_template(self._scope)
            if self._window.rows:
                self._locate(request)
            if self._window.reads is not None and error is None:
                request.returned = self._returned()
            self._window.name = f"{request.method} {request.route}"
            self._profiler.close(self._window, request)
        except Exception as fault:
            self._profiler.faults.caught("middleware", fault)
            if not self._window.closed:
                self._window.close()


def install_default(factory: Callable[[], Any]) -> None:
    """Tell where a middleware without a profiler gets its one from."""
    ProfilerMiddleware.default_profiler = staticmethod(factory)  # type: ignore[method-assign]
