"""A Prometheus registry to a Starlette endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

Exposition = Callable[[str | None, list[str]], tuple[bytes, str]]
Endpoint = Callable[[Request], Awaitable[Response]]


def metrics_endpoint(exposition: Exposition) -> Endpoint:
    """Return an endpoint that answers with the exposition that the client accepts.

    Encoding takes tens of milliseconds for some thousand series, so a thread does it.
    """

    async def metrics(request: Request) -> Response:
        body, content_type = await asyncio.to_thread(exposition, *_asked(request))
        return Response(body, headers={"content-type": content_type})

    return metrics


def _asked(request: Request) -> tuple[str | None, list[str]]:
    return request.headers.get("accept"), request.query_params.getlist("name[]")
