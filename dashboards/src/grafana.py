"""Titles, queries and units to the panels of Grafana's dashboard JSON (schema version 39: Grafana 11 and newer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
REFS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VERSION = "11.6.0"


@dataclass(frozen=True, slots=True)
class Line:
    """A query of a graph and the legend of its series."""

    query: str
    legend: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers of a table: one instant query."""

    title: str
    query: str
    unit: str
    decimals: int | None = None
    bar: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A label that becomes a column of a table."""

    label: str
    title: str
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Another dashboard, with variables set to labels of the row or series that was clicked."""

    title: str
    uid: str
    labels: tuple[str, ...]

    def json(self) -> Json:
        """Return the data link, which keeps time range and source."""
        kept = [f"${{{name}:queryparam}}" for name in ("datasource", "job", "instance")]
        chosen = [f"var-{label}=${{__data.fields.{label}:percentencode}}" for label in self.labels]
        return {"title": self.title, "url": f"/d/{self.uid}?{'&'.join((*kept, *chosen, '${__url_time_range}'))}"}


@dataclass(frozen=True, slots=True)
class Section:
    """A row of a dashboard and the panels below it, laid out from left to right."""

    title: str
    panels: Sequence[Json]
    collapsed: bool = False


def stat(
    title: str, description: str, query: str, unit: str, *, decimals: int | None = None, limits: Sequence[float] = ()
) -> Json:
    """Return one number with its recent course, coloured from `limits` (warning, critical) on."""
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    defaults = {**_field(unit, decimals), "thresholds": _thresholds(limits)}
    return _panel("stat", title, description, [_target(query)], options, defaults, width=3, height=4)


def graph(
    title: str,
    description: str,
    lines: Sequence[Line],
    unit: str,
    *,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    exemplars: bool = False,
    top: float | None = None,
    links: Sequence[Link] = (),
) -> Json:
    """Return a time series panel; the legend is a table where series are told apart by labels."""
    many = any("{{" in line.legend for line in lines)
    options = {
        "legend": {
            "calcs": ["mean", "max"] if many else [],
            "displayMode": "table" if many else "list",
            "placement": "bottom",
            "showLegend": True,
            **({"sortBy": "Mean", "sortDesc": True} if many else {}),
        },
        "tooltip": {"hideZeros": False, "mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }
    defaults: Json = {**_field(unit), "custom": custom, "min": 0, "links": [link.json() for link in links]}
    if top is not None:
        defaults["max"] = top
    targets = [
        _target(line.query, line.legend, ref=ref, exemplar=exemplars) for ref, line in zip(REFS, lines, strict=False)
    ]
    return _panel("timeseries", title, description, targets, options, defaults, width=width, height=height)


def heatmap(title: str, description: str, query: str, unit: str, *, width: int = 12, height: int = 8) -> Json:
    """Return a heatmap of the buckets of a histogram."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    target = _target(query, "{{le}}", form="heatmap")
    return _panel("heatmap", title, description, [target], options, {}, width=width, height=height)


def table(
    title: str,
    description: str,
    keys: Sequence[Key],
    columns: Sequence[Column],
    *,
    sort: str,
    links: Sequence[Link] = (),
    width: int = 24,
    height: int = 10,
) -> Json:
    """Return a table: one row per combination of the keys, one instant query per column."""
    options = {
        "cellHeight": "sm",
        "frameIndex": 0,
        "showHeader": True,
        "sortBy": [{"desc": True, "displayName": sort}],
    }
    defaults = {"custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False}}
    targets = [
        _target(column.query, ref=ref, form="table", instant=True) for ref, column in zip(REFS, columns, strict=False)
    ]
    panel = _panel("table", title, description, targets, options, defaults, width=width, height=height)
    panel["fieldConfig"]["overrides"] = [*_key_overrides(keys, links), *map(_column_override, columns)]
    panel["transformations"] = _transformations(keys, columns)
    return panel


def variable(name: str, label: str, query: str, *, regex: str = "") -> Json:
    """Return a variable with the values of a query, all of them by default."""
    return {
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": "Variable"},
        "refresh": 2,
        "regex": regex,
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def annotation(name: str, query: str, title: str, text: str, color: str) -> Json:
    """Return marks on every graph where the query has a value."""
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "name": name,
        "target": {"datasource": DATASOURCE, "expr": query, "interval": "60s", "refId": "Anno"},
        "textFormat": text,
        "titleFormat": title,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    variables: Sequence[Json],
    annotations: Sequence[Json],
) -> Json:
    """Return a dashboard as Grafana imports it."""
    return {
        "annotations": {"list": list(annotations)},
        "description": description,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_others()],
        "liveNow": False,
        "panels": _laid_out(sections),
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["querytoll"],
        "templating": {"list": [_datasource_variable(), *variables]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
        "weekStart": "",
    }


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    options: Json,
    defaults: Json,
    *,
    width: int,
    height: int,
) -> Json:
    return {
        "datasource": DATASOURCE,
        "description": description,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": {"h": height, "w": width, "x": 0, "y": 0},
        "id": 0,
        "options": options,
        "pluginVersion": VERSION,
        "targets": list(targets),
        "title": title,
        "type": kind,
    }


def _target(
    query: str,
    legend: str = "",
    *,
    ref: str = "A",
    form: str = "time_series",
    instant: bool = False,
    exemplar: bool = False,
) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": exemplar,
        "expr": query,
        "format": form,
        "instant": instant,
        "legendFormat": legend or "__auto",
        "range": not instant,
        "refId": ref,
    }


def _field(unit: str, decimals: int | None = None) -> Json:
    field: Json = {"color": {"mode": "palette-classic"}, "unit": unit}
    return field if decimals is None else {**field, "decimals": decimals}


def _thresholds(limits: Sequence[float]) -> Json:
    steps: list[Json] = [{"color": "green" if limits else "text", "value": None}]
    steps += [{"color": color, "value": value} for color, value in zip(("orange", "red"), limits, strict=False)]
    return {"mode": "absolute", "steps": steps}


def _override(name: str, **properties: object) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": id.replace("__", "."), "value": value} for id, value in properties.items()],
    }


def _key_overrides(keys: Sequence[Key], links: Sequence[Link]) -> list[Json]:
    widths = [_override(key.title, custom__width=key.width) for key in keys if key.width]
    return widths + [_override(key.title, links=[link.json() for link in links]) for key in keys if links]


def _column_override(column: Column) -> Json:
    properties: dict[str, object] = {"unit": column.unit}
    if column.decimals is not None:
        properties["decimals"] = column.decimals
    if column.bar:
        properties["custom__cellOptions"] = {"mode": "basic", "type": "gauge", "valueDisplayMode": "text"}
        properties["color"] = {"fixedColor": "orange", "mode": "fixed"}
        properties["min"] = 0
        properties["max"] = 1
    return _override(column.title, **properties)


def _transformations(keys: Sequence[Key], columns: Sequence[Column]) -> list[Json]:
    """One table out of the queries' tables: a single query's value is called `Value`, several ones' `Value #A`."""
    values = [f"Value #{ref}" for ref, _ in zip(REFS, columns, strict=False)] if len(columns) > 1 else ["Value"]
    order = [*(key.label for key in keys), *values]
    titles = [*(key.title for key in keys), *(column.title for column in columns)]
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(order)},
        "renameByName": dict(zip(order, titles, strict=True)),
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _datasource_variable() -> Json:
    return {
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


def _others() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["querytoll"],
        "targetBlank": False,
        "title": "querytoll",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }


def _laid_out(sections: Sequence[Section]) -> list[Json]:
    """Place panels from left to right in 24 columns, give them ids, and put those of collapsed rows into the row."""
    placed: list[Json] = []
    y, number = 0, 0
    for section in sections:
        number += 1
        row = _row(section, number, y)
        panels, y = _placed(section.panels, number, y + 1)
        number += len(panels)
        if section.collapsed:
            row["panels"] = panels
            y = row["gridPos"]["y"] + 1
        placed += [row] if section.collapsed else [row, *panels]
    return placed


def _placed(panels: Sequence[Json], number: int, y: int) -> tuple[list[Json], int]:
    placed, x, tallest = [], 0, 0
    for id, panel in enumerate(panels, number + 1):
        width, height = panel["gridPos"]["w"], panel["gridPos"]["h"]
        if x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        placed.append({**panel, "id": id, "gridPos": {"h": height, "w": width, "x": x, "y": y}})
        x, tallest = x + width, max(tallest, height)
    return placed, y + tallest


def _row(section: Section, id: int, y: int) -> Json:
    return {
        "collapsed": section.collapsed,
        "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
        "id": id,
        "panels": [],
        "title": section.title,
        "type": "row",
    }
