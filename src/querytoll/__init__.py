"""A query performance profiler for FastAPI and Starlette on SQLAlchemy 2."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querytoll.capture import ignore
    from querytoll.errors import QuerytollError
    from querytoll.middleware import ProfilerMiddleware
    from querytoll.model import Detector, Finding, Report, Sink, Site, Statement, Trace
    from querytoll.profiler import Profiler
    from querytoll.settings import Settings

__version__ = "0.1.0.dev0"

__all__ = [
    "Detector",
    "Finding",
    "Profiler",
    "ProfilerMiddleware",
    "QuerytollError",
    "Report",
    "Settings",
    "Sink",
    "Site",
    "Statement",
    "Trace",
    "ignore",
]

_HOMES = {
    "Profiler": "querytoll.profiler",
    "ProfilerMiddleware": "querytoll.middleware",
    "QuerytollError": "querytoll.errors",
    "Settings": "querytoll.settings",
    "ignore": "querytoll.capture",
}
"""Where the public names are that are not in `querytoll.model`."""

if not TYPE_CHECKING:

    def __getattr__(name):
        """Import what is asked for when it is: every run of pytest loads this package, for its plugin."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(importlib.import_module(_HOMES.get(name, "querytoll.model")), name)
        return found
