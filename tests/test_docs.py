"""The documentation says what the code does."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from querytoll.detect import RULES, default_detectors
from querytoll.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _slug(rule: object) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(rule).__name__).lower()


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_name(field: str) -> None:
    """A user finds each setting in the configuration page."""
    assert f"`{field}`" in (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("rule", default_detectors(Settings()), ids=_slug)
def test_every_rule_has_a_section(rule: object) -> None:
    """A user finds each rule that is on by default, with a heading to link to."""
    assert f"## {_slug(rule)}\n" in (ROOT / "docs" / "rules.md").read_text()


def test_every_slug_is_listed() -> None:
    """What users may ask for by name is what there is, with a section of its own."""
    assert {_slug(rule) for rule in default_detectors(Settings(watch_loads=True))} == RULES
    assert set(re.findall(r"^## ([a-z-]+)$", (ROOT / "docs" / "rules.md").read_text(), re.MULTILINE)) >= RULES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """No relative link of the documentation is dead."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile(page: Path) -> None:
    """Examples are at least Python."""
    for example in re.findall(r"^ *```python\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE):
        compile(textwrap.dedent(example), str(page), "exec")
