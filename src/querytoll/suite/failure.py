"""What was expected and what was recorded to the text of a failure."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from querytoll.model import Finding, Report, Site, Statement, Trace
from querytoll.suite.growth import Growing

Group = list[Statement]
Rank = Callable[[Group], float]
MAX_SHAPES: Final = 12
"""Shapes of statements that a failure shows."""
MAX_FINDINGS: Final = 6
"""Findings that a failure shows."""
ONCE: Final = "Send it once for all rows, outside of the loop: with IN (...), = ANY(...), a join, or as one batch."
"""What to do about a statement per row that no rule knows more of."""
_MARGIN: Final = 8
"""Columns that pytest puts before each line of a failure."""
_FRAMES: Final = 3
"""Lines of the application's that tell one place of a statement from another."""
_FROM: Final = re.compile(r"\sFROM\s", re.IGNORECASE)


def explain(
    unmet: str, report: Report, *, width: int | None = None, rank: Rank | None = None, others: Iterable[str] = ()
) -> str:
    """Return the text of a failure: what was expected, the statements by shape and line, and what to change.

    Args:
        unmet: what was expected, and got.
        report: what was recorded.
        width: columns; None: the terminal's, from 60 to 112.
        rank: puts the shapes in order, the largest first; None: by count.
        others: summaries of statements that were recorded as well and do not count.
    """
    width = width or columns()
    lines = [unmet, ""]
    if others and not report.trace.statements:
        lines.extend(_other_lines(list(others), width))
    else:
        lines.extend(_statement_lines(report.trace, width, rank or len))
    lines.extend(_finding_lines(report.findings, width))
    return "\n".join(lines)


def explain_growth(rows: tuple[int, int], found: Iterable[Growing], report: Report) -> str:
    """Return the text of a failure: the shapes that grow with the rows, both counts, the line, and what to change.

    Args:
        rows: of the smaller and of the larger run.
        found: the shapes that grow.
        report: of the larger run.
    """
    found, width = list(found), columns()
    lines = [
        f"expected as many queries for {rows[1]} rows as for {rows[0]}, got more of {plural(len(found), 'shape')}",
        "",
    ]
    shown = found[:MAX_SHAPES]
    counts = _aligned([f"{len(each.few)} -> {len(each.many)}" for each in shown], right=True)
    for each, count in zip(shown, counts, strict=True):
        indent = " " * (len(count) + 4)
        lines.append(f"  {count}  {each.at.summary}  {_place(each.at)}")
        lines.append(indent + _cut(each.at.shape.text, width - len(indent)))
        lines.extend(indent + note for note in _notes([each.at], width - len(indent)))
    if len(found) > len(shown):
        lines.append(f"  and {plural(len(found) - len(shown), 'other shape')}")
    shapes = {each.fingerprint for each in found}
    advice = list(_finding_lines([finding for finding in report.findings if finding.fingerprint in shapes], width))
    lines.extend(advice or ["", *_wrapped(ONCE, width, "  fix: ", "       ")])
    return "\n".join(lines)


def statements(report: Report) -> str:
    """Return the statements by shape and line, and what to change."""
    if not report.trace.statements:
        return "  none"
    return "\n".join((*_statement_lines(report.trace, columns(), len), *_finding_lines(report.findings, columns())))


def full_sql(report: Report) -> str:
    """Return each shape's whole text, wrapped, with its number and its lines."""
    groups: dict[str, Group] = {}
    for statement in report.trace.statements:
        groups.setdefault(statement.fingerprint, []).append(statement)
    lines: list[str] = []
    for group in sorted(groups.values(), key=len, reverse=True):
        places = dict.fromkeys(map(_place, group))
        lines += [f"{len(group)}x {group[0].summary}", *(f"  at {place}" for place in places)]
        lines += [*_wrapped(group[0].shape.text, columns(), "  ", "  "), ""]
    return "\n".join(lines).rstrip()


def columns() -> int:
    """Return the width of a failure's text: the terminal's, from 60 to 112."""
    return max(60, min(112, shutil.get_terminal_size().columns - _MARGIN))


def _statement_lines(trace: Trace, width: int, rank: Rank) -> Iterator[str]:
    if not trace.statements:
        yield "  no statements: this task or thread sent none, nor did what it started"
        yield "  (everywhere=True sees those of a server in another thread)"
    groups: dict[tuple[str, tuple[Site, ...]], Group] = {}
    for statement in trace.statements:
        groups.setdefault((statement.fingerprint, statement.stack[:_FRAMES]), []).append(statement)
    ranked = sorted(groups.values(), key=lambda group: (rank(group), len(group), seconds_of(group)), reverse=True)
    shown = ranked[:MAX_SHAPES]
    counts = _aligned([f"{len(group)}x" for group in shown], right=True)
    summaries = _aligned([group[0].summary for group in shown])
    places = _aligned([_place(group[0]) for group in shown])
    for group, count, summary, place in zip(shown, counts, summaries, places, strict=True):
        indent = " " * (len(count) + 4)
        yield f"  {count}  {summary}  {place}  {milliseconds(seconds_of(group))}"
        yield indent + _cut(group[0].shape.text, width - len(indent))
        for note in _notes(group, width - len(indent)):
            yield indent + note
    if len(ranked) > len(shown):
        yield f"  and {sum(map(len, ranked[MAX_SHAPES:]))} more, of {len(ranked) - len(shown)} other shapes or lines"
    if trace.dropped:
        yield f"  and {trace.dropped} more, which were counted but not kept (Settings.max_statements)"


def _other_lines(others: list[str], width: int) -> Iterator[str]:
    kinds = list(dict.fromkeys(others))
    more = f" and {len(kinds) - MAX_SHAPES} more" if len(kinds) > MAX_SHAPES else ""
    text = f"none that counts, but {plural(len(others), 'other statement')}: {', '.join(kinds[:MAX_SHAPES])}{more}"
    yield from _wrapped(text, width, "  ", "  ")


def _finding_lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    equal: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: -finding.cost):
        equal.setdefault(finding.id, []).append(finding)
    for finding, *again in list(equal.values())[:MAX_FINDINGS]:
        yield ""
        times = f" (likewise in {plural(len(again), 'other request')})" if again else ""
        yield from _wrapped(f"{finding.rule}: {finding.title}{times}", width, "", "  ")
        if finding.site is not None:
            yield f"  at {finding.site} in {finding.site.function}"
        yield from _wrapped(finding.advice, width, "  fix: ", "       ")
    if len(equal) > MAX_FINDINGS:
        yield f"\nand {plural(len(equal) - MAX_FINDINGS, 'more finding')}"


def _place(statement: Statement) -> str:
    return str(statement.site) if statement.site is not None else "(no application line)"


def _aligned(texts: list[str], *, right: bool = False) -> list[str]:
    width = max(map(len, texts), default=0)
    return [text.rjust(width) if right else text.ljust(width) for text in texts]


def _notes(group: Group, width: int) -> Iterator[str]:
    first = group[0]
    errors = [statement.error for statement in group if statement.error is not None]
    if errors:
        yield f"{len(errors)} failed: {', '.join(sorted(set(errors)))}"
    if first.relation is not None:
        yield f"{first.load} load of {first.relation}" if first.load != "refresh" else f"reloads {first.relation}"
    callers = [str(site) for site in first.stack[1:_FRAMES]]
    while len(callers) > 1 and len(" < ".join(callers)) + 5 > width:
        callers.pop()
    if callers:
        yield f"from {' < '.join(callers)}"


def seconds_of(group: Group) -> float:
    return sum(statement.elapsed for statement in group)


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _cut(text: str, width: int) -> str:
    """Shorten a statement: first its list of columns, which tells least, then its end."""
    if len(text) <= width:
        return text
    start = _end_of_columns(text)
    if start is not None:
        tail = text[start:]
        head = text[: max(0, width - len(tail) - 4)]
        text = f"{head[: head.rfind(',') + 1] or 'SELECT'} ...{tail}"
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def _end_of_columns(text: str) -> int | None:
    if text[:7].upper() != "SELECT ":
        return None
    ends = (found.start() for found in _FROM.finditer(text))
    return next((end for end in ends if text.count("(", 0, end) == text.count(")", 0, end)), None)
