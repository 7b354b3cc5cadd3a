"""What a statement loads, in SQLAlchemy's own words: the relationship or attribute, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, exists, func, insert, select, text, union_all, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    Session,
    aliased,
    contains_eager,
    defaultload,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_polymorphic,
)

from tests.capture.models import AUTHORS, Atlas, Author, Book, Shelf, Tag
from tests.capture.watching import Database, Watch, run

Watching = Callable[[], Watch]
Loads = list[tuple[str | None, str | None]]
QUERY: Loads = [(None, None)]
ALL = ("asyncpg", "sqlite")

pytestmark = pytest.mark.drivers(*ALL)


def loads(seen: Watch) -> Loads:
    return [(statement.relation, statement.load) for statement in seen.statements]


def authors(session: Session, *options: Any) -> Sequence[Author]:
    return session.scalars(select(Author).options(*options).order_by(Author.id)).unique().all()


def touch(found: Sequence[Any], name: str) -> None:
    for each in found:
        getattr(each, name)


def refreshed(session: Session, *names: str) -> None:
    author = session.get_one(Author, 1)
    session.refresh(author, names or None)


def expired(session: Session, *names: str) -> None:
    author = session.get_one(Author, 1)
    session.expire(author, names or None)
    assert author.name


def committed(session: Session) -> None:
    author = session.get_one(Author, 1)
    session.commit()
    assert author.name


def eagerly_in_two_steps(session: Session) -> None:
    touch(authors(session, selectinload(Author.books).selectinload(Book.author).selectinload(Author.tags)), "books")


def polymorphic(session: Session) -> None:
    books = session.scalars(select(Book).options(selectin_polymorphic(Book, [Atlas])).order_by(Book.id)).all()
    assert sum(book.maps for book in books if isinstance(book, Atlas)) == 6


def subclass_columns(session: Session) -> None:
    book = session.scalars(select(Book).where(Book.id == 11)).one()
    assert isinstance(book, Atlas)
    assert book.maps == 1


def flushed_then_read(session: Session) -> None:
    author = Author(id=77, name=func.upper("x"), biography="")
    session.add(author)
    session.flush()
    assert author.name == "X"


WAYS: dict[str, tuple[Callable[[Session], Any], Loads]] = {
    "lazy collection": (
        lambda s: touch(authors(s), "books"),
        [*QUERY, *[("Author.books", "lazy")] * AUTHORS],
    ),
    "lazy many-to-one": (
        lambda s: touch(s.scalars(select(Book).where(Book.id.in_([10, 20]))).all(), "author"),
        [*QUERY, *[("Book.author", "lazy")] * 2],
    ),
    "lazy many-to-one from the identity map": (
        lambda s: (keep := authors(s), touch(s.scalars(select(Book)).all(), "author"), keep),
        QUERY * 2,
    ),
    "lazy many-to-many": (lambda s: touch(authors(s), "tags"), [*QUERY, *[("Author.tags", "lazy")] * AUTHORS]),
    "lazyload option": (
        lambda s: touch(authors(s, lazyload(Author.books)), "books"),
        [*QUERY, *[("Author.books", "lazy")] * 3],
    ),
    "lazy of lazy": (
        lambda s: [author.books[0].author.tags for author in [s.get_one(Author, 1)]],
        [*QUERY, ("Author.books", "lazy"), ("Author.tags", "lazy")],
    ),
    "immediate": (
        lambda s: authors(s, immediateload(Author.books)),
        [*QUERY, *[("Author.books", "lazy")] * AUTHORS],
    ),
    "selectin": (lambda s: authors(s, selectinload(Author.books)), [*QUERY, ("Author.books", "eager")]),
    "selectin many-to-one": (
        lambda s: s.scalars(select(Book).options(selectinload(Book.author))).all(),
        [*QUERY, ("Book.author", "eager")],
    ),
    "selectin of selectin": (
        eagerly_in_two_steps,
        [*QUERY, ("Author.books", "eager"), ("Book.author", "eager"), ("Author.tags", "eager")],
    ),
    "lazy below selectin": (
        lambda s: [touch(author.books, "author") for author in authors(s, selectinload(Author.books))],
        [*QUERY, ("Author.books", "eager")],
    ),
    "subquery": (lambda s: authors(s, subqueryload(Author.books)), [*QUERY, ("Author.books", "eager")]),
    "joined": (lambda s: touch(authors(s, joinedload(Author.books)), "books"), QUERY),
    "selectin below joined": (
        lambda s: authors(s, joinedload(Author.books).selectinload(Book.author).selectinload(Author.tags)),
        [*QUERY, ("Book.author", "eager"), ("Author.tags", "eager")],
    ),
    "contains_eager": (
        lambda s: s.scalars(select(Author).join(Author.books).options(contains_eager(Author.books))).unique().all(),
        QUERY,
    ),
    "deferred column": (
        lambda s: touch(authors(s), "biography"),
        [*QUERY, *[("Author.biography", "refresh")] * AUTHORS],
    ),
    "deferred group": (lambda s: touch(authors(s)[:1], "portrait"), [*QUERY, ("Author.*", "refresh")]),
    "undeferred column": (lambda s: touch(authors(s, undefer(Author.biography)), "biography"), QUERY),
    "load_only": (lambda s: touch(authors(s, load_only(Author.id))[:1], "name"), [*QUERY, ("Author.name", "refresh")]),
    "refresh": (refreshed, [*QUERY, ("Author.*", "refresh")]),
    "refresh of a column": (lambda s: refreshed(s, "name"), [*QUERY, ("Author.name", "refresh")]),
    "expired": (expired, [*QUERY, ("Author.*", "refresh")]),
    "expired column": (lambda s: expired(s, "name"), [*QUERY, ("Author.name", "refresh")]),
    "expired by commit": (committed, [*QUERY, ("Author.*", "refresh")]),
    "column of a subclass": (subclass_columns, [*QUERY, ("Atlas.maps", "refresh")]),
    "expression that was flushed": (flushed_then_read, [(None, None), ("Author.name", "refresh")]),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_load_is_named_after_what_it_loads(database: Database, watch: Watching, way: str) -> None:
    work, expected = WAYS[way]
    with watch() as seen:
        await session_run(database, work)
    assert loads(seen) == expected


async def session_run(database: Database, work: Callable[[Session], Any]) -> None:
    def inside(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            work(session)

    await run(database.engine(), inside)


OWN: dict[str, Callable[[Session], Any]] = {
    "entities": lambda s: s.scalars(select(Author)).all(),
    "columns": lambda s: s.execute(select(Author.id, Author.name)).all(),
    "count": lambda s: s.scalar(select(func.count()).select_from(Author)),
    "get": lambda s: s.get(Author, 1),
    "get of nothing": lambda s: s.get(Author, 99),
    "text": lambda s: s.execute(text("SELECT 1")).all(),
    "entities from text": lambda s: s.scalars(
        select(Author).from_statement(text("SELECT id, name FROM authors"))
    ).all(),
    "exists": lambda s: s.scalar(select(exists(select(Author.id)))),
    "alias": lambda s: s.scalars(select(aliased(Author))).all(),
    "subquery entity": lambda s: s.scalars(select(aliased(Author, select(Author).subquery()))).all(),
    "cte": lambda s: s.scalars(select(aliased(Author, select(Author).cte()))).all(),
    "union": lambda s: s.execute(union_all(select(Author.id), select(Book.id))).all(),
    "entities from a union": lambda s: s.scalars(
        select(Author).from_statement(union_all(select(Author), select(Author)))
    ).all(),
    "join": lambda s: s.execute(select(Author, Book).join(Book)).all(),
    "with_polymorphic": lambda s: s.scalars(select(with_polymorphic(Book, [Atlas]))).all(),
    "query": lambda s: s.query(Author).filter(Author.id > 1).all(),
    "query count": lambda s: s.query(Author).count(),
    "defaultload": lambda s: s.scalars(select(Author).options(defaultload(Author.books).load_only(Book.id))).all(),
    "insert": lambda s: s.execute(insert(Shelf).values(label="a")),
    "insert returning": lambda s: s.scalars(insert(Shelf).values(label="a").returning(Shelf)).all(),
    "bulk insert": lambda s: s.execute(insert(Shelf), [{"label": "a"}, {"label": "b"}]),
    "bulk insert returning": lambda s: s.scalars(insert(Shelf).returning(Shelf), [{"label": "a"}]).all(),
    "update": lambda s: s.execute(update(Author).where(Author.id == 1).values(name="x")),
    "update returning": lambda s: s.scalars(
        update(Author).where(Author.id == 1).values(name="x").returning(Author)
    ).all(),
    "bulk update": lambda s: s.execute(update(Author), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]),
    "delete": lambda s: s.execute(delete(Shelf).where(Shelf.id == 1)),
    "delete returning": lambda s: s.execute(delete(Shelf).returning(Shelf.id)).all(),
    "core in a session": lambda s: s.execute(select(Author.__table__)).all(),
    "core with a bound list": lambda s: s.execute(
        select(Author.id).where(Author.id.in_(bindparam("ids", expanding=True))), {"ids": [1, 2]}
    ).all(),
    "flush": lambda s: (s.add(Shelf(label="a")), s.flush()),
    "merge": lambda s: s.merge(Author(id=1, name="x")),
    "bulk_save_objects": lambda s: s.bulk_save_objects([Shelf(label="a")]),
    "stream": lambda s: s.scalars(select(Author).execution_options(yield_per=2)).all(),
}


@pytest.mark.parametrize("way", OWN)
async def test_an_applications_own_statement_loads_no_relation(database: Database, watch: Watching, way: str) -> None:
    """Whatever the ORM is asked for: it is seen, has no relation, and is never a fault of ours."""
    with watch() as seen:
        await session_run(database, OWN[way])
    assert loads(seen) == QUERY


async def test_batches_of_one_eager_load_share_their_relation(database: Database, watch: Watching) -> None:
    """selectinload sends one statement per 500 parents: each names the relationship."""

    def work(session: Session) -> None:
        many = range(1_000, 2_100)
        session.execute(insert(Author), [{"id": n, "name": "x", "biography": ""} for n in many])
        authors(session, selectinload(Author.books))

    with watch() as seen:
        await session_run(database, work)
    reads = [load for statement, load in zip(seen.statements, loads(seen), strict=True) if statement.rows != 1_100]
    assert reads[-3:] == [("Author.books", "eager")] * 3


async def test_a_polymorphic_load_counts_and_is_no_fault(database: Database, watch: Watching) -> None:
    with watch() as seen:
        await session_run(database, polymorphic)
    assert len(seen.statements) == 2
    assert loads(seen)[0] == (None, None)


async def test_compiled_statements_from_the_cache_keep_their_relation(database: Database, watch: Watching) -> None:
    """The second run of the same code takes compiled statements from SQLAlchemy's cache."""
    engine = database.engine()

    def work(connection: Connection) -> None:
        with Session(connection) as session:
            touch(authors(session, selectinload(Author.tags)), "books")

    traces = []
    for _ in range(2):
        with watch() as seen:
            await run(engine, work)
        traces.append(loads(seen))
    assert traces[0] == traces[1] == [*QUERY, ("Author.tags", "eager"), *[("Author.books", "lazy")] * AUTHORS]


@pytest.mark.drivers("asyncpg", "aiosqlite")
async def test_async_sessions_name_their_loads(database: Database, watch: Watching) -> None:
    """`awaitable_attrs`, `refresh` and `run_sync` are the async ways to the same loads."""
    sessions = async_sessionmaker(database.engine(), expire_on_commit=True)
    with watch() as seen:
        async with sessions() as session:
            author = await session.get_one(Author, 1)
            assert len(await author.awaitable_attrs.books) == 2
            assert await author.awaitable_attrs.biography
            await session.refresh(author, ["tags"])
            await session.commit()
            await session.refresh(author)
            await session.run_sync(lambda _: author.books)
    assert loads(seen) == [
        (None, None),
        ("Author.books", "lazy"),
        ("Author.biography", "refresh"),
        ("Author.*", "refresh"),
        ("Author.tags", "lazy"),
        ("Author.*", "refresh"),
        ("Author.books", "lazy"),
    ]
    assert {statement.site.file for statement in seen.statements if statement.site} == {__file__}


@pytest.mark.drivers("asyncpg")
async def test_a_load_that_async_code_cannot_do_is_a_statement_with_an_error(
    database: Database, watch: Watching
) -> None:
    """`MissingGreenlet` is the application's to see; what it tried to load is known.

    Of psycopg and aiosqlite, already the cursor cannot be made: no statement gets as far as to be sent.
    """
    async with AsyncSession(database.engine()) as session:
        author = await session.get_one(Author, 1)
        with watch() as seen, pytest.raises(MissingGreenlet):
            len(author.books)
        await session.rollback()
    assert [(s.relation, s.load, s.error) for s in seen.statements] == [("Author.books", "lazy", "MissingGreenlet")]


async def test_tags_are_what_they_were(database: Database, watch: Watching) -> None:
    """The objects that a watched session loads are those of an unwatched one."""

    def words(session: Session) -> list[str]:
        return [tag.word for author in authors(session, selectinload(Author.tags)) for tag in author.tags]

    found: list[list[str]] = []
    await session_run(database, lambda session: found.append(words(session)))
    with watch():
        await session_run(database, lambda session: found.append(words(session)))
        await session_run(database, lambda session: found.append(list(session.scalars(select(Tag.word)))))
    assert found[0] == found[1] == found[2] == ["tag 1", "tag 2", "tag 3"]
