"""A plan with its findings to plain text: a tree with share bars, rows expected and seen, insights in place."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from querytoll.explain.plan import label, number
from querytoll.model import Finding, Plan, PlanNode

MINIMUM_WIDTH = 60
_BAR = 8
_LEFT = _BAR + 26
_NAME = 24
"""Columns for the name of a step; deeper trees are indented less."""
_SHORTEST = 12
"""Columns for it, however deep it lies."""
_ASIDE_SECONDS = 0.001
_QUANTITY = re.compile(r"(?<=\d) (?=(?:\d{3}|ms|s|MB|kB|%)(?!\w))")
"""A space inside of a number, or before its unit: no place to begin a new line."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a drawing."""

    full: str = "█"
    parts: str = " ▏▎▍▌▋▊▉"
    branch: str = "├─ "
    last: str = "└─ "
    pipe: str = "│  "
    arrow: str = "→"
    mark: str = "▲"
    ellipsis: str = "…"


ASCII = Glyphs(full="#", parts=" ", branch="|- ", last="`- ", pipe="|  ", arrow="->", mark="!", ellipsis="...")
"""For terminals and files that know no more."""


def render(plan: Plan, findings: Iterable[Finding] = (), width: int = 100, glyphs: Glyphs | None = None) -> str:
    """Draw a plan.

    Args:
        plan: the tree.
        findings: shown below the step that their evidence names (`node_id`), the rest at the end.
        width: columns; less than 60 is taken as 60.
        glyphs: characters to draw with.
    """
    drawing = _Drawing(plan, list(findings), max(width, MINIMUM_WIDTH), glyphs or Glyphs())
    return "\n".join(line.rstrip() for line in drawing.lines()) + "\n"


class _Drawing:
    def __init__(self, plan: Plan, findings: Sequence[Finding], width: int, glyphs: Glyphs) -> None:
        self.plan = plan
        self.width = width
        self.glyphs = glyphs
        self.places: dict[object, list[Finding]] = {}
        room = self.width - _LEFT - _NAME
        self.indent = max(1, min(len(self.glyphs.pipe), room // max(1, _depth(plan.tree))))
        self.pipe = self.glyphs.pipe[: self.indent]
        self.gap = " " * self.indent
        for finding in findings:
            self.places.setdefault(finding.evidence.get("node_id"), []).append(finding)

    def lines(self) -> Iterator[str]:
        yield self.header()
        yield ""
        measure = "time" if self.plan.tree.seconds is not None else "cost"
        yield f"{measure:>{_BAR + 5}}  {'rows':>17}  step"
        yield from self.step(self.plan.tree, "", "")
        left = [finding for place in list(self.places) for finding in self.places.pop(place)]
        for finding in left:
            yield from self.insight(finding)

    def header(self) -> str:
        plan = self.plan
        parts = [{"analyze": "Executed", "estimate": "Estimated", "auto_explain": "Logged"}[plan.source] + " plan"]
        if plan.elapsed is not None:
            parts.append(f"execution {milliseconds(plan.elapsed)}")
        parts += [f"{name} {milliseconds(spent)}" for name, spent in _aside(plan) if spent >= _ASIDE_SECONDS]
        if plan.planning is not None:
            parts.append(f"planning {milliseconds(plan.planning)}")
        parts.append(f"cost {plan.tree.cost:.2f}")
        return _cut(", ".join(parts), self.width, self.glyphs)

    def step(self, node: PlanNode, lead: str, below: str) -> Iterator[str]:
        left = f"{self.bar(node.share)} {node.share * 100:3.0f}%  {self.rows(node):>17}  "
        name = f"{node.name}: " if node.role in ("InitPlan", "SubPlan") and node.name else ""
        loops = f" (x{short(node.loops)})" if node.loops is not None and node.loops > 1 else ""
        never = " (never executed)" if node.loops == 0 else ""
        title = _printable(f"{name}{label(node)}{loops}{never}")
        most = self.width - len(left) - _SHORTEST
        stem = (below + (self.pipe if node.children else self.gap))[-most:]
        lead = lead[-most:]
        first, *more = textwrap.wrap(title, self.width - len(left) - len(stem))
        yield left + lead + first
        yield from (" " * len(left) + stem + line for line in more)
        for finding in self.places.pop(node.id, ()):
            yield from self.insight(finding)
        for child in node.children:
            final = child is node.children[-1]
            branch = self.glyphs.last if final else self.glyphs.branch
            yield from self.step(child, below + branch[: self.indent], below + (self.gap if final else self.pipe))

    def insight(self, finding: Finding) -> Iterator[str]:
        indent = " " * 4
        room = max(self.width - len(indent) - 2, 30)
        cost = f" ({milliseconds(finding.cost)})" if finding.cost else ""
        text = f"{self.glyphs.mark} {finding.rule}: {finding.title}{cost}"
        yield from self.wrapped(text, indent, room)
        yield from self.wrapped(finding.advice, indent + "  ", room)

    def wrapped(self, text: str, indent: str, room: int) -> Iterator[str]:
        for paragraph in map(_printable, text.splitlines()):
            whole = _QUANTITY.sub("\u00a0", paragraph)
            for line in textwrap.wrap(whole, room, break_long_words=False, break_on_hyphens=False):
                yield indent + line.replace("\u00a0", " ")

    def bar(self, share: float) -> str:
        steps = len(self.glyphs.parts)
        eighths = round(max(0.0, min(1.0, share)) * _BAR * steps)
        full, part = divmod(eighths, steps)
        return (self.glyphs.full * full + (self.glyphs.parts[part] if part else "")).ljust(_BAR)

    def rows(self, node: PlanNode) -> str:
        if node.rows is None:
            return short(node.estimated_rows)
        return f"{short(node.estimated_rows)} {self.glyphs.arrow} {short(node.rows)}"


def _depth(node: PlanNode) -> int:
    return max((1 + _depth(child) for child in node.children), default=0)


def _aside(plan: Plan) -> Iterator[tuple[str, float]]:
    """What a part of the execution was spent on that no step shows."""
    triggers = plan.facts.get("Triggers")
    entries = triggers if isinstance(triggers, Sequence) and not isinstance(triggers, str) else ()
    yield "triggers", sum(number(entry.get("Time")) for entry in entries if isinstance(entry, Mapping)) / 1000
    jit = plan.facts.get("JIT")
    timing = jit.get("Timing") if isinstance(jit, Mapping) else None
    yield "JIT", number(timing.get("Total")) / 1000 if isinstance(timing, Mapping) else 0.0


def _printable(text: str) -> str:
    """Without control characters: names of a plan from somewhere else may hold those of a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cut(text: str, width: int, glyphs: Glyphs) -> str:
    width = max(width, 12)
    return text if len(text) <= width else text[: width - len(glyphs.ellipsis)] + glyphs.ellipsis


def short(value: float | None) -> str:
    """`1.2M`, `34k`, `7`."""
    if value is None:
        return "?"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.1f}{unit}" if scaled < 100 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}" if value == int(value) or value >= 10 else f"{value:.1f}"


def milliseconds(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
