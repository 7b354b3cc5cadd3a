"""What the log says, how often, and what it must not carry."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Thread

import pytest

from querytoll.model import Finding, Report, Shape, Site, Statement, Trace
from querytoll.settings import Settings
from querytoll.sinks.log import MAX_REMEMBERED, LogSink

SECRET = "SELECT * FROM users WHERE email = 'ada@example.com'"
SHAPE = Shape("0123456789abcdef", "SELECT * FROM users WHERE email = ?", "SELECT", "SELECT users", ("users",))


class Lines(logging.Handler):
    """Keeps the records of one logger tree."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("querytoll.sinks.test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sink(lines: Lines, clock: Clock) -> LogSink:
    settings = Settings(slow_request_seconds=0.3)
    return LogSink(settings, logger=logging.getLogger("querytoll.sinks.test"), clock=clock)


def trace(**facts: object) -> Trace:
    known: dict[str, object] = {
        "id": "a" * 32,
        "kind": "request",
        "name": "GET /orders/{id}",
        "began": datetime(2026, 1, 1, tzinfo=UTC),
        "elapsed": 0.512,
        "method": "GET",
        "route": "/orders/{id}",
        "path": "/orders/7",
        "status": 200,
        "database_seconds": 0.01,
    }
    return Trace(**{**known, **facts})  # type: ignore[arg-type]


def finding(**facts: object) -> Finding:
    known: dict[str, object] = {
        "rule": "n-plus-one",
        "title": "Order.items loaded 25 times in a loop",
        "advice": "load it with selectinload(Order.items)",
        "site": Site("/srv/app/orders.py", 41, "list_orders", "app/orders.py", True),
        "fingerprint": SHAPE.fingerprint,
        "summary": SHAPE.summary,
        "count": 25,
        "cost": 0.05,
    }
    return Finding(**{**known, **facts})  # type: ignore[arg-type]


def test_a_finding_is_one_readable_line(sink: LogSink, lines: Lines) -> None:
    """The line names rule, request, fault, place and remedy, on the findings' logger, as a warning."""
    sink(Report(trace(), (finding(),)))
    assert lines.texts == [
        "n-plus-one GET /orders/{id}: Order.items loaded 25 times in a loop at app/orders.py:41"
        " - load it with selectinload(Order.items)"
    ]
    assert lines.records[0].name.endswith(".findings")
    assert lines.records[0].levelno == logging.WARNING


def test_the_default_loggers_are_querytolls_own() -> None:
    """Without a logger, lines go to `querytoll.findings` and `querytoll.requests`, never to the root logger."""
    handlers = {name: Lines() for name in ("querytoll.findings", "querytoll.requests")}
    for name, handler in handlers.items():
        logging.getLogger(name).addHandler(handler)
    requests = logging.getLogger("querytoll.requests")
    level = requests.level
    requests.setLevel(logging.INFO)
    try:
        LogSink(Settings(slow_request_seconds=0.3))(Report(trace(database_seconds=0.4), (finding(),)))
    finally:
        requests.setLevel(level)
        for name, handler in handlers.items():
            logging.getLogger(name).removeHandler(handler)
    assert [len(handler.records) for handler in handlers.values()] == [1, 1]


def test_a_place_that_the_title_tells_is_not_told_twice(sink: LogSink, lines: Lines) -> None:
    """A title with its place keeps it once, and a finding without a site has none."""
    sink(Report(trace(), (finding(title="slow at app/orders.py:41"), finding(rule="too-many-queries", site=None))))
    assert [text.count(" at ") for text in lines.texts] == [1, 0]


@pytest.mark.parametrize(
    ("severity", "level"), [("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)]
)
def test_severity_is_the_level(sink: LogSink, lines: Lines, severity: str, level: int) -> None:
    """A finding's severity decides its log level."""
    sink(Report(trace(), (finding(severity=severity),)))
    assert [record.levelno for record in lines.records] == [level]


def test_records_carry_the_facts(sink: LogSink, lines: Lines) -> None:
    """Structured logging gets every fact under a name of ours."""
    fault = finding()
    sink(Report(trace(), (fault,)))
    facts = {name: value for name, value in vars(lines.records[0]).items() if name.startswith("querytoll_")}
    assert facts == {
        "querytoll_trace_id": "a" * 32,
        "querytoll_kind": "request",
        "querytoll_name": "GET /orders/{id}",
        "querytoll_method": "GET",
        "querytoll_route": "/orders/{id}",
        "querytoll_path": "/orders/7",
        "querytoll_status": 200,
        "querytoll_finding_id": fault.id,
        "querytoll_rule": "n-plus-one",
        "querytoll_severity": "warning",
        "querytoll_title": "Order.items loaded 25 times in a loop",
        "querytoll_advice": "load it with selectinload(Order.items)",
        "querytoll_count": 25,
        "querytoll_cost_seconds": 0.05,
        "querytoll_file": "app/orders.py",
        "querytoll_line": 41,
        "querytoll_function": "list_orders",
        "querytoll_fingerprint": SHAPE.fingerprint,
        "querytoll_summary": "SELECT users",
        "querytoll_suppressed": 0,
    }


def test_a_slow_request_gets_a_summary(sink: LogSink, lines: Lines) -> None:
    """A request over the threshold is told with its statements, kept and dropped, and both times."""
    statements = tuple(Statement("", SHAPE, 0.0, 0.003) for _ in range(100))
    sink(Report(trace(statements=statements, dropped=1, database_seconds=0.34)))
    assert lines.texts == ["GET /orders/{id} 200: 101 statements, 340 ms in the database of 512 ms"]
    assert lines.records[0].levelno == logging.INFO
    assert lines.records[0].name.endswith(".requests")
    assert vars(lines.records[0])["querytoll_statements"] == 101


def test_a_block_has_no_status(sink: LogSink, lines: Lines) -> None:
    """What is no request is told without a status, and one statement in the singular."""
    statements = (Statement("", SHAPE, 0.0, 0.31),)
    sink(Report(trace(kind="block", name="import", status=None, statements=statements, database_seconds=0.31)))
    assert lines.texts == ["import: 1 statement, 310 ms in the database of 512 ms"]


def test_short_times_keep_a_decimal(lines: Lines) -> None:
    """With a threshold of 0 every request that asked the database is told, and none of them took 0 ms."""
    sink = LogSink(Settings(slow_request_seconds=0), logger=logging.getLogger("querytoll.sinks.test"))
    sink(Report(trace(database_seconds=0.0004)))
    sink(Report(trace(database_seconds=0.0)))
    assert lines.texts == ["GET /orders/{id} 200: 0 statements, 0.4 ms in the database of 512 ms"]


def test_a_fast_request_is_silent(sink: LogSink, lines: Lines) -> None:
    """Nothing is logged about a clean request at or below the threshold."""
    sink(Report(trace(database_seconds=0.3)))
    assert lines.records == []


def test_repetitions_are_counted_and_told(sink: LogSink, lines: Lines, clock: Clock) -> None:
    """A finding is logged once per interval, and its next line tells what was left out, once."""
    for _ in range(119):
        sink(Report(trace(), (finding(),)))
        clock.now += 0.5
    clock.now += 60
    sink(Report(trace(), (finding(count=26),)))
    clock.now += 60
    sink(Report(trace(), (finding(),)))
    assert len(lines.texts) == 3
    assert lines.texts[1].endswith("selectinload(Order.items) (and 118 times more since)")
    assert "more since" not in lines.texts[2]
    assert vars(lines.records[1])["querytoll_suppressed"] == 118


def test_different_findings_do_not_silence_each_other(sink: LogSink, lines: Lines) -> None:
    """Only the same finding id is a repetition."""
    other = finding(site=Site("/srv/app/users.py", 3, "list_users"))
    sink(Report(trace(), (finding(), other, finding())))
    assert len(lines.texts) == 2


def test_memory_and_lines_are_bounded(sink: LogSink, lines: Lines, clock: Clock) -> None:
    """More findings than are remembered make no more lines; they are counted, and logged again once there is room."""
    for number in range(MAX_REMEMBERED + 50):
        sink(Report(trace(), (finding(fingerprint=f"{number:016x}"),)))
    assert len(lines.texts) == MAX_REMEMBERED
    clock.now += 61
    sink(Report(trace(), (finding(fingerprint="f" * 16),)))
    assert lines.texts[MAX_REMEMBERED:] == [
        lines.texts[0],
        f"50 findings were not logged: over {MAX_REMEMBERED} different ones at a time",
    ]
    assert len(sink._repetitions._logged) == MAX_REMEMBERED


def test_silenced_levels_are_not_counted(sink: LogSink, lines: Lines) -> None:
    """A level that is switched off costs no memory of the finding, so that switching it on shows it at once."""
    logger = logging.getLogger("querytoll.sinks.test.findings")
    logger.setLevel(logging.ERROR)
    sink(Report(trace(), (finding(),)))
    logger.setLevel(logging.NOTSET)
    sink(Report(trace(), (finding(),)))
    assert len(lines.texts) == 1


@pytest.mark.parametrize("evil", ["\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\x00"])
def test_nobody_forges_lines(sink: LogSink, lines: Lines, evil: str) -> None:
    """Control, separator and direction characters of names, paths and places are escaped, in text and in facts."""
    bad = f"GET /x{evil}n-plus-one GET /forged: all is well"
    site = Site(f"/srv/a{evil}b.py", 1, "f")
    fault = finding(title=f"t{evil}t", advice=f"a{evil}a", site=site, summary=f"SELECT{evil}x")
    sink(Report(trace(name=bad, path=bad, route=bad, method=bad, database_seconds=1.0), (fault,)))
    assert len(lines.records) == 2
    for record in lines.records:
        values = [value for name, value in vars(record).items() if name.startswith("querytoll_")]
        assert all(text.isprintable() for text in [record.getMessage(), *values] if isinstance(text, str))


def test_undecodable_paths_are_escaped(sink: LogSink, lines: Lines) -> None:
    """A lone surrogate, which no stream could encode, is escaped."""
    sink(Report(trace(name="GET /\udc80", path="/\udc80", database_seconds=1.0)))
    assert lines.texts[0].startswith("GET /\\udc80 200: ")


def test_percent_signs_are_no_placeholders(sink: LogSink, lines: Lines) -> None:
    """Text of the application is not taken for a format."""
    sink(Report(trace(name="GET /50%s%d", database_seconds=1.0), (finding(title="100 %s"),)))
    assert "100 %s" in lines.texts[0]
    assert "/50%s%d" in lines.texts[1]


def test_long_texts_are_cut(sink: LogSink, lines: Lines) -> None:
    """A client cannot fill the log by its path."""
    sink(Report(trace(name="GET /" + "x" * 100_000, path="/" + "x" * 100_000, database_seconds=1.0)))
    assert len(str(vars(lines.records[0]))) < 5_000


def test_no_statement_text_is_logged(sink: LogSink, lines: Lines) -> None:
    """Neither the text sent nor evidence of a finding reaches the log."""
    statements = (Statement(SECRET, SHAPE, 0.0, 1.0),)
    fault = finding(evidence={"sql": SECRET})
    sink(Report(trace(statements=statements, database_seconds=1.0), (fault,)))
    assert len(lines.records) == 2
    assert "ada@example.com" not in "".join(str(vars(record)) for record in lines.records)


def test_the_clock_survives_a_frozen_one(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test tool that replaces `time.monotonic` does not stop the sink's own clock."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    sink = LogSink(Settings(), logger=logging.getLogger("querytoll.sinks.test"), interval_seconds=0.001)
    sink(Report(trace(), (finding(),)))
    time.sleep(0.01)
    sink(Report(trace(), (finding(),)))
    assert len(lines.records) == 2


def test_threads_share_one_line(sink: LogSink, lines: Lines, clock: Clock) -> None:
    """Requests that end at the same time in several threads log a finding once and lose no repetition."""
    report = Report(trace(), (finding(),))

    def run() -> None:
        for _ in range(250):
            sink(report)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 61
    sink(report)
    assert [vars(record)["querytoll_suppressed"] for record in lines.records] == [0, 999]
