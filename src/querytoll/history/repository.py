"""Rows of one table: add, get, list, clear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Column, ColumnElement, CursorResult, Table, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from querytoll.history.models import Base, Merge
from querytoll.history.schemas import Create, Read

RowT = TypeVar("RowT", bound=Base)
CreateT = TypeVar("CreateT", bound=Create)
ReadT = TypeVar("ReadT", bound=Read)
INSERTS: Final[dict[str, Callable[[Table], Any]]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
"""The dialects whose INSERT takes ON CONFLICT."""


class Repository(Generic[RowT, CreateT, ReadT]):
    """The rows of one table, in the session's transaction.

    Args:
        session: of the store.
        row: the table's model.
        read: what rows are read as.
    """

    def __init__(self, session: AsyncSession, row: type[RowT], read: type[ReadT]) -> None:
        self._session = session
        self._row = row
        self._read = read
        self._table = cast(Table, row.__table__)

    async def add(self, rows: Sequence[CreateT]) -> None:
        """Insert rows; those that are there are merged, as the model says for each column."""
        if not rows:
            return
        # One order for all processes, or two of them would wait for each other's rows.
        values = sorted((row.model_dump() for row in rows), key=self._key)
        await self._session.execute(self._insert(), values)

    async def get(self, *key: object) -> ReadT | None:
        """Get the row with this primary key."""
        row = await self._session.get(self._row, key)
        return None if row is None else self._read.model_validate(row)

    async def list(self, *where: ColumnElement[bool], limit: int = 100) -> Sequence[ReadT]:
        """Get rows, newest first."""
        query = select(self._row).where(*where).order_by(self._moment.desc(), *self._table.primary_key).limit(limit)
        return [self._read.model_validate(row) for row in await self._session.scalars(query)]

    async def clear(self, *where: ColumnElement[bool], before: datetime | None = None) -> int:
        """Delete rows, those that were not seen since a moment, or all, and tell how many."""
        if before is not None:
            where = (*where, self._moment < before)
        result = await self._session.execute(delete(self._table).where(*where))
        return cast(CursorResult[Any], result).rowcount

    @property
    def _moment(self) -> Column[Any]:
        return self._table.c[self._row.moment]

    def _key(self, values: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(values[column.name] for column in self._table.primary_key)

    def _insert(self) -> Any:
        statement = INSERTS[self._session.get_bind().dialect.name](self._table)
        new = statement.excluded
        changes = {
            column.name: _merged(column.info["merge"], column, new[column.name], self._table, new)
            for column in self._table.c
            if "merge" in column.info
        }
        key = list(self._table.primary_key)
        if not changes:
            return statement.on_conflict_do_nothing(index_elements=key)
        return statement.on_conflict_do_update(index_elements=key, set_=changes)


def _merged(how: Merge, old: Column[Any], new: Column[Any], table: Table, row: Any) -> ColumnElement[Any]:
    """The value of a column whose row comes again."""
    if how == "add":
        return old + new
    if how == "fill":
        return func.coalesce(new, old)
    if how == "most":
        return case((new > old, new), else_=old)
    if how == "least":
        return case((new < old, new), else_=old)
    if how == "worst":
        return case((row.most > table.c.most, new), else_=old)
    return new
