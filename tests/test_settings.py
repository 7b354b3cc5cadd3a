"""Where settings come from, and what they refuse."""

from __future__ import annotations

import os
import re
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
    settings._tell_unknown.cache_clear()


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


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("QUERYTOLL_SAMPEL_RATE", "did you mean QUERYTOLL_SAMPLE_RATE?"),
        ("QUERYTOLL_SLOW_STATEMENTS_SECONDS", "did you mean QUERYTOLL_SLOW_STATEMENT_SECONDS?"),
        ("querytoll_enable", "did you mean QUERYTOLL_ENABLED?"),
        ("QUERYTOLL_ZZ", "see docs/configuration.md for those there are"),
    ],
)
def test_a_mistyped_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, remedy: str
) -> None:
    """A variable that names no setting changes nothing, and the log says so and what was meant, without its value."""
    before = Settings()
    monkeypatch.setenv(variable, "secret")
    assert Settings() == before
    assert [(record.name, record.levelname) for record in caplog.records] == [("querytoll", "WARNING")]
    assert caplog.messages == [f"{variable} names no setting and has no effect; {remedy}"]


def test_a_mistyped_variable_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Settings are made in many places; each variable is told once in the life of the process."""
    monkeypatch.setenv("QUERYTOLL_ENABLE", "1")
    monkeypatch.setenv("QUERYTOLL_IGNORED", "1")
    Settings()
    Settings()
    assert sorted(line.split()[0] for line in caplog.messages) == ["QUERYTOLL_ENABLE", "QUERYTOLL_IGNORED"]


@pytest.mark.parametrize(
    "variable",
    [
        "QUERYTOLL_DATABASE_URL",
        "QUERYTOLL_TEST_POSTGRES",
        "QUERYTOLL_SEEDS",
        "QUERYTOLL_WRITE_FAILURES",
        "QUERYTOLL_SERVICE_HOST",
        "QUERYTOLL_PORT",
        "QUERYTOLL_PORT_8000_TCP_ADDR",
        "QUERYTOLLS",
        *(f"QUERYTOLL_{name.upper()}" for name in ("explain_timeout_seconds", "max_plans")),
    ],
)
def test_what_is_no_mistake_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    """Settings, the project's other variables, and those that Kubernetes makes for a service of that name."""
    monkeypatch.setenv(variable, "7")
    Settings()
    assert caplog.messages == []


ROOT = Path(__file__).parent.parent


def test_no_variable_of_the_project_is_taken_for_a_mistake() -> None:
    """Whatever variable the sources, tests, scripts and documents name is a setting or known to be none."""
    named = {
        variable
        for folder in ("src", "scripts", "examples", "benchmarks", "docs", "dashboards")
        for page in (ROOT / folder).rglob("*")
        if page.suffix in (".py", ".md", ".yml", ".toml")
        for variable in re.findall(r"\bQUERYTOLL_[A-Z_]*[A-Z]\b", page.read_text())
    }
    assert named
    assert [variable for variable in named if settings._unknown(variable)] == []


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
