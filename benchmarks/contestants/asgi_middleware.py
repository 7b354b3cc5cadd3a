"""A pure ASGI middleware that passes everything on."""

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PassThrough:
    """Does nothing but wrap `send`, as every middleware that sees the status must."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, sending)


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Add the middleware."""
    app.add_middleware(PassThrough)
