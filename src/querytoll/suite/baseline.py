"""Findings that a team knows of to a text that it commits, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from querytoll.errors import ConfigurationError
from querytoll.suite.results import Found

HEADER: Final = """\
# querytoll baseline: findings that are known; only others fail. One a line, sorted: a merge conflict is settled by
# keeping both sides. Fixed ones go away with: pytest --querytoll-update
"""
_LINE: Final = re.compile(r"(?P<rule>\S+)  (?P<place>.*?)  (?P<summary>.*?)  (?P<id>[0-9a-f]{16})")


@dataclass(frozen=True, slots=True, order=True)
class Known:
    """An entry: of what makes it equal only its id counts, the rest is for people."""

    rule: str
    place: str
    summary: str
    id: str

    @classmethod
    def of(cls, found: Found) -> Known:
        """Read a finding; lines and counts are left out, since they change."""
        return cls(found.rule, f"{found.path}:{found.function}" if found.path else "-", found.summary or "-", found.id)

    def __str__(self) -> str:
        return f"{self.rule}  {self.place}  {self.summary}  {self.id}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """Known findings."""

    entries: tuple[Known, ...] = ()

    @classmethod
    def of(cls, findings: Iterable[Found]) -> Baseline:
        """Take findings as they are."""
        return cls(tuple(sorted({Known.of(found) for found in findings})))

    @classmethod
    def parse(cls, text: str, source: str = "baseline") -> Baseline:
        """Read what `str` wrote, in any order.

        Raises:
            ConfigurationError: a line is something else.
        """
        entries = set()
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ConfigurationError(f"{source}:{number}: not an entry of a baseline: {line.strip()[:60]!r}")
            entries.add(Known(match["rule"], match["place"], match["summary"], match["id"]))
        return cls(tuple(sorted(entries)))

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a file.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}; make it with: pytest --querytoll-update") from error

    def __str__(self) -> str:
        return HEADER + "".join(f"{entry}\n" for entry in self.entries)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of what is known."""
        return frozenset(entry.id for entry in self.entries)

    def stale(self, findings: Iterable[Found]) -> tuple[Known, ...]:
        """Return the entries that none of a complete run's findings is."""
        seen = {found.id for found in findings}
        return tuple(entry for entry in self.entries if entry.id not in seen)

    def updated(self, findings: Iterable[Found], *, complete: bool) -> Baseline:
        """Add what is new; after a complete run, drop what is stale."""
        findings = tuple(findings)
        return Baseline.of(findings) if complete else self.merged(Baseline.of(findings))

    def merged(self, other: Baseline) -> Baseline:
        """Return the entries of both, of equal ids the other's."""
        entries = {entry.id: entry for entry in (*self.entries, *other.entries)}
        return Baseline(tuple(sorted(entries.values())))
