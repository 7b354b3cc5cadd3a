"""Findings that the application does not want to hear of, and ignores that no longer match anything."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from querytoll.errors import ConfigurationError
from querytoll.model import Finding, Ignore, Trace

_log = logging.getLogger("querytoll")
_MAX_LEDGER = 1_000


@dataclass(frozen=True, slots=True)
class Pattern:
    """`n-plus-one`, `n-plus-one@Order.items`, `*@app/legacy/*`, `slow-query@Reports.monthly`.

    Args:
        rule: slug, or `*` for all.
        target: a relation, a path as findings show it, or a function; `*` matches any run of characters.
    """

    rule: str
    target: str = "*"

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read one.

        Raises:
            ConfigurationError: it names no rule.
        """
        rule, _, target = text.partition("@")
        if not rule.strip():
            raise ConfigurationError(f"ignore: {text!r} names no rule; write rule@target, or *@target for every rule")
        return cls(rule.strip(), target.strip() or "*")

    def matches(self, finding: Finding) -> bool:
        """Tell whether the finding is meant."""
        site = finding.site
        names = (finding.evidence.get("relation"), site.path if site else None, site.function if site else None)
        known = [name for name in names if isinstance(name, str)]
        return fnmatchcase(finding.rule, self.rule) and (
            self.target == "*" or any(fnmatchcase(name, self.target) for name in known)
        )


class Ignoring:
    """Apply patterns, and keep book of patterns and of `querytoll.ignore` blocks that have nothing to do.

    Args:
        patterns: as `Pattern.parse` reads them.
        after: traces in which an ignore was in force and matched nothing, before it is reported, once.

    Attributes:
        patterns: what is to be applied to every trace, whatever was found.
    """

    def __init__(self, patterns: Iterable[str] = (), *, after: int = 1_000) -> None:
        self.patterns = [Pattern.parse(text) for text in patterns]
        self._after = after
        self._idle: dict[Pattern | Ignore, int] = {}

    def apply(self, findings: list[Finding]) -> list[Finding]:
        """Return the findings that no pattern matches."""
        for pattern in self.patterns:
            self._note(pattern, any(map(pattern.matches, findings)))
        return [finding for finding in findings if not any(pattern.matches(finding) for pattern in self.patterns)]

    def note_blocks(self, trace: Trace, silenced: Iterable[Finding]) -> None:
        """Note which of the blocks in force silenced something."""
        rules = {finding.rule for finding in silenced}
        for entry in {entry for statement in trace.statements for entry in statement.ignored}:
            self._note(entry, entry.rule in rules)

    def _note(self, entry: Pattern | Ignore, matched: bool) -> None:
        """A match ends the count for good; a missing one adds to it."""
        if matched:
            self._idle[entry] = -1
            return
        count = self._idle.get(entry, 0)
        if count < 0 or (count == 0 and len(self._idle) >= _MAX_LEDGER):
            return
        self._idle[entry] = count + 1
        if count + 1 == self._after:
            what = f"{entry.rule} ({entry.reason})" if isinstance(entry, Ignore) else f"{entry.rule}@{entry.target}"
            _log.warning("ignore %s has matched nothing in %d traces: remove it", what, self._after)
