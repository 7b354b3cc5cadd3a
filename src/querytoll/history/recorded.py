"""The history's rows to what was seen since a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import Executable, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from querytoll.history.models import Finding, Fingerprint, Sighting, Traffic, Use
from querytoll.history.schemas import FindingRead, Read


class SeenRead(Read):
    """A finding in the requests of one name, over some time."""

    finding: FindingRead
    name: str
    title: str
    most: int
    occurrences: int
    statement: str | None


class RouteRead(Read):
    """The requests of one name, over some time."""

    name: str
    requests: int
    statements: int
    database_seconds: float
    most: int
    longest: float


class RouteUseRead(Read):
    """A shape as the requests of one name sent it, over some time."""

    name: str
    fingerprint: str
    summary: str | None
    most: int
    file: str | None
    line: int | None


class Recorded(BaseModel):
    """What was seen since a moment."""

    routes: Sequence[RouteRead]
    uses: Sequence[RouteUseRead]
    findings: Sequence[SeenRead]


async def recorded(session: AsyncSession, since: datetime) -> Recorded:
    """Read what was seen since a moment."""
    return Recorded(
        routes=[RouteRead.model_validate(row) for row in await session.execute(_routes(since))],
        uses=[RouteUseRead.model_validate(row) for row in await session.execute(_uses(since))],
        findings=[SeenRead.model_validate(row) for row in await session.execute(_seen(since))],
    )


def _routes(since: datetime) -> Executable:
    return (
        select(
            Traffic.name,
            func.sum(Traffic.requests).label("requests"),
            func.sum(Traffic.statements).label("statements"),
            func.sum(Traffic.database_seconds).label("database_seconds"),
            func.max(Traffic.most).label("most"),
            func.max(Traffic.longest).label("longest"),
        )
        .where(Traffic.last_seen >= since)
        .group_by(Traffic.name)
    )


def _uses(since: datetime) -> Executable:
    rank = func.row_number().over(partition_by=(Use.name, Use.fingerprint), order_by=(Use.most.desc(), Use.hour.desc()))
    worst = select(Use, rank.label("rank")).where(Use.last_seen >= since).subquery()
    return (
        select(worst.c.name, worst.c.fingerprint, Fingerprint.summary, worst.c.most, worst.c.file, worst.c.line)
        .outerjoin(Fingerprint, Fingerprint.id == worst.c.fingerprint)
        .where(worst.c.rank == 1)
    )


def _seen(since: datetime) -> Executable:
    same = (Sighting.finding_id, Sighting.name)
    rank = func.row_number().over(partition_by=same, order_by=(Sighting.most.desc(), Sighting.hour.desc()))
    times = func.sum(Sighting.occurrences).over(partition_by=same)
    worst = select(Sighting, rank.label("rank"), times.label("times")).where(Sighting.last_seen >= since).subquery()
    finding = aliased(Finding, name="finding")
    return (
        select(
            finding,
            worst.c.name,
            worst.c.title,
            worst.c.most,
            worst.c.times.label("occurrences"),
            Fingerprint.text.label("statement"),
        )
        .join(worst, worst.c.finding_id == finding.id)
        .outerjoin(Fingerprint, Fingerprint.id == finding.fingerprint)
        .where(worst.c.rank == 1)
    )
