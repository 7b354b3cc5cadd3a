"""Statement texts to shapes: what is equal in all executions, without a literal in it."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

from querytoll.model import Shape


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s++|--[^\n]*+)
    | (?P<comment>/\*)
    | (?P<dollar>\$(?:[^\W\d]\w*+)?\$)
    | (?P<bind>\$\d++|%\(\w++\)s|%s|(?<![\w\]:]):[^\W\d]\w*+|@[^\W\d]\w*+)
    | (?P<string>[eE]'(?:[^'\\]++|\\.|'')*+'?|(?:[nNbBxX]|[uU]&)?'(?:[^']++|'')*+'?)
    | (?P<quoted>"(?:[^"]++|"")*+"?|`[^`]*+`?)
    | (?P<number>0[xXoObB][\da-fA-F_]++|(?:\d[\d_]*+(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?)
    | (?P<word>[^\W\d][\w$]*+)
    | (?P<question>\?)(?![|&])
    | (?P<mark>::|[(),;.\[\]:{}])
    | (?P<operator>(?:(?!--|/\*)[<>=~!@\#%^&|?*/+-])++)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_NUMBERED: Final = re.compile(r"(.+)_\d+\Z")
_SIMPLE: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_KEYWORDS: Final = _words(
    "ALL ALTER ANALYZE AND ANY ARRAY AS ASC BEGIN BETWEEN BY CALL CASE CAST CHECK COLLATE COMMIT CONFLICT "
    "CONSTRAINT COPY CREATE CROSS CUBE CURRENT CURSOR DECLARE DEFAULT DELETE DESC DISTINCT DO DROP ELSE END ESCAPE "
    "EXCEPT EXISTS EXPLAIN FALSE FETCH FILTER FIRST FOR FOREIGN FROM FULL GROUP GROUPING HAVING IF ILIKE IN INDEX "
    "INNER INSERT INTERSECT INTO IS JOIN KEY LAST LATERAL LEFT LIKE LIMIT LISTEN LOCK LOCKED MATCHED MATERIALIZED "
    "MERGE NATURAL NEXT NO NOT NOTHING NOTIFY NOWAIT NULL NULLS OF OFFSET ON ONLY OR ORDER OUTER OVER OVERRIDING "
    "PARTITION PRAGMA PREPARE PREPARED PRIMARY RECURSIVE REFERENCES RELEASE RESET RETURNING RIGHT ROLLBACK ROLLUP "
    "ROW ROWS SAVEPOINT SELECT SET SETS SHARE SHOW SIMILAR SKIP SOME START TABLE THEN TO TRANSACTION TRUE TRUNCATE "
    "UNION UNIQUE UPDATE USING VACUUM VALUES VIEW WHEN WHERE WINDOW WITH WITHIN"
)
_VERBS: Final = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"))
_CONTROLS: Final = frozenset(("BEGIN", "START", "COMMIT", "ROLLBACK", "ABORT", "END", "SAVEPOINT", "RELEASE", "PRAGMA"))
_TYPE_WORDS: Final = frozenset(("WITH", "WITHOUT", "TIME", "ZONE", "PRECISION", "VARYING"))
_TYPED: Final = frozenset(("DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"))
_ROW_VALUES: Final = frozenset(("NULL", "TRUE", "FALSE"))
_FROM_ARGUMENTS: Final = frozenset(("EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"))
_ENDS_OF_FROM: Final = _words(
    "WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH UNION INTERSECT EXCEPT WINDOW FOR RETURNING SET VALUES SELECT ON"
)
_NOT_UPDATE: Final = frozenset(("FOR", "KEY", "DO", "ON", "THEN"))
_EMPTY_LISTS: Final = (
    re.compile(
        r"IN \(SELECT CAST\(NULL AS [^()]*(?:\([^()]*\))?[^()]*\)(?:, CAST\(NULL AS [^()]*\))* WHERE \? != \?\)"
    ),
    re.compile(r"IN \(SELECT \?(?:, \?)* FROM \(SELECT \?(?:, \?)*\)(?: AS _empty_set)? WHERE \? ?!= ?\?\)"),
    re.compile(r"IN \(NULL\) (?:AND \(\? != \?\)|OR \(\? = \?\))"),
)
_TERM: Final = r"[\w.]+ (?:[<>]=?|<>|=|LIKE|ILIKE) \?"
_SAME_TERMS: Final = re.compile(rf"(\([^()]*\)|\b{_TERM}(?: AND {_TERM})*)(?: OR \1)+")
_MAX_SUMMARY: Final = 255
_VALUE: Final = "?"
_LIST: Final = "(...)"


class Fingerprinter:
    """Reads each text once: known texts cost one dictionary lookup.

    Two generations of entries, of which the older is dropped when the younger is full, so that a hit needs no
    bookkeeping and no lock.

    Args:
        max_entries: texts per generation.
        max_characters: characters of text per generation.
        max_length: characters of a text that are read; what follows is taken for literals.
    """

    def __init__(
        self, *, max_entries: int = 5_000, max_characters: int = 10_000_000, max_length: int = 1_000_000
    ) -> None:
        self._max_entries = max_entries
        self._max_characters = max_characters
        self._max_length = max_length
        self._young: dict[str, Shape] = {}
        self._old: dict[str, Shape] = {}
        self._shapes: dict[tuple[str, bool], Shape] = {}
        self._characters = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __call__(self, sql: str) -> Shape:
        """Return the shape of a text; never raises, whatever the text."""
        shape = self._young.get(sql)
        return shape if shape is not None else self._read(sql)

    def _read(self, sql: str) -> Shape:
        shape = self._old.get(sql)
        if shape is None:
            shape = read(sql[: self._max_length])
            shape = self._shapes.setdefault((shape.fingerprint, shape.inlined), shape)
        if len(self._young) >= self._max_entries or self._characters > self._max_characters:
            self._old, self._young, self._characters = self._young, {}, 0
            self._shapes = {(each.fingerprint, each.inlined): each for each in self._old.values()}
        self._young[sql] = shape
        self._characters += len(sql)
        return shape


def read(sql: str) -> Shape:
    """Read a text from scratch; time is linear in its length."""
    tokens, literals = _tokens(sql)
    tokens = _without_anonymous_numbers(_folded(tokens))
    text = _text(tokens)
    for pattern in _EMPTY_LISTS:
        text = pattern.sub(f"IN {_LIST}", text)
    text = _SAME_TERMS.sub(r"\1 OR ...", text)
    operation = _operation(tokens)
    tables, writes = _tables(tokens)
    return Shape(
        fingerprint=hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest(),
        text=text,
        operation=operation,
        summary=_summary(operation, tokens, tables),
        tables=tables,
        writes=writes,
        control=_is_control(operation, tokens),
        locking=_is_locking(tokens),
        inlined=bool(literals),
    )


@lru_cache(maxsize=2_000)
def literals(sql: str) -> int:
    """Return a hash of the literals that are written into a text."""
    return hash(tuple(_tokens(sql)[1]))


def _tokens(sql: str) -> tuple[list[str], list[str]]:
    """Split a text: keywords in capitals, values as `?`; beside it the literals that were written out."""
    tokens: list[str] = []
    literals: list[str] = []
    at, end = 0, len(sql)
    while at < end:
        match = _TOKEN.match(sql, at)
        assert match is not None
        kind, word = match.lastgroup, match.group()
        at = match.end()
        if kind == "space":
            continue
        if kind == "comment":
            at = _after_comment(sql, at)
        elif kind == "dollar":
            closing = sql.find(word, at)
            literals.append(sql[at : closing if closing >= 0 else end])
            at = closing + len(word) if closing >= 0 else end
            tokens.append(_VALUE)
        elif kind == "string":
            _add_string(tokens, literals, word)
        elif kind == "number":
            _add_number(tokens, literals, word)
        elif kind == "bind" or (kind == "question" and not _after_operand(tokens)):
            tokens.append(_VALUE)
        elif kind == "word":
            tokens.append(word.upper() if word.upper() in _KEYWORDS else word)
        elif kind == "quoted":
            tokens.append(_unquoted(word))
        else:
            tokens.append("<>" if word == "!=" and tokens[-1:] != [_VALUE] else word)
    while tokens[-1:] == [";"]:
        tokens.pop()
    return tokens, literals


def _after_comment(sql: str, at: int) -> int:
    """Return where a block comment ends; they nest."""
    depth = 1
    for match in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(sql)


def _add_string(tokens: list[str], literals: list[str], word: str) -> None:
    if tokens and tokens[-1].upper() in _TYPED:
        tokens.pop()
    if tokens[-1:] == [_VALUE] and literals:  # adjacent strings are one
        return
    tokens.append(_VALUE)
    literals.append(word)


def _add_number(tokens: list[str], literals: list[str], word: str) -> None:
    before = tokens[-1] if tokens else ""
    if before in ("-", "+") and not _is_operand(tokens[-2] if len(tokens) > 1 else ""):
        tokens.pop()
        before = tokens[-1] if tokens else ""
    if before not in ("LIMIT", "OFFSET", "FIRST", "NEXT", "SELECT"):
        literals.append(word)
    tokens.append(_VALUE)


def _after_operand(tokens: list[str]) -> bool:
    """Tell whether a value came before: then `?` and `-` are operators."""
    return bool(tokens) and _is_operand(tokens[-1])


def _is_operand(token: str) -> bool:
    return token in (")", "]", _VALUE) or (token != "" and _is_name(token))


def _unquoted(word: str) -> str:
    """Simple names are the same with and without quotes; keywords and others keep them."""
    name = word[1:-1].replace('""', '"') if len(word) > 1 else word
    if _SIMPLE.match(name) and name.upper() not in _KEYWORDS:
        return name
    return f'"{name}"'


def _folded(tokens: list[str]) -> list[str]:
    """Fold what varies without meaning: casts of values, lists of values, rows after VALUES."""
    out: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token == "::" and out[-1:] == [_VALUE]:
            at = _after_type(tokens, at + 1)
        elif token == "(" and out[-1:] == ["IN"]:
            at = _add_list(tokens, at, out)
        elif token == "[" and out[-1:] == ["ARRAY"]:
            at = _add_array(tokens, at, out)
        elif token == "VALUES" and tokens[at + 1 : at + 2] == ["("]:
            out.append(token)
            at = _add_rows(tokens, at + 1, out)
        else:
            out.append(token)
            at += 1
    return out


def _after_type(tokens: list[str], at: int) -> int:
    """Return the place behind the name of a type: `TIMESTAMP(6) WITH TIME ZONE[]`, `shop.status`."""
    at += 1
    while at < len(tokens):
        if tokens[at].upper() in _TYPE_WORDS or tokens[at] in ("[", "]"):
            at += 1
        elif tokens[at] == "." and at + 1 < len(tokens):
            at += 2
        elif tokens[at] == "(" and ")" in tokens[at : at + 5]:
            at = tokens.index(")", at) + 1
        else:
            return at
    return at


def _closing(tokens: list[str], at: int) -> int:
    """Return the place of the bracket that closes the one at `at`; the end where there is none."""
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place] in ("(", "["):
            depth += 1
        elif tokens[place] in (")", "]"):
            depth -= 1
            if depth == 0:
                return place
    return len(tokens) - 1


def _are_values(tokens: list[str]) -> bool:
    """Tell whether a list holds nothing but values and tuples of values."""
    inside = _folded(tokens)
    return all(token in (_VALUE, ",", "(", ")") or token in _ROW_VALUES for token in inside)


def _add_list(tokens: list[str], at: int, out: list[str]) -> int:
    end = _closing(tokens, at)
    inside = tokens[at + 1 : end]
    if inside and inside != ["NULL"] and _are_values(inside):
        out.append(_LIST)
        return end + 1
    out.append("(")
    return at + 1


def _add_array(tokens: list[str], at: int, out: list[str]) -> int:
    end = _closing(tokens, at)
    if _are_values(tokens[at + 1 : end]):
        out.append("[...]")
        return end + 1
    out.append("[")
    return at + 1


def _add_rows(tokens: list[str], at: int, out: list[str]) -> int:
    """Keep the first row after VALUES, and later ones that differ from it in more than their values."""
    first: list[str] | None = None
    while at < len(tokens) and tokens[at] == "(":
        end = _closing(tokens, at)
        row = [_VALUE if token in _ROW_VALUES else token for token in _folded(tokens[at : end + 1])]
        if row != first:
            out.extend([","] * (first is not None))
            out.extend(row)
            first = row if first is None else first
        at = end + 1
        if tokens[at : at + 2] != [",", "("]:
            break
        at += 1
    return at


def _without_anonymous_numbers(tokens: list[str]) -> list[str]:
    """Number SQLAlchemy's labels and aliases (`anon_7`, `orders_1`) by their first appearance."""
    anonymous = {
        token
        for before, token in zip(["", *tokens], tokens, strict=False)
        if token[-1:].isdigit() and (before == "AS" or token.startswith(("anon_", "param_"))) and _NUMBERED.match(token)
    }
    if not anonymous:
        return tokens
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for token in tokens:
        if token in anonymous and token not in names:
            stem = token.rpartition("_")[0]
            counts[stem] = counts.get(stem, 0) + 1
            names[token] = f"{stem}_{counts[stem]}"
    return [names.get(token, token) for token in tokens]


def _text(tokens: list[str]) -> str:
    """Join tokens with single spaces, none where nobody would write one."""
    parts: list[str] = []
    glue = True
    for token in tokens:
        tight = token in (",", ")", ".", "]", ";", "::", "[") or (token == "(" and _calls(parts))
        if parts and not glue and not tight:
            parts.append(" ")
        parts.append(token)
        glue = token in ("(", ".", "[", "::")
    return "".join(parts)


def _calls(parts: list[str]) -> bool:
    last = parts[-1] if parts else ""
    return bool(last) and (last in ("CAST", "ANY", "ARRAY") or (last[-1].isalnum() and last not in _KEYWORDS))


def _operation(tokens: list[str]) -> str:
    words = [token for token in tokens if token != "("]
    if not words:
        return ""
    if words[0] != "WITH":
        return words[0].upper() if words[0].isidentifier() else ""
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if depth == 0 and token in _VERBS:
            return token
    return "WITH"


def _tables(tokens: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tables of a statement, and those that it writes."""
    ctes = _cte_names(tokens)
    tables: dict[str, None] = {}
    writes: dict[str, None] = {}
    functions: list[str] = []
    listing: list[bool] = [False]
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else ""
        expects = False
        if token == "(":
            functions.append(before.upper())
            listing.append(False)
        elif token == ")" and len(listing) > 1:
            functions.pop()
            listing.pop()
        elif token == "FROM":
            of_copy = tokens[0] == "COPY" and len(listing) == 1
            argument = before == "DISTINCT" or of_copy or (functions and functions[-1] in _FROM_ARGUMENTS)
            expects = not argument
            listing[-1] = expects
        elif token in ("JOIN", "INTO", "UPDATE", "TABLE", "TRUNCATE", "USING", "COPY"):
            expects = not (token == "UPDATE" and before in _NOT_UPDATE) and tokens[at + 1 : at + 2] != ["TABLE"]
            listing[-1] = listing[-1] or token == "TRUNCATE"
        elif token == "ON" and tokens[0] == "CREATE" and "INDEX" in tokens[:at]:
            expects = True
        elif token == ",":
            expects = listing[-1]
        elif token in _ENDS_OF_FROM:
            listing[-1] = False
        if expects:
            name = _name(tokens, at + 1)
            if name and name not in ctes:
                tables[name] = None
                if _writes(tokens, at, token, before):
                    writes[name] = None
    return tuple(tables), tuple(writes)


def _writes(tokens: list[str], at: int, token: str, before: str) -> bool:
    if token in ("INTO", "UPDATE", "TRUNCATE") or (token == "FROM" and before == "DELETE"):
        return True
    if token == "COPY":
        return "FROM" in tokens[at:]
    return tokens[0] in ("CREATE", "ALTER", "DROP", "TRUNCATE") and token in ("TABLE", ",")


def _name(tokens: list[str], at: int) -> str:
    """Return the table's name at a place, with its schema; empty for a subquery or a function."""
    while at < len(tokens) and tokens[at] in ("ONLY", "LATERAL", "TABLE", "IF", "EXISTS", "NOT"):
        at += 1
    parts: list[str] = []
    while at < len(tokens) and _is_name(tokens[at]):
        parts.append(tokens[at].strip('"'))
        if tokens[at + 1 : at + 2] != ["."]:
            break
        at += 2
    called = tokens[at + 1 : at + 2] == ["("] and tokens[0] not in ("INSERT", "CREATE", "COPY", "WITH")
    return "" if called else ".".join(parts)


def _is_name(token: str) -> bool:
    return token.startswith('"') or ((token[0].isalpha() or token[0] == "_") and token not in _KEYWORDS)


def _cte_names(tokens: list[str]) -> frozenset[str]:
    if "WITH" not in tokens:
        return frozenset()
    names = set()
    for at, token in enumerate(tokens[:-2]):
        before = tokens[at - 1] if at else ""
        if before in ("WITH", "RECURSIVE", ",") and _is_name(token):
            after = at + 1 if tokens[at + 1] != "(" else _closing(tokens, at + 1) + 1
            if tokens[after : after + 1] == ["AS"] and tokens[after + 1 : after + 2] in (
                ["("],
                ["MATERIALIZED"],
                ["NOT"],
            ):
                names.add(token.strip('"'))
    return frozenset(names)


def _summary(operation: str, tokens: list[str], tables: tuple[str, ...]) -> str:
    words = [operation, *tables]
    if operation == "INSERT" and len(tables) > 1 and "SELECT" in tokens:
        words.insert(2, "SELECT")
    summary = ""
    for word in filter(None, words):
        longer = f"{summary} {word}".strip()
        if len(longer) > _MAX_SUMMARY:
            break
        summary = longer
    return summary


def _is_control(operation: str, tokens: list[str]) -> bool:
    if operation in ("SET", "PREPARE"):
        return "TRANSACTION" in tokens[1:4]
    return operation in _CONTROLS


def _is_locking(tokens: list[str]) -> bool:
    return any(
        token == "FOR" and tokens[at + 1 : at + 2] in (["UPDATE"], ["SHARE"], ["NO"], ["KEY"])
        for at, token in enumerate(tokens)
    )


shape: Final = Fingerprinter()
"""The process' own."""
