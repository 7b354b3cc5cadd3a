"""What a scenario is: code as applications have it, and what a senior engineer would say of it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["route", "starlette", "websocket", "job"]

HERE = Path(__file__).parent
_MARK = re.compile(r"#.*\bMARK: (\S+)\s*$")

RULES = (
    "n-plus-one",
    "duplicate-query",
    "write-loop",
    "commit-loop",
    "slow-query",
    "too-many-queries",
    "too-much-db-time",
    "large-result",
    "row-explosion",
    "missing-greenlet",
    "blocking-driver",
    "long-transaction",
    "idle-in-transaction",
    "connection-held",
    "pool-wait",
    "inlined-literals",
    "statement-churn",
)

Row = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Expect:
    """A finding that has to be there, once.

    Args:
        rule: its rule; several where the fault may rightly be told under either.
        at: the names of the `# MARK: name` lines that are right; none: every line is.
    """

    rule: str | tuple[str, ...]
    at: str | tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        return (self.rule,) if isinstance(self.rule, str) else self.rule

    @property
    def places(self) -> frozenset[tuple[str, int]]:
        """The files and lines that are right."""
        return frozenset(marks()[name] for name in ((self.at,) if isinstance(self.at, str) else self.at))


@dataclass(frozen=True)
class Scenario:
    """One piece of code and what is to be found in it.

    Args:
        id: unique.
        about: one line.
        function: the endpoint or the job.
        kind: what it is.
        expect: all of it has to be found, and nothing else.
        allow: rules that may or may not be found besides, and why.
        requests: query strings of the requests that are sent, one after the other.
        together: the requests are sent at once.
        messages: what a websocket's client sends.
        raises: the exception that reaches the server.
        note: words that the exception's notes must contain; a `MARK:name` stands for the number of its line.
        middleware: of the application, Starlette's dispatch functions.
        before: what happened before, which is not profiled.
    """

    id: str
    about: str
    function: Callable[..., Any]
    kind: Kind = "route"
    expect: tuple[Expect, ...] = ()
    allow: Mapping[str, str] = field(default_factory=dict)
    requests: tuple[str, ...] = ("",)
    together: bool = False
    messages: tuple[str, ...] = ()
    raises: type[BaseException] | None = None
    note: tuple[str, ...] = ()
    middleware: tuple[Callable[..., Any], ...] = ()
    before: Callable[[], Awaitable[None]] | None = None


_registry: dict[str, Scenario] = {}


def scenario(id: str, about: str, *expect: Expect, kind: Kind = "route", **options: Any) -> Callable[[F], F]:
    """Register the function beneath as a scenario; without `expect`, nothing may be found in it."""

    def register(function: F) -> F:
        if id in _registry:
            raise ValueError(f"two scenarios are called {id}")
        _registry[id] = Scenario(id, about, function, kind, expect, **options)
        return function

    return register


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All scenarios of the corpus, by file."""
    for path in sorted((HERE / "scenarios").glob("*.py")):
        importlib.import_module(f"tests.detect.corpus.scenarios.{path.stem}")
    return tuple(_registry.values())


@cache
def marks() -> dict[str, tuple[str, int]]:
    """The lines of the corpus that have a name."""
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(HERE.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if (mark := _MARK.search(line)) is None:
                continue
            if mark[1] in found:
                raise ValueError(f"two lines are called {mark[1]}")
            found[mark[1]] = (str(path), number)
    return found
