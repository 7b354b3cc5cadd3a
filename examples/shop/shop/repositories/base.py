"""The repository of any table."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from shop.db.base import Base, Entity

BaseT = TypeVar("BaseT", bound=Base)
EntityT = TypeVar("EntityT", bound=Entity)


class Repository(Generic[BaseT]):
    """Reads and writes of one table, in the session's transaction."""

    model: type[BaseT]
    whole: ClassVar[Sequence[ORMOption]] = ()
    """Loader options for what is shown with a row of its own."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, key: int) -> BaseT | None:
        """Get the bare row with this primary key."""
        return await self.session.get(self.model, key)

    async def get_whole(self, key: int) -> BaseT | None:
        """Get the row with this primary key and what is shown with it."""
        return await self.session.get(self.model, key, options=self.whole)

    def add(self, row: BaseT) -> BaseT:
        """Insert the row with the next flush."""
        self.session.add(row)
        return row

    def change(self, row: BaseT, changes: Mapping[str, object]) -> None:
        """Update the row with the next flush."""
        for name, value in changes.items():
            setattr(row, name, value)

    async def delete(self, row: BaseT) -> None:
        """Delete the row with the next flush."""
        await self.session.delete(row)


class PagedRepository(Repository[EntityT]):
    """A repository whose rows are listed, newest first."""

    listed: ClassVar[Sequence[ORMOption]] = ()
    """Loader options for what is shown of a row in a list."""

    async def page(self, *where: ColumnElement[bool], before: int | None, limit: int) -> Sequence[EntityT]:
        """Get the newest rows older than the id `before`."""
        query = select(self.model).where(*where).order_by(self.model.id.desc()).limit(limit).options(*self.listed)
        if before is not None:
            query = query.where(self.model.id < before)
        return (await self.session.scalars(query)).all()
