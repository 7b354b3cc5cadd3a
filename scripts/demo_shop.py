"""The example shop with one more sink, which tells the demo each finding in a line of JSON on standard output."""

from __future__ import annotations

import json

from fastapi import FastAPI

from querytoll import Profiler, Report
from shop import main


def create_app() -> FastAPI:
    """Make the shop as uvicorn serves it."""
    return main.create_app(profiler=Profiler(sinks=[*Profiler.default_sinks(), tell]))


def tell(report: Report) -> None:
    """Print what was found in one trace."""
    for finding in report.findings:
        line = {
            "id": finding.id,
            "rule": finding.rule,
            "title": finding.title,
            "advice": finding.advice,
            "site": str(finding.site or ""),
            "name": report.trace.name,
            "count": finding.count,
            "cost": finding.cost,
        }
        print(json.dumps(line), flush=True)
