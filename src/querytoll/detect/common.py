"""What several rules ask of statements."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal

from querytoll.detect.index import Index, started
from querytoll.model import Site, Statement

Path = tuple[int, ...]
Role = Literal["key", "window"]
"""What a bind value does: picks rows (`=`, `IN`, `LIKE`), or moves a window over them (`<`, `LIMIT`, `OFFSET`)."""

_PLACEHOLDER: Final = r"(?:\$\d+|%\(\w+\)s|%s|\?|(?<![:\w]):\w+)"
_BIND: Final = re.compile(
    rf"(?P<before><=|>=|<>|!=|<|>|\bLIMIT|\bOFFSET|\bBETWEEN|\bNEXT|\bFIRST)?\s*(?P<bind>{_PLACEHOLDER})", re.IGNORECASE
)
_TUPLE: Final = re.compile(
    rf"(?:<=|>=|<|>)\s*\(\s*{_PLACEHOLDER}(?:[^()?%$:]|::|{_PLACEHOLDER}|\(\d+\))*\)", re.IGNORECASE
)
_UPPER_BOUND: Final = re.compile(rf"\bBETWEEN\s+{_PLACEHOLDER}(?:::\w+)?\s+AND\s+$", re.IGNORECASE)
_MAX_LOOK_BACK: Final = 500
_WINDOWS: Final = frozenset(("<", "<=", ">", ">=", "LIMIT", "OFFSET", "BETWEEN", "NEXT", "FIRST"))


def ignores(statement: Statement, rule: str) -> bool:
    """Tell whether the application asked not to hear of the rule here."""
    return any(entry.rule == rule for entry in statement.ignored)


def counts(statement: Statement) -> bool:
    """Tell whether an execution counts as the application's own read: no batch, no eager load, no failure."""
    return statement.error is None and statement.load != "eager" and not statement.many


def loop(statement: Statement) -> Site | None:
    """Return the innermost application line that loops."""
    return next((site for site in statement.stack if site.looping), None)


def path(statement: Statement) -> Path:
    """Return the call path, recursion collapsed; a site is one object per instruction, and hashing that is cheap."""
    return tuple(dict.fromkeys(map(id, statement.stack)))


def overlap(group: Iterable[Statement]) -> bool:
    """Tell whether statements ran side by side (`gather`, threads)."""
    ordered = sorted(group, key=started)
    return any(later.started < earlier.started + earlier.elapsed for earlier, later in pairwise(ordered))


def gaps(group: Iterable[Statement]) -> list[float]:
    """Return the seconds between the end of each statement and the start of the next."""
    ordered = sorted(group, key=started)
    return [later.started - earlier.started - earlier.elapsed for earlier, later in pairwise(ordered)]


def saved(group: Iterable[Statement]) -> float:
    """Return the seconds of all but the longest: one statement remains."""
    seconds = [statement.elapsed for statement in group]
    return sum(seconds) - max(seconds)


def net_seconds(statement: Statement) -> float:
    """Return the time of a statement without the event-loop stalls that overlap it."""
    return statement.elapsed - statement.stall


def moves_a_window(group: list[Statement]) -> bool:
    """Tell whether all that differs between executions is a range, a limit or an offset: pages, not rows of another."""
    first = group[0]
    roles = roles_of(first.sql)
    if not first.bind_digests or len(roles) != len(first.bind_digests):
        return False
    moving = {
        at
        for statement in group[1:]
        for at, (one, other) in enumerate(zip(first.bind_digests, statement.bind_digests, strict=False))
        if one != other
    }
    return bool(moving) and all(roles[at] == "window" or _follows_a_window(group, roles, at) for at in moving)


def _follows_a_window(group: list[Statement], roles: tuple[Role, ...], at: int) -> bool:
    """Tell whether a compared value is always that of a bound too: `a > :x OR (a = :x AND id > :y)`."""
    bounds = [place for place, role in enumerate(roles) if role == "window"]
    return all(any(each.bind_digests[at] == each.bind_digests[bound] for bound in bounds) for each in group)


@lru_cache(maxsize=1_000)
def roles_of(sql: str) -> tuple[Role, ...]:
    """Return the role of each bind value of a statement, in the order of the values."""
    roles: dict[str, Role] = {}
    tuples = [match.span() for match in _TUPLE.finditer(sql)]
    for match in _BIND.finditer(sql):
        name = match["bind"] if match["bind"] not in ("?", "%s") else f"?{len(roles)}"
        before = (match["before"] or "").upper()
        at = match.start("bind")
        in_tuple = any(start <= at < end for start, end in tuples)
        window = before in _WINDOWS or in_tuple or _UPPER_BOUND.search(sql, max(0, at - 80), at) is not None
        roles.setdefault(name, "window" if window else "key")
    if all(name.startswith("$") for name in roles):
        return tuple(roles[name] for name in sorted(roles, key=lambda name: int(name[1:])))
    return tuple(roles.values())


def values(statement: Statement) -> tuple[str, int]:
    """Return what is equal for executions with equal values, whether they were bound or written into the text."""
    return statement.sql, statement.binds


def source(index: Index, group: list[Statement], needed: int) -> Statement | None:
    """Return the statement that fetched the rows that a group was run for: the latest before it with as many rows.

    Args:
        index: the trace.
        group: executions of one shape.
        needed: their distinct sets of values, each of which came from a row.
    """
    first = min(group, key=started)
    unknown: Statement | None = None
    for statement in index.before(first.started, _MAX_LOOK_BACK):
        shape = statement.shape
        if shape is first.shape or shape.writes or not shape.tables or statement.window != first.window:
            continue
        if statement.rows is None:
            unknown = unknown or statement
        elif statement.rows >= needed:
            return statement
    return unknown
