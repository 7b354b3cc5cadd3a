"""The page about the history says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from sqlalchemy import Table

from querytoll.history import HistorySink
from querytoll.history.models import Base

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text()


@pytest.mark.parametrize("table", Base.metadata.sorted_tables, ids=str)
def test_every_column_is_explained(table: Table) -> None:
    """Whoever decides about privacy finds each column, and no other."""
    section = PAGE.partition(f"\n`{table.name}`, ")[2].partition("\n\n`querytoll_")[0].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(table.c.keys())


def test_every_argument_is_explained() -> None:
    """With its default."""
    for name, parameter in inspect.signature(HistorySink).parameters.items():
        default = re.search(rf"^\| `{name}` \| (.*?) ?\|", PAGE, re.MULTILINE)
        assert default is not None, name
        if isinstance(parameter.default, bool):
            assert default[1] == f"`{parameter.default}`"
        elif isinstance(parameter.default, int | float):
            assert float(default[1].replace(",", "")) == parameter.default
