"""Dashboards to the JSON files that Grafana is provisioned with."""

from __future__ import annotations

import json
from pathlib import Path

from dashboards.src import overview, pool, query, route
from dashboards.src.grafana import Json

ROOT = Path(__file__).parents[1]
GRAFANA = ROOT / "grafana"


def built() -> dict[Path, Json]:
    """Return each file and the dashboard that belongs into it."""
    boards = (overview.build(), route.build(), query.build(), pool.build())
    return {GRAFANA / f"{board['uid']}.json": board for board in boards}


def rendered(board: Json) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write(*, only_compare: bool = False) -> list[str]:
    """Write the files, and remove those of dashboards that are no more; return the names of those that changed."""
    wanted = {path: rendered(board) for path, board in built().items()}
    stale = [path for path in GRAFANA.glob("*.json") if path not in wanted]
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if not only_compare:
        for path in changed:
            path.write_text(wanted[path])
        for path in stale:
            path.unlink()
    return sorted(path.name for path in (*changed, *stale))
