"""A statement or a fingerprint, asked about by a person, to its plan and findings: behind `querytoll explain`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool
from sqlalchemy.util.concurrency import greenlet_spawn

from querytoll.advise.verify import Verdict, verified, verify_by_index, verify_hypothetically
from querytoll.capture import disown
from querytoll.capture.failure import code_of
from querytoll.errors import QuerytollError
from querytoll.explain.document import Analysis, analyse, read_document
from querytoll.explain.estimate import EXPLAIN, FORCE_GENERIC, Limits
from querytoll.explain.judge import refusal
from querytoll.explain.own import READ_ONLY, analyze_prefix, facts, looking, reading
from querytoll.explain.scan import scan
from querytoll.fingerprint import shape

T = TypeVar("T")

LIMITS: Final = Limits(10.0, 2.0)
"""Patience with a plain EXPLAIN, when a person waits for it."""
ANALYZE_LIMITS: Final = Limits(60.0, 2.0)
FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_PLACEHOLDER: Final = re.compile(r"\$(\d+)")
_PREPARED: Final = "querytoll_explained"
_STATEMENTS: Final = (
    "SELECT query FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class InquiryError(QuerytollError, RuntimeError):
    """The question cannot be answered; says why and what to do."""


class RefusedError(InquiryError):
    """The statement is not proven to be a read, and was not executed."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The answer.

    Args:
        analysis: plan and findings.
        statement: what was explained, without literals.
        generic: the plan was made without values.
    """

    analysis: Analysis
    statement: str
    generic: bool = False


def inquire(url: str, question: str, *, analyze: bool = False, verify: bool = False) -> Inquiry:
    """Explain a statement, or the one of a fingerprint out of pg_stat_statements.

    Args:
        url: of a PostgreSQL database, as SQLAlchemy or libpq takes it.
        question: a statement with its values or with `$1`, or a fingerprint.
        analyze: execute it, if it is proven to be a read.
        verify: try the suggested indexes: with HypoPG where it is installed, else by making them in a transaction that
            is rolled back.

    Raises:
        InquiryError: there is no such server, statement or plan.
        RefusedError: it was to be executed, and may write.
    """
    return _asked(url, lambda connection: _answer(connection, question, analyze, verify))


def server_of(url: str) -> tuple[int, str]:
    """Return the server's major version, and the user that we are there."""
    return _asked(url, lambda connection: _who(connection))


def _who(connection: Connection) -> tuple[int, str]:
    version = connection.dialect.server_version_info or (0,)
    return int(version[0]), str(connection.exec_driver_sql("SELECT session_user::text").scalar_one())


def _asked(url: str, work: Callable[[Connection], T]) -> T:
    try:
        engine = create_engine(_address(url), poolclass=NullPool, execution_options=READ_ONLY)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise InquiryError(f"the database URL cannot be used: {type(error).__name__}; {_HOW}") from None
    if engine.dialect.name != "postgresql":
        raise InquiryError(f"plans are read from PostgreSQL, not from {engine.dialect.name}; {_HOW}")
    disown(engine)

    def connected() -> T:
        with engine.connect() as connection:
            return work(connection)

    try:
        return asyncio.run(greenlet_spawn(connected)) if engine.dialect.is_async else connected()
    except DBAPIError as error:
        raise InquiryError(_reason(error.orig or error)) from None
    except OSError as error:
        raise InquiryError(f"no connection to the database: {error.strerror or type(error).__name__}") from None


_HOW: Final = "write it as postgresql://user@host/database"


def _reason(error: BaseException) -> str:
    """What a person may see of the server's answer to the statement that they typed."""
    return f"the server says: {str(error).splitlines()[0]} (SQLSTATE {code_of(error)})"


def _address(url: str) -> URL:
    address = make_url(url)
    if address.drivername not in ("postgresql", "postgres"):
        return address
    for driver in ("asyncpg", "psycopg", "psycopg2"):
        try:
            found = address.set(drivername=f"postgresql+{driver}")
            found.get_dialect().import_dbapi()
        except ImportError:
            continue
        return found
    raise InquiryError("no driver for PostgreSQL is installed; run: pip install 'querytoll[asyncpg]'")


def _answer(connection: Connection, question: str, analyze: bool, verify: bool) -> Inquiry:
    statement = question.strip().rstrip(";")
    if FINGERPRINT.fullmatch(statement):
        statement = _statement_of(connection, statement)
    if not scan(statement).explainable:
        raise InquiryError(
            "this is not one statement that EXPLAIN takes: SELECT, INSERT, UPDATE, DELETE, MERGE or VALUES"
        )
    generic = _PLACEHOLDER.search(statement) is not None
    if analyze and generic:
        raise RefusedError("a statement with placeholders cannot be executed: write its values, or leave out --analyze")
    text_ = statement if connection.dialect.paramstyle.startswith("numeric") else statement.replace("%", "%%")
    document = _document(connection, text_, statement, analyze, generic)
    catalog = facts(connection, document, LIMITS, None)
    what = shape(statement).fingerprint
    analysis = analyse(document, catalog, fingerprint=what, captured=datetime.now(UTC))
    if verify and analysis.suggestions:
        analysis = _verified(connection, analysis, text_, generic)
    return Inquiry(analysis, shape(statement).text, generic)


def _statement_of(connection: Connection, fingerprint: str) -> str:
    try:
        with reading(connection, LIMITS, None):
            found = connection.exec_driver_sql(_STATEMENTS).scalars().all()
    except DBAPIError:
        raise InquiryError(
            "a fingerprint is looked up in pg_stat_statements, which this database or user cannot read; run: "
            "querytoll explain --setup, or pass the statement itself"
        ) from None
    for query in found:
        if isinstance(query, str) and shape(query).fingerprint == fingerprint:
            return query.strip().rstrip(";")
    raise InquiryError(
        f"pg_stat_statements has no statement of the fingerprint {fingerprint}: it did not run since the "
        "statistics were reset, or its text is another there; pass the statement itself"
    )


def _document(connection: Connection, text_: str, statement: str, analyze: bool, generic: bool) -> Mapping[str, object]:
    with reading(connection, LIMITS, None):
        with _explainable(connection, text_, generic) as explained:
            document = read_document(connection.exec_driver_sql(EXPLAIN + explained).scalar_one())
        if not analyze:
            return document
        if reason := refusal(document, statement, looking(connection)):
            raise RefusedError(f"not executed: {reason}; without --analyze it is explained without being executed")
    with reading(connection, ANALYZE_LIMITS, None):
        return read_document(connection.exec_driver_sql(analyze_prefix(connection, 0.0) + text_).scalar_one())


@contextmanager
def _explainable(connection: Connection, statement: str, generic: bool) -> Iterator[str]:
    """The statement; with placeholders a prepared one, planned without values."""
    if not generic:
        yield statement
        return
    count = max(int(match[1]) for match in _PLACEHOLDER.finditer(statement))
    connection.exec_driver_sql(f"PREPARE {_PREPARED} AS {statement}")
    connection.exec_driver_sql(FORCE_GENERIC)
    yield f"EXECUTE {_PREPARED}({', '.join(['NULL'] * count)})"
    connection.exec_driver_sql(f"DEALLOCATE {_PREPARED}")


def _verified(connection: Connection, analysis: Analysis, statement: str, generic: bool) -> Analysis:
    verdicts: dict[str, Verdict] = {}
    for suggestion in analysis.suggestions:
        if generic:
            verdicts[suggestion.public] = Verdict("none", reason="the statement has placeholders: write its values")
            continue
        with reading(connection, LIMITS, None):
            verdict = verify_hypothetically(connection, suggestion, statement)
        if verdict.method == "none":
            with connection.engine.connect().execution_options(postgresql_readonly=False) as writing:
                writing.execute(text("SELECT pg_catalog.set_config('lock_timeout', '2s', true)"))
                verdict = verify_by_index(writing, suggestion, statement)
                writing.rollback()
        verdicts[suggestion.public] = verdict
    findings = tuple(
        verified(finding, verdicts[index])
        if finding.rule == "missing-index" and (index := str(finding.evidence.get("index"))) in verdicts
        else finding
        for finding in analysis.findings
    )
    return replace(analysis, findings=findings)


def setup_script(version: int, role: str, seconds: float) -> str:
    """What a DBA may run to let querytoll see more, none of it needed.

    Args:
        version: the server's major version.
        role: the application's.
        seconds: above which the server sends plans.
    """
    quoted = '"' + role.replace('"', '""') + '"'
    settings: dict[str, Any] = {
        "session_preload_libraries": "'auto_explain'",
        "auto_explain.log_min_duration": f"'{round(seconds * 1000)}ms'",
        "auto_explain.log_level": "'notice'",
        "auto_explain.log_format": "'json'",
        "auto_explain.log_analyze": "off",
        "auto_explain.log_verbose": "on",
        "auto_explain.log_settings": "on",
    }
    if version >= 16:
        settings["auto_explain.log_parameter_max_length"] = "0"
    lines = [
        f"-- PostgreSQL {version}. Run as a superuser; new connections of {quoted} see it. All of it is optional.",
        "",
        "-- 1. Plans of the real execution, sent to the application as NOTICEs: querytoll then runs no EXPLAIN at all.",
        *(f"ALTER ROLE {quoted} SET {name} = {value};" for name, value in settings.items()),
        "-- To undo it:",
        *(f"--   ALTER ROLE {quoted} RESET {name};" for name in settings),
    ]
    if version >= 15:
        lines += [
            "-- Or let the role set it by itself, where a connect listener of the application does so:",
            *(
                f"--   GRANT SET ON PARAMETER {name} TO {quoted};"
                for name in settings
                if name != "session_preload_libraries"
            ),
        ]
    lines += [
        "",
        "-- 2. querytoll explain FINGERPRINT (needs pg_stat_statements in shared_preload_libraries).",
        "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;",
        f"GRANT pg_read_all_stats TO {quoted};",
        "",
        "-- 3. Index suggestions verified without making the index (package postgresql-"
        f"{version}-hypopg or hypopg_{version}).",
        "CREATE EXTENSION IF NOT EXISTS hypopg;",
        "",
    ]
    return "\n".join(lines)
