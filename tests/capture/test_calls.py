"""Calls that are remembered with their engine."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, text
from sqlalchemy.orm import Mapped, Session, mapped_column, registry, relationship
from sqlalchemy.pool import StaticPool

from querytoll import callsite
from querytoll.callsite import CallSites
from querytoll.capture import Capture, calls, connections, stays
from querytoll.capture.calls import Call
from querytoll.capture.stays import Tap
from tests.capture.watching import Watch


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    yield engine
    engine.dispose()


@pytest.fixture
def capture() -> Capture:
    return Capture(CallSites(Path(__file__).parent))


def known(engine: Engine) -> dict[Any, Call]:
    tap: Tap = getattr(engine.dialect, "_querytoll")  # noqa: B009 - of no type that mypy knows
    return tap.calls


def test_a_line_makes_one_call(engine: Engine, capture: Capture) -> None:
    """However often it sends a statement, in whatever request and transaction; another line makes another."""
    for _ in range(3):
        with Watch(capture), engine.connect() as connection:
            for _ in range(3):
                connection.execute(text("SELECT 1"))
            connection.rollback()
            connection.execute(text("SELECT 1"))
    assert len(known(engine)) == 2


def test_calls_are_bounded(engine: Engine, capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither endless texts nor very long ones fill the memory, nor do stacks; each statement is seen."""
    monkeypatch.setattr(stays, "MAX_CALLS", 8)
    monkeypatch.setattr(callsite, "_MAX_WAYS", 8)
    with Watch(capture) as seen, engine.connect() as connection:
        for number in range(50):
            connection.execute(text(f"SELECT {number}"))
        connection.execute(text(f"SELECT 1 -- {'x' * 5_000}"))
    assert len(seen.statements) == 51
    assert 0 < len(known(engine)) <= 8
    assert max(len(key[0]) for key in known(engine)) <= stays.MAX_TEXT
    assert len(capture.sites._stacks) <= 8


def test_a_call_keeps_no_class_of_the_application(engine: Engine, capture: Capture) -> None:
    """Models that are made anew for each test or tenant go, however they were loaded."""

    def load() -> weakref.ref[type]:
        mapping = registry()

        class Parent:
            __tablename__ = "parents"
            id: Mapped[int] = mapped_column(primary_key=True)
            children: Mapped[list[Child]] = relationship()

        class Child:
            __tablename__ = "children"
            id: Mapped[int] = mapped_column(primary_key=True)
            parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id"))

        Parent.__annotations__["children"] = Mapped[list[Child]]
        for each in (Parent, Child):
            mapping.mapped(each)
        mapping.metadata.create_all(engine)
        with Watch(capture) as seen, Session(engine) as session:
            session.add(Parent(id=1, children=[Child(id=1)]))  # type: ignore[call-arg]
            session.commit()
            assert len(session.get_one(Parent, 1).children) == 1
        assert "Parent.children" in [each.relation for each in seen.statements]
        mapping.metadata.drop_all(engine)
        mapping.dispose()
        return weakref.ref(Parent)

    gone = load()
    engine.clear_compiled_cache()
    gc.collect()
    assert gone() is None


def test_what_has_a_shape_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that judge the same call at once see all of it, or read it themselves."""
    reading, judged = threading.Event(), threading.Event()

    def slowly(subject: Any) -> str:
        reading.set()
        judged.wait(5)
        return "Order.items"

    monkeypatch.setattr(calls, "relation", slowly)
    call = Call("SELECT 1", (), Tap("shop", is_async=True), subject=(Orders, "lazy"))
    thread = threading.Thread(target=call.read)
    thread.start()
    reading.wait(5)
    assert not hasattr(call, "shape")
    judged.set()
    thread.join()
    assert (call.relation, call.load, call.shape.operation) == ("Order.items", "lazy", "SELECT")


class Orders:
    """Stands for a relationship's property."""


def test_statements_of_an_unknown_engine_are_told_of_their_own(engine: Engine, capture: Capture) -> None:
    """Two engines remember their calls apart."""
    other = create_engine("sqlite://", poolclass=StaticPool)
    with Watch(capture) as seen:
        for each in (engine, other, engine):
            _ask(each)
    names = [connections.engine_name(each) for each in (engine, other, engine)]
    assert [each.engine for each in seen.statements] == names
    assert set(known(engine).values()).isdisjoint(known(other).values())
    other.dispose()


def _ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
