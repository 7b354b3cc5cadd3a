"""What SQLAlchemy's ORM says of a statement; every private name of it is read here and nowhere else."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from querytoll.model import Load

Subject = tuple[Any, Load]


def subject(context: Any) -> Subject | None:
    """Return what a statement loads, and how: a relationship's property, or (class, attributes) of a refresh.

    None for a statement of the application's own. Reads only; naming is left to `relation`, after the request.
    """
    load = context.execution_options.get("_sa_orm_load_options")
    if load is None:
        return None
    try:
        if load._lazy_loaded_from is not None:
            return _last(context), "lazy"
        state = load._refresh_state
        if state is not None:
            return (state.class_, context.compiled.compile_state.compile_options._only_load_props), "refresh"
        prop = _last(context)
        return None if prop is None else (prop, "eager")
    except AttributeError:
        return None  # better a statement without relation than none; the tests tell when a name has moved


def relation(subject: Subject | None) -> str | None:
    """Name it: `Order.items`, `Order.note`, `Order.*` for a refresh of several attributes."""
    if subject is None:
        return None
    target, load = subject
    if load != "refresh":
        return None if target is None else f"{target.parent.class_.__name__}.{target.key}"
    owner, names = target
    return f"{owner.__name__}.{next(iter(names)) if names and len(names) == 1 else '*'}"


def _last(context: Any) -> Any:
    path = context.compiled.compile_state.current_path.path
    return path[-1] if path and hasattr(path[-1], "key") else None


def entities(context: Any, cursor: Any) -> int:
    """Return the distinct rows of the most frequent entity in a joined eager load of collections; 0 for anything else.

    Where it is far below the number of rows, collections have multiplied each other.
    """
    compiled = context.compiled
    rows = _rows(cursor)
    if rows is None or not getattr(getattr(compiled, "compile_state", None), "multi_row_eager_loaders", False):
        return 0
    keys: dict[str, list[int]] = {}
    for position, column in enumerate(compiled._result_columns):
        source = next((each for each in column.objects if getattr(each, "primary_key", False) is True), None)
        if source is not None:
            keys.setdefault(_source(column, source), []).append(position)
    return max((len({tuple(row[at] for at in positions) for row in rows}) for positions in keys.values()), default=0)


def _rows(cursor: Any) -> Any:
    """Return the rows that a cursor has fetched: of SQLAlchemy's async cursors, or psycopg's result."""
    result = getattr(cursor, "pgresult", None)
    if result is None:
        return getattr(cursor, "_rows", None)
    return [_PgRow(result, number) for number in range(result.ntuples)]


class _PgRow:
    """A row of psycopg's result, as bytes."""

    __slots__ = ("_number", "_result")

    def __init__(self, result: Any, number: int) -> None:
        self._result = result
        self._number = number

    def __getitem__(self, column: int) -> bytes | None:
        value: bytes | None = self._result.get_value(self._number, column)
        return value


def size(cursor: Any, rows: int) -> int:
    """Estimate the bytes of text and binary values in the rows from the first few; 0 where they are not at hand."""
    fetched = getattr(cursor, "_rows", None)
    if not fetched:
        return 0
    sample = [row for row, _ in zip(fetched, range(5), strict=False)]
    return rows * sum(len(value) for row in sample for value in row if isinstance(value, (str, bytes))) // len(sample)


def loading_now() -> str | None:
    """Return the relationship or attribute whose load is on this thread's stack; for exceptions, not for every day."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if name == "_load_for_state" and module.startswith("sqlalchemy.orm"):
            prop = getattr(frame.f_locals.get("self"), "parent_property", None)
            return None if prop is None else str(prop)
        if name == "load_scalar_attributes" and module.startswith("sqlalchemy.orm"):
            names = sorted(frame.f_locals.get("attribute_names") or ())
            owner = getattr(frame.f_locals.get("mapper"), "class_", None)
            return None if owner is None else f"{owner.__name__}.{names[0] if len(names) == 1 else '*'}"
        frame = frame.f_back
    return None


def _source(column: Any, source: Any) -> str:
    table = getattr(source, "table", None)
    name = str(getattr(table, "key", "") or getattr(table, "name", "") or "")
    return name or next((each for each in column.objects if isinstance(each, str) and "_" in each), column.keyname)


def loads(context: Any) -> tuple[Any, tuple[tuple[Any, bool], ...]] | None:
    """Return what compiled a statement that loads entities, and the relationships that it loads eagerly.

    Each with whether it is joined to its parents; a collection that the application joined itself
    (`contains_eager`) is not among them. None for anything but an ORM query.
    """
    state = getattr(context.compiled, "compile_state", None)
    if not hasattr(state, "current_path"):
        return None
    relations = [(path[-1], True) for name, path in _eager_paths(state) if name == "eager_row_processor"]
    what = subject(context)
    if what is not None and what[1] == "eager":
        relations.append((what[0], False))
    return state, tuple(relations)


def _eager_paths(state: Any) -> list[tuple[str, Any]]:
    return [key for key in state.attributes if isinstance(key, tuple) and len(key) == 2 and key[1]]


def attributes(manager: Any) -> list[Any]:
    """Return the descriptors of a mapped class."""
    return list(manager.values())


def state_of(instance: Any) -> Any:
    """Return an instance's state."""
    return instance.__dict__.get("_sa_instance_state")


def is_eager(prop: Any) -> bool:
    """Tell whether a relationship is eager by its mapping, not by an option of the statement."""
    return prop.lazy in ("joined", "selectin", "subquery", False)


def is_watched(cls: Any, descriptor: type) -> bool:
    """Tell whether every mapped attribute is read through the descriptor: no dataclass, no Pydantic model."""
    if hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__pydantic_fields__"):
        return False
    return all(type(attribute) is descriptor for attribute in cls.__mapper__.class_manager.values())


def column_sizes(state: Any) -> list[tuple[str, int]]:
    """Return the loaded columns of an instance, and the bytes of those that are text or binary."""
    values = state.dict
    return [
        (prop.key, len(value) if isinstance(value := values[prop.key], (str, bytes)) else 0)
        for prop in state.mapper.column_attrs
        if prop.key in values
    ]


def free_columns(mapper: Any) -> frozenset[str]:
    """Return the columns that SQLAlchemy itself has no use for: no keys, versions, discriminators."""
    if len(list(mapper.self_and_descendants)) > 1 or mapper.composites:
        return frozenset()
    used = {mapper.version_id_col, mapper.polymorphic_on, *mapper.primary_key}
    for prop in mapper.relationships:
        used |= set(prop.local_columns)
    return frozenset(
        prop.key
        for prop in mapper.column_attrs
        if not used & set(prop.columns) and not any(getattr(column, "foreign_keys", None) for column in prop.columns)
    )
