"""A verdict to the texts that people, CI servers and code hosts read; adding one is one file and one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from querytoll.suite.outputs.document import to_json
from querytoll.suite.outputs.github import to_github
from querytoll.suite.outputs.junit import to_junit
from querytoll.suite.outputs.sarif import to_sarif
from querytoll.suite.outputs.text import to_text
from querytoll.suite.verdict import Verdict

FORMATS: Final[Mapping[str, Callable[[Verdict], str]]] = {
    "text": to_text,
    "json": to_json,
    "junit": to_junit,
    "sarif": to_sarif,
    "github": to_github,
}
"""Each ends with a line feed, or is empty."""

__all__ = ["FORMATS", "to_github", "to_json", "to_junit", "to_sarif", "to_text"]
