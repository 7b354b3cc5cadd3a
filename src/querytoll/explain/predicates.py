"""Deparsed conditions of a plan to predicates: which column, which operator, wrapped in what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


def words(source: str, separator: str | None = None) -> frozenset[str]:
    """The words of a list that is easier to read as text."""
    return frozenset(source.split(separator))


MAX_TOKENS = 5_000
"""Longer conditions are not read: they would cost more than their findings are worth."""
COMPARISONS = words("= <> != < <= > >= ~~ ~~* !~~ !~~* ~ ~* !~ !~* @> <@ && @@ @@@ ? ?| ?& ^@ @? -|- << >> &< &>")
"""Operators that make a condition out of two values; every other one makes a value."""
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "@>": "<@", "<@": "@>"}
RANGES = frozenset({"<", "<=", ">", ">="})
TEXT_TYPES = frozenset({"text", "character varying", "varchar", "citext", "name"})

Wrap = Literal["", "cast", "function", "operator", "collate"]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>[eE]'(?:[^'\\]|''|\\.)*(?:'|\Z) | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
  | (?P<word>"(?:[^"]|"")*" | [^\W\d][\w$]*)
  | (?P<number>\.?\d[\w.]* | \$\d+ | \?(?![|&?]?\s*['(]))
  | (?P<cast>::)
  | (?P<punctuation>[(),.\[\]])
  | (?P<operator>[-+*/<>=~!@\#%^&|`?:]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_TYPE_TAIL = words("varying precision without with time zone")
_LOWER_KEYWORDS = frozenset({"true", "false", "null", "hashed"})
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


class Token(NamedTuple):
    """A lexeme and its place in the source."""

    kind: str
    text: str
    start: int
    end: int


class Group(NamedTuple):
    """A parenthesised part and its place in the source, parentheses included."""

    items: tuple[Item, ...]
    start: int
    end: int


Item = Token | Group


class Ref(NamedTuple):
    """A column as an expression names it."""

    qualifier: str | None
    column: str


@dataclass(frozen=True, slots=True)
class Predicate:
    """One condition of a conjunction, seen from the column it restricts.

    Args:
        text: the condition as printed.
        column: the column, where the condition is about exactly one of the relation.
        operator: `=`, `<`, `~~`, ...; `ANY`, `IS NULL`, `IS NOT NULL`, `TRUE`, `FALSE`, `OR`; empty: unknown.
        wrap: what stands around the column.
        function: the outermost function around the column, or the operator (`->>`).
        cast: the type that the column is cast to.
        expression: the left side without qualifiers.
        other: the right side as printed.
        others: columns of other relations on the right side; none: it is compared with a constant or parameter.
        constant: the right side needs no row of this relation.
    """

    text: str
    column: str | None = None
    operator: str = ""
    wrap: Wrap = ""
    function: str | None = None
    cast: str | None = None
    expression: str = ""
    other: str = ""
    others: tuple[Ref, ...] = ()
    constant: bool = False

    @property
    def bare(self) -> bool:
        """The column itself is compared, or its harmless relabelling from varchar to text."""
        return self.column is not None and (not self.wrap or self.relabel)

    @property
    def relabel(self) -> bool:
        """Possibly no more than PostgreSQL's way to print a comparison of a varchar column."""
        return self.wrap == "cast" and self.cast == "text"

    @property
    def equality(self) -> bool:
        """Selects by value: `=`, `= ANY`, `IS NULL`, a boolean."""
        return self.operator in ("=", "ANY", "IS NULL", "TRUE", "FALSE")

    @property
    def pattern(self) -> bool:
        """A LIKE, ILIKE or regular expression match."""
        return self.operator in ("~~", "~~*", "~", "~*")

    @property
    def wildcard(self) -> bool:
        """The pattern starts with a wildcard, so that no btree can help."""
        return self.operator in ("~~", "~~*") and self.other.lstrip("(").partition("'")[2].startswith("%")


class SortKey(NamedTuple):
    """One ORDER BY term as a Sort prints it."""

    text: str
    column: Ref | None
    descending: bool
    nulls: str


def predicates(condition: object, alias: str | None = None) -> tuple[Predicate, ...]:
    """Split a condition into its AND terms, each turned so that the relation with `alias` stands left.

    Args:
        condition: `Filter`, `Index Cond`, `Hash Cond`, ... of a plan; anything but a string yields nothing.
        alias: alias of the relation that is scanned. Columns without qualifier are taken to be its own.
    """
    if not isinstance(condition, str):
        return ()
    items = parse(condition)
    return tuple(_predicate(term, condition, alias) for term in _terms(items)) if items else ()


def sort_keys(keys: object) -> tuple[SortKey, ...]:
    """Read the `Sort Key` list of a Sort."""
    return tuple(_sort_key(key) for key in keys if isinstance(key, str)) if isinstance(keys, list | tuple) else ()


def qualifiers(condition: str) -> set[str]:
    """Aliases that the condition mentions."""
    return {ref.qualifier for ref in references(parse(condition)) if ref.qualifier}


def parse(source: str) -> tuple[Item, ...]:
    """Nested tokens of an expression; empty where it is too long or its parentheses do not match."""
    stack: list[list[Item]] = [[]]
    opened: list[int] = []
    position = 0
    for count in range(MAX_TOKENS + 1):
        match = _TOKEN.match(source, position)
        if match is None:
            break
        if count == MAX_TOKENS:
            return ()
        position = match.end()
        kind = match.lastgroup or ""
        token = Token(kind, match[kind], match.start(kind), match.end(kind))
        if token.text in ("(", "[") and kind == "punctuation":
            stack.append([])
            opened.append(token.start)
        elif token.text in (")", "]") and kind == "punctuation":
            if not opened:
                return ()
            inner = stack.pop()
            stack[-1].append(Group(tuple(inner), opened.pop(), token.end))
        else:
            stack[-1].append(token)
    return tuple(stack[0]) if not opened else ()


def references(items: Sequence[Item]) -> Iterator[Ref]:
    """Columns that the expression mentions, in order."""
    position = 0
    while position < len(items):
        item = items[position]
        if isinstance(item, Group):
            yield from references(_after_from(item.items))
            after = items[position + 1 : position + 3]
            position += 3 if len(after) == 2 and _is(after[0], ".") and _word(after[1]) else 1
        elif item.kind == "cast":
            position = _after_type(items, position + 1)
        elif item.text == "COLLATE":
            position += 2
        elif item.kind == "word" and not _keyword(item):
            found, position = _name(items, position)
            if found:
                yield found
        else:
            position += 1


def unquoted(name: str) -> str:
    """`"Order"` to `Order`."""
    return name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') and len(name) > 1 else name


def quoted(name: str) -> str:
    """The identifier as SQL needs it."""
    return name if _PLAIN.match(name) and name not in RESERVED else '"' + name.replace('"', '""') + '"'


RESERVED = words(
    "all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create"
    " current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else"
    " end except false fetch for foreign from grant group having in initially intersect into lateral leading limit"
    " localtime localtimestamp not null offset on only or order placing primary references returning select"
    " session_user some symmetric table then to trailing true union unique user using variadic when where window with"
    " authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left like"
    " natural notnull outer overlaps right similar tablesample verbose"
)
"""Words that PostgreSQL does not take as a bare column name."""


def without_qualifiers(source: str, items: Sequence[Item] | None = None) -> str:
    """The expression with `alias.column` shortened to `column`, as an index definition needs it."""
    cuts: list[tuple[int, int]] = []
    _qualified(parse(source) if items is None else items, cuts)
    for start, end in sorted(cuts, reverse=True):
        source = source[:start] + source[end:]
    return source


def _qualified(items: Sequence[Item], cuts: list[tuple[int, int]]) -> None:
    for position, item in enumerate(items):
        if isinstance(item, Group):
            _qualified(item.items, cuts)
            continue
        name = items[position + 2 : position + 4]
        if item.kind != "word" or len(name) == 0 or not _is(items[position + 1], ".") or not _word(name[0]):
            continue
        called = len(name) == 2 and isinstance(name[1], Group)
        chained = position > 0 and _is(items[position - 1], ".")
        if not called and not chained:
            column = name[0]
            cuts.append((item.start, column.start))


def _terms(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    items = _unwrap(items)
    parts = _split(items, "AND")
    if len(parts) == 1:
        yield items
        return
    for part in parts:
        yield from _terms(part)


def _split(items: Sequence[Item], word: str) -> list[Sequence[Item]]:
    parts: list[Sequence[Item]] = []
    start = 0
    for position, item in enumerate(items):
        if isinstance(item, Token) and item.kind == "word" and item.text == word:
            parts.append(items[start:position])
            start = position + 1
    return [*parts, items[start:]]


def _unwrap(items: Sequence[Item]) -> Sequence[Item]:
    while len(items) == 1 and isinstance(items[0], Group):
        items = items[0].items
    return items


def _source(items: Sequence[Item], source: str) -> str:
    return source[items[0].start : items[-1].end] if items else ""


def _predicate(items: Sequence[Item], source: str, alias: str | None) -> Predicate:
    text = _source(items, source)
    if len(_split(items, "OR")) > 1:
        return _alternatives(items, source, alias)
    words = [item.text if isinstance(item, Token) and item.kind == "word" else "" for item in items]
    if "IS" in words:
        return _is_test(items, words, source, alias)
    for position, item in enumerate(items):
        if isinstance(item, Token) and item.kind == "operator" and item.text in COMPARISONS:
            return _comparison(items[:position], item.text, items[position + 1 :], source, alias)
    negated = words[:1] == ["NOT"]
    inner = _unwrap(items[1:] if negated else items)
    column, wrap, _, _ = _subject(inner, source, alias)
    if column and not wrap:
        return Predicate(text, column, "FALSE" if negated else "TRUE", expression=column, constant=True)
    return Predicate(text)


def _alternatives(items: Sequence[Item], source: str, alias: str | None) -> Predicate:
    """`a = 1 OR a = 2` reads like `a = ANY`; anything else joined by OR is left alone."""
    parts = [_predicate(_unwrap(part), source, alias) for part in _split(items, "OR")]
    columns = {part.column for part in parts}
    text = _source(items, source)
    if len(columns) == 1 and all(part.operator in ("=", "ANY") and part.bare and part.constant for part in parts):
        return Predicate(text, parts[0].column, "ANY", expression=parts[0].expression, constant=True)
    return Predicate(text, operator="OR")


_TESTS = {"IS NULL": "IS NULL", "IS NOT NULL": "IS NOT NULL", "IS TRUE": "TRUE", "IS FALSE": "FALSE"}


def _is_test(items: Sequence[Item], words: list[str], source: str, alias: str | None) -> Predicate:
    position = words.index("IS")
    test = " ".join(words[position:])
    column, wrap, function, cast = _subject(_unwrap(items[:position]), source, alias)
    operator = _TESTS.get(test, "")
    return Predicate(
        _source(items, source),
        column if operator else None,
        operator,
        wrap,
        function,
        cast,
        _clean(items[:position], source),
        constant=True,
    )


def _comparison(
    left: Sequence[Item], operator: str, right: Sequence[Item], source: str, alias: str | None
) -> Predicate:
    text = _source([*left, *right], source)
    if right and isinstance(right[0], Token) and right[0].text in ("ANY", "ALL"):
        array, right = right[0].text, right[1:]
        operator = "ANY" if array == "ANY" and operator == "=" else ""
    elif _own(right, alias) and (not _own(left, alias) or _foreign(left, alias)):
        left, right, operator = right, left, FLIPPED.get(operator, operator)
    column, wrap, function, cast = _subject(_unwrap(left), source, alias)
    refs = tuple(references(right))
    subplan = any(name in _source(right, source) for name in ("(SubPlan", "hashed SubPlan"))
    return Predicate(
        text=text,
        column=column,
        operator=operator,
        wrap=wrap,
        function=function,
        cast=cast,
        expression=_clean(left, source),
        other=_source(right, source),
        others=tuple(ref for ref in refs if not _belongs(ref, alias)),
        constant=not subplan and not any(_belongs(ref, alias) for ref in refs),
    )


def _own(items: Sequence[Item], alias: str | None) -> bool:
    return any(_belongs(ref, alias) for ref in references(items))


def _foreign(items: Sequence[Item], alias: str | None) -> bool:
    return any(not _belongs(ref, alias) for ref in references(items))


def _belongs(ref: Ref, alias: str | None) -> bool:
    return ref.qualifier is None or alias is None or ref.qualifier == alias


def _clean(items: Sequence[Item], source: str) -> str:
    return without_qualifiers(_source(_unwrap(items), source))


def _subject(items: Sequence[Item], source: str, alias: str | None) -> tuple[str | None, Wrap, str | None, str | None]:
    """The one column of an expression, and what is around it: column, wrap, function, cast."""
    refs = {ref for ref in references(items) if _belongs(ref, alias)}
    if len(refs) != 1 or any(not _belongs(ref, alias) for ref in references(items)):
        return None, "", None, None
    column = refs.pop().column
    plain = [item for item in items if not isinstance(item, Group)]
    texts = [item.text for item in plain]
    if len(plain) == len(items) and (len(items) == 1 or (len(items) == 3 and texts[1] == ".")):
        return column, "", None, None
    for position, item in enumerate(items):
        if isinstance(item, Token) and item.kind == "operator":
            return column, "operator", item.text, None
        if isinstance(item, Token) and item.kind == "cast" and _after_type(items, position + 1) == len(items):
            return _through_cast(items[:position], _type(items[position + 1 :]), column, source, alias)
    if "COLLATE" in texts:
        return column, "collate", None, None
    if "AT" in texts:
        return column, "function", "timezone", None
    head = items[0]
    if isinstance(head, Token) and head.kind == "word":
        name = [item.text for item in items if isinstance(item, Token) and item.kind == "word"]
        return column, "function", name[-1].lower() if name else None, None
    return column, "operator", None, None


def _through_cast(
    items: Sequence[Item], target: str, column: str, source: str, alias: str | None
) -> tuple[str | None, Wrap, str | None, str | None]:
    inner_column, wrap, function, cast = _subject(_unwrap(items), source, alias)
    if inner_column and wrap in ("function", "operator"):
        return column, wrap, function, cast
    return column, "cast", None, target


def _type(items: Sequence[Item]) -> str:
    return " ".join(item.text for item in items if isinstance(item, Token) and item.kind == "word")


def _after_type(items: Sequence[Item], position: int) -> int:
    """The position behind a type's name (`timestamp(3) without time zone[]`)."""
    started = False
    while position < len(items):
        item = items[position]
        if isinstance(item, Token) and item.kind == "word":
            chained = position > 0 and _is(items[position - 1], ".")
            if started and item.text not in _TYPE_TAIL and not chained:
                return position
            started = True
        elif not isinstance(item, Group) and item.text != ".":
            return position
        position += 1
    return position


def _after_from(items: Sequence[Item]) -> Sequence[Item]:
    """The argument of `EXTRACT(year FROM x)`; everything for other calls."""
    parts = _split(items, "FROM")
    return parts[1] if len(parts) == 2 and len(parts[0]) == 1 else items


def _name(items: Sequence[Item], position: int) -> tuple[Ref | None, int]:
    parts: list[str] = []
    while position < len(items) and _word(items[position]):
        item = items[position]
        parts.append(item.text if isinstance(item, Token) else "")
        position += 1
        if position + 1 < len(items) and _is(items[position], ".") and _word(items[position + 1]):
            position += 1
            continue
        break
    if position < len(items):
        after = items[position]
        if isinstance(after, Group) and parts and not parts[-1].startswith("["):
            return None, position
    names = [unquoted(part) for part in parts]
    return Ref(names[-2] if len(names) > 1 else None, names[-1]), position


def _word(item: Item) -> bool:
    return isinstance(item, Token) and item.kind == "word"


def _is(item: Item, text: str) -> bool:
    return isinstance(item, Token) and item.text == text


def _keyword(token: Token) -> bool:
    """PostgreSQL prints keywords in capitals, and quotes names that have any."""
    return token.text in _LOWER_KEYWORDS or (not token.text.startswith('"') and token.text != token.text.lower())


def _sort_key(key: str) -> SortKey:
    text, nulls, descending = key, "", False
    for suffix in (" NULLS FIRST", " NULLS LAST"):
        if text.endswith(suffix):
            text, nulls = text.removesuffix(suffix), suffix.strip()
    if text.endswith(" DESC"):
        text, descending = text.removesuffix(" DESC"), True
    refs = list(references(parse(text)))
    simple = len(refs) == 1 and re.fullmatch(r'(?:[\w$]+|"[^"]+")(?:\.(?:[\w$]+|"[^"]+"))?', text) is not None
    return SortKey(text, refs[0] if simple else None, descending, nulls)


_NUMERIC_CASTS = words("numeric|double precision|bigint|integer|real|smallint|uuid|boolean|character|bpchar", "|")
_TIME_CASTS = ("date", "time", "timestamp")
_NUMBER = re.compile(r"'-?\d+(\.\d+)?'")
_UUID = re.compile(r"'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'", re.IGNORECASE)
_DATE = re.compile(r"'\d{4}-\d\d(-\d\d)?")


def truncates_time(predicate: Predicate) -> bool:
    """`(created_at)::date = ...`: a cast that acts like a function."""
    return predicate.wrap == "cast" and (predicate.cast or "").startswith(_TIME_CASTS)


def cast_at_fault(predicate: Predicate, type_name: str | None) -> bool:
    """The column is cast to another type, so that its index cannot be used.

    Without the column's type a cast to text counts only where the constant shows that the column holds something
    else: PostgreSQL prints every comparison of a varchar column as a cast to text.
    """
    if predicate.wrap != "cast" or predicate.cast is None or truncates_time(predicate) or not predicate.constant:
        return False
    if type_name:
        base = type_name.partition("(")[0].strip()
        relabels = base == predicate.cast or (base in TEXT_TYPES and predicate.cast in TEXT_TYPES | {"bpchar"})
        return not relabels
    return predicate.cast in _NUMERIC_CASTS or (predicate.cast == "text" and _looks_cast(predicate))


def _looks_cast(predicate: Predicate) -> bool:
    name, other = (predicate.column or "").lower(), predicate.other
    if name.endswith("id") or name.endswith(("_no", "uuid", "number")):
        return bool(_UUID.search(other)) or (name.endswith("id") and bool(_NUMBER.search(other)))
    return name.endswith(("_at", "_on", "date", "time", "timestamp")) and bool(_DATE.search(other))
