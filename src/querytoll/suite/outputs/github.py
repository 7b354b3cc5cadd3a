"""A verdict to GitHub's workflow commands, which put annotations on lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from querytoll.suite.results import Found
from querytoll.suite.verdict import Verdict

MAX_ANNOTATIONS: Final = 10
"""GitHub shows ten of each kind for a step."""
_LEVELS: Final = {"info": "notice", "warning": "warning", "error": "error"}


def to_github(verdict: Verdict) -> str:
    """Return one command a line: new findings, and routes with more queries than the lock has."""
    return "".join(f"{command}\n" for command in _commands(verdict))


def _commands(verdict: Verdict) -> Iterator[str]:
    for change in verdict.failing[:MAX_ANNOTATIONS]:
        yield command("error", str(change), title="more queries than in the lock", file=change.path, line=change.line)
    for found in verdict.new[:MAX_ANNOTATIONS]:
        level = "error" if verdict.strict else _LEVELS[found.severity]
        yield command(level, _message(found), title=found.rule, file=found.path, line=found.line)
    rest = len(verdict.new[MAX_ANNOTATIONS:]) + len(verdict.failing[MAX_ANNOTATIONS:])
    if rest:
        yield command("notice", f"and {rest} more: see the text of querytoll check", title="querytoll")


def command(level: str, message: str, *, title: str, file: str = "", line: int = 0) -> str:
    """Write one workflow command."""
    place = f"file={_property(file)},line={line}," if file and line else ""
    return f"::{level} {place}title={_property(title)}::{_data(message)}"


def _message(found: Found) -> str:
    return f"{found.title} ({', '.join(found.routes[:3])})\n{found.advice}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
