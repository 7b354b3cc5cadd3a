"""The tree of errors, where faults of ours end, and findings that no odd path can fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from querytoll import Finding, QuerytollError, Site
from querytoll.errors import (
    ConfigurationError,
    Faults,
    MissingExtraError,
    Part,
    QueryAssertionError,
    WindowError,
)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (ConfigurationError("x"), Exception),
        (MissingExtraError("asyncpg", "asyncpg"), ConfigurationError),
        (MissingExtraError("asyncpg", "asyncpg"), ImportError),
        (WindowError("x"), RuntimeError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_our_errors_are_one_tree(error: Exception, also: type[Exception]) -> None:
    """`QuerytollError` catches all of them, and so does the built-in class that people expect."""
    assert isinstance(error, QuerytollError)
    assert isinstance(error, also)


def test_an_unmet_expectation_is_a_failure_and_no_error_of_ours() -> None:
    """`except QuerytollError` in a test does not swallow its failure."""
    assert issubclass(QueryAssertionError, AssertionError)
    assert not issubclass(QueryAssertionError, QuerytollError)


def test_a_missing_extra_says_the_line_to_run() -> None:
    """The message is the command."""
    assert str(MissingExtraError("rich", "cli")) == "rich is not installed; run: pip install 'querytoll[cli]'"


def test_faults_are_counted_each_and_logged_once_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    """A fault that happens with every request costs one log record, with its traceback; other kinds have their own."""
    told: list[Part] = []
    faults = Faults(told.append)
    kinds: list[tuple[Part, Exception]] = [
        ("sinks", ValueError("a")),
        ("sinks", ValueError("b")),
        ("sinks", KeyError("c")),
        ("detect", ValueError("d")),
    ]
    for part, error in kinds * 3:
        faults.caught(part, error)
    assert faults.counts == {"sinks": 9, "detect": 3}
    assert told == [part for part, _ in kinds * 3]
    assert [(record.name, record.levelno) for record in caplog.records] == [("querytoll", logging.ERROR)] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"querytoll failed in {part}; requests go on, this is logged once" for part in ("sinks", "sinks", "detect")
    ]
    assert all(record.exc_info for record in caplog.records)


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("disk full")


@pytest.fixture
def raising_log() -> Iterator[None]:
    """A log handler that raises, as some that send over the network do."""
    handler = Raising()
    logging.getLogger("querytoll").addHandler(handler)
    yield
    logging.getLogger("querytoll").removeHandler(handler)


def test_a_log_handler_that_raises_is_no_ones_problem(raising_log: None) -> None:
    """The last boundary holds where even its own log record fails."""
    faults = Faults()
    faults.caught("sinks", ValueError())
    assert faults.counts["sinks"] >= 1


def test_a_listener_of_faults_that_raises_is_no_ones_problem() -> None:
    """A sink that fails to count a fault does not make another one of it."""

    def tell(part: Part) -> None:
        raise ValueError(part)

    faults = Faults(tell)
    faults.caught("detect", ValueError())
    assert faults.counts["detect"] == 1


@pytest.mark.parametrize(
    "site",
    [
        Site("/srv/\udcff.py", 1, "f"),
        Site("/srv/a.py", 1, "f", "\ud800.py"),
        Site("/srv/a.py", 1, "f\udfff"),
    ],
    ids=["file", "path", "function"],
)
def test_a_path_that_is_no_text_can_have_findings(site: Site) -> None:
    """Regression: a file name that is not UTF-8, which Python holds as lone surrogates, failed its findings."""
    finding = Finding(rule="n-plus-one", title="", advice="", site=site)
    assert len(finding.id) == 16
    assert finding.id == Finding(rule="n-plus-one", title="other", advice="", site=site).id


def test_the_id_of_a_finding_outlives_edits() -> None:
    """The id is of the rule, the shape and the function, so that a moved line or another count is the same finding."""

    def made(rule: str = "n-plus-one", line: int = 1, function: str = "f", count: int = 2) -> str:
        return Finding(rule=rule, title="", advice="", site=Site("/srv/a.py", line, function), count=count).id

    assert made() == made(line=99, count=50)
    assert len({made(), made(rule="slow-query"), made(function="g")}) == 3
