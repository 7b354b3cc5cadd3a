"""Sentry's SDK tracing every request and statement, its envelopes thrown away."""

from __future__ import annotations

import importlib
from typing import Any

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

_sentry: Any = importlib.import_module("sentry_sdk")
_transport: Any = importlib.import_module("sentry_sdk.transport")


class _Nowhere(_transport.Transport):  # type: ignore[misc]
    """Throws envelopes away."""

    def capture_envelope(self, envelope: Any) -> None:
        """Do nothing."""


def install(app: FastAPI, engine: AsyncEngine) -> None:
    """Start the SDK, which instruments FastAPI and SQLAlchemy by itself."""
    _sentry.init(dsn="http://key@localhost/1", traces_sample_rate=1.0, transport=_Nowhere)
