"""ASGI requests to traces."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
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

_OTHER_BODIES: Final = frozenset(
    ("http.response.pathsend", "http.response.zerocopysend", "websocket.http.response.body")
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
        key, kind, profiler = self.key, scope["type"], self.profiler
        if (kind != "http" and kind != "websocket") or key in scope or not profiler.active:
            await self.app(scope, receive, send)
            return
        observed = None
        try:
            window = profiler.open("request" if kind == "http" else "websocket")
            if window is not None:
                observed = _Observed(profiler, window, scope, send)
        except Exception as fault:
            profiler.faults.caught("middleware", fault)
        scope[key] = True
        returned = False
        if observed is not None:
            send = observed.sending
            if kind == "websocket":
                receive = observed.receiving(receive)
        try:
            await self.app(scope, receive, send)
            returned = True
        finally:
            scope.pop(key, None)
            if observed is not None:
                # Without an exception of the application's, this would be one that a caller is handling.
                observed.end(None if returned else sys.exception())


class _Observed(Request):
    """One request under observation, and what is known of it."""

    __slots__ = ("_answering", "_context", "_profiler", "_scope", "_send", "_window")

    def __init__(self, profiler: Profiling, window: Window, scope: Scope, send: Send) -> None:
        Request.__init__(self, None, None, scope.get("path"))
        self._profiler = profiler
        self._window = window
        self._scope = scope
        self._send = send
        self._answering = profiler.answering
        if self._answering is not None:
            # The last byte may be sent in another task or in a span of the application's own.
            self._context = copy_context()

    def sending(self, message: Message) -> Awaitable[None]:
        """Note what the application sends, and send it; only for its last message a coroutine of our own is needed."""
        try:
            kind = message.get("type")
            # First what every response has: each look-up that is spared here is one of hundreds of thousands.
            if kind == "http.response.body":
                if not message.get("more_body"):
                    return self._sending_last(message)
            elif kind == "http.response.start" or kind == "websocket.http.response.start":
                self.status = message["status"]
                self.response_began = self._window.now()
                timed = self._profiler.server_timing
                if in_debug(self._scope) if timed is None else timed:
                    message = self._with_timing(message)
            elif kind in _OTHER_BODIES:
                if not message.get("more_body"):
                    return self._sending_last(message)
            elif kind == "websocket.accept":
                self.status = 101
            elif kind == "websocket.close" and self.status is None:
                self.status = 403
        except Exception as fault:
            self._profiler.faults.caught("middleware", fault)
        return self._send(message)

    async def _sending_last(self, message: Message) -> None:
        if self._answering is not None:
            try:
                self._context.run(self._answering, self._window)
            except Exception as fault:
                self._profiler.faults.caught("middleware", fault)
        await self._send(message)
        self.response_ended = self._window.now()

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

    def _locate(self) -> None:
        """Note what tells the parts of the request apart, and whose statements have no line of their own."""
        self.dependencies = dependency_codes(self._scope)
        for row in self._window.rows:
            if not row[0].stack:
                code = endpoint_code(self._scope)
                if code is not None:
                    self.endpoint = self._window.capture.sites.definition(code)
                return

    def _returned(self) -> Returned | None:
        fields, code = response_fields(self._scope), endpoint_code(self._scope)
        if fields is None or code is None:
            return None
        names, files = fields
        return Returned(names, files | {code.co_filename})

    def end(self, error: BaseException | None) -> None:
        """Close the window, whatever became of the request."""
        try:
            window = self._window
            if error is not None and self.status is None:
                self.status = 499 if isinstance(error, asyncio.CancelledError) else 500
            self.method = method = method_label(self._scope)
            self.route = route = route_template(self._scope)
            if window.rows:
                self._locate()
            if window.reads is not None and error is None:
                self.returned = self._returned()
            window.name = f"{method} {route}"
            self._profiler.close(window, self)
        except Exception as fault:
            self._profiler.faults.caught("middleware", fault)
            if not self._window.closed:
                self._window.close()


def install_default(factory: Callable[[], Any]) -> None:
    """Tell where a middleware without a profiler gets its one from."""
    ProfilerMiddleware.default_profiler = staticmethod(factory)  # type: ignore[method-assign]
