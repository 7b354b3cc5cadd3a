"""Check that the version, the changelog and the installed metadata tell the same; run by `make lint`."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path

import querytoll

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def faults() -> list[str]:
    """What does not fit, as sentences."""
    ours, installed = querytoll.__version__, version("querytoll")
    released = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", CHANGELOG.read_text(), re.MULTILINE)
    found = []
    if installed != ours:
        found.append(f"querytoll.__version__ is {ours}, installed is {installed}; run: make -B venv")
    if ".dev" not in ours and (not released or released[0] != ours):
        found.append(f"CHANGELOG.md has no dated section for {ours} on top")
    if ".dev" in ours and ours.partition(".dev")[0] in released:
        found.append(f"{ours} comes after the release of that version in CHANGELOG.md")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(faults()) or None)
