"""A verdict to the text that people read."""

from __future__ import annotations

import shutil
from typing import Final

from querytoll.suite.summary import summary
from querytoll.suite.verdict import Verdict

_EVERYTHING: Final = 100_000


def to_text(verdict: Verdict) -> str:
    """Return everything, as wide as the terminal."""
    width = max(60, min(112, shutil.get_terminal_size().columns))
    return "".join(f"{line.text.rstrip()}\n" for line in summary(verdict, width, height=_EVERYTHING))
