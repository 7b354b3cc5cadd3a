"""What a scan reads and keeps, to the exact `CREATE INDEX CONCURRENTLY` that it needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from querytoll.explain.catalog import Catalog, Column, Index, Table
from querytoll.explain.predicates import (
    RANGES,
    Predicate,
    SortKey,
    cast_at_fault,
    parse,
    quoted,
    references,
    truncates_time,
    unquoted,
    without_qualifiers,
    words,
)
from querytoll.explain.redact import redact_text

UNVERIFIED = "Unverified: try it with querytoll explain --verify."
"""Said of every suggestion until somebody tried it."""
EXTENSIONS = {"gin_trgm_ops": "pg_trgm"}
"""Operator classes of suggested indexes to the extensions that they belong to."""
Role = Literal["equality", "range", "order", "pattern", "contains"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Lines between a useful index and a useless one.

    Args:
        minimum_rows: smaller tables get no index (pghero: 500).
        enough_rows: no more equality columns once so few rows are left (pghero: 50).
        few_rows: no range column once so few rows are left (ours).
        maximum_columns: equality and range columns of an index (pghero 2, dexter 2; ours 3).
        useless_fraction: a column that keeps more of the rows is left out (pghero: 0.3).
        selective_fraction: below this share of matching rows an index for a pattern beats one for the order (ours).
        partial_fraction: a partial index pays below this share of the rows (ours).
        covering_rows: an index carries the selected columns where an execution returns so many rows (ours).
        covering_width: and where these are no wider, in bytes (ours).
        covering_columns: and no more (ours).
        maximum_partitions: partitions whose statements are spelled out (ours).
    """

    minimum_rows: int = 500
    enough_rows: int = 50
    few_rows: int = 5
    maximum_columns: int = 3
    useless_fraction: float = 0.3
    selective_fraction: float = 0.01
    partial_fraction: float = 0.5
    covering_rows: int = 1_000
    covering_width: int = 32
    covering_columns: int = 2
    maximum_partitions: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An access path that the plan lacks.

    Args:
        node: id of the step that reads the table.
        predicates: every condition on the table in this step, that of the index it uses included.
        order: the wanted order, where the table alone decides it.
        limited: only the first rows in that order are wanted.
        scanned: rows read per execution.
        kept: rows kept per execution.
        output: columns of the table that the statement needs; empty where unknown.
        partitions: partitions read, where the step stands for several.
        index: the index that it uses now.
        table: the table's facts, where the catalog knows it by another name (a partition by its parent's).
    """

    node: int
    relation: str
    schema: str | None = None
    predicates: tuple[Predicate, ...] = ()
    order: tuple[SortKey, ...] = ()
    limited: bool = False
    scanned: float = 0.0
    kept: float = 0.0
    output: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    index: str | None = None
    table: Table | None = None


class Key(NamedTuple):
    """One key of the suggested index and why it stands where it does."""

    sql: str
    name: str
    role: Role
    why: str
    column: str | None = None
    opclass: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An index that would serve a scan.

    Args:
        target: the table as SQL needs it, with its schema unless that is `public`.
        relation: the index as SQL needs it.
        statements: what to run, exactly and in order; not inside a transaction.
        creation: one plain `CREATE INDEX`, for a verification in a transaction.
        definition: the same without its name, as HypoPG takes it.
        why: the order of the columns, one sentence per column.
        notes: what to know besides: redundant indexes, extensions, missing facts.
        bytes: size to expect.
        write_cost: what it costs.
        extension: that it needs, where the catalog does not show it as installed.
    """

    node: int
    table: str
    target: str
    relation: str
    name: str
    statements: tuple[str, ...]
    creation: str
    definition: str
    columns: tuple[str, ...]
    why: tuple[str, ...]
    notes: tuple[str, ...] = ()
    bytes: int | None = None
    write_cost: str = ""
    extension: str | None = None

    @property
    def preparation(self) -> str | None:
        """What to run before its statements."""
        return f"CREATE EXTENSION IF NOT EXISTS {quoted(self.extension)}" if self.extension else None

    @property
    def first(self) -> str:
        """The sentence that says so; empty where there is nothing to run before."""
        return f"Before it run {self.preparation}." if self.extension else ""

    @property
    def sql(self) -> str:
        """The statements as one text."""
        return ";\n".join(self.statements)

    @property
    def summary(self) -> str:
        """The statements in one line, without literals: of a partitioned table the first only."""
        rest = len(self.statements) - 1
        return public(self.statements[0]) + (f" (and {rest} statements for its partitions)" if rest else "")

    @property
    def public(self) -> str:
        """The statements without literals, for everything that is kept."""
        return public(self.sql)


_VOCABULARY = words(
    "microseconds milliseconds second minute hour day week month quarter year decade century utc simple english german"
    " french spanish italian portuguese dutch russian swedish norwegian danish finnish turkish hungarian"
)
"""Units of time and text search configurations: part of an expression, never a value."""


def public(sql: str) -> str:
    """The statement without its literals, those of PostgreSQL's own vocabulary excepted."""
    return redact_text(sql, _VOCABULARY)


_UNORDERED = words("json xml point line lseg box path polygon circle jsonb tsvector tsquery")
_IMMUTABLE = words(
    "lower upper length char_length character_length octet_length md5 abs ceil ceiling floor round trunc mod sign sqrt"
    " substr substring left right btrim ltrim rtrim trim replace reverse translate split_part initcap strpos"
    " regexp_replace coalesce greatest least nullif starts_with jsonb_extract_path jsonb_extract_path_text"
    " jsonb_array_length array_length cardinality sha256 encode"
)
"""Built-in functions that are IMMUTABLE for every argument type (`pg_proc.provolatile`)."""
_OF_TIME = frozenset({"date_trunc", "date_part", "extract", "date"})
_JSON_STEPS = frozenset({"->", "->>", "#>", "#>>"})
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%"})
_WIDTHS = {"smallint": 2, "integer": 4, "date": 4, "real": 4, "boolean": 1, "bigint": 8, "uuid": 16, "text": 24}


_CALL = re.compile(r"([a-z_][\w$]*)\s*\(|\b(EXTRACT|COALESCE|GREATEST|LEAST|NULLIF)\(|\b(AT TIME ZONE)\b")
_MOVING = re.compile(r"\$\d|\b(CURRENT_|LOCALTIME|SESSION_USER)|\b(SubPlan|InitPlan)\b")
_TYPES = frozenset({"numeric", "varying", "character", "bit", "time", "timestamp", "varchar"})


def immutable(predicate: Predicate, column: Column | None, catalog: Catalog | None) -> bool:
    """Whether the left side may be indexed as an expression."""
    type_name = column.type if column else ""
    expression = predicate.expression
    if _MOVING.search(expression):
        return False
    if truncates_time(predicate):
        return _without_zone(type_name)
    if predicate.wrap == "operator":
        plain = type_name.partition("(")[0] in ("", "integer", "bigint", "smallint", "numeric", "real")
        known = predicate.function in _JSON_STEPS or (
            predicate.function in _ARITHMETIC and plain and "interval" not in expression
        )
    else:
        known = predicate.wrap == "function"
    names = {next(filter(None, groups)).lower() for groups in _CALL.findall(expression)} - _TYPES
    return known and all(_fixed(name, predicate, type_name, catalog) for name in names)


def _without_zone(type_name: str) -> bool:
    return "without time zone" in type_name and "with time zone" not in type_name


def _fixed(name: str, predicate: Predicate, type_name: str, catalog: Catalog | None) -> bool:
    """Whether the function is IMMUTABLE with these arguments."""
    if name in _OF_TIME:
        return _without_zone(type_name or predicate.other)
    if name == "to_tsvector":
        return "::regconfig" in predicate.expression
    if catalog and catalog.volatility.get(name):
        return catalog.volatility[name] == "i"
    return name in _IMMUTABLE or name == "at time zone"


def suggest(need: Need, catalog: Catalog | None = None, limits: Limits | None = None) -> Suggestion | None:
    """The index that serves the need, or None where no index is missing, possible or worth it."""
    return _Advisor(need, catalog, limits or Limits()).suggestion()


class _Advisor:
    def __init__(self, need: Need, catalog: Catalog | None, limits: Limits) -> None:
        self.need = need
        self.catalog = catalog
        self.limits = limits
        found = catalog.table(need.relation, need.schema) if catalog else None
        self.table: Table | None = catalog.root(found) if catalog and found else need.table
        known = self.table.rows if self.table else None
        self.rows = max(known or 0.0, need.scanned)
        self.small = known is not None and known < limits.minimum_rows

    def suggestion(self) -> Suggestion | None:
        if self.small or self.rows < self.limits.minimum_rows or self.need.scanned < self.limits.minimum_rows:
            return None
        if any(not self.known(predicate) for predicate in self.need.predicates if predicate.column):
            return None
        keys = self.btree()
        method, where = "btree", self.where(keys)
        if all(key.role in ("range", "order") and not key.opclass for key in keys) and self.selective(keys):
            special = self.pattern() or self.contains()
            if special:
                method, keys, where = special[0], [special[1]], None
        if not keys or self.exists(keys, method, where):
            return None
        return self.build(keys, method, where)

    def selective(self, keys: Sequence[Key]) -> bool:
        """Without order keys always; with them where so few rows match that reading in order finds them late."""
        return not self.ordered(keys) or self.need.kept <= self.limits.selective_fraction * self.need.scanned

    def ordered(self, keys: Sequence[Key]) -> bool:
        return any(key.role == "order" for key in keys)

    def column(self, predicate: Predicate) -> Column | None:
        return self.table.column(predicate.column) if self.table and predicate.column else None

    def known(self, predicate: Predicate) -> bool:
        """The column is one of the table's, so that the reading of the condition is right."""
        return self.table is None or not self.table.columns or self.column(predicate) is not None

    def usable(self, predicate: Predicate) -> bool:
        column = self.column(predicate)
        type_name = column.type if column else ""
        if not predicate.column or not predicate.constant or cast_at_fault(predicate, type_name or None):
            return False
        if predicate.wrap == "collate":
            return False
        if predicate.bare:
            return type_name.partition("(")[0] not in _UNORDERED and not type_name.endswith("[]")
        return immutable(predicate, column, self.catalog)

    def fraction(self, predicate: Predicate) -> float | None:
        """Share of the rows that meets the condition, where the statistics tell."""
        column = self.column(predicate)
        usable = [item for item in self.need.predicates if item.operator]
        if len(usable) == 1 and self.need.scanned and predicate in usable and not predicate.others:
            return self.need.kept / self.need.scanned
        if column is None or predicate.wrap not in ("", "cast"):
            return None
        nulls = column.null_fraction
        if predicate.operator == "IS NULL":
            return nulls
        if predicate.operator == "IS NOT NULL":
            return None if nulls is None else 1 - nulls
        if predicate.operator in ("TRUE", "FALSE") and column.true_fraction is not None:
            return column.true_fraction if predicate.operator == "TRUE" else 1 - column.true_fraction - (nulls or 0.0)
        if predicate.operator in ("=", "ANY") and column.distinct:
            values = column.distinct if column.distinct > 0 else -column.distinct * max(self.rows, 1.0)
            return min(1.0, (5.0 if predicate.operator == "ANY" else 1.0) * (1 - (nulls or 0.0)) / max(values, 1.0))
        return None

    def btree(self) -> list[Key]:
        usable = [predicate for predicate in self.need.predicates if self.usable(predicate)]
        keys = self.equalities([item for item in usable if item.operator in ("=", "ANY")])
        order = self.order(keys)
        if order:
            flags = [item for item in usable if item.operator in ("TRUE", "FALSE", "IS NULL")]
            flags = [item for item in flags if not self.partial(item)]
            keys = [*keys, *self.equalities(flags, taken=keys), *order]
            return keys if len(order) == len(self.need.order) or keys else []
        if len(keys) < self.limits.maximum_columns and not self.enough(keys, self.limits.few_rows):
            ranges = [item for item in usable if item.operator in RANGES and self.key(item).sql not in _sqls(keys)]
            if ranges:
                best = max(ranges, key=lambda item: sum(other.column == item.column for other in ranges))
                keys.append(self.key(best, "range", self._range_reason(keys)))
            prefixes = [item for item in usable if self.prefix(item)]
            if not ranges and prefixes:
                keys.append(self.prefix_key(prefixes[0]))
        if not keys:
            flags = [item for item in usable if item.operator in ("TRUE", "FALSE", "IS NULL", "IS NOT NULL")]
            keys = [self.key(item, "equality", "it selects few rows") for item in flags if self.rare(item)][:1]
        return keys

    def _range_reason(self, keys: Sequence[Key]) -> str:
        return "its range ends the search, so it comes last" if keys else "its range selects few rows"

    def rare(self, predicate: Predicate) -> bool:
        fraction = self.fraction(predicate)
        return fraction is not None and fraction <= self.limits.useless_fraction

    def enough(self, keys: Sequence[Key], rows: int) -> bool:
        left = self.rows
        chosen = set(_sqls(keys))
        for predicate in self.need.predicates:
            if predicate.column and self.key(predicate).sql in chosen:
                left *= self.fraction(predicate) or 0.1
        return bool(keys) and left < rows and self.table is not None

    def equalities(self, candidates: Sequence[Predicate], taken: Sequence[Key] = ()) -> list[Key]:
        """Equality columns, most selective first; those that leave most rows are left out."""
        ranked = sorted(candidates, key=lambda item: (item.operator == "ANY", round(self.fraction(item) or 0.05, 6)))
        keys: list[Key] = []
        for predicate in ranked:
            fraction = self.fraction(predicate)
            key = self.key(predicate, "equality", self._equality_reason(predicate, fraction))
            alone = len(self.need.predicates) == 1
            useless = fraction is not None and fraction > self.limits.useless_fraction and not alone
            full = len(keys) + len(taken) >= self.limits.maximum_columns
            ordering = bool(self.need.order and self.need.limited)
            if useless and not ordering:
                continue
            if (
                full
                or (self.enough(keys, self.limits.enough_rows) and not ordering)
                or key.sql in _sqls([*keys, *taken])
            ):
                continue
            keys.append(key)
        return keys

    def _equality_reason(self, predicate: Predicate, fraction: float | None) -> str:
        what = "compared with a list" if predicate.operator == "ANY" else "compared by equality"
        if predicate.operator in ("IS NULL", "TRUE", "FALSE"):
            what = "tested for one value"
        return f"{what}, {_percent(fraction)} of the rows per value" if fraction is not None else what

    def order(self, keys: Sequence[Key]) -> list[Key]:
        """The columns of the ORDER BY, where the index can give that order and a LIMIT makes it worth it."""
        if not self.need.limited or not self.need.order:
            return []
        listed = any(p.operator == "ANY" and self.key(p).sql in _sqls(keys) for p in self.need.predicates if p.column)
        if listed:
            return []
        found: list[Key] = []
        for term in self.need.order:
            sql = without_qualifiers(term.text)
            column = term.column.column if term.column else None
            if column is None and not sql.startswith(("lower(", "upper(")):
                return []
            if column and self.table and self.table.columns and self.table.column(column) is None:
                return []
            sql = quoted(column) if column else sql
            if sql in _sqls([*keys, *found]):
                continue
            suffix = (" DESC" if term.descending else "") + (f" {term.nulls}" if term.nulls else "")
            why = "gives the order, so that the LIMIT stops early"
            found.append(Key(sql, _slug(sql), "order", why, column, "", suffix))
        return found if len(found) <= self.limits.maximum_columns else []

    def key(self, predicate: Predicate, role: Role = "equality", why: str = "") -> Key:
        column = predicate.column or ""
        if predicate.bare:
            return Key(quoted(column), column, role, why, column)
        expression = predicate.expression
        called = predicate.wrap == "function" and not re.search(r"\bAT TIME ZONE\b|^EXTRACT\(", expression)
        sql = expression if called else f"({expression})"
        what = predicate.function if predicate.wrap == "function" else "expr"
        return Key(sql, _slug(f"{column}_{what}"), role, why)

    def prefix(self, predicate: Predicate) -> bool:
        """A pattern that starts with fixed text."""
        literal = predicate.other.lstrip("(").partition("'")[2]
        return predicate.operator == "~~" and predicate.bare and bool(literal) and literal[0] not in "%_?'"

    def prefix_key(self, predicate: Predicate) -> Key:
        column = self.column(predicate)
        varchar = column is not None and column.type.startswith("character varying")
        opclass = "varchar_pattern_ops" if varchar else "text_pattern_ops"
        why = "the pattern's fixed start is a range, in byte order"
        return self.key(predicate, "range", why)._replace(opclass=opclass)

    def pattern(self) -> tuple[str, Key] | None:
        for predicate in self.need.predicates:
            literal = predicate.other.lstrip("(").partition("'")[2].partition("'")[0]
            plain = re.sub(r"[%_.*^$\\]", "", literal)
            short = len(plain) < 3 and literal != "%..."
            if not predicate.pattern or not predicate.column or not predicate.constant or short:
                continue
            if predicate.bare or (predicate.wrap == "function" and immutable(predicate, None, self.catalog)):
                why = "trigrams find a pattern anywhere in the text"
                return "gin", self.key(predicate, "pattern", why)._replace(opclass="gin_trgm_ops")
        return None

    def contains(self) -> tuple[str, Key] | None:
        for predicate in self.need.predicates:
            if not predicate.column or not predicate.constant:
                continue
            column = self.column(predicate)
            kind = (column.type if column else "") or predicate.other
            operator = predicate.operator
            if operator not in ("@>", "<@", "&&", "@@", "?", "?|", "?&"):
                continue
            key = self.key(predicate, "contains", "GIN finds rows by what they contain")
            if not predicate.bare and not immutable(predicate, column, self.catalog):
                continue
            if "range" in kind:
                return "gist", key._replace(why="GiST finds ranges that overlap")
            if operator == "@>" and "jsonb" in kind:
                return "gin", key._replace(opclass="jsonb_path_ops")
            if operator in ("?", "?|", "?&", "@@") or kind.endswith("[]") or "[]" in kind:
                return "gin", key
        return None

    def partial(self, predicate: Predicate) -> bool:
        """A test without a value, met by so few rows that the rest need not be indexed."""
        if predicate.operator not in ("IS NULL", "IS NOT NULL", "TRUE", "FALSE") or not predicate.bare:
            return False
        fraction = self.fraction(predicate)
        return fraction is not None and fraction < self.limits.partial_fraction

    def where(self, keys: Sequence[Key]) -> str | None:
        tests = []
        for predicate in self.need.predicates:
            if not self.partial(predicate) or not self.usable(predicate):
                continue
            name = quoted(predicate.column or "")
            form = {"TRUE": "{}", "FALSE": "NOT {}"}.get(predicate.operator, "{} " + predicate.operator)
            tests.append(form.format(name))
        return " AND ".join(tests) if tests and keys else None

    def exists(self, keys: Sequence[Key], method: str, where: str | None) -> bool:
        indexes = self.table.indexes if self.table else ()
        fixed = sum(key.role == "equality" for key in keys)
        wanted = [_normal(key.sql) for key in keys]
        equal = {_normal(self.key(item).sql) for item in self.need.predicates if item.operator == "=" and item.column}
        for index in indexes:
            have = [_normal(key) for key in index.keys]
            same = _serves(have, wanted[:fixed], wanted[fixed:], equal)
            whole = index.predicate is None or (where is not None and _normal(index.predicate) == _normal(where))
            if index.valid and index.method == method and whole and same and self.opclasses(index, keys):
                return True
            unique = index.unique and index.predicate is None and have and set(have) <= equal
            if index.valid and method == "btree" and unique:
                return True
        return False

    def opclasses(self, index: Index, keys: Sequence[Key]) -> bool:
        wanted = [key.opclass for key in keys if key.opclass]
        return all(name in index.opclasses for name in wanted)

    def build(self, keys: Sequence[Key], method: str, where: str | None) -> Suggestion:
        need, table = self.need, self.table
        invalid = self.invalid(keys)
        target = table.name if table else need.relation
        schema = (table.schema if table else need.schema) or "public"
        prefix = "" if schema in ("public", "") else f"{quoted(schema)}."
        include = self.include(keys) if method == "btree" and not self.ordered(keys) else ()
        body = self.body(keys, method, include, where)
        name = _name(target, [key.name for key in keys], "partial" if where else "", method)
        partitions = (table.partitions if table else ()) or need.partitions
        names = [key.name for key in keys]
        if invalid:
            statements: tuple[str, ...] = (f"REINDEX INDEX CONCURRENTLY {prefix}{quoted(invalid.name)}",)
        elif partitions:
            statements = self.partitioned(name, target if table else None, partitions, prefix, body, names)
        else:
            statements = (f"CREATE INDEX CONCURRENTLY {quoted(name)} ON {prefix}{quoted(target)} {body}",)
        definition = f"CREATE INDEX ON {prefix}{quoted(target)} {body}"
        return Suggestion(
            node=need.node,
            table=target,
            target=f"{prefix}{quoted(target)}",
            relation=f"{prefix}{quoted(name)}",
            name=invalid.name if invalid else name,
            statements=statements,
            creation=f"CREATE INDEX {quoted(name)} ON {prefix}{quoted(target)} {body}",
            definition=definition,
            columns=tuple(key.sql for key in keys),
            why=tuple(f"{position}. {public(key.sql)}: {key.why}" for position, key in enumerate(keys, 1)),
            notes=tuple(self.notes(keys, method, where, include, invalid, bool(partitions))),
            bytes=self.size(keys, include, method, where),
            write_cost=self.write_cost(keys, where),
            extension=self.extension(keys),
        )

    def extension(self, keys: Sequence[Key]) -> str | None:
        installed = self.catalog.extensions if self.catalog else ()
        needed = (EXTENSIONS[key.opclass] for key in keys if key.opclass in EXTENSIONS)
        return next((name for name in needed if name not in installed), None)

    def body(self, keys: Sequence[Key], method: str, include: Sequence[str], where: str | None) -> str:
        using = "" if method == "btree" else f"USING {method} "
        parts = [f"{key.sql}{' ' + key.opclass if key.opclass else ''}{key.suffix}" for key in keys]
        carried = f" INCLUDE ({', '.join(map(quoted, include))})" if include else ""
        return f"{using}({', '.join(parts)}){carried}{f' WHERE {where}' if where else ''}"

    def partitioned(
        self, name: str, parent: str | None, partitions: Sequence[str], prefix: str, body: str, keys: Sequence[str]
    ) -> tuple[str, ...]:
        """A partitioned parent takes no CONCURRENTLY: build per partition, then attach."""
        statements = [f"CREATE INDEX {quoted(name)} ON ONLY {prefix}{quoted(parent)} {body}"] if parent else []
        for partition in partitions[: self.limits.maximum_partitions]:
            part = _name(partition, keys, "", "btree")
            statements.append(f"CREATE INDEX CONCURRENTLY {quoted(part)} ON {prefix}{quoted(partition)} {body}")
            if parent:
                statements.append(f"ALTER INDEX {prefix}{quoted(name)} ATTACH PARTITION {prefix}{quoted(part)}")
        return tuple(statements)

    def invalid(self, keys: Sequence[Key]) -> Index | None:
        wanted = [_normal(key.sql) for key in keys]
        for index in self.table.indexes if self.table else ():
            if not index.valid and [_normal(key) for key in index.keys[: len(wanted)]] == wanted:
                return index
        return None

    def include(self, keys: Sequence[Key]) -> tuple[str, ...]:
        """Selected columns that are worth carrying, so that the table need not be read."""
        need, limits, table = self.need, self.limits, self.table
        used = {predicate.column for predicate in need.predicates if predicate.column}
        understood = all(predicate.operator for predicate in need.predicates)
        have = {key.column for key in keys}
        extra = sorted((set(need.output) | (used if understood else set())) - have - {None}, key=str)
        if not need.output or not table or not understood or need.kept < limits.covering_rows or not extra:
            return ()
        columns = [table.column(str(name)) for name in extra]
        width = sum(self.width(column) for column in columns)
        fits = len(extra) <= limits.covering_columns and width <= limits.covering_width and None not in columns
        return tuple(str(name) for name in extra) if fits else ()

    def width(self, column: Column | None) -> int:
        if column is None:
            return 16
        return column.width or _WIDTHS.get(column.type.partition("(")[0], 8)

    def size(self, keys: Sequence[Key], include: Sequence[str], method: str, where: str | None) -> int | None:
        if method != "btree":
            return None
        names = [*(key.column for key in keys), *include]
        data = sum(self.width(self.table.column(name) if self.table and name else None) for name in names)
        share = 1.0
        for predicate in self.need.predicates if where else ():
            if self.partial(predicate):
                share *= self.fraction(predicate) or 1.0
        return int(self.rows * share * (-(-data // 8) * 8 + 12) / 0.9) + 8192

    def write_cost(self, keys: Sequence[Key], where: str | None) -> str:
        columns = sorted({key.column for key in keys if key.column} | set(_inside(keys)))
        cost = f"one more index entry per INSERT, and per UPDATE of {', '.join(columns) or 'its columns'}"
        table = self.table
        if table and table.writes is not None and table.scans is not None:
            cost += f"; since the last reset of statistics {table.writes} rows were written, {table.scans} scans ran"
        return cost + ("; rows outside its WHERE cost nothing" if where else "")

    def notes(
        self,
        keys: Sequence[Key],
        method: str,
        where: str | None,
        include: Sequence[str],
        invalid: Index | None,
        partitioned: bool,
    ) -> Iterable[str]:
        if invalid:
            yield f"{invalid.name} has these columns but is INVALID: a CREATE INDEX CONCURRENTLY failed. Rebuild it"
        if self.table is None:
            yield "existing indexes are unknown: check that none has these leading columns"
        if partitioned:
            yield "the parent takes no CONCURRENTLY: each partition is indexed on its own and attached"
        if any(key.opclass.endswith("_pattern_ops") for key in keys):
            yield "the operator class serves LIKE only; in a database with collation C a plain index does"
        if where:
            yield "partial: only statements whose condition implies its WHERE can use it"
        if include:
            yield f"carries {', '.join(include)}, so that the table itself is not read where it was vacuumed"
        wanted = [_normal(key.sql) for key in keys]
        for index in self.table.indexes if self.table else ():
            have = [_normal(key) for key in index.keys]
            plain = not index.unique and index.predicate is None and index.valid and index.method == method == "btree"
            if plain and not where and len(have) < len(wanted) and wanted[: len(have)] == have:
                yield f"makes {index.name} redundant"


def _serves(have: Sequence[str], fixed: Sequence[str], rest: Sequence[str], equal: set[str]) -> bool:
    """The keys begin with columns that the statement compares by equality, ours among them, and go on like ours."""
    length = 0
    while length < len(have) and have[length] in equal.union(fixed) and have[length] not in rest:
        length += 1
    return set(fixed) <= set(have[:length]) and list(have[length : length + len(rest)]) == list(rest)


def _inside(keys: Sequence[Key]) -> Iterable[str]:
    for key in keys:
        if key.column is None:
            yield from (ref.column for ref in references(parse(key.sql)))


def _sqls(keys: Iterable[Key]) -> list[str]:
    return [key.sql for key in keys]


def _normal(sql: str) -> str:
    """Equal for two spellings of one key: `((a ->> 'b'::text))` and `a ->> 'b'::text`."""
    return re.sub(r"[\s()\"]|::(?:text|character varying)", "", sql)


def _percent(fraction: float) -> str:
    percent = fraction * 100
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.2g} %"


def _slug(sql: str) -> str:
    found = re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"'[^']*'|::[\w ]+", " ", sql.lower()))
    return "_".join(found) or "expression"


def _name(table: str, parts: Sequence[str], suffix: str, method: str) -> str:
    """`ix_orders_status_created_at`, SQLAlchemy's usual form, cut to the 63 bytes of an identifier."""
    pieces = ["ix", table, *(part.removeprefix("ix_") for part in parts), suffix, method if method != "btree" else ""]
    name = re.sub(r"\W+", "_", "_".join(unquoted(piece) for piece in pieces if piece))
    if len(name.encode()) <= 63:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name.encode()[:54].decode(errors='ignore')}_{digest}"
