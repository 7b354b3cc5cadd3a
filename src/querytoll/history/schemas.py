"""Rows of the history as they are made and as they are read; text and documents are made fit for any database here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict

from querytoll.model import Finding, Severity, Shape, Site, Trace

MAX_NAME: Final = 500
"""Characters of what is indexed; PostgreSQL's index entries hold 2,700 bytes."""
MAX_TEXT: Final = 20_000
MAX_DOCUMENT: Final = 200_000
"""Characters of a document; a larger one is left out."""
_MAX_DEPTH: Final = 100


def clean(text: object, limit: int = MAX_TEXT) -> Any:
    """Cut a text, and replace what a database refuses: NUL, and halves of characters."""
    if not isinstance(text, str):
        return text
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def document(value: object) -> dict[str, Any] | None:
    """Turn evidence or a plan into JSON that PostgreSQL takes; None where there is none, or too much."""
    if value is None:
        return None
    found = _plain(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)
    return found if isinstance(found, dict) and len(json.dumps(found)) <= MAX_DOCUMENT else None


def _plain(value: object, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {clean(str(name)): _plain(each, depth + 1) for name, each in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return clean(str(value))


Name = Annotated[str, BeforeValidator(partial(clean, limit=MAX_NAME))]
Text = Annotated[str, BeforeValidator(clean)]


class Create(BaseModel):
    """A row to be written; changed in place while reports are added to it."""


class Read(BaseModel):
    """A row that was read."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class TraceCreate(Create):
    id: Name
    kind: str
    name: Name
    method: Name | None
    route: Name | None
    path: Text | None
    status: int | None
    began: datetime
    elapsed: float
    statements: int
    database_seconds: float
    dropped: int
    kept: str

    @classmethod
    def of(cls, trace: Trace, name: str, kept: str, *, path: bool) -> TraceCreate:
        """Read a trace.

        Args:
            trace: what was observed.
            name: what it is counted under.
            kept: why it is worth keeping.
            path: keep the path as requested, with the values in it.
        """
        return cls(
            id=trace.id,
            kind=trace.kind,
            name=name,
            method=trace.method,
            route=trace.route,
            path=trace.path if path else None,
            status=trace.status,
            began=trace.began,
            elapsed=trace.elapsed,
            statements=len(trace.statements) + trace.dropped,
            database_seconds=trace.database_seconds,
            dropped=trace.dropped,
            kept=kept,
        )


class TraceRead(Read, TraceCreate):
    """A trace."""


class FindingCreate(Create):
    id: Name
    rule: Name
    severity: Severity
    title: Text
    advice: Text
    file: Text | None
    line: int | None
    function: Text | None
    fingerprint: Name | None
    summary: Text | None
    confidence: float
    evidence: dict[str, Any]
    plan: dict[str, Any] | None
    most: int
    cost: float
    occurrences: int
    first_seen: datetime
    last_seen: datetime

    @classmethod
    def of(cls, finding: Finding, seen: datetime) -> FindingCreate:
        """Read one finding of one trace, that does not count yet."""
        site = finding.site or Site("", 0, "")
        return cls(
            id=finding.id,
            rule=finding.rule,
            severity=finding.severity,
            title=finding.title,
            advice=finding.advice,
            file=site.path or site.file or None,
            line=site.line or None,
            function=site.function or None,
            fingerprint=finding.fingerprint,
            summary=finding.summary,
            confidence=finding.confidence,
            evidence=document(finding.evidence) or {},
            plan=document(finding.plan),
            most=finding.count,
            cost=0.0,
            occurrences=0,
            first_seen=seen,
            last_seen=seen,
        )


class FindingRead(Read, FindingCreate):
    """A finding over all that is kept."""


class SightingCreate(Create):
    finding_id: Name
    name: Name
    hour: datetime
    title: Text
    most: int
    cost: float = 0.0
    occurrences: int = 0
    last_seen: datetime


class SightingRead(Read, SightingCreate):
    """A finding in the requests of one name within one hour."""


class TraceFindingCreate(Create):
    trace_id: Name
    finding_id: Name
    count: int
    cost: float
    last_seen: datetime


class TraceFindingRead(Read, TraceFindingCreate):
    """A finding in a trace."""


class FingerprintCreate(Create):
    id: Name
    text: Text
    operation: Name
    summary: Text
    first_seen: datetime
    last_seen: datetime

    @classmethod
    def of(cls, shape: Shape, seen: datetime) -> FingerprintCreate:
        """Read a shape."""
        return cls(
            id=shape.fingerprint,
            text=shape.text,
            operation=shape.operation,
            summary=shape.summary,
            first_seen=seen,
            last_seen=seen,
        )


class FingerprintRead(Read, FingerprintCreate):
    """A shape of statements."""


class TrafficCreate(Create):
    name: Name
    hour: datetime
    kind: str
    requests: int = 0
    statements: int = 0
    database_seconds: float = 0.0
    most: int = 0
    longest: float = 0.0
    last_seen: datetime


class TrafficRead(Read, TrafficCreate):
    """The requests of one name within one hour."""


class UseCreate(Create):
    name: Name
    fingerprint: Name
    hour: datetime
    most: int
    file: Text | None
    line: int | None
    last_seen: datetime


class UseRead(Read, UseCreate):
    """A shape as the requests of one name sent it within one hour."""
