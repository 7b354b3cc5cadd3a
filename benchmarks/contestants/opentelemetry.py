"""OpenTelemetry's instrumentations of FastAPI and SQLAlchemy, spans made and thrown away."""

from __future__ import annotations

import importlib
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

_fastapi: Any = importlib.import_module("opentelemetry.instrumentation.fastapi")
_sqlalchemy: Any = importlib.import_module("opentelemetry.instrumentation.sqlalchemy")
_trace: Any = importlib.import_module("opentelemetry.sdk.trace")


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Instrument the application and the engine."""
    provider = _trace.TracerProvider()
    _fastapi.FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    _sqlalchemy.SQLAlchemyInstrumentor().instrument(engine=engine.sync_engine, tracer_provider=provider)
