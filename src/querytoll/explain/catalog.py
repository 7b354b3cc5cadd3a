"""Facts about tables, columns and indexes: from a live PostgreSQL, and to and from JSON; no values of user data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from querytoll.errors import QuerytollError
from querytoll.explain.predicates import unquoted


class CatalogError(QuerytollError, ValueError):
    """The document is no catalog; says what is wrong and what it should look like."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what ANALYZE knows of it.

    Args:
        distinct: number of different values; negative: the share of the row count (`pg_stats.n_distinct`).
        null_fraction: share of NULLs.
        common: frequencies of the most common values, without the values.
        true_fraction: share of TRUE, of a boolean column.
        width: bytes in the mean.
        correlation: of the values with their place on disk, -1 to 1.
    """

    name: str
    type: str = ""
    nullable: bool = True
    distinct: float | None = None
    null_fraction: float | None = None
    common: tuple[float, ...] = ()
    true_fraction: float | None = None
    width: int | None = None
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An index.

    Args:
        keys: key columns, or expressions as PostgreSQL prints them.
        include: columns carried along.
        descending: per key.
        predicate: condition of a partial index.
        opclasses: per key, empty where it is the type's default.
        bytes: size on disk.
    """

    name: str
    keys: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    unique: bool = False
    valid: bool = True
    method: str = "btree"
    predicate: str | None = None
    descending: tuple[bool, ...] = ()
    opclasses: tuple[str, ...] = ()
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the table that holds it."""

    name: str
    columns: tuple[str, ...]
    references: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Args:
        kind: `table`, `partitioned`, `partition`, `materialized view`, `foreign table`.
        rows: the planner's row count (`reltuples`); None where it was never analyzed.
        parent: the partitioned table that this is a partition of, its root.
        partition_key: columns or expressions of the partition key.
        partitions: names of the leaf partitions.
        writes: rows inserted, updated and deleted since the statistics were reset.
        scans: scans since then, sequential and by index.
    """

    name: str
    schema: str = "public"
    kind: str = "table"
    rows: float | None = None
    pages: int | None = None
    parent: str | None = None
    partition_key: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    writes: int | None = None
    scans: int | None = None

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def index(self, name: str) -> Index | None:
        """The index of that name."""
        return next((index for index in self.indexes if index.name == name), None)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What is known of a database's schema.

    Args:
        volatility: `i`, `s` or `v` by function name; of overloaded functions the most volatile.
        extensions: installed extensions.
        version: `server_version_num`.
    """

    tables: tuple[Table, ...] = ()
    volatility: Mapping[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    version: int | None = None

    def table(self, name: str | None, schema: str | None = None) -> Table | None:
        """The table of that name; in any schema where none is given or none matches it."""
        named = [table for table in self.tables if table.name == name]
        exact = [table for table in named if schema is None or table.schema == schema]
        return next(iter(exact or named), None)

    def root(self, table: Table) -> Table:
        """The partitioned table that this is a part of, else the table itself."""
        return (self.table(table.parent, table.schema) if table.parent else None) or table

    def owner(self, index: str) -> Table | None:
        """The table that has the index."""
        return next((table for table in self.tables if table.index(index)), None)

    def to_json(self) -> dict[str, object]:
        """Plain data that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: str | bytes | Mapping[str, object] | Sequence[object]) -> Catalog:
        """Read a catalog: `to_json` of this class, or a hand-written list or mapping of tables.

        Tables may be a list of objects with `name`, or an object keyed by name. Columns may be a list of names, of
        objects, or an object of types; indexes a list of `CREATE INDEX` texts or of objects with `columns`.

        Raises:
            CatalogError: the document is not JSON, or holds no tables.
        """
        if isinstance(document, str | bytes):
            try:
                document = json.loads(document)
            except ValueError as error:
                raise CatalogError(f"the catalog is not JSON: {error}; write one with Catalog.to_json()") from None
        if isinstance(document, Mapping):
            source: Mapping[str, object] = document
            own = {"volatility", "extensions", "version"} & set(source)
            tables = source.get("tables", () if own else source)
        else:
            source, tables = {}, document
        if not isinstance(tables, Mapping | Sequence) or isinstance(tables, str | bytes):
            raise CatalogError('the catalog has no list of tables; expected {"tables": [{"name": "orders", ...}]}')
        version = source.get("version")
        found = tuple(_table(name, item) for name, item in _named(tables))
        return cls(
            tables=_with_partitions(found),
            volatility={str(k): str(v)[:1] for k, v in _mapping(source.get("volatility")).items()},
            extensions=_strings(source.get("extensions")),
            version=version if isinstance(version, int) else None,
        )


_RETURN_KINDS = {"r": "table", "p": "partitioned", "m": "materialized view", "f": "foreign table"}
_INDEX = re.compile(
    r"""CREATE\s+(?P<unique>UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>"[^"]+"|[\w$.]+)?
        \s*ON\s+(?:ONLY\s+)?(?P<table>\S+?)\s*(?:USING\s+(?P<method>\w+)\s*)?\(""",
    re.IGNORECASE | re.VERBOSE,
)


def index_from_definition(definition: str, *, valid: bool = True) -> Index | None:
    """Read a `CREATE INDEX` text, `pg_indexes.indexdef` for one."""
    match = _INDEX.match(definition.strip())
    if match is None:
        return None
    body, rest = _balanced(definition.strip(), match.end() - 1)
    include_match = re.match(r"\s*INCLUDE\s*\(", rest, re.IGNORECASE)
    include = ""
    if include_match:
        include, rest = _balanced(rest, include_match.end() - 1)
    where = re.search(r"\bWHERE\s+(.*?);?\s*\Z", rest, re.IGNORECASE | re.DOTALL)
    keys = [_index_key(part) for part in _commas(body)]
    return Index(
        name=unquoted((match["name"] or "").rpartition(".")[2] or match["name"] or ""),
        keys=tuple(key for key, _, _ in keys),
        include=tuple(unquoted(part.strip()) for part in _commas(include)),
        unique=bool(match["unique"]),
        valid=valid,
        method=(match["method"] or "btree").lower(),
        predicate=where[1] if where else None,
        descending=tuple(descending for _, descending, _ in keys),
        opclasses=tuple(opclass for _, _, opclass in keys),
    )


_KEY = re.compile(r'("[^"]+"|[\w$]+|\(.*\)|[\w.]+\(.*\))(?:\s+COLLATE\s+\S+)?(?:\s+([\w.]+)(?:\(.*\))?)?', re.DOTALL)
_PARTITION_BY = re.compile(r"\A(RANGE|LIST|HASH)\s*\((.*)\)\Z", re.IGNORECASE)


def _index_key(part: str) -> tuple[str, bool, str]:
    part = re.sub(r"\s+NULLS\s+(FIRST|LAST)\Z", "", part.strip(), flags=re.IGNORECASE)
    descending = part.upper().endswith(" DESC")
    part = re.sub(r"\s+(ASC|DESC)\Z", "", part, flags=re.IGNORECASE)
    match = _KEY.fullmatch(part)
    key, opclass = (match[1], match[2] or "") if match else (part, "")
    return unquoted(_bare(key)), descending, opclass


def _bare(key: str) -> str:
    while key.startswith("(") and _balanced(key, 0)[1] == "":
        key = key[1:-1].strip()
    return key


def _balanced(source: str, start: int) -> tuple[str, str]:
    """The inside of the parenthesis that opens at `start`, and what follows it."""
    depth, inside_string = 0, False
    for position in range(start, len(source)):
        character = source[position]
        if character == "'":
            inside_string = not inside_string
        elif not inside_string and character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return source[start + 1 : position], source[position + 1 :]
    return source[start + 1 :], ""


def _commas(source: str) -> list[str]:
    parts, depth, inside_string, start = [], 0, False, 0
    for position, character in enumerate(source):
        if character == "'":
            inside_string = not inside_string
        elif not inside_string:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if character == "," and depth == 0:
                parts.append(source[start:position])
                start = position + 1
    return [part.strip() for part in [*parts, source[start:]] if part.strip()]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(_commas(value))
    return tuple(str(item) for item in value) if isinstance(value, Sequence) else ()


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _int(value: object) -> int | None:
    number = _float(value)
    return None if number is None else int(number)


def _first(item: Mapping[str, object], *names: str) -> object:
    return next((item[name] for name in names if item.get(name) is not None), None)


_NAMES = ("name", "table", "table_name", "relname", "tablename", "column", "column_name", "attname")


def _named(value: object) -> list[tuple[str, Mapping[str, object]]]:
    """Objects with their names, from a list of objects or names, or from an object keyed by name."""
    if isinstance(value, Mapping):
        return [(str(name), item if isinstance(item, Mapping) else {"type": item}) for name, item in value.items()]
    found: list[tuple[str, Mapping[str, object]]] = []
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        if isinstance(item, Mapping):
            name = _first(item, *_NAMES)
            found.append((str(name or ""), item))
        elif isinstance(item, str):
            found.append((item, {}))
    return found


def _table(name: str, item: Mapping[str, object]) -> Table:
    schema = _first(item, "schema", "schemaname", "schema_name", "nspname")
    prefix, _, bare = name.rpartition(".")
    kind = str(_first(item, "kind", "relkind") or "table")
    rows = _float(_first(item, "rows", "reltuples", "row_count", "n_live_tup"))
    parent = _first(item, "parent", "partition_of")
    partition_key = _strings(_first(item, "partition_key", "partkey", "partition_columns"))
    partition_key = _strings(",".join(_PARTITION_BY.sub(r"\2", key) for key in partition_key))
    return Table(
        name=unquoted(bare),
        schema=str(schema or unquoted(prefix) or "public"),
        kind=_RETURN_KINDS.get(kind, kind),
        rows=rows if rows is not None and rows >= 0 else None,
        pages=_int(_first(item, "pages", "relpages")),
        parent=str(parent).rpartition(".")[2] if parent else None,
        partition_key=tuple(_bare(key.strip()) for key in partition_key),
        partitions=_strings(item.get("partitions")),
        columns=tuple(_column(column, facts) for column, facts in _named(_first(item, "columns", "types"))),
        indexes=tuple(index for entry in _entries(item.get("indexes")) if (index := _index(*entry)) is not None),
        foreign_keys=tuple(_foreign_key(key, facts) for key, facts in _named(item.get("foreign_keys"))),
        writes=_int(item.get("writes")),
        scans=_int(item.get("scans")),
    )


def _column(name: str, item: Mapping[str, object]) -> Column:
    nullable = item.get("nullable")
    return Column(
        name=name,
        type=str(_first(item, "type", "data_type", "format_type", "typname") or ""),
        nullable=nullable if isinstance(nullable, bool) else True,
        distinct=_float(_first(item, "distinct", "n_distinct")),
        null_fraction=_float(_first(item, "null_fraction", "null_frac")),
        common=tuple(float(part) for part in _floats(_first(item, "common", "most_common_freqs", "mcf"))),
        true_fraction=_float(item.get("true_fraction")),
        width=_int(_first(item, "width", "avg_width")),
        correlation=_float(item.get("correlation")),
    )


def _floats(value: object) -> list[float]:
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [number for item in items if (number := _float(item)) is not None]


def _entries(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return [(str(name), item) for name, item in value.items()]
    return [("", item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _index(name: str, item: object) -> Index | None:
    if isinstance(item, str):
        return index_from_definition(item)
    if isinstance(item, Sequence):
        return Index(name, tuple(str(key) for key in item))
    facts = _mapping(item)
    valid = _first(facts, "valid", "indisvalid")
    definition = _first(facts, "definition", "indexdef", "def")
    if isinstance(definition, str) and (read := index_from_definition(definition, valid=valid is not False)):
        return read
    keys = _strings(_first(facts, "keys", "columns", "column_names"))
    predicate = _first(facts, "predicate", "where")
    return Index(
        name=str(_first(facts, "name", "indexname", "index_name") or name),
        keys=tuple(unquoted(_bare(key.strip())) for key in keys),
        include=_strings(facts.get("include")),
        unique=facts.get("unique") is True or facts.get("primary") is True,
        valid=valid is not False,
        method=str(_first(facts, "method", "am", "amname") or "btree"),
        predicate=str(predicate) if predicate else None,
        descending=tuple(flag is True for flag in _list(facts.get("descending"))),
        opclasses=_strings(facts.get("opclasses")),
        bytes=_int(facts.get("bytes")),
    )


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _foreign_key(name: str, item: Mapping[str, object]) -> ForeignKey:
    references = str(_first(item, "references", "referred_table") or "")
    return ForeignKey(name, _strings(_first(item, "columns", "constrained_columns")), references)


def _with_partitions(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """Let partitions and parents know each other, whichever of the two names the other."""
    parents = {name: table for table in tables for name in table.partitions}
    known = {table.name for table in tables}
    absent = [Table(name, parent.schema, "partition") for name, parent in parents.items() if name not in known]
    linked = [_linked(table, parents) for table in (*tables, *absent)]
    children: dict[str, list[str]] = {}
    for table in linked:
        if table.parent:
            children.setdefault(table.parent, []).append(table.name)
    return tuple(
        _whole(table, table.partitions or tuple(children[table.name]), linked)
        if table.name in children and not table.parent
        else table
        for table in linked
    )


def _whole(table: Table, partitions: tuple[str, ...], tables: Iterable[Table]) -> Table:
    """The parent with its partitions, and with what they tell where it was never analyzed: autovacuum does not."""
    counted = [(part.rows, part) for part in tables if part.name in partitions and part.rows is not None]
    if not counted:
        return replace(table, partitions=partitions, kind="partitioned")
    _, largest = max(counted, key=lambda pair: pair[0])
    columns = tuple(_described(column, largest) for column in table.columns)
    rows = table.rows or sum(rows for rows, _ in counted)
    return replace(table, rows=rows, columns=columns, partitions=partitions, kind="partitioned")


def _described(column: Column, partition: Table) -> Column:
    known = column.distinct is not None or column.width is not None
    return column if known else partition.column(column.name) or column


def _linked(table: Table, parents: Mapping[str, Table]) -> Table:
    parent = parents.get(table.name)
    if parent is None or table.parent:
        return table
    return replace(table, parent=parent.name, columns=table.columns or parent.columns)


_TABLE_FACTS = """
    SELECT c.oid::bigint AS oid, c.relname AS name, s.nspname AS schema, c.relkind::text AS kind,
           c.relispartition AS partition,
           CASE WHEN c.relpages > 0 OR c.relkind = 'p' THEN NULLIF(c.reltuples, -1)::float8 END AS rows,
           c.relpages AS pages,
           CASE WHEN c.relispartition THEN (SELECT p.relname FROM pg_class p WHERE p.oid = pg_partition_root(c.oid))
           END AS parent,
           pg_get_partkeydef(c.oid) AS partition_key,
           st.n_tup_ins + st.n_tup_upd + st.n_tup_del AS writes,
           COALESCE(st.seq_scan, 0) + COALESCE(st.idx_scan, 0) AS scans
    FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace s ON s.oid = c.relnamespace
    LEFT JOIN pg_stat_all_tables st ON st.relid = c.oid
    ORDER BY s.nspname, c.relname LIMIT :limit
"""
_NAMED = text(
    """
    WITH named AS (
        SELECT c.oid FROM unnest(CAST(:names AS text[])) AS n(name) JOIN pg_class c ON c.relname = n.name
        JOIN pg_namespace s ON s.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm', 'f') AND s.nspname NOT IN ('pg_catalog', 'information_schema')
          AND (cardinality(CAST(:schemas AS text[])) = 0 OR s.nspname = ANY (CAST(:schemas AS text[]))
               OR pg_table_is_visible(c.oid))
    ), rooted AS (
        SELECT DISTINCT COALESCE(pg_partition_root(oid)::oid, oid) AS oid FROM named
    ), family AS (
        SELECT oid FROM rooted UNION SELECT t.relid::oid FROM rooted, LATERAL pg_partition_tree(rooted.oid) AS t
    )
    """
    + _TABLE_FACTS
)
_REFERENCING = text("WITH family AS (SELECT CAST(unnest(CAST(:oids AS bigint[])) AS oid) AS oid)" + _TABLE_FACTS)
_COLUMNS = text(
    """
    SELECT a.attrelid::bigint AS oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           NOT a.attnotnull AS nullable, st.n_distinct::float8 AS "distinct", st.null_frac::float8 AS null_fraction,
           st.most_common_freqs::float8[] AS common, st.avg_width AS width, st.correlation::float8 AS correlation,
           CASE WHEN a.atttypid = 'bool'::regtype THEN
               (st.most_common_freqs::float8[])[array_position(st.most_common_vals::text::text[], 't')] END
           AS true_fraction
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace s ON s.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT * FROM pg_stats st
        WHERE st.schemaname = s.nspname AND st.tablename = c.relname AND st.attname = a.attname
        ORDER BY st.inherited DESC LIMIT 1
    ) AS st ON true
    WHERE a.attrelid = ANY (CAST(CAST(:oids AS bigint[]) AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
    """
)
_INDEXES = text(
    """
    SELECT i.indrelid::bigint AS oid, c.relname AS name, i.indisvalid AND i.indisready AS valid,
           pg_get_indexdef(i.indexrelid) AS definition, pg_relation_size(i.indexrelid) AS bytes
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = ANY (CAST(CAST(:oids AS bigint[]) AS oid[])) ORDER BY c.relname
    """
)
_FOREIGN_KEYS = text(
    """
    SELECT k.conrelid::bigint AS oid, k.conname AS name, r.relname AS references,
           ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS n(attnum, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.attnum ORDER BY n.place) AS columns
    FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid
    WHERE k.contype = 'f' AND (k.conrelid = ANY (CAST(CAST(:oids AS bigint[]) AS oid[]))
                               OR k.confrelid = ANY (CAST(CAST(:oids AS bigint[]) AS oid[])))
    ORDER BY k.conname
    """
)
_FUNCTIONS = text(
    """
    SELECT proname AS name, max(provolatile::text) AS volatility FROM pg_proc
    WHERE proname = ANY (CAST(:names AS text[])) GROUP BY proname
    """
)
_SERVER = text(
    "SELECT current_setting('server_version_num')::int AS version,"
    " ARRAY(SELECT extname::text FROM pg_extension ORDER BY 1) AS extensions"
)
MAX_TABLES = 2_000
"""Tables, partitions included, that one catalog takes."""


async def read_catalog(
    connection: AsyncConnection,
    tables: Iterable[str],
    *,
    schemas: Iterable[str] = (),
    functions: Iterable[str] = (),
) -> Catalog:
    """`catalog_of` on an asynchronous connection."""
    return await connection.run_sync(catalog_of, tables, schemas=schemas, functions=functions)


def catalog_of(
    connection: Connection,
    tables: Iterable[str],
    *,
    schemas: Iterable[str] = (),
    functions: Iterable[str] = (),
) -> Catalog:
    """Read the facts of the named tables, with their partitions and the tables that reference them.

    Runs six catalog queries, all with bound parameters; reads no table of the user and no value of `pg_stats`.

    Args:
        connection: an open connection to PostgreSQL 13 to 18.
        tables: table names without schema, as a plan prints them.
        schemas: schemas to look in besides the search path; none: every schema.
        functions: names of functions whose volatility is wanted.
    """
    found = _rows(connection, _NAMED, names=sorted(set(tables)), schemas=sorted(set(schemas)), limit=MAX_TABLES)
    oids = [row["oid"] for row in found]
    keys = _rows(connection, _FOREIGN_KEYS, oids=oids)
    strangers = sorted({row["oid"] for row in keys} - set(oids))
    if strangers:
        more = _rows(connection, _REFERENCING, oids=strangers, limit=MAX_TABLES)
        found, oids = [*found, *more], [*oids, *(row["oid"] for row in more)]
    columns = _rows(connection, _COLUMNS, oids=oids)
    indexes = _rows(connection, _INDEXES, oids=oids)
    volatility = _rows(connection, _FUNCTIONS, names=sorted(set(functions)))
    (server,) = _rows(connection, _SERVER)
    return Catalog(
        tables=_with_partitions(tuple(_live_table(row, columns, indexes, keys) for row in found)),
        volatility={row["name"]: row["volatility"] for row in volatility},
        extensions=tuple(server["extensions"]),
        version=server["version"],
    )


def _rows(connection: Connection, statement: Any, **parameters: object) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(statement, parameters).mappings()]


def _live_table(
    row: Mapping[str, Any],
    columns: Sequence[Mapping[str, Any]],
    indexes: Sequence[Mapping[str, Any]],
    keys: Sequence[Mapping[str, Any]],
) -> Table:
    oid = row["oid"]
    partition_key = re.sub(r"\A\w+ \((.*)\)\Z", r"\1", row["partition_key"] or "")
    return Table(
        name=row["name"],
        schema=row["schema"],
        kind="partition" if row["partition"] else _RETURN_KINDS.get(row["kind"], row["kind"]),
        rows=row["rows"],
        pages=row["pages"],
        parent=row["parent"],
        partition_key=tuple(unquoted(_index_key(key)[0]) for key in _commas(partition_key)),
        columns=tuple(
            Column(
                name=column["name"],
                type=column["type"],
                nullable=column["nullable"],
                distinct=column["distinct"],
                null_fraction=column["null_fraction"],
                common=tuple(column["common"] or ()),
                true_fraction=column["true_fraction"],
                width=column["width"],
                correlation=column["correlation"],
            )
            for column in columns
            if column["oid"] == oid
        ),
        indexes=tuple(
            _sized(index, entry["name"], entry["bytes"])
            for entry in indexes
            if entry["oid"] == oid and (index := index_from_definition(entry["definition"], valid=entry["valid"]))
        ),
        foreign_keys=tuple(
            ForeignKey(key["name"], tuple(key["columns"]), key["references"]) for key in keys if key["oid"] == oid
        ),
        writes=row["writes"],
        scans=row["scans"],
    )


def _sized(index: Index, name: str, size: int) -> Index:
    return replace(index, name=name, bytes=size)
