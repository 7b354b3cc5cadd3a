"""The durable history: four verbs over its tables."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Select, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from querytoll.errors import QuerytollError
from querytoll.history.batch import Batch
from querytoll.history.engine import address, connect
from querytoll.history.models import PREFIX, Finding, Fingerprint, Sighting, Trace, TraceFinding, Traffic, Use
from querytoll.history.recorded import Recorded, recorded
from querytoll.history.repository import Repository
from querytoll.history.schemas import (
    FindingCreate,
    FindingRead,
    FingerprintCreate,
    FingerprintRead,
    SightingCreate,
    SightingRead,
    TraceCreate,
    TraceFindingCreate,
    TraceFindingRead,
    TraceRead,
    TrafficCreate,
    TrafficRead,
    UseCreate,
    UseRead,
)

VERSION: Final = "0001"
"""The revision that this code reads and writes."""
VERSION_TABLE: Final = f"{PREFIX}alembic_version"
LOCK: Final = 0x7175657279746F6C
"""Of PostgreSQL's advisory locks: who migrates or prunes holds it."""


class HistoryError(QuerytollError):
    """The history cannot be used; says why, and what to do."""


class History(Protocol):
    """Where batches are kept; adding one is one class with four verbs."""

    async def add(self, batch: Batch) -> None:
        """Add what was seen."""

    async def get(self, finding: str) -> FindingRead | None:
        """Get a finding by its stable id."""

    async def list(self, since: datetime) -> Recorded:
        """Get what was seen since a moment."""

    async def clear(self, *, before: datetime | None = None, traces: int | None = None) -> None:
        """Forget what was not seen since a moment, traces over a number for each name, or without either everything."""


class Tables:
    """The repositories of one session."""

    def __init__(self, session: AsyncSession) -> None:
        self.traces = Repository[Trace, TraceCreate, TraceRead](session, Trace, TraceRead)
        self.findings = Repository[Finding, FindingCreate, FindingRead](session, Finding, FindingRead)
        self.sightings = Repository[Sighting, SightingCreate, SightingRead](session, Sighting, SightingRead)
        self.links = Repository[TraceFinding, TraceFindingCreate, TraceFindingRead](
            session, TraceFinding, TraceFindingRead
        )
        self.fingerprints = Repository[Fingerprint, FingerprintCreate, FingerprintRead](
            session, Fingerprint, FingerprintRead
        )
        self.traffic = Repository[Traffic, TrafficCreate, TrafficRead](session, Traffic, TrafficRead)
        self.uses = Repository[Use, UseCreate, UseRead](session, Use, UseRead)

    async def add(self, batch: Batch) -> None:
        """Add a batch's rows, always in this order, so that two processes do not wait for each other."""
        await self.fingerprints.add([*batch.fingerprints.values()])
        await self.findings.add([*batch.findings.values()])
        await self.sightings.add([*batch.sightings.values()])
        await self.traffic.add([*batch.traffic.values()])
        await self.uses.add([*batch.uses.values()])
        await self.traces.add([*batch.traces.values()])

    async def clear(self, before: datetime | None) -> None:
        """Delete what was not seen since a moment, or everything."""
        await self.traces.clear(before=before)
        await self.sightings.clear(before=before)
        await self.findings.clear(before=before)
        await self.uses.clear(before=before)
        await self.traffic.clear(before=before)
        await self.fingerprints.clear(before=before)


class Store:
    """A history in PostgreSQL or SQLite.

    Args:
        url: of the database; its tables are made with `querytoll history upgrade`.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(self, url: str | URL) -> None:
        self._url = address(url)
        self._engine = connect(self._url)
        self.sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._checked = False

    def __repr__(self) -> str:
        return f"Store({str(self._url)!r})"  # SQLAlchemy hides the password

    async def add(self, batch: Batch) -> None:
        """Add what was seen, in one transaction.

        Raises:
            HistoryError: there are no tables, or of another version.
        """
        await self._check()
        async with self.sessions.begin() as session:
            tables = Tables(session)
            await tables.add(batch)
            kept = await _kept(session, {trace for trace, _ in batch.links})
            await tables.links.add([link for link in batch.links.values() if link.trace_id in kept])

    async def get(self, finding: str) -> FindingRead | None:
        """Get a finding by its stable id.

        Raises:
            HistoryError: there are no tables, or of another version.
        """
        await self._check()
        async with self.sessions() as session:
            return await Tables(session).findings.get(finding)

    async def list(self, since: datetime) -> Recorded:
        """Get what was seen since a moment; numbers are those of whole hours.

        Raises:
            HistoryError: there are no tables, or of another version.
        """
        await self._check()
        async with self.sessions() as session:
            return await recorded(session, since)

    async def clear(self, *, before: datetime | None = None, traces: int | None = None) -> None:
        """Forget what was not seen since a moment, traces over a number for each name, or without either everything.

        Another process that is at it is left alone.

        Raises:
            HistoryError: there are no tables, or of another version.
        """
        await self._check()
        async with self.sessions.begin() as session:
            tables = Tables(session)
            some = before is not None or traces is not None
            if some and not await self._alone(session):
                return
            if traces is not None:
                await tables.traces.clear(Trace.id.in_(_excess(traces)))
            if before is not None or not some:
                await tables.clear(before)

    async def _alone(self, session: AsyncSession) -> bool:
        """Keep other processes from forgetting at the same time; they would wait for each other."""
        if self._url.get_backend_name() != "postgresql":
            return True
        return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))))

    async def _check(self) -> None:
        """Look once whether the tables are those that this code knows."""
        if self._checked:
            return
        if not self._exists():
            raise self._missing()
        async with self._engine.connect() as connection:
            version = await connection.run_sync(_version)
        if version is None:
            raise self._missing()
        if version != VERSION:
            raise HistoryError(
                f"the history at {self._url} is of version {version}, and this querytoll's is {VERSION}; "
                + ("upgrade querytoll" if version > VERSION else f"run: querytoll history upgrade --url {self._url}")
            )
        self._checked = True

    def _exists(self) -> bool:
        """Tell whether there is a database to connect to; SQLite would make an empty one."""
        return self._url.get_backend_name() != "sqlite" or Path(str(self._url.database)).exists()

    def _missing(self) -> HistoryError:
        return HistoryError(f"there is no history at {self._url}; run: querytoll history upgrade --url {self._url}")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) or "") or None


async def _kept(session: AsyncSession, traces: set[str]) -> set[str]:
    """Which of the traces are there: findings of plans come later than their trace, which may not have been kept."""
    if not traces:
        return set()
    return set(await session.scalars(select(Trace.id).where(Trace.id.in_(traces))))


def _excess(number: int) -> Select[Any]:
    """All but the newest traces of each name."""
    rank = func.row_number().over(partition_by=Trace.name, order_by=Trace.began.desc()).label("rank")
    ranked = select(Trace.id, rank).subquery()
    return select(ranked.c.id).where(ranked.c.rank > number)
