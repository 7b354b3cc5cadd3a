"""The queries of each route to a text that a team commits, and a run's difference to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from querytoll.errors import ConfigurationError
from querytoll.suite.results import Traffic, Use

Kind = Literal["more", "new", "fewer", "changed", "gone"]
FAILING: Final = frozenset(("more", "new"))
"""Changes that fail a run."""
HEADER: Final = """\
# queries.lock: the statements of each route, the most that one request sent. More of them fail the run.
# After a change that is meant: pytest --querytoll-update
"""
_LINE: Final = re.compile(r"\s+(?P<count>\d+)  (?P<summary>.*?)  +(?P<fingerprint>[0-9a-f]{16})")
_NAME: Final = re.compile(r"[A-Z_]+ \S|\S.*::")
_NONE: Final = Use("", "", 0)
_CONFLICT: Final = ("<<<<<<<", "=======", ">>>>>>>")


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between the lock and a run.

    Args:
        name: the route or test.
        kind: `more` and `new` fail.
        text: what changed: `+1 SELECT items (app/orders.py:41), 3 -> 4`.
        path: the line that sends it, where known.
        line: likewise.
    """

    name: str
    kind: Kind
    text: str
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True, slots=True)
class Lock:
    """The shapes of each route with their numbers."""

    routes: Mapping[str, Mapping[str, Use]] = field(default_factory=dict)

    @classmethod
    def of(cls, traffic: Mapping[str, Traffic]) -> Lock:
        """Take a run as it is."""
        return cls({name: dict(each.uses) for name, each in traffic.items()})

    @classmethod
    def parse(cls, text: str, source: str = "queries.lock") -> Lock:
        """Read what `str` wrote.

        Raises:
            ConfigurationError: a line is something else.
        """
        routes: dict[str, dict[str, Use]] = {}
        uses: dict[str, Use] | None = None
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is not None and uses is not None:
                use = Use(match["fingerprint"], match["summary"], int(match["count"]))
                uses[use.fingerprint] = uses.get(use.fingerprint, use).merged(use)
            elif _NAME.match(line) and not line.startswith(_CONFLICT):
                uses = routes.setdefault(line.strip(), {})
            else:
                raise ConfigurationError(f"{source}:{number}: not a line of a lock: {line.strip()[:60]!r}")
        return cls(routes)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a file.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}; make it with: pytest --querytoll-update") from error

    def __str__(self) -> str:
        return HEADER + "".join(f"\n{name}\n{_lines(uses.values())}" for name, uses in sorted(self.routes.items()))

    def changes(self, traffic: Mapping[str, Traffic], *, complete: bool) -> list[Change]:
        """Tell how a run differs: what is more always, what is less only after a complete run."""
        found: list[Change] = []
        for name, each in sorted(traffic.items()):
            found.extend(_differences(name, self.routes.get(name), each.uses))
        found.extend(
            Change(name, "gone", "was not seen any more") for name in sorted(self.routes) if name not in traffic
        )
        return [change for change in found if complete or change.kind in FAILING]

    def updated(self, traffic: Mapping[str, Traffic], *, complete: bool) -> Lock:
        """Take over what a run has shown; one that was not complete lowers and drops nothing."""
        if complete:
            return Lock.of(traffic)
        grown = {change.name for change in self.changes(traffic, complete=False)}
        return Lock({**self.routes, **{name: traffic[name].uses for name in grown}})


def _differences(name: str, locked: Mapping[str, Use] | None, uses: Mapping[str, Use]) -> Iterator[Change]:
    if locked is None:
        total = sum(use.count for use in uses.values())
        shapes = ", ".join(f"{use.count} {use.summary}" for use in _ordered(uses.values()))
        yield Change(name, "new", f"is not in the lock: {total} {_queries(total)}{f' ({shapes})' if shapes else ''}")
        return
    for summary in sorted({use.summary for use in (*locked.values(), *uses.values())}):
        before = {key: use for key, use in locked.items() if use.summary == summary}
        after = {key: use for key, use in uses.items() if use.summary == summary}
        change = _difference(name, summary, before, after)
        if change is not None:
            yield change


def _difference(name: str, summary: str, before: Mapping[str, Use], after: Mapping[str, Use]) -> Change | None:
    """Compare the statements of one summary: a column more changes a shape, not the number of queries."""
    was, now = (sum(use.count for use in uses.values()) for uses in (before, after))
    if now == was:
        return None if before.keys() == after.keys() else Change(name, "changed", f"another {summary} than in the lock")
    if now < was:
        return Change(name, "fewer", f"{now - was} {summary}, {was} -> {now}: you can lower it")
    most = max(after.values(), key=lambda use: use.count - before.get(use.fingerprint, _NONE).count)
    place = f" ({most.place})" if most.place else ""
    return Change(name, "more", f"+{now - was} {summary}{place}, {was} -> {now}", most.path, most.line)


def _lines(uses: Iterable[Use]) -> str:
    """Return a line for each shape; not aligned, so that one shape's change is one line's."""
    return "".join(f"  {use.count}  {use.summary}  {use.fingerprint}\n" for use in _ordered(uses))


def _ordered(uses: Iterable[Use]) -> list[Use]:
    return sorted(uses, key=lambda use: (use.summary, use.fingerprint))


def _queries(number: int) -> str:
    return "query" if number == 1 else "queries"
