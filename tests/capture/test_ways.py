"""Call sites found by a known way are those that a walk of every frame finds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, selectinload

from querytoll import callsite
from querytoll.callsite import CallSites
from querytoll.capture import Capture
from querytoll.model import Site
from tests.capture.models import Author, Book
from tests.capture.watching import Watch

ONE: Final = text("SELECT 1 AS one")


class Compared(CallSites):
    """Finds every stack twice: as it does, and by a walk of every frame."""

    def __init__(self) -> None:
        super().__init__(__file__)  # type: ignore[arg-type]
        self.pairs: list[tuple[tuple[Site, ...], tuple[Site, ...]]] = []

    def stack(self, skip: int, sent: str | None = None) -> tuple[Site, ...]:
        known = super().stack(skip + 1, sent)
        self.pairs.append((known, super().stack(skip + 1)))
        return known


async def one(session: AsyncSession) -> None:
    await session.execute(ONE)


async def from_two_lines(session: AsyncSession) -> None:
    await session.execute(ONE)
    await session.execute(ONE)


async def through_a_function(session: AsyncSession) -> None:
    await one(session)
    await one(session)


async def at_other_depths(session: AsyncSession, depth: int = 3) -> None:
    await session.execute(ONE)
    if depth:
        await at_other_depths(session, depth - 1)


async def in_a_greenlet(session: AsyncSession) -> None:
    def work(sync: Session) -> None:
        sync.execute(ONE)
        sync.execute(ONE)

    await session.run_sync(work)


async def by_attribute(session: AsyncSession) -> None:
    def work(sync: Session) -> None:
        for author in sync.scalars(select(Author)):
            assert author.books

    await session.run_sync(work)


async def by_awaited_attribute(session: AsyncSession) -> None:
    for author in await session.scalars(select(Author)):
        assert await author.awaitable_attrs.books


async def by_option(session: AsyncSession) -> None:
    await session.scalars(select(Author).options(selectinload(Author.books)))


async def by_a_hook(session: AsyncSession) -> None:
    """The statement of the hook is the application's too, at a line of its own."""

    @event.listens_for(session.sync_session, "do_orm_execute")
    def hook(state: ORMExecuteState) -> None:
        if state.is_select:
            state.session.connection().execute(ONE)

    await session.scalars(select(Book))
    event.remove(session.sync_session, "do_orm_execute", hook)
    await session.scalars(select(Book))


async def pages(session: AsyncSession) -> AsyncIterator[Any]:
    for _ in range(2):
        yield await session.execute(ONE)


async def from_a_generator(session: AsyncSession) -> None:
    async for _ in pages(session):
        pass
    rest = pages(session)
    await anext(rest)
    await anext(rest)


async def by_a_property(session: AsyncSession) -> None:
    """The same line awaits the relationship and the application's property that loads it."""
    authors = await session.scalars(select(Author))
    for author, name in zip(authors, random.choices(("books", "titles"), k=3), strict=True):
        assert await getattr(author.awaitable_attrs, name)


async def by_one_line(session: AsyncSession) -> None:
    """The same line awaits SQLAlchemy and, in its greenlet, the application."""

    def work(sync: Session) -> None:
        sync.execute(ONE)

    for _ in range(3):
        await random.choice((lambda: session.execute(ONE), lambda: session.run_sync(work)))()


async def by_tasks_of_sqlalchemy(session: AsyncSession) -> None:
    """No line of the application's awaits them."""

    def work(sync: Session) -> None:
        sync.execute(ONE)

    if random.random() < 0.5:
        await asyncio.create_task(session.execute(ONE))
    await asyncio.create_task(session.run_sync(work))


async def by_a_hook_of_the_flush(session: AsyncSession) -> None:
    """A hook and the flush itself load the same collection, both below the line that commits."""

    def hook(sync: Session, *_: object) -> None:
        for author in sync.deleted:
            assert author.books

    hooked = random.random() < 0.5
    if hooked:
        event.listen(session.sync_session, "before_flush", hook)
    author = (await session.scalars(select(Author))).first()
    await session.delete(author)
    session.expire(author, ["books"])
    with pytest.raises(IntegrityError):
        await session.flush()
    await session.rollback()


async def in_tasks(session: AsyncSession) -> None:
    async with AsyncSession(session.bind) as other:
        await asyncio.gather(one(session), from_two_lines(other))


WAYS: Final[tuple[Callable[[AsyncSession], Awaitable[None]], ...]] = (
    one,
    from_two_lines,
    through_a_function,
    at_other_depths,
    in_a_greenlet,
    by_attribute,
    by_awaited_attribute,
    by_option,
    by_a_hook,
    by_a_property,
    by_one_line,
    by_tasks_of_sqlalchemy,
    by_a_hook_of_the_flush,
    from_a_generator,
    in_tasks,
)


@pytest.fixture
def compared() -> Compared:
    return Compared()


@pytest.mark.parametrize("seed", range(10))
async def test_a_known_way_leads_to_the_same_lines(filled_postgres_url: str, compared: Compared, seed: int) -> None:
    """In any order, the same text from other lines, depths, tasks, generators, hooks and greenlets."""
    engine = create_async_engine(filled_postgres_url)
    random.seed(seed)
    with Watch(Capture(compared)) as seen:
        for _ in range(30):
            async with AsyncSession(engine) as session:
                await random.choice(WAYS)(session)
    await engine.dispose()
    assert len(compared.pairs) >= len(seen.statements) > 30
    assert [known for known, _ in compared.pairs] == [walked for _, walked in compared.pairs]
    assert any(len(statement.stack) > 2 for statement in seen.statements)


async def test_a_known_way_is_walked_once(filled_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop costs one walk of SQLAlchemy's frames, and its statements share one stack."""
    sites = CallSites(__file__)  # type: ignore[arg-type]
    walks: list[bool] = []
    walk = CallSites._walk
    monkeypatch.setattr(CallSites, "_walk", lambda *arguments: walks.append(True) or walk(*arguments))
    engine = create_async_engine(filled_postgres_url)
    with Watch(Capture(sites)) as seen:
        async with AsyncSession(engine) as session:
            for _ in range(10):
                await session.execute(ONE)
    await engine.dispose()
    assert len({id(statement.stack) for statement in seen.statements}) == 1
    assert len(walks) == 2, "one for the statement, one for the connection"


async def test_known_ways_are_bounded(filled_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts without end do not fill the memory."""
    monkeypatch.setattr(callsite, "_MAX_WAYS", 8)
    sites = CallSites(__file__)  # type: ignore[arg-type]
    engine = create_async_engine(filled_postgres_url)
    with Watch(Capture(sites)) as seen:
        async with AsyncSession(engine) as session:
            for number in range(50):
                await session.execute(text(f"SELECT {number} AS n"))
    await engine.dispose()
    assert len(seen.statements) == 50
    assert len(sites._ways) <= 8
    assert len(sites._last) <= 8


async def test_the_texts_of_known_ways_are_bounded(filled_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts without end (values written into them) do not either."""
    monkeypatch.setattr(callsite, "_MAX_CHARACTERS", 10_000)
    sites = CallSites(__file__)  # type: ignore[arg-type]
    engine = create_async_engine(filled_postgres_url)
    with Watch(Capture(sites)) as seen:
        async with AsyncSession(engine) as session:
            for number in range(20):
                await session.execute(text(f"SELECT {number} AS n -- {'long ' * 300}"))
    await engine.dispose()
    assert len(seen.statements) == 20
    assert len(sites._last) > 1
    assert sum(map(len, sites._last)) <= 10_000
