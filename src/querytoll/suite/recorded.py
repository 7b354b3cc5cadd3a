"""A history's record of some time to the results that a run of tests would give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from querytoll.history.recorded import Recorded, RouteRead, RouteUseRead, SeenRead
from querytoll.suite.results import Found, Results, Traffic, Use


def results_of(recorded: Recorded, names: Sequence[str] = ()) -> Results:
    """Return results that are not complete: what was not requested in that time may still be there.

    Args:
        recorded: what was seen.
        names: of routes and blocks that count, `*` for any characters; without any all do.
    """
    wanted = [re.compile(".*".join(map(re.escape, name.split("*")))) for name in names]

    def counts(name: str) -> bool:
        return not wanted or any(each.fullmatch(name) for each in wanted)

    routes = [route for route in recorded.routes if counts(route.name)]
    uses: dict[str, list[RouteUseRead]] = {}
    for use in recorded.uses:
        uses.setdefault(use.name, []).append(use)
    findings: dict[str, Found] = {}
    for seen in recorded.findings:
        if counts(seen.name):
            found = _found(seen)
            findings[found.id] = findings[found.id].merged(found) if found.id in findings else found
    return Results(
        complete=False,
        requests=sum(route.requests for route in routes),
        statements=sum(route.statements for route in routes),
        seconds=sum(route.database_seconds for route in routes),
        routes={route.name: _traffic(route, uses.get(route.name, ())) for route in routes},
        findings=findings,
    )


def _traffic(route: RouteRead, uses: Iterable[RouteUseRead]) -> Traffic:
    return Traffic(
        route.name,
        route.requests,
        route.most,
        route.longest,
        uses={
            use.fingerprint: Use(use.fingerprint, use.summary or "", use.most, use.file or "", use.line or 0)
            for use in uses
        },
    )


def _found(seen: SeenRead) -> Found:
    finding = seen.finding
    return Found(
        id=finding.id,
        rule=finding.rule,
        title=seen.title,
        advice=finding.advice,
        severity=finding.severity,
        path=finding.file or "",
        line=finding.line or 0,
        function=finding.function or "",
        summary=finding.summary or "",
        statement=str(finding.evidence.get("statement", "")) or seen.statement or "",
        count=seen.most,
        times=seen.occurrences,
        routes=(seen.name,),
    )
