"""Paths to ASGI calls: as little as a server can do, so that what is measured is the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Message

_HEADERS: Final = [(b"host", b"bench"), (b"accept", b"application/json"), (b"user-agent", b"querytoll-benchmarks")]


class BadAnswer(Exception):
    """The application did not answer with 200: what would be measured is something else."""


class Client:
    """Sends requests one after the other, each in a task of its own as servers do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def get(self, path: str) -> None:
        """Request a path and take the whole answer.

        Raises:
            BadAnswer: the status is not 200.
        """
        status = 0

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        await asyncio.get_running_loop().create_task(self._call(_scope(path), send))
        if status != 200:
            raise BadAnswer(f"GET {path} was answered with {status}")

    async def _call(self, scope: dict[str, Any], send: Callable[[Message], Any]) -> None:
        await self._app(scope, _receive, send)


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": list(_HEADERS),
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }
