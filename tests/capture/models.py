"""The tables of these tests: authors with books, tags and a profile, and a shelf to write on."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table, Text, insert
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column, relationship

AUTHORS = 3
BOOKS_EACH = 2


class Base(AsyncAttrs, DeclarativeBase):
    """Root of the mapping."""


tagging = Table(
    "tagging",
    Base.metadata,
    Column("author_id", ForeignKey("authors.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    biography: Mapped[str] = deferred(mapped_column(Text))
    portrait: Mapped[str] = deferred(mapped_column(Text, default="", server_default=""), group="looks")
    signature: Mapped[str] = deferred(mapped_column(Text, default="", server_default=""), group="looks")
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")
    tags: Mapped[list[Tag]] = relationship(secondary=tagging)

    @property
    def titles(self) -> list[str]:
        return [book.title for book in self.books]


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="book")
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "book"}  # noqa: RUF012 - read by the mapper


class Atlas(Book):
    __tablename__ = "atlases"

    id: Mapped[int] = mapped_column(ForeignKey("books.id"), primary_key=True)
    maps: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "atlas"}  # noqa: RUF012 - read by the mapper


class Tag(Base):
    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(unique=True)


def create(connection: Connection) -> None:
    """Make the tables and their rows: each author has two books, the second of which is an atlas, and one tag."""
    Base.metadata.create_all(connection)
    authors = range(1, AUTHORS + 1)
    connection.execute(insert(Author), [{"id": n, "name": f"author {n}", "biography": "long"} for n in authors])
    books = [
        {"id": n * 10 + m, "kind": ("book", "atlas")[m], "title": f"book {n}.{m}", "author_id": n}
        for n in authors
        for m in range(BOOKS_EACH)
    ]
    connection.execute(insert(Book.__table__), books)
    connection.execute(insert(Atlas.__table__), [{"id": n * 10 + 1, "maps": n} for n in authors])
    connection.execute(insert(Tag), [{"id": n, "word": f"tag {n}"} for n in authors])
    connection.execute(insert(tagging), [{"author_id": n, "tag_id": n} for n in authors])
