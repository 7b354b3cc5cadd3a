"""A stand-in for the carrier's web service: another application, reached over HTTP, that takes its time."""

import asyncio
from typing import Annotated, cast

import httpx
from fastapi import Depends, Request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


def create_carrier(seconds: float) -> Starlette:
    """Make the service; each answer takes that many seconds."""

    async def quote(request: Request) -> JSONResponse:
        await asyncio.sleep(seconds)
        return JSONResponse({"price": "4.90"})

    async def label(request: Request) -> JSONResponse:
        await asyncio.sleep(seconds)
        return JSONResponse({"number": f"1Z{request.path_params['order_id']:012}"})

    return Starlette(routes=[Route("/quotes/{order_id:int}", quote), Route("/labels/{order_id:int}", label)])


def get_carrier(request: Request) -> httpx.AsyncClient:
    """Give the application's client of the carrier."""
    return cast("httpx.AsyncClient", request.app.state.carrier)


Carrier = Annotated[httpx.AsyncClient, Depends(get_carrier)]
