"""The JSON of a dashboard to complaints about its structure: variables, titles, units, grid, ids and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from dashboards.src.grafana import DATASOURCE, Json

UNITS = frozenset({"cps", "none", "ops", "percentunit", "reqps", "s", "short"})
"""Grafana's ids of the units that are used here."""
VARIABLES = ("datasource", "job", "instance")
SCHEMA_VERSION = 39
COLUMNS = 24


def complaints(board: Json, boards: Sequence[Json]) -> list[str]:
    """Return what is wrong with a dashboard that is installed together with `boards`."""
    return [f"{board['title']}: {complaint}" for complaint in _all(board, boards)]


def panels(board: Json) -> Iterator[Json]:
    """Yield every panel, those inside collapsed rows included, without the rows."""
    for panel in board["panels"]:
        yield from panel.get("panels", ()) if panel["type"] == "row" else (panel,)


def variables(board: Json) -> list[str]:
    """Return the names of a dashboard's variables."""
    return [variable["name"] for variable in board["templating"]["list"]]


def _all(board: Json, boards: Sequence[Json]) -> Iterator[str]:
    yield from _head(board, boards)
    yield from _ids(board)
    yield from _grid(board)
    for panel in panels(board):
        yield from (f"{panel['title'] or 'panel'}: {complaint}" for complaint in _panel(panel))
    yield from _links(board, boards)


def _head(board: Json, boards: Sequence[Json]) -> Iterator[str]:
    if [one["uid"] for one in boards].count(board["uid"]) != 1:
        yield f"uid {board['uid']} is not the dashboard's own"
    if board["schemaVersion"] != SCHEMA_VERSION:
        yield f"schema version {board['schemaVersion']}, not {SCHEMA_VERSION}"
    if tuple(variables(board)[: len(VARIABLES)]) != VARIABLES:
        yield f"the first variables are not {', '.join(VARIABLES)}"
    for variable in board["templating"]["list"]:
        if not variable["label"]:
            yield f"variable {variable['name']} has no label"
    for annotation in board["annotations"]["list"]:
        if annotation["datasource"] != DATASOURCE:
            yield f"annotation {annotation['name']} does not read the chosen data source"


def _ids(board: Json) -> Iterator[str]:
    rows = [panel["id"] for panel in board["panels"] if panel["type"] == "row"]
    yield from _repeated("id", [*rows, *(panel["id"] for panel in panels(board))])
    yield from _repeated("title", [panel["title"] for panel in panels(board)], but=_titles_allowed_twice(board))


def _repeated(what: str, values: Iterable[object], but: frozenset[object] = frozenset()) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1 and value not in but:
            yield f"{what} {value} is used {count} times"


def _titles_allowed_twice(board: Json) -> frozenset[object]:
    """A number at a glance and its course below may have one title."""
    return frozenset(panel["title"] for panel in panels(board) if panel["type"] == "stat")


def _grid(board: Json) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in (*board["panels"], *panels(board)):
        if panel["type"] == "row" and panel not in board["panels"]:
            continue
        place = panel["gridPos"]
        if place["x"] < 0 or place["w"] < 1 or place["h"] < 1 or place["x"] + place["w"] > COLUMNS:
            yield f"{panel['title']} is outside the {COLUMNS} columns"
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in _rows(place)}
        others = {taken[cell] for cell in cells if taken.get(cell, panel["title"]) != panel["title"]}
        yield from (f"{panel['title']} overlaps {other}" for other in sorted(others))
        taken.update(dict.fromkeys(cells, panel["title"]))


def _rows(place: Json) -> range:
    return range(place["y"], place["y"] + place["h"])


def _panel(panel: Json) -> Iterator[str]:
    if not panel["title"] or not panel["description"]:
        yield "title or description is missing"
    if not panel["description"].endswith("."):
        yield "the description is no sentence"
    if panel["datasource"] != DATASOURCE:
        yield "the panel does not read the chosen data source"
    if not panel["targets"]:
        yield "there is no query"
    yield from (f"unit {unit!r} is none of Grafana's that we know" for unit in _units(panel) if unit not in UNITS)
    yield from _repeated("refId", [target["refId"] for target in panel["targets"]])
    for target in panel["targets"]:
        if target["datasource"] != DATASOURCE:
            yield f"query {target['refId']} does not read the chosen data source"
        if target["instant"] is target["range"]:
            yield f"query {target['refId']} must be either instant or a range"


def _units(panel: Json) -> list[str | None]:
    """Units of a panel: of the axis of a heatmap, of each column of a table, of the field elsewhere."""
    if panel["type"] == "heatmap":
        return [panel["options"]["yAxis"].get("unit")]
    if panel["type"] != "table":
        return [panel["fieldConfig"]["defaults"].get("unit")]
    properties = [each for override in panel["fieldConfig"]["overrides"] for each in override["properties"]]
    units = [each["value"] for each in properties if each["id"] == "unit"]
    return units + [None] * (len(panel["targets"]) - len(units))


def _links(board: Json, boards: Sequence[Json]) -> Iterator[str]:
    known = {one["uid"]: variables(one) for one in boards}
    for url in re.findall(r'"url": "(/d/[^"]+)"', _text(board)):
        uid = url.removeprefix("/d/").partition("?")[0]
        if uid not in known:
            yield f"a link leads to {uid}, which is no dashboard of ours"
            continue
        passed = [*re.findall(r"var-(\w+)=", url), *re.findall(r"\$\{(\w+):queryparam\}", url)]
        yield from (f"a link sets {name}, which {uid} does not have" for name in passed if name not in known[uid])


def _text(value: object) -> str:
    """Return the strings of nested data as `"key": "value"` pairs."""
    if isinstance(value, dict):
        return " ".join(f'"{key}": "{each}"' if isinstance(each, str) else _text(each) for key, each in value.items())
    return " ".join(map(_text, value)) if isinstance(value, list) else ""
