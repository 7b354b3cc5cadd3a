"""A query performance profiler for FastAPI and Starlette on SQLAlchemy 2."""

from querytoll.capture import ignore
from querytoll.errors import QuerytollError
from querytoll.middleware import ProfilerMiddleware
from querytoll.model import Detector, Finding, Report, Sink, Site, Statement, Trace
from querytoll.profiler import Profiler
from querytoll.settings import Settings

__version__ = "0.1.0"

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
