"""Which eagerly loaded relationships and which columns a request read; switched on by `Settings.watch_loads`.

While it is on, the mapped classes that a request loads have descriptors that note reads. Objects are held by weak
references only, so that sessions forget and load them as they would without us.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from querytoll.capture import orm
from querytoll.capture.scope import current
from querytoll.model import Loaded, Statement, Unread

if TYPE_CHECKING:
    from querytoll.capture.calls import Row

MAX_INSTANCES: Final = 20_000
"""Instances that a window watches; beyond, nothing is proven."""

# What reads an object past its descriptors. Copies share the state or fire the event `pickle`, and need no mention.
_PAST: Final = re.compile(
    r"__dict__|\bvars\(|\bjsonable_encoder\b|\bloaded_value\b|\bget_attribute\b|\bget_history\b|\)\.dict\b(?!\()"
)


class Returned(NamedTuple):
    """What is known of how a request's answer is made of objects: by attribute access, through a response model.

    Args:
        names: fields of the response model and of the models in it, aliases included.
        files: source files of the endpoint and of the models.
    """

    names: frozenset[str]
    files: frozenset[str]


class _Sent(NamedTuple):
    row: Row
    relations: tuple[tuple[Any, bool], ...]


@dataclass(slots=True)
class _Seen:
    """Instances of one mapped hierarchy."""

    instances: list[Any] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    columns: dict[str, int] = field(default_factory=dict)
    sent: _Sent | None = None
    apart: bool = False


class Reads:
    """What one window loaded and read."""

    __slots__ = ("_count", "_doubt", "_seen", "_sent", "_strangers", "_used")

    def __init__(self) -> None:
        self._sent: dict[Any, list[_Sent]] = {}
        self._seen: dict[Any, _Seen] = {}
        self._used: set[Any] = set()
        self._strangers: set[Any] = set()
        self._count = 0
        self._doubt = False

    def doubt(self) -> None:
        """Prove nothing of this window."""
        self._doubt = True

    def sent(self, row: Row, compile_state: Any, relations: tuple[tuple[Any, bool], ...]) -> None:
        """Note a statement that loads entities."""
        self._sent.setdefault(compile_state, []).append(_Sent(row, relations))

    def loaded(self, state: Any, compile_state: Any) -> tuple[Any, ...]:
        """Note a new instance, and return the relationships that it may have come through."""
        self._count += 1
        sent = self._sent.get(compile_state)
        if sent is None or self._count > MAX_INSTANCES:
            self.doubt()
            return ()
        mapper = state.mapper
        seen = self._seen.setdefault(mapper.base_mapper, _Seen())
        seen.instances.append(state.obj)
        through = tuple(prop for prop, _ in sent[-1].relations if prop.mapper.base_mapper is mapper.base_mapper)
        # Columns are judged of classes that one query of the application's own loads, and nothing else.
        seen.sent = seen.sent or sent[-1]
        seen.apart |= bool(through) or seen.sent is not sent[-1] or mapper is not mapper.base_mapper
        for key, size in orm.column_sizes(state):
            seen.columns[key] = seen.columns.get(key, 0) + size
        return through

    def read(self, mapper: Any, key: str, through: tuple[Any, ...] | None) -> None:
        """Note a read or a change; of an instance that was not seen to be loaded, `through` is None."""
        self._seen.setdefault(mapper.base_mapper, _Seen()).read.add(key)
        if through is None:
            self._strangers.add(mapper.base_mapper)
        else:
            self._used.update(through)

    def facts(
        self, statements: Iterable[tuple[Row, Statement]], returned: Returned | None
    ) -> tuple[tuple[Loaded, ...], tuple[Unread, ...]]:
        """Return what was proven to be loaded and never read."""
        known = {id(row): statement for row, statement in statements}
        if self._doubt or returned is None or any(statement.streamed for statement in known.values()):
            return (), ()
        return tuple(self._unread_relations(known, returned)), tuple(self._unread_columns(known, returned))

    def forget(self) -> None:
        """Let go of what was noted."""
        self.doubt()
        for noted in (self._sent, self._seen, self._used, self._strangers):
            noted.clear()

    def _unread_relations(self, known: dict[int, Statement], returned: Returned) -> Iterator[Loaded]:
        loads: dict[Any, list[tuple[Statement | None, bool]]] = {}
        for sent in [each for many in self._sent.values() for each in many]:
            for prop, joined in sent.relations:
                loads.setdefault(prop, []).append((known.get(id(sent.row)), joined))
        for prop, sources in loads.items():
            statements = [statement for statement, _ in sources if statement is not None]
            if len(statements) < len(sources) or not self._is_unread(prop, returned, statements):
                continue
            joined = sources[0][1]
            yield Loaded(
                relation=f"{prop.parent.class_.__name__}.{prop.key}",
                statement=statements[0],
                joined=joined,
                mapped=orm.is_eager(prop),
                entities=len(self._seen[prop.parent.base_mapper].instances),
                statements=len(statements),
                seconds=0.0 if joined else sum(statement.elapsed for statement in statements),
            )

    def _is_unread(self, prop: Any, returned: Returned, statements: list[Statement]) -> bool:
        parents, base = self._seen.get(prop.parent.base_mapper), prop.mapper.base_mapper
        return (
            parents is not None
            and prop not in self._used
            and prop.key not in returned.names
            and prop.key not in parents.read
            and bool(parents.read)
            and not self._strangers & {base, prop.parent.base_mapper}
            and self._is_over(prop.parent.base_mapper, base)
            and _is_plain([each.class_ for each in (prop.parent, prop.mapper) if self._has(each)], returned, statements)
        )

    def _has(self, mapper: Any) -> bool:
        return mapper.base_mapper in self._seen

    def _is_over(self, *bases: Any) -> bool:
        """Tell whether all instances are gone: what lives on in a cache, or on the request, may be read later."""
        return all(ref() is None for base in bases if base in self._seen for ref in self._seen[base].instances)

    def _unread_columns(self, known: dict[int, Statement], returned: Returned) -> Iterator[Unread]:
        for base, seen in self._seen.items():
            statement = known.get(id(seen.sent.row)) if seen.sent is not None else None
            if statement is None or seen.apart or not seen.read or base in self._strangers:
                continue
            free = orm.free_columns(base)
            unread = sorted(free & seen.columns.keys() - seen.read - returned.names)
            if unread and self._is_over(base) and _is_plain((base.class_,), returned, [statement]):
                yield Unread(
                    entity=base.class_.__name__,
                    statement=statement,
                    columns=tuple(unread),
                    loaded=len(seen.columns),
                    entities=len(seen.instances),
                    size=sum(seen.columns[key] for key in unread),
                )


_origins: Final[WeakKeyDictionary[Any, tuple[tuple[Reads, tuple[Any, ...]], ...]]] = WeakKeyDictionary()
_watched: Final[WeakSet[Any]] = WeakSet()
_PLAIN: Final[Any] = InstrumentedAttribute
_OWN: Final = str(Path(__file__).parents[1]) + os.sep
_INSTALLED: Final = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), _OWN)
"""Code whose imports do not read the application's objects on their own account."""


class Watched(InstrumentedAttribute[Any]):
    """SQLAlchemy's descriptor, which also notes that it was used."""

    __slots__ = ()
    inherit_cache = True

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is not None:
            _note(instance, self)
        return super().__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        _note(instance, self)
        super().__set__(instance, value)

    def __delete__(self, instance: Any) -> None:
        _note(instance, self)
        super().__delete__(instance)


def attach() -> None:
    """Watch what windows load from now on; again is a no-op."""
    for target, name, listener, options in _LISTENERS:
        if not event.contains(target, name, listener):
            event.listen(target, name, listener, **options)


def detach() -> None:
    """Undo `attach`, and give the mapped classes their own descriptors back."""
    for target, name, listener, _ in _LISTENERS:
        if event.contains(target, name, listener):
            event.remove(target, name, listener)
    for manager in list(_watched):
        for attribute in orm.attributes(manager):
            if type(attribute) is Watched:
                attribute.__class__ = _PLAIN
    _watched.clear()


def _open() -> list[Any]:
    scope = current.get()
    return [] if scope is None else [window for window in scope.windows if window.reads is not None]


def _note(instance: Any, attribute: Any) -> None:
    """Tell the windows that loaded the instance, from whatever thread; and those that are open here."""
    try:
        origins = _origins.get(orm.state_of(instance), ())
        for reads, through in origins:
            reads.read(attribute.parent, attribute.key, through)
        known = {id(reads) for reads, _ in origins}
        for window in _open():
            if id(window.reads) not in known:
                window.reads.read(attribute.parent, attribute.key, None)
    except Exception as fault:
        for window in _open():
            window.reads.doubt()
            window.capture.faults.caught("capture", fault)


def _on_sent(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: Any) -> None:
    windows = _open()
    loads = orm.loads(context) if windows else None
    if loads is None:
        return
    compile_state, relations = loads
    for window in windows:
        try:
            row = window.rows[-1] if window.rows else None
            if row is None or row[0].sql != statement:
                window.reads.doubt()  # dropped, of an engine that is not seen, or another thread's came between
            else:
                window.reads.sent(row, compile_state, relations)
        except Exception as fault:
            window.reads.doubt()
            window.capture.faults.caught("capture", fault)


def _on_load(state: Any, context: Any) -> None:
    windows = _open()
    if not windows:
        return
    if context is None:  # merged without a query
        _on_doubt(state)
        return
    origins = []
    for window in windows:
        try:
            _watch(state.manager)
            origins.append((window.reads, window.reads.loaded(state, context.compile_state)))
        except Exception as fault:
            window.reads.doubt()
            window.capture.faults.caught("capture", fault)
    _origins[state] = tuple(origins)


def _on_doubt(state: Any, *_: Any) -> None:
    """Expired objects load again what they had; pickled ones are read elsewhere."""
    for reads, _through in _origins.get(state, ()):
        reads.doubt()
    for window in _open():
        window.reads.doubt()


_LISTENERS: Final[tuple[tuple[Any, str, Any, dict[str, bool]], ...]] = (
    (Engine, "after_cursor_execute", _on_sent, {}),
    (Mapper, "load", _on_load, {"raw": True}),
    (Mapper, "refresh", _on_doubt, {"raw": True}),
    (Mapper, "expire", _on_doubt, {"raw": True}),
    (Mapper, "pickle", _on_doubt, {"raw": True}),
)


def _watch(manager: Any) -> None:
    if manager not in _watched:
        for attribute in orm.attributes(manager):
            if type(attribute) is _PLAIN:
                attribute.__class__ = Watched
        _watched.add(manager)


def _is_plain(classes: Iterable[Any], returned: Returned, statements: Iterable[Statement]) -> bool:
    """Tell whether the code at hand reads the classes by attribute access alone."""
    files = {*returned.files, *(site.file for statement in statements for site in statement.stack)}
    for each in classes:
        if not orm.is_watched(each, Watched) or "__getattribute__" in _own_names(each):
            return False
        files.update(_files(each))
    return all(_reads_by_attribute(file) for file in _code_at_hand(files))


def _own_names(each: Any) -> Collection[str]:
    return {name for owner in each.__mro__[:-1] for name in vars(owner)}


def _files(each: Any) -> Iterator[str]:
    for owner in each.__mro__[:-1]:
        if owner.__module__.partition(".")[0] not in ("sqlalchemy", "typing", "builtins"):
            yield getattr(sys.modules.get(owner.__module__), "__file__", None) or ""


def _code_at_hand(files: Iterable[str]) -> set[str]:
    """Return the files, and the application's that they import, at whatever depth."""
    pending, known = set(files), set[str]()
    while pending:
        file = pending.pop()
        known.add(file)
        pending |= _imports(file) - known
    return known


@lru_cache(maxsize=1_000)
def _imports(file: str) -> frozenset[str]:
    package = next((each.__package__ for each in _modules() if getattr(each, "__file__", None) == file), None)
    names: set[str] = set()
    for node in ast.walk(ast.parse("".join(linecache.getlines(file)))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return frozenset(each for each in files if each is not None and _is_application(each))


def _modules() -> list[Any]:
    return list(sys.modules.values())


def _is_application(file: str) -> bool:
    return not file.startswith(_INSTALLED) and f"{os.sep}site-packages{os.sep}" not in file


@lru_cache(maxsize=1_000)
def _reads_by_attribute(file: str) -> bool:
    source = "".join(linecache.getlines(file))
    return bool(source) and _PAST.search(source) is None
