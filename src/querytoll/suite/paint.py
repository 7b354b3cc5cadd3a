"""The plain text of a failure to the same text in colours."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final

_CODES: Final = {"count": "1", "time": "2", "place": "36", "failed": "31", "rule": "1;33", "fix": "1;32"}
"""Of ECMA-48's SGR, by what is painted."""
_PARTS: Final = re.compile(
    r"""
      ^\ +(?P<count>\d+x|\d+\ ->\ \d+)(?=\ \ )     #   5x  SELECT items ...
    | (?<=\ \ )(?P<time>[\d.]+\ ms)$               #                    ...  0.1 ms
    | (?P<place>[^\s(<]+\.py:\d+)\b                # app/orders.py:58
    | ^\ +(?P<failed>\d+\ failed):                 #       2 failed: OperationalError
    | ^(?P<rule>[a-z]+(?:-[a-z]+)*):(?=\ )         # n-plus-one: Order.items loaded ...
    | ^\ +(?P<fix>fix:)(?=\ )                      #   fix: Load it with its parents ...
    """,
    re.MULTILINE | re.VERBOSE,
)


def painted(text: str) -> str:
    """Return lines of a failure with colours; without them they are the same, so that widths are those of the text."""
    return _PARTS.sub(_paint, text)


def told(text: str) -> str:
    """Return the text of a failure as an exception carries it: in colours where it is bound to end on a terminal.

    Under pytest it is plain, for XML, logs and other plugins read it too: `querytoll.plugin` paints what the terminal
    shows. The first line is plain everywhere.
    """
    first, end, rest = text.partition("\n")
    return first + end + painted(rest) if "PYTEST_VERSION" not in os.environ and _in_colours(os.environ) else text


def _in_colours(environment: Mapping[str, str]) -> bool:
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or (environment.get("TERM") != "dumb" and _is_terminal(sys.stderr))


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:  # none, closed, or a stand-in that knows less than a file
        return False


def _paint(found: re.Match[str]) -> str:
    kind = found.lastgroup or ""
    before, part, after = found[0].partition(found[kind])
    return f"{before}\x1b[{_CODES[kind]}m{part}\x1b[0m{after}"
