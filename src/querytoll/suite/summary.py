"""A verdict to the lines that a terminal shows: one screen at most."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from querytoll.suite.baseline import Known
from querytoll.suite.results import Found, Results, Traffic
from querytoll.suite.verdict import Verdict

Style = Literal["plain", "title", "bad", "warn", "good"]
HEIGHT: Final = 23
"""Lines of a screen, the headline that goes above left out."""
TOP: Final = 3
"""Routes that are shown for each question."""


class Line(NamedTuple):
    """A line, and how it is meant."""

    text: str
    style: Style = "plain"


def summary(verdict: Verdict, width: int = 80, height: int = HEIGHT) -> list[Line]:
    """Return what a run showed: its sums, the dearest routes, differences to the lock, and findings, new ones first."""
    results = verdict.results
    lines = [Line(_sums(results)), *_top(results.routes.values(), width)]
    lines += _bounded(list(_changes(verdict)), max(4, height - len(lines) - 8), "more differences to the lock")
    lines += _stale(verdict.stale)
    found = (*verdict.new, *verdict.known)
    if found:
        lines.append(Line(_counts(verdict), "bad" if verdict.new and verdict.strict else "title"))
        lines += _findings(found, verdict, width, height - len(lines))
    elif results.requests or results.tests:
        lines.append(Line("no findings", "good"))
    return [Line(line.text[:width], line.style) for line in lines]


def _findings(found: tuple[Found, ...], verdict: Verdict, width: int, height: int) -> Iterator[Line]:
    """One line for each finding, and for the first new ones everything, as far as there is room."""
    if len(found) > height:
        yield from (_brief(one, width) for one in found[: height - 1])
        rest = len(found) - height + 1
        yield Line(f"  and {rest} more: --querytoll-results FILE has them all, querytoll check shows them")
        return
    spare = height - len(found)
    for one in found:
        lines = list(_detailed(one, width)) if verdict.strict and one in verdict.new else []
        if lines and len(lines) - 1 <= spare:
            spare -= len(lines) - 1
            yield from lines
        else:
            spare = 0 if lines else spare
            yield _brief(one, width)


def _sums(results: Results) -> str:
    if not results.requests:
        return "no requests were seen" + (f" in {_plural(len(results.tests), 'test')}" if results.tests else "")
    return (
        f"{_plural(results.requests, 'request')} to {_plural(len(results.routes), 'route')}: "
        f"{_plural(results.statements, 'statement')}, {_time(results.seconds)} in the database"
    )


def _top(routes: Iterable[Traffic], width: int) -> Iterator[Line]:
    routes = [route for route in routes if route.statements]
    most = sorted(routes, key=lambda route: (-route.statements, route.name))[:TOP]
    slow = sorted(routes, key=lambda route: (-route.seconds, route.name))[:TOP]
    if routes:
        yield Line("most statements in a request", "title")
        yield from (_row(f"{route.statements}", route.name, route.test, width) for route in most)
        yield Line("most time in the database", "title")
        yield from (_row(_time(route.seconds), route.name, route.slowest, width) for route in slow)


def _row(number: str, name: str, test: str, width: int) -> Line:
    text = f"  {number:>9}  {name}"
    room = width - len(text) - 2
    return Line(f"{text}  {test if len(test) <= room else '...' + test[3 - room :]}" if room > 12 and test else text)


def _changes(verdict: Verdict) -> Iterator[Line]:
    if verdict.changes:
        failing = len(verdict.failing)
        what = f"queries.lock: {_plural(failing, 'route')} with more queries" if failing else "queries.lock: differs"
        yield Line(what, "bad" if failing else "warn")
    for change in verdict.changes:
        yield Line(f"  {change}", "bad" if change in verdict.failing else "plain")


def _stale(stale: tuple[Known, ...]) -> Iterator[Line]:
    if stale:
        are = "is" if len(stale) == 1 else "are"
        yield Line(f"{_plural(len(stale), 'known finding')} {are} gone; --querytoll-update removes them:", "good")
        yield from (Line(f"  {entry.rule}  {entry.place}  {entry.summary}") for entry in stale[:2])
        if len(stale) > 2:
            yield Line(f"  and {len(stale) - 2} more")


def _counts(verdict: Verdict) -> str:
    new, known = len(verdict.new), len(verdict.known)
    if not known:
        return _plural(new, "new finding" if verdict.strict else "finding")
    return f"{_plural(new, 'new finding')}, {known} known" if new else f"{_plural(known, 'known finding')}, none new"


def _brief(found: Found, width: int) -> Line:
    return Line(_cut(f"  {found.rule}  {found.place or found.routes[0]}  {found.title}", width))


def _detailed(found: Found, width: int) -> Iterator[Line]:
    head = textwrap.wrap(f"{found.rule}: {found.title}", width - 2, subsequent_indent="  ", break_on_hyphens=False)
    yield from (Line(f"  {line}", "warn") for line in head)
    if found.place:
        yield Line(_cut(f"    at {found.place} in {found.function}", width))
    times = f" and {len(found.routes) - 1} more" if len(found.routes) > 1 else ""
    tests = f", {found.tests[0]}" if found.tests and found.tests[0] not in found.routes else ""
    yield Line(_cut(f"    {found.routes[0]}{times}{tests}", width)) if found.routes else Line("")
    advice = textwrap.wrap(
        found.advice, width - 4, initial_indent="fix: ", subsequent_indent="     ", break_on_hyphens=False
    )
    yield from (Line(f"    {line}") for line in advice)


def _bounded(lines: list[Line], height: int, what: str) -> list[Line]:
    return lines if len(lines) <= height else [*lines[: height - 1], Line(f"  and {len(lines) - height + 1} {what}")]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
