"""The dashboards are of the types that Grafana publishes, and the check notices what is not."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dashboards.src.files import ROOT, built
from dashboards.src.structure import panels

Json = dict[str, Any]
VERSIONS = ("12.4.11", "13.2.3")
TYPESCRIPT = "5.9.3"
PLUGINS = {"stat": "Stat", "timeseries": "TimeSeries", "heatmap": "Heatmap", "table": "Table"}
# Grafana's enums are strings in JSON; `Plain` takes them as such. Annotations also have what their plugin asks for,
# which Grafana does not publish as a type.
PLAIN = """
import type { AnnotationQuery, Dashboard } from '@grafana/schema';
type Prometheus = { target: { expr: string; interval: string }; titleFormat: string; textFormat: string };
type Board = Omit<Dashboard, 'annotations'> & { annotations: { list: Array<AnnotationQuery & Prometheus> } };
type Plain<T> = T extends string ? `${T}` : T extends number ? (`${T}` extends `${infer N extends number}` ? N : T)
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


@pytest.fixture(scope="module", params=VERSIONS)
def grafana(request: pytest.FixtureRequest) -> Path:
    """A folder with Grafana's types and a compiler, kept between runs."""
    folder = ROOT.parent / ".cache/dashboards" / f"grafana-{request.param}"
    if not (folder / "node_modules/.bin/tsc").exists():
        assert shutil.which("npm"), "npm is missing: apt-get install npm"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        packages = (f"@grafana/schema@{request.param}", f"typescript@{TYPESCRIPT}")
        quiet = ("--no-package-lock", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
        subprocess.run(["npm", "install", *quiet, *packages], cwd=folder, check=True, capture_output=True)
    return folder


def source(boards: Mapping[str, Json]) -> str:
    """A TypeScript module in which every dashboard and every panel's options are constants of Grafana's types."""
    return "\n".join([*_imports(), PLAIN, *_constants(boards)])


def _imports() -> Iterator[str]:
    for kind, name in PLUGINS.items():
        path = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        field = "" if kind == "stat" else f", FieldConfig as {name}Field"
        yield f"import type {{ Options as {name}Options{field} }} from '{path}';"


def _constants(boards: Mapping[str, Json]) -> Iterator[str]:
    for uid, board in boards.items():
        uid = uid.replace("-", "_")
        yield f"export const {uid}: Plain<Board> = {json.dumps(board)};"
        for panel in panels(board):
            name = PLUGINS[panel["type"]]
            yield f"export const {uid}_{panel['id']}: Plain<{name}Options> = {json.dumps(panel['options'])};"
            custom = panel["fieldConfig"]["defaults"].get("custom")
            if custom is not None:
                yield f"export const {uid}_{panel['id']}_field: Partial<Plain<{name}Field>> = {json.dumps(custom)};"


def compiled(grafana: Path, folder: Path, boards: Mapping[str, Json]) -> str:
    """What the compiler says."""
    place = grafana / f"{folder.name}.ts"
    place.write_text(source(boards))
    options = ("--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext")
    try:
        done = subprocess.run(
            [grafana / "node_modules/.bin/tsc", *options, place.name],
            cwd=grafana,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        place.unlink()
    return done.stdout + done.stderr


def boards() -> dict[str, Json]:
    return {board["uid"]: board for board in copy.deepcopy(list(built().values()))}


def test_the_dashboards_have_the_types(grafana: Path, tmp_path: Path) -> None:
    """The whole of each, and the options and fields of each panel by its plugin."""
    assert compiled(grafana, tmp_path, boards()) == ""


def wrong_mode(board: Json) -> None:
    board["panels"][1]["options"]["colorMode"] = "rainbow"


def unknown_option(board: Json) -> None:
    board["panels"][1]["options"]["sparkles"] = True


def unknown_setting(board: Json) -> None:
    board["autoRefresh"] = "30s"


def number_as_text(board: Json) -> None:
    board["panels"][1]["gridPos"]["w"] = "3"


@pytest.mark.parametrize("damage", [wrong_mode, unknown_option, unknown_setting, number_as_text])
def test_a_wrong_type_is_noticed(grafana: Path, tmp_path: Path, damage: Callable[[Json], None]) -> None:
    """An enum, an option, a key and a number that are wrong."""
    overview = boards()["querytoll-overview"]
    damage(overview)
    assert "error TS" in compiled(grafana, tmp_path, {"querytoll-overview": overview})
