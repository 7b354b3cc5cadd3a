"""Where settings come from, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from querytoll import Settings, settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment of these tests."""
    for name in [name for name in os.environ if name.upper().startswith("QUERYTOLL_")]:
        monkeypatch.delenv(name)


def test_the_defaults_profile_everything() -> None:
    """Without any setting, every request is profiled, and the header is left to debug mode."""
    made = Settings()
    assert (made.enabled, made.sample_rate, made.server_timing) == (True, 1.0, None)
    assert (made.slow_statement_seconds, made.statement_budget) == (0.1, 50)
    assert made.project_root == Path.cwd()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("enabled", "false", False),
        ("enabled", "0", False),
        ("enabled", "on", True),
        ("sample_rate", "0.25", 0.25),
        ("server_timing", "true", True),
        ("server_timing", "no", False),
        ("slow_statement_seconds", "2", 2.0),
        ("statement_budget", "7", 7),
        ("slow_request_seconds", "0", 0.0),
        ("project_root", "/srv/app", Path("/srv/app")),
        ("application_paths", '["/srv/lib", "/srv/more"]', (Path("/srv/lib"), Path("/srv/more"))),
        ("application_packages", '["shop"]', ("shop",)),
        ("library_paths", "[]", ()),
        ("ignore", '["n-plus-one@Order.items"]', ("n-plus-one@Order.items",)),
        ("stack_depth", "3", 3),
        ("max_statements", "100", 100),
    ],
)
def test_each_setting_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    """`QUERYTOLL_<FIELD>` sets a field; lists are JSON."""
    monkeypatch.setenv(f"QUERYTOLL_{name.upper()}", text)
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is_for(name: str) -> None:
    """Each field has its line of documentation below it, and its name holds the unit of a duration."""
    lines = Path(settings.__file__).read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith(f"    {name}: "))
    assert lines[at + 1].startswith('    """')
    assert not name.endswith(("_ms", "_time", "_timeout", "_duration"))


def test_names_in_the_environment_may_be_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are found however they are written."""
    monkeypatch.setenv("querytoll_statement_budget", "7")
    assert Settings().statement_budget == 7


def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code says counts; what it does not say comes from the environment."""
    monkeypatch.setenv("QUERYTOLL_SAMPLE_RATE", "0.5")
    monkeypatch.setenv("QUERYTOLL_STATEMENT_BUDGET", "7")
    made = Settings(sample_rate=0.1)
    assert (made.sample_rate, made.statement_budget) == (0.1, 7)


def test_other_variables_are_of_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables without the prefix, and those that are no settings (the tests' own database), change nothing."""
    before = Settings()
    monkeypatch.setenv("STATEMENT_BUDGET", "7")
    monkeypatch.setenv("ENABLED", "false")
    monkeypatch.setenv("QUERYTOLL_TEST_POSTGRES", "postgresql://host/db")
    assert Settings() == before


@pytest.mark.parametrize("name", ["slow_statment_seconds", "debug"])
def test_an_unknown_name_is_refused(name: str) -> None:
    """A setting that does not exist fails at set-up, and the error names it."""
    with pytest.raises(ValidationError, match=rf"(?s)1 validation error for Settings\n{name}\n  Extra inputs are not"):
        Settings(**{name: 1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sample_rate", 1.1, "less than or equal to 1"),
        ("sample_rate", -0.1, "greater than or equal to 0"),
        ("sample_rate", float("nan"), "less than or equal to 1"),
        ("slow_statement_seconds", 0, "greater than 0"),
        ("slow_request_seconds", -1, "greater than or equal to 0"),
        ("statement_budget", 0, "greater than 0"),
        ("statement_budget", 1.5, "valid integer"),
        ("stack_depth", 0, "greater than 0"),
        ("max_statements", 0, "greater than 0"),
        ("max_sql_length", -1, "greater than 0"),
        ("max_routes", 0, "greater than 0"),
        ("max_fingerprints", 0, "greater than 0"),
        ("enabled", "perhaps", "valid boolean"),
        ("server_timing", "perhaps", "valid boolean"),
        ("application_paths", "/srv", "valid tuple"),
    ],
)
def test_a_value_that_cannot_work_is_refused(name: str, value: object, message: str) -> None:
    """A value of the wrong type or out of range fails at set-up, and the error says what is expected."""
    with pytest.raises(ValidationError, match=rf"(?s){name}.*{message}"):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_a_variable_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is held to the same rules."""
    monkeypatch.setenv("QUERYTOLL_SAMPLE_RATE", "2")
    with pytest.raises(ValidationError, match=r"(?s)sample_rate.*less than or equal to 1"):
        Settings()


@pytest.mark.parametrize(("name", "value"), [("enabled", False), ("new", 1)])
def test_settings_are_frozen(name: str, value: Any) -> None:
    """Settings cannot be changed once they are made, so that what is installed stays as it is."""
    made = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, name, value)


def test_later_changes_of_the_environment_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read once, when settings are made."""
    made = Settings()
    monkeypatch.setenv("QUERYTOLL_ENABLED", "false")
    assert made.enabled
    assert not Settings().enabled
