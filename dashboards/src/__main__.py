"""Write the dashboards; `--check` only says which files differ, and fails where one does."""

from __future__ import annotations

import sys

from dashboards.src.files import write


def main(words: list[str]) -> str | None:
    """Return the complaint to exit with."""
    changed = write(only_compare="--check" in words)
    if "--check" in words and changed:
        return f"Not up to date: {', '.join(changed)}; run: make dashboards"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
