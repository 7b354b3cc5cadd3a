"""The history's tables, and how a row that comes again is merged into the one that is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Double, ForeignKey, Index, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column
from sqlalchemy.types import TypeDecorator

Merge = Literal["keep", "replace", "fill", "add", "most", "least", "worst"]
"""What a column's value becomes when its row comes again: it stays; the new one; the new one unless it is NULL; their
sum; the greater; the smaller; that of the row with the greater `most`."""

PREFIX: Final = "querytoll_"
"""Of every table, so that the history can share a database."""
_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Moment(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps none of the zone, so that it is added again."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


DOCUMENT: Final = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """Metadata of its own, with names for every constraint, so that migrations can drop them."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar = {str: Text, int: BigInteger, float: Double, datetime: Moment}
    moment: ClassVar[str] = "last_seen"
    """The column by which rows are listed, newest first, and forgotten."""


def key(*arguments: Any) -> MappedColumn[Any]:
    """Declare a part of the primary key."""
    return mapped_column(*arguments, primary_key=True)


def merged(how: Merge, *arguments: Any, **options: Any) -> MappedColumn[Any]:
    """Declare a column with its way to be merged."""
    return mapped_column(*arguments, info={"merge": how}, **options)


class Trace(Base):
    """A request, task or block that is worth a look of its own."""

    __tablename__ = f"{PREFIX}traces"
    __table_args__ = (Index(None, "name", "began"),)
    moment = "began"

    id: Mapped[str] = key()
    kind: Mapped[str]
    name: Mapped[str]
    method: Mapped[str | None]
    route: Mapped[str | None]
    path: Mapped[str | None]
    status: Mapped[int | None]
    began: Mapped[datetime] = mapped_column(index=True)
    elapsed: Mapped[float]
    statements: Mapped[int]
    database_seconds: Mapped[float]
    dropped: Mapped[int]
    kept: Mapped[str]


class Finding(Base):
    """A finding, whichever traces showed it."""

    __tablename__ = f"{PREFIX}findings"

    id: Mapped[str] = key()
    rule: Mapped[str] = merged("replace")
    severity: Mapped[str] = merged("replace")
    title: Mapped[str] = merged("worst")
    advice: Mapped[str] = merged("replace")
    file: Mapped[str | None] = merged("replace")
    line: Mapped[int | None] = merged("replace")
    function: Mapped[str | None] = merged("replace")
    fingerprint: Mapped[str | None] = merged("replace", index=True)
    summary: Mapped[str | None] = merged("replace")
    confidence: Mapped[float] = merged("replace")
    evidence: Mapped[dict[str, Any]] = merged("worst", DOCUMENT)
    plan: Mapped[dict[str, Any] | None] = merged("fill", DOCUMENT)
    most: Mapped[int] = merged("most")
    cost: Mapped[float] = merged("add")
    occurrences: Mapped[int] = merged("add")
    first_seen: Mapped[datetime] = merged("least")
    last_seen: Mapped[datetime] = merged("most", index=True)


class Sighting(Base):
    """A finding in the requests of one name within one hour."""

    __tablename__ = f"{PREFIX}sightings"

    finding_id: Mapped[str] = key(ForeignKey(f"{PREFIX}findings.id", ondelete="CASCADE"))
    name: Mapped[str] = key()
    hour: Mapped[datetime] = key()
    title: Mapped[str] = merged("worst")
    most: Mapped[int] = merged("most")
    cost: Mapped[float] = merged("add")
    occurrences: Mapped[int] = merged("add")
    last_seen: Mapped[datetime] = merged("most", index=True)


class TraceFinding(Base):
    """A finding in a trace."""

    __tablename__ = f"{PREFIX}trace_findings"

    trace_id: Mapped[str] = key(ForeignKey(f"{PREFIX}traces.id", ondelete="CASCADE"))
    finding_id: Mapped[str] = mapped_column(
        ForeignKey(f"{PREFIX}findings.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    count: Mapped[int]
    cost: Mapped[float]
    last_seen: Mapped[datetime]


class Fingerprint(Base):
    """A shape of statements; its text holds no literals."""

    __tablename__ = f"{PREFIX}fingerprints"

    id: Mapped[str] = key()
    text: Mapped[str]
    operation: Mapped[str]
    summary: Mapped[str]
    first_seen: Mapped[datetime] = merged("least")
    last_seen: Mapped[datetime] = merged("most", index=True)


class Traffic(Base):
    """The requests of one name within one hour."""

    __tablename__ = f"{PREFIX}traffic"

    name: Mapped[str] = key()
    hour: Mapped[datetime] = key()
    kind: Mapped[str]
    requests: Mapped[int] = merged("add")
    statements: Mapped[int] = merged("add")
    database_seconds: Mapped[float] = merged("add")
    most: Mapped[int] = merged("most")
    longest: Mapped[float] = merged("most")
    last_seen: Mapped[datetime] = merged("most", index=True)


class Use(Base):
    """A shape as the requests of one name sent it within one hour."""

    __tablename__ = f"{PREFIX}uses"

    name: Mapped[str] = key()
    fingerprint: Mapped[str] = key()
    hour: Mapped[datetime] = key()
    most: Mapped[int] = merged("most")
    file: Mapped[str | None] = merged("worst")
    line: Mapped[int | None] = merged("worst")
    last_seen: Mapped[datetime] = merged("most", index=True)
