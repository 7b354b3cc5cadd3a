"""The dashboards keep the rules, and every rule finds what breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from dashboards.src.files import built
from dashboards.src.structure import complaints, panels

Json = dict[str, Any]
BOARDS = list(built().values())


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_has_no_faults(board: Json) -> None:
    """The rules of Grafana's own linter, and ours about grid, ids and links."""
    assert complaints(board, BOARDS) == []


def first(board: Json) -> Json:
    return next(panels(board))


def first_table(board: Json) -> Json:
    return next(panel for panel in panels(board) if panel["type"] == "table")


def no_title(board: Json) -> None:
    first(board)["title"] = ""


def no_description(board: Json) -> None:
    first(board)["description"] = ""


def unknown_unit(board: Json) -> None:
    first(board)["fieldConfig"]["defaults"]["unit"] = "seconds"


def column_without_unit(board: Json) -> None:
    first_table(board)["fieldConfig"]["overrides"].pop()


def fixed_source(board: Json) -> None:
    first(board)["datasource"] = {"type": "prometheus", "uid": "prod"}


def fixed_source_of_a_query(board: Json) -> None:
    first(board)["targets"][0]["datasource"] = {"type": "prometheus", "uid": "prod"}


def no_query(board: Json) -> None:
    first(board)["targets"] = []


def neither_instant_nor_range(board: Json) -> None:
    first(board)["targets"][0]["range"] = False


def same_id(board: Json) -> None:
    first(board)["id"] = board["panels"][-1]["id"]


def overlap(board: Json) -> None:
    board["panels"][2]["gridPos"]["x"] = 0


def too_wide(board: Json) -> None:
    first(board)["gridPos"]["w"] = 25


def no_job(board: Json) -> None:
    del board["templating"]["list"][1]


def old_schema(board: Json) -> None:
    board["schemaVersion"] = 36


def link_to_nowhere(board: Json) -> None:
    link = next(iter(panel["fieldConfig"]["defaults"]["links"] for panel in panels(board) if _linked(panel)))[0]
    link["url"] = link["url"].replace("/d/querytoll-", "/d/other-")


def link_with_unknown_variable(board: Json) -> None:
    link = next(iter(panel["fieldConfig"]["defaults"]["links"] for panel in panels(board) if _linked(panel)))[0]
    link["url"] = link["url"].replace("var-", "var-my_")


def _linked(panel: Json) -> bool:
    return bool(panel["fieldConfig"]["defaults"].get("links"))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (no_title, "title or description is missing"),
        (no_description, "title or description is missing"),
        (unknown_unit, "unit 'seconds'"),
        (column_without_unit, "unit None"),
        (fixed_source, "the panel does not read the chosen data source"),
        (fixed_source_of_a_query, "query A does not read the chosen data source"),
        (no_query, "there is no query"),
        (neither_instant_nor_range, "must be either instant or a range"),
        (same_id, "is used 2 times"),
        (overlap, "overlaps"),
        (too_wide, "outside the 24 columns"),
        (no_job, "the first variables are not"),
        (old_schema, "schema version 36"),
        (link_to_nowhere, "which is no dashboard of ours"),
        (link_with_unknown_variable, "does not have"),
    ],
)
def test_a_fault_is_found(damage: Callable[[Json], None], complaint: str) -> None:
    """Each rule, on the overview with one thing broken."""
    boards = copy.deepcopy(BOARDS)
    damage(boards[0])
    assert any(complaint in found for found in complaints(boards[0], boards))
