"""Every error that querytoll raises by itself, and the place where its own faults end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from querytoll.model import Report

Part = Literal["capture", "detect", "sinks", "middleware", "explain"]

_log = logging.getLogger("querytoll")


class QuerytollError(Exception):
    """Root of the tree; catches everything that querytoll raises by itself."""


class ConfigurationError(QuerytollError):
    """A setting or an argument that cannot work; says what, where and what to do. Raised at set-up only."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is absent; the message holds the pip line."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'querytoll[{extra}]'")


class WindowError(QuerytollError, RuntimeError):
    """A recording was read before it was closed, or entered twice."""


class QueryAssertionError(AssertionError):
    """An expectation about queries that was not met; the message is the whole report.

    Args:
        message: what was expected and got.
        report: what was recorded.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class Faults:
    """Where querytoll's own exceptions end: counted, logged once per kind, never the application's problem.

    Args:
        tell: called with the part for each fault, to count it elsewhere too.
    """

    def __init__(self, tell: Callable[[Part], None] | None = None) -> None:
        self.counts: Counter[Part] = Counter()
        self._logged: set[tuple[Part, type[BaseException]]] = set()
        self._tell = tell

    def caught(self, part: Part, error: Exception) -> None:
        """Take an exception that a boundary caught."""
        self.counts[part] += 1
        kind = (part, type(error))
        try:
            if kind not in self._logged:
                self._logged.add(kind)
                _log.error("querytoll failed in %s; requests go on, this is logged once", part, exc_info=error)
            if self._tell is not None:
                self._tell(part)
        except Exception:  # a log handler or a sink that fails itself: nobody is left to tell
            self.counts["sinks"] += 1
