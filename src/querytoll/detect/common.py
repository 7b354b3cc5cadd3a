"""What several rules ask of statements."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import Final, Literal

from querytoll.detect.index import Group
from querytoll.model import Site, Statement

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
    for entry in statement.ignored:  # noqa: SIM110 - a generator costs more than all that a statement is asked
        if entry.rule == rule:
            return True
    return False


def counts(statement: Statement) -> bool:
    """Tell whether an execution counts as the application's own read: no batch, no eager load, no failure."""
    return statement.error is None and statement.load != "eager" and not statement.many


def loop(statement: Statement) -> Site | None:
    """Return the innermost application line that loops."""
    for site in statement.stack:
        if site.looping:
            return site
    return None


def overlap(group: Group) -> bool:
    """Tell whether statements ran side by side (`gather`, threads)."""
    end = -inf
    for start, seconds in group.spans():
        if start < end:
            return True
        end = start + seconds
    return False


def has_beat(group: Group, least: float, times: float) -> bool:
    """Tell whether statements come at regular, long intervals, as of a clock.

    Args:
        group: the statements.
        least: seconds that each pause must have.
        times: how much longer than the shortest pause the longest may be.
    """
    pauses: list[float] = []
    for (earlier, seconds), (later, _) in pairwise(group.spans()):
        pause = later - earlier - seconds
        if pause < least:
            return False
        pauses.append(pause)
    return bool(pauses) and max(pauses) <= times * min(pauses)


def net_seconds(statement: Statement) -> float:
    """Return the time of a statement without the event-loop stalls that overlap it."""
    return statement.elapsed - statement.stall


def moves_a_window(group: Group) -> bool:
    """Tell whether all that differs between executions is a range, a limit or an offset: pages, not rows of another."""
    first = group.first
    roles = roles_of(first.sql)
    if "window" not in roles or len(roles) != len(first.bind_digests):
        return False
    digests = [statement.bind_digests for statement in group.statements()]
    # Zipped, digests are as long as the shortest: values that an execution has not do not differ.
    moving = {
        at for each in digests for at, (one, other) in enumerate(zip(digests[0], each, strict=False)) if one != other
    }
    return bool(moving) and all(roles[at] == "window" or _follows_a_window(digests, roles, at) for at in moving)


def _follows_a_window(digests: list[tuple[int, ...]], roles: tuple[Role, ...], at: int) -> bool:
    """Tell whether a compared value is always that of a bound too: `a > :x OR (a = :x AND id > :y)`."""
    bounds = [place for place, role in enumerate(roles) if role == "window"]
    whole = len(roles)  # an execution with very many values has no digests
    return all(len(each) == whole and any(each[at] == each[bound] for bound in bounds) for each in digests)


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


def source(group: Group) -> Statement | None:
    """Return the statement that fetched the rows that a group was run for.

    It is the latest before the group with at least as many rows as the group has distinct sets of values.
    """
    statements, starts = group.index.ordered()
    first = group.earliest()
    end = bisect_left(starts, first.started)
    if not end:
        return None
    needed = group.distinct()
    unknown: Statement | None = None
    for statement in reversed(statements[max(0, end - _MAX_LOOK_BACK) : end]):
        shape = statement.shape
        if (
            shape.fingerprint == first.fingerprint
            or shape.writes
            or not shape.tables
            or statement.window != first.window
        ):
            continue
        rows = statement.rows
        if rows is None:
            unknown = unknown or statement
        elif rows >= needed:
            return statement
    return unknown
