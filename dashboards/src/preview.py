"""Dashboards and the data of a running Prometheus to pictures: a preview of the layout, not Grafana's renderer.

`python -m dashboards.src.preview URL FOLDER SECONDS`
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dashboards.src.files import built
from dashboards.src.grafana import Json
from dashboards.src.server import Course, Prometheus, instant
from dashboards.src.structure import panels

COLUMN, ROW = 0.68, 0.40
"""Inches of a cell of the grid."""
INK, PALE, PAGE, PANEL = "#d8d9da", "#8e9199", "#111217", "#181b1f"
COLORS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff9830", "#f2495c", "#b877d9", "#5794f2", "#37872d", "#fade2a", "#ca95e5"]
MOST_LEGENDS = 6


def draw_all(prometheus: Prometheus, folder: Path) -> list[Path]:
    """Draw every dashboard into a PNG file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(board, prometheus, folder / f"{board['uid']}.png") for board in built().values()]


def draw(board: Json, prometheus: Prometheus, path: Path) -> Path:
    """Draw one dashboard, its collapsed rows left closed."""
    shown = [panel for panel in board["panels"] if panel["type"] == "row" or panel in list(panels(board))]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown) + 2
    with mpl.rc_context({"text.color": INK, "font.size": 7, "font.family": "DejaVu Sans", "text.parse_math": False}):
        figure = Figure(figsize=(24 * COLUMN, height * ROW), dpi=100, facecolor=PAGE)
        FigureCanvasAgg(figure)
        head = f"{board['title']}    preview drawn from real data, not by Grafana"
        figure.text(0.006, 1 - 1.1 / height, head, fontsize=11, va="center")
        for panel in shown:
            _draw_panel(figure, panel, prometheus, height)
        figure.savefig(path)
    with Image.open(path) as image:
        image.quantize(96).save(path, optimize=True)
    return path


def _draw_panel(figure: Figure, panel: Json, prometheus: Prometheus, height: int) -> None:
    x, y, w, h = (panel["gridPos"][side] for side in "xywh")
    top = 1 - (y + 2) / height
    if panel["type"] == "row":
        mark = "▸" if panel["collapsed"] else "▾"
        figure.text(x / 24 + 0.006, top - 0.5 / height, f"{mark} {panel['title']}", fontsize=9, va="center")
        return
    gap = 0.08
    box = ((x + gap) / 24, top - (h - gap) / height, (w - 2 * gap) / 24, (h - 2 * gap) / height)
    frame = figure.add_axes(box, facecolor=PANEL)
    frame.set(xticks=[], yticks=[])
    frame.spines[:].set_color("#2c2f36")
    frame.text(0.06 / w * 2, 1 - 0.45 / h, panel["title"], transform=frame.transAxes, fontsize=7.5, va="center")
    found = [prometheus.target(target, instant=instant(panel, target)) for target in panel["targets"]]
    if not any(found):
        frame.text(0.5, 0.45, "No data", transform=frame.transAxes, ha="center", color=PALE, fontsize=9)
        return
    _KINDS[panel["type"]](figure, frame, panel, found)


def _draw_stat(figure: Figure, frame: Axes, panel: Json, found: Sequence[Sequence[Course]]) -> None:
    field = panel["fieldConfig"]["defaults"]
    value = found[0][0].samples[-1][1]
    color = _threshold(field["thresholds"]["steps"], value)
    text = formatted(value, field["unit"], field.get("decimals"))
    frame.text(0.5, 0.4, text, transform=frame.transAxes, ha="center", va="center", fontsize=17, color=color)


def _draw_graph(figure: Figure, frame: Axes, panel: Json, found: Sequence[Sequence[Course]]) -> None:
    h = panel["gridPos"]["h"]
    inner = _inner(figure, frame, left=0.09, bottom=0.36 if h > 6 else 0.42, top=0.86)
    field = panel["fieldConfig"]["defaults"]
    courses = [
        (_legend(target["legendFormat"], course), course)
        for target, several in zip(panel["targets"], found, strict=True)
        for course in several
    ]
    courses.sort(key=lambda pair: -sum(value for _, value in pair[1].samples) / len(pair[1].samples))
    if field["custom"]["stacking"]["mode"] == "normal":
        _stack(inner, courses)
    else:
        for (_, course), color in zip(courses, _colors(), strict=False):
            inner.plot(*_xy(course), color=color, linewidth=1)
    inner.xaxis.set_major_formatter(lambda at, _: _clock(at))
    inner.set_ylim(0, field.get("max", max(inner.get_ylim()[1], 1e-9)))
    inner.yaxis.set_major_formatter(lambda value, _: formatted(value, field["unit"], None))
    _draw_legend(frame, panel, courses, bottom=0.25)


def _stack(axes: Axes, courses: Sequence[tuple[str, Course]]) -> None:
    times = sorted({at for _, course in courses for at, _ in course.samples})
    rows = [[dict(course.samples).get(at, 0.0) for at in times] for _, course in courses]
    axes.stackplot(times, rows, colors=COLORS, alpha=0.6, linewidth=0)


def _draw_legend(frame: Axes, panel: Json, courses: Sequence[tuple[str, Course]], bottom: float) -> None:
    unit, width = panel["fieldConfig"]["defaults"]["unit"], panel["gridPos"]["w"]
    h = panel["gridPos"]["h"]
    if not panel["options"]["legend"]["calcs"]:
        for index, ((name, _), color) in enumerate(zip(courses, _colors(), strict=False)):
            frame.text(0.03 + index * 1.6 / width, 0.5 / h, f"● {name}", transform=frame.transAxes, color=color)
        return
    for line, ((name, course), color) in enumerate(zip(courses[:MOST_LEGENDS], _colors(), strict=False)):
        y = bottom - 0.02 - line * 0.36 / h
        if y < 0.015:
            return
        values = [value for _, value in course.samples]
        mean, most = formatted(sum(values) / len(values), unit, None), formatted(max(values), unit, None)
        label = f"● {name}"[: int(width * 7.2)]
        frame.text(0.03, y, label, transform=frame.transAxes, color=color, fontsize=6, va="center")
        frame.text(0.97, y, f"{mean}  {most}", transform=frame.transAxes, ha="right", fontsize=6, va="center")


def _draw_heatmap(figure: Figure, frame: Axes, panel: Json, found: Sequence[Sequence[Course]]) -> None:
    inner = _inner(figure, frame, left=0.09, bottom=0.12, top=0.86)
    courses = sorted(found[0], key=lambda course: float(course.labels["le"]))
    times = sorted({at for course in courses for at, _ in course.samples})
    sums = [[dict(course.samples).get(at, 0.0) for at in times] for course in courses]
    below = [[0.0] * len(times), *sums]
    cells = [[now - less for now, less in zip(*pair, strict=True)] for pair in zip(sums, below, strict=False)]
    inner.grid(visible=False)
    inner.imshow(cells, aspect="auto", origin="lower", cmap="Oranges", interpolation="nearest")
    inner.set_yticks(range(len(courses)), [course.labels["le"] for course in courses])
    ticks = range(0, len(times), max(len(times) // 6, 1))
    inner.set_xticks(list(ticks), [_clock(times[tick]) for tick in ticks])


def _draw_table(figure: Figure, frame: Axes, panel: Json, found: Sequence[Sequence[Course]]) -> None:
    organize = panel["transformations"][1]["options"]
    titles = list(organize["renameByName"].values())
    keys = [name for name in organize["renameByName"] if not name.startswith("Value")]
    rows: dict[tuple[str, ...], list[float | None]] = {}
    for index, courses in enumerate(found):
        for course in courses:
            row = rows.setdefault(tuple(course.labels.get(key, "") for key in keys), [None] * len(found))
            row[index] = course.samples[-1][1]
    by = titles.index(panel["options"]["sortBy"][0]["displayName"]) - len(keys)
    ordered = sorted(rows.items(), key=lambda item: -(item[1][by] or 0.0))
    _draw_rows(frame, panel, titles, len(keys), ordered)


def _draw_rows(
    frame: Axes,
    panel: Json,
    titles: Sequence[str],
    keys: int,
    rows: Sequence[tuple[tuple[str, ...], list[float | None]]],
) -> None:
    properties: dict[str, Json] = {}
    for override in panel["fieldConfig"]["overrides"]:
        known = properties.setdefault(override["matcher"]["options"], {})
        known.update({each["id"]: each["value"] for each in override["properties"]})
    h = panel["gridPos"]["h"]
    lines = max(int((h - 2.2) / 0.72), 1)
    places = _columns(panel, titles, properties)
    for x, title in zip(places, titles, strict=False):
        frame.text(x, 1 - 1.35 / h, title, transform=frame.transAxes, color="#6e9fff", fontsize=6.5, va="center")
    for line, (labels, values) in enumerate(rows[:lines]):
        y = 1 - (2.2 + line * 0.72) / h
        shown = [
            formatted(value, *_unit(properties.get(t, {}))) for value, t in zip(values, titles[keys:], strict=True)
        ]
        ends = [*places[1:], 1.0]
        for x, end, text in zip(places, ends, (*labels, *shown), strict=True):
            room = int((end - x) * panel["gridPos"]["w"] * 8.4)
            frame.text(x, y, text[:room], transform=frame.transAxes, fontsize=6.5, va="center")


def _columns(panel: Json, titles: Sequence[str], properties: dict[str, Json]) -> list[float]:
    """Where each column begins: those of a given width get it, the others share the rest."""
    whole = panel["gridPos"]["w"] * 72
    widths = [properties.get(title, {}).get("custom.width") for title in titles]
    rest = (whole - sum(width or 0 for width in widths)) / max(widths.count(None), 1)
    places, x = [], 0.008
    for width in widths:
        places.append(x)
        x += (width or rest) / whole * 0.99
    return places


def _unit(properties: Json) -> tuple[str, int | None]:
    return properties.get("unit", "none"), properties.get("decimals")


def formatted(value: float | None, unit: str, decimals: int | None) -> str:
    """Return a value with its unit, about as Grafana would."""
    if value is None:
        return ""
    if unit == "percentunit":
        return f"{value * 100:.{decimals if decimals is not None else 1}f}%"
    if unit == "s":
        return _duration(value)
    if unit == "short" and value >= 1_000:
        return f"{value / 1_000:.3g} K"
    number = f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}"
    return number + {"reqps": " req/s", "ops": " ops/s", "cps": " c/s"}.get(unit, "")


def _duration(seconds: float) -> str:
    for name, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return "0 s"


def _threshold(steps: Sequence[Json], value: float) -> str:
    name = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
    return {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}.get(name, INK)


def _legend(template: str, course: Course) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: course.labels.get(label[1], ""), template)


def _colors() -> list[str]:
    return COLORS * 10


def _xy(course: Course) -> tuple[list[float], list[float]]:
    return [at for at, _ in course.samples], [value for _, value in course.samples]


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%H:%M:%S}"


def _inner(figure: Figure, frame: Axes, *, left: float, bottom: float, top: float) -> Axes:
    box = frame.get_position()
    place = (
        box.x0 + left * box.width,
        box.y0 + bottom * box.height,
        (0.97 - left) * box.width,
        (top - bottom) * box.height,
    )
    axes = figure.add_axes(place, facecolor=PANEL)
    axes.tick_params(colors=PALE, labelsize=5.5, length=0)
    axes.spines[:].set_visible(False)
    axes.grid(color="#2c2f36", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=4)
    return axes


_KINDS = {"stat": _draw_stat, "timeseries": _draw_graph, "heatmap": _draw_heatmap, "table": _draw_table}


if __name__ == "__main__":
    draw_all(Prometheus(sys.argv[1], seconds=int(sys.argv[3])), Path(sys.argv[2]))
