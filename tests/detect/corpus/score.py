"""Findings to verdicts, and verdicts to precision, recall and line accuracy: `python -m tests.detect.corpus.score`."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from querytoll import Finding
from scripts.postgres import CACHE, Server, embedded
from tests.detect.corpus.bench import Bench, Run
from tests.detect.corpus.scenario import Expect, Scenario, marks, scenarios

TIMED = {
    "slow-query",
    "lock-wait",
    "too-much-db-time",
    "idle-in-transaction",
    "long-transaction",
    "connection-held",
    "pool-wait",
}


@dataclass(frozen=True)
class Hit:
    """An expectation that was met; `exact` where the line was right too."""

    expect: Expect
    finding: Finding
    exact: bool


@dataclass
class Verdict:
    """What was right and wrong about the findings of a scenario."""

    scenario: Scenario
    hits: list[Hit] = field(default_factory=list)
    misses: list[Expect] = field(default_factory=list)
    alarms: list[Finding] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    broken: tuple[str, ...] = ()

    @property
    def only_time(self) -> bool:
        """All that is wrong are alarms of rules that measure time."""
        return (
            bool(self.alarms)
            and {alarm.rule for alarm in self.alarms} <= TIMED
            and len(self.alarms) == len(self.faults)
        )

    @property
    def faults(self) -> list[str]:
        """One line for each thing that is wrong."""
        return [
            *(f"broken: {what}" for what in self.broken),
            *(f"miss: {'/'.join(expect.rules)} at {_places(expect)}" for expect in self.misses),
            *(
                f"wrong line: {hit.finding.rule} at {hit.finding.site}, not {_places(hit.expect)}: {hit.finding.title}"
                for hit in self.hits
                if not hit.exact
            ),
            *(f"false alarm: {alarm.rule} at {alarm.site}: {alarm.title}" for alarm in self.alarms),
            *(f"not in the exception's notes: {words}" for words in self.unsaid),
        ]


def judge(scenario: Scenario, run: Run) -> Verdict:
    """Compare what was found with what was to be found: right lines first, then right rules."""
    verdict = Verdict(scenario, broken=run.broken)
    left = run.findings
    open_expectations = list(scenario.expect)
    for exact in (True, False):
        for expect in list(open_expectations):
            found = next((finding for finding in left if _meets(finding, expect, exact)), None)
            if found is not None:
                left.remove(found)
                open_expectations.remove(expect)
                verdict.hits.append(Hit(expect, found, exact))
    verdict.misses = open_expectations
    verdict.alarms = [finding for finding in left if finding.rule not in scenario.allow]
    verdict.unsaid = _unsaid(scenario, run)
    return verdict


def _meets(finding: Finding, expect: Expect, exact: bool) -> bool:
    if finding.rule not in expect.rules:
        return False
    if not exact or not expect.places:
        return True
    return finding.site is not None and (os.path.realpath(finding.site.file), finding.site.line) in expect.places


def _unsaid(scenario: Scenario, run: Run) -> list[str]:
    said = "\n".join(getattr(run.error, "__notes__", ()))
    wanted = [str(marks()[words[5:]][1]) if words.startswith("MARK:") else words for words in scenario.note]
    return [words for words in wanted if words not in said]


def _places(expect: Expect) -> str:
    return " or ".join(sorted(f"{os.path.basename(file)}:{line}" for file, line in expect.places)) or "any line"


@dataclass
class Tally:
    """Counts of one rule."""

    right: int = 0
    missed: int = 0
    alarms: int = 0
    placed: int = 0
    exact: int = 0

    def __str__(self) -> str:
        precision = _share(self.right, self.right + self.alarms)
        recall = _share(self.right, self.right + self.missed)
        f1 = _share(2 * self.right, 2 * self.right + self.missed + self.alarms)
        counts = f"{self.right:4d} {self.missed:5d} {self.alarms:6d}"
        return f"{counts}   {precision:>5} {recall:>5} {f1:>5}   {_share(self.exact, self.placed):>5}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def summary(verdicts: Iterable[Verdict]) -> str:
    """The score per rule and over all, and the list of what went wrong."""
    verdicts = list(verdicts)
    tallies: dict[str, Tally] = defaultdict(Tally)
    total = Tally()
    for verdict in verdicts:
        for hit in verdict.hits:
            for tally in (tallies[hit.finding.rule], total):
                tally.right += 1
                if hit.expect.places:
                    tally.placed += 1
                    tally.exact += hit.exact
        for expect in verdict.misses:
            tallies[expect.rules[0]].missed += 1
            total.missed += 1
        for alarm in verdict.alarms:
            tallies[alarm.rule].alarms += 1
            total.alarms += 1
    clean = [verdict for verdict in verdicts if not verdict.scenario.expect]
    quiet = sum(not verdict.alarms for verdict in clean)
    lines = [f"{'rule':22}right miss alarms   prec.   rec.    F1   lines"]
    lines += [f"{rule:20} {tallies[rule]}" for rule in sorted(tallies)]
    lines += [f"{'all':20} {total}", "", f"clean scenarios without any finding: {quiet} of {len(clean)}", ""]
    for verdict in verdicts:
        lines += [f"{verdict.scenario.id}: {fault}" for fault in verdict.faults]
    return "\n".join(lines)


@contextmanager
def _database(server: Server) -> Iterator[str]:
    name = f"querytoll_corpus_{os.getpid()}"
    with psycopg.connect(server.url(driver=None), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield server.url(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main(names: list[str]) -> None:
    """Run the corpus, or the scenarios whose names contain one of the words given."""
    chosen = [one for one in scenarios() if not names or any(name in one.id for name in names)]
    with embedded(CACHE / "postgres-18") as server, _database(server) as url:
        bench = Bench(url)
        try:
            verdicts = [judge(one, bench.run(one)) for one in chosen]
        finally:
            bench.close()
    sys.stdout.write(summary(verdicts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
