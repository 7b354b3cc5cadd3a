"""Statement texts to shapes: what is equal in all executions of a statement, without a literal in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

from querytoll.model import Shape

Token = tuple[str, str]
"""Kind and text: keywords in capitals, names without needless quotes, values without their text."""
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS: Final = _words(
    "ALL ALTER ANALYZE AND ANY ARRAY AS ASC BEGIN BETWEEN BY CASCADE CASE CAST CHECK COLLATE COMMIT CONSTRAINT CREATE "
    "CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DEFAULT DELETE DESC DISTINCT DIV DO DROP ELSE END "
    "ESCAPE EXCEPT EXISTS EXPLAIN EXTRACT FALSE FETCH FOR FOREIGN FROM FULL GLOB GROUP HAVING ILIKE IN INNER INSERT "
    "INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOCALTIME LOCALTIMESTAMP MERGE NATURAL NOT NULL NULLS OF "
    "OFFSET ON ONLY OR ORDER OUTER OVER OVERLAPS OVERRIDING PRAGMA PRIMARY RECURSIVE REFERENCES REGEXP RETURNING RIGHT "
    "RLIKE ROLLBACK SELECT SESSION_USER SET SIMILAR SOME STRAIGHT_JOIN SYMMETRIC TABLE TABLESAMPLE THEN TO TRUE "
    "TRUNCATE UNION UNIQUE UPDATE USING VALUES WHEN WHERE WINDOW WITH WITHIN XOR"
)
_DEFINING: Final = _words("CREATE DROP ALTER REFRESH COMMENT TRUNCATE LOCK REINDEX")
_SOFT: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    word: (_words(before), _words(after))
    for word, before, after in (
        ("ACTION", "NO", ""),
        ("AT", "", "TIME"),
        ("CONCURRENTLY", "INDEX VIEW", ""),
        ("CONFLICT", "ON", ""),
        ("CURRENT", "", "ROW"),
        ("DUPLICATE", "ON", ""),
        ("FILTER", "\0)", ""),
        ("FIRST", "NULLS FETCH", ""),
        ("FOLLOWING", "UNBOUNDED ?", ""),
        ("GROUPS", "", "BETWEEN UNBOUNDED CURRENT"),
        ("IF", "", "EXISTS NOT"),
        ("INDEX", "CREATE DROP ALTER UNIQUE REINDEX", ""),
        ("KEY", "NO FOR PRIMARY FOREIGN DUPLICATE", ""),
        ("LAST", "NULLS", ""),
        ("LOCKED", "SKIP", ""),
        ("MATCHED", "WHEN NOT", ""),
        ("MATERIALIZED", "AS NOT CREATE REFRESH DROP", ""),
        ("NEXT", "FETCH", ""),
        ("NO", "FOR", "KEY ACTION"),
        ("NOTHING", "DO", ""),
        ("NOWAIT", "UPDATE SHARE MODE", ""),
        ("ORDINALITY", "WITH", ""),
        ("PARTITION", "", "BY"),
        ("PRECEDING", "UNBOUNDED ?", ""),
        ("RANGE", "", "BETWEEN UNBOUNDED CURRENT"),
        ("REPLACE", "OR", "INTO"),
        ("ROW", "CURRENT", ""),
        ("ROWS", "", "BETWEEN UNBOUNDED CURRENT"),
        ("SHARE", "FOR KEY IN", "MODE"),
        ("SKIP", "", "LOCKED"),
        ("TEMPORARY", "CREATE", ""),
        ("TIES", "WITH", ""),
        ("TIME", "AT WITH WITHOUT", ""),
        ("UNBOUNDED", "", "PRECEDING FOLLOWING"),
        ("VIEW", "CREATE DROP ALTER REPLACE TEMPORARY MATERIALIZED", ""),
        ("ZONE", "TIME", ""),
        *((unit, "?", "") for unit in ("YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND")),
    )
}
"""Keywords that people also name columns: the word before, or the one after, that makes them keywords."""
_RESERVED: Final = _KEYWORDS | {"USER"}
_OPERANDS: Final = _words(
    "NULL TRUE FALSE END DEFAULT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER LOCALTIME LOCALTIMESTAMP "
    "SESSION_USER"
)
_TYPED: Final = _words(
    "BIT BOOL BOOLEAN BOX BYTEA CIDR CITEXT DATE HSTORE INET INTERVAL JSON JSONB JSONPATH LTREE MACADDR MONEY NUMERIC "
    "POINT TIME TIMESTAMP TIMESTAMPTZ TIMETZ TSQUERY TSVECTOR UUID VECTOR XML"
)
_CALLED: Final = _words("ANY ARRAY CAST EXTRACT LEFT RIGHT SOME")

_BLANKS: Final = "".join(map(chr, range(33)))
_SPACE: Final = r"[\x00-\x20]*+"
_NAME: Final = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+"
_STRING: Final = r"'[^']*+(?:''[^']*+)*+(?:'|\Z)"
_ESCAPED: Final = r"'(?:[^'\\]++|''|\\.)*+(?:'|\\?\Z)"
_QUOTED: Final = r'"[^"]*+(?:""[^"]*+)*+(?:"|\Z)'
_NUMBER: Final = (
    r"(?:0[xX][0-9A-Fa-f_]++|0[oObB][0-7_]++|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9]++)?)"
)
_BIND: Final = (
    rf"(?:\$[0-9]++|\$[A-Za-z_][A-Za-z0-9_]*+|%\([^()%]*+\)[sbt]|%s(?![0-9A-Za-z_])|:(?:{_NAME}|[0-9]++)"
    r"|@p[0-9]++(?![A-Za-z_]))"
)
_CAST: Final = (
    rf"::{_SPACE}(?:{_NAME}|{_QUOTED})(?:{_SPACE}\.{_SPACE}(?:{_NAME}|{_QUOTED}))?+"
    rf"(?:{_SPACE}(?i:PRECISION|VARYING)(?![0-9A-Za-z_$]))?+"
    rf"(?:{_SPACE}\({_SPACE}[0-9]++(?:{_SPACE},{_SPACE}[0-9]++)?+{_SPACE}\))?+"
    rf"(?:{_SPACE}(?i:WITH|WITHOUT){_SPACE}(?i:TIME){_SPACE}(?i:ZONE)(?![0-9A-Za-z_$]))?+"
    rf"(?:{_SPACE}\[{_SPACE}[0-9]*+{_SPACE}\])*+"
)
_OPERATOR: Final = (
    r"(?:->>?|\#>>?|\#-|@[>?@]|<@|<(?:->|=>|\#>|\+>|~>)|<%(?![s(])|%>|\|\|/?|\|/|<<=?|>>=?|&[&<>]|-\|-|!?~~?\*?|!="
    r"|<[>=]|>=|\^@|:=|=>|==|%%|::|[^\x00-\x20])"
)


def _master(string: str, quoted: str, comment: str) -> re.Pattern[str]:
    """Every repetition is possessive and every quote may end with the text: no input makes the pattern backtrack."""
    return re.compile(
        rf"""{_SPACE}(?:
          (?P<word>{_NAME})(?!['&])
        | (?P<mark>[(),;\[\]]|\.(?![0-9]))
        | (?P<cast>{_CAST})
        | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*+)?\$)
        | (?P<bind>{_BIND})
        | (?P<number>{_NUMBER})
        | (?P<string>{string})
        | (?P<quoted>{quoted})
        | (?P<question>\?(?:[0-9]++|[|&](?!\|))?)
        | (?P<comment>{comment})
        | (?P<prefix>{_NAME})
        | (?P<operator>{_OPERATOR})
        )""",
        re.VERBOSE | re.DOTALL | re.ASCII,
    )


_STANDARD: Final = _master(
    rf"(?:[Uu]&|[BbNnXx])?{_STRING}|[Ee]{_ESCAPED}", rf"(?:[Uu]&)?{_QUOTED}|`[^`]*+(?:`|\Z)", r"/\*|--[^\n]*+"
)
_MYSQL: Final = _master(
    rf'[BbNnXx]?{_ESCAPED}|"(?:[^"\\]++|""|\\.)*+(?:"|\\?\Z)',
    r"`[^`]*+(?:``[^`]*+)*+(?:`|\Z)",
    r"/\*|--[^\n]*+|\#[^\n]*+",
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_CONSTANT: Final = re.compile(rf"[01]{_SPACE}(!=|=){_SPACE}1(?![0-9A-Za-z_.])")
_UNIT: Final = re.compile(rf"{_SPACE}(?i:YEAR|MONTH|WEEK|DAY|HOUR|MINUTE|SECOND)(?![0-9A-Za-z_$])")
_AFTER_OPERATOR: Final = re.compile(rf"{_SPACE}(?:['\"$%(@0-9]|:(?!:)|\?(?![|&])|({_NAME}))")
_SIMPLE: Final = re.compile(r"[a-z_][a-z0-9_$]*+\Z")
_PAIR: Final = re.compile(r"\\.", re.DOTALL)
_RENDERED: Final = re.compile(r"'(?:%++[A-Za-z]?|null)'\Z")
_SENTINEL: Final = ") AS imp_sen("

_LITERAL: Final = rf"(?:[+-]?{_NUMBER}|'[^'\\]*+(?:''[^'\\]*+)*+')"
_LISTED: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL})(?:{_SPACE}{_CAST})*+{_SPACE}"
_IN_ROW: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL}|(?i:NULL|TRUE|FALSE))(?:{_SPACE}{_CAST})*+{_SPACE}"
_ROW: Final = re.compile(rf"{_SPACE}\({_IN_ROW}(?:,{_IN_ROW})*+\)")
_ROWS: Final = re.compile(rf"(?:{_SPACE},{_ROW.pattern})*+")
_LISTS: Final = {
    "IN": re.compile(rf"{_SPACE}\({_LISTED}(?:,{_LISTED})*+\)"),
    "ARRAY": re.compile(rf"{_SPACE}\[{_LISTED}(?:,{_LISTED})*+\]"),
}
_VALUE: Final = re.compile(_IN_ROW)
_BOUND: Final = re.compile(rf"(?:[\x00-\x20(),\[\]]|(?:{_BIND}|\?[0-9]*+)(?:{_SPACE}{_CAST})*+|(?i:NULL|TRUE|FALSE))*+")
_COUNTED: Final = re.compile(rf"(?:{_BOUND.pattern}[0-9]++{_SPACE}\))*+")

_OPEN: Final = "(\0"
_CALL: Final = "\0(\0"
_CLOSE: Final = "\0)"
_BRACKET: Final = "\0[\0"
_UNBRACKET: Final = "\0]"
_COMMA: Final = "\0,"
_DOT: Final = "\0.\0"
_SEMICOLON: Final = "\0;"
"""Where a token's text has a NUL, no space is written; no other text has one."""

_CLAUSES: Final = _words("WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH UNION INTERSECT EXCEPT WINDOW FOR RETURNING SET")
_CONTROLS: Final = _words("BEGIN START COMMIT ROLLBACK ABORT END SAVEPOINT RELEASE PRAGMA")
_QUERIES: Final = _words("SELECT INSERT UPDATE DELETE MERGE REPLACE VALUES TABLE CALL")
_GRANTING: Final = _DEFINING | {"GRANT", "REVOKE"}
_LISTING: Final = _words("DROP TRUNCATE LOCK ANALYZE VACUUM")
_CALLING: Final = _words("CALL EXEC EXECUTE")
_BEFORE_TABLE: Final = _words("ONLY LATERAL TABLE IF NOT EXISTS CONCURRENTLY OR VIEW")
_BEFORE_CONSTANT: Final = _words("SELECT LIMIT OFFSET FIRST NEXT IS")
_MAX_SUMMARY: Final = 255
_MAX_READ: Final = 2_000_000
_MAX_LENGTH: Final = 20_000
_CHARACTERS_PER_ENTRY: Final = 1_000


class Fingerprinter:
    """Reads a statement's text once, and remembers its shape.

    Args:
        max_entries: texts, and shapes, that are remembered; their characters are bounded by a thousand times as many.
        max_length: characters of a shape's text. What would follow is not read, long lists of values excepted: these
            are skipped at the speed of a regular expression, up to two million characters.
    """

    def __init__(self, *, max_entries: int = 10_000, max_length: int = _MAX_LENGTH) -> None:
        self._max_length = max_length
        self._shapes: _Recent[tuple[str, bool], Shape] = _Recent(max_entries)
        self._texts = _Texts(self._read, max_entries)
        self.shape: Callable[[str], Shape] = self._texts.__getitem__
        """Return the shape of a statement's text; a dictionary lookup where the text is known. Never raises."""

    def __len__(self) -> int:
        """Return the number of texts remembered."""
        return self._texts.size

    def __call__(self, sql: str) -> Shape:
        """Return the shape of a statement's text."""
        return self.shape(sql)

    def _read(self, sql: str) -> Shape:
        new = read(sql, self._max_length)
        key = (new.text, new.inlined)
        known = self._shapes.get(key)
        if known is None:
            known = self._shapes.old.get(key, new)
            self._shapes.remember(key, known, len(new.text))
        return known


class _Recent(dict[Key, Value], Generic[Key, Value]):
    """The entries used last, in two generations of which the older is dropped whole: a hit is a bare lookup.

    No lock: threads that meet in here do some work twice, no more.
    """

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self.old: dict[Key, Value] = {}
        self._max_entries = max(max_entries // 2, 1)
        self._max_characters = self._max_entries * _CHARACTERS_PER_ENTRY
        self._characters = 0

    @property
    def size(self) -> int:
        return len(self) + len(self.old)

    def remember(self, key: Key, value: Value, characters: int) -> None:
        if characters > self._max_characters:
            return
        if len(self) >= self._max_entries or self._characters + characters > self._max_characters:
            self.old = dict(self)
            self.clear()
            self._characters = 0
        self[key] = value
        self._characters += characters


class _Texts(_Recent[str, Value]):
    """What was read out of statements' texts."""

    def __init__(self, read: Callable[[str], Value], max_entries: int) -> None:
        super().__init__(max_entries)
        self._read = read

    def __missing__(self, sql: str) -> Value:
        found = self.old.get(sql)
        if found is None:
            found = self._read(sql)
        self.remember(sql, found, len(sql))
        return found


def read(sql: str, max_length: int = _MAX_LENGTH) -> Shape:
    """Read a text from scratch; `shape` remembers."""
    reader = _reader(sql, max_length)
    text = _joined(reader.out, max_length)
    return Shape(
        fingerprint=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        text=text,
        operation=reader.operation,
        summary=_summary(reader.summary),
        tables=tuple(reader.tables),
        writes=tuple(reader.writes),
        control=reader.is_control,
        locking=reader.locking,
        inlined=bool(reader.literals) and reader.operation in _QUERIES,
    )


def _hash(sql: str) -> int:
    return hash(tuple(_reader(sql, _MAX_LENGTH).literals))


def _reader(sql: str, max_length: int) -> _Reader:
    sql = _clean(sql)
    lexer = _Lexer(sql, _STANDARD, 2 * max_length)
    lexer.run()
    if lexer.foreign or lexer.suspicious:
        other = _Lexer(sql, _MYSQL, 2 * max_length)
        other.run()
        lexer = other if lexer.foreign or not other.broken else lexer
    reader = _Reader(lexer.tokens, lexer.literals, sentinel=_SENTINEL in sql)
    reader.run()
    return reader


def _clean(sql: str) -> str:
    """Blank what no output can encode: NUL, and lone surrogates."""
    if not sql.isascii():
        sql = sql.encode(errors="replace").decode()
    return sql.replace("\0", " ").rstrip(_BLANKS)


class _Lexer:
    """Splits a text into tokens, in one pass, and folds lists of plain values on the way.

    Attributes:
        tokens: what was read.
        literals: place of a token to the text of the literal, or the list, that it stands for.
        foreign: the text is MySQL's: backslashes escape, double quotes are strings.
        suspicious: it may be: quotes are where none should be.
        broken: it was misread: a string has no end, or a backslash is outside of one.
    """

    def __init__(self, sql: str, pattern: re.Pattern[str], max_tokens: int) -> None:
        self.tokens: list[Token] = []
        self.literals: dict[int, str] = {}
        self.foreign = self.suspicious = self.broken = False
        self._sql = sql
        self._end = min(len(sql), _MAX_READ)
        self._pattern = pattern
        self._max_tokens = max_tokens
        self._operand = False
        self._nests = True
        self._escaped = False
        self._raw = ""

    def run(self) -> None:
        at = 0
        while 0 <= at < self._end:
            at = self._stretch(at)

    def _stretch(self, at: int) -> int:
        """Read up to a token that ends behind its match; return where it ends, -1 at the end of the text."""
        for match in self._pattern.finditer(self._sql, at, self._end):
            kind = match.lastgroup
            assert kind is not None
            jump = _READERS[kind](self, match, match[kind])
            if jump:
                return jump
            if len(self.tokens) > self._max_tokens:
                return -1
        return -1

    def _word(self, match: re.Match[str], raw: str) -> int:
        tokens = self.tokens
        kind, text = _VOCABULARY.get(raw) or _unlisted(raw)
        if tokens and tokens[-1][0] == ".":
            kind, text = "word", raw
        tokens.append((kind, text))
        self._raw = raw
        self._operand = kind != "keyword" or text in _OPERANDS
        if kind == "keyword":
            if text in _LISTS:
                return self._list(text, match.end())
            if text == "VALUES":
                return self._rows(match.end())
        return 0

    def _list(self, word: str, at: int) -> int:
        found = _LISTS[word].match(self._sql, at, self._end)
        if found is None:
            return 0
        left, right = "()" if word == "IN" else "[]"
        self.literals[len(self.tokens) + 1] = found[0]
        self.tokens += [(left, left), (self._kind(_BOUND, at, found.end()), "?"), (right, right)]
        self._operand = True
        return found.end()

    def _rows(self, at: int) -> int:
        first = _ROW.match(self._sql, at, self._end)
        if first is None:
            return 0
        rows = _ROWS.match(self._sql, first.end(), self._end)
        assert rows is not None
        end = rows.end()
        value = (self._kind(_COUNTED if self._sql.startswith(_SENTINEL, end) else _BOUND, at, end), "?")
        self.tokens.append(("(", "("))
        self.literals[len(self.tokens)] = self._sql[at:end]
        for _ in _VALUE.finditer(self._sql, first.start() + first[0].index("(") + 1, first.end() - 1):
            self.tokens += [value, (",", ",")]
        self.tokens[-1] = (")", ")")
        self._operand = True
        return end

    def _kind(self, bound: re.Pattern[str], at: int, end: int) -> str:
        return "value" if bound.fullmatch(self._sql, at, end) else "string"

    def _mark(self, match: re.Match[str], raw: str) -> int:
        tokens = self.tokens
        if raw == "." and tokens and tokens[-1][0] in ("keyword", "soft"):
            tokens[-1] = ("word", self._raw)
        tokens.append((raw, raw))
        self._operand = raw in ")]"
        return 0

    def _cast(self, match: re.Match[str], raw: str) -> int:
        if self.tokens and self.tokens[-1][0] in ("value", "string", "number", "constant"):
            return 0
        self.tokens.append(("cast", ("\0::" if self._operand else "::") + _type(raw[2:])))
        self._operand = True
        return 0

    def _bind(self, match: re.Match[str], raw: str) -> int:
        if raw[0] == ":" and self._operand and match.start("bind") == match.start():
            self.tokens.append(("operator", ":"))  # a slice: a[lower:upper]
            self._operand = False
            return match.start("bind") + 1
        return self._value("value")

    def _value(self, kind: str, literal: str = "") -> int:
        if literal:
            self.literals[len(self.tokens)] = literal
        self.tokens.append((kind, "?"))
        self._operand = True
        return 0

    def _number(self, match: re.Match[str], raw: str) -> int:
        if self.tokens and self.tokens[-1][0] == "sign":
            self.tokens.pop()
        constant = _CONSTANT.match(self._sql, match.start("number"), self._end)
        if constant is None:
            return self._value("number", raw)
        self.tokens.append(("constant", constant[1]))
        self._operand = True
        return constant.end()

    def _string(self, match: re.Match[str], raw: str) -> int:
        self.broken |= match.end() == self._end and self._is_cut(raw)
        if raw[0] not in "eE":
            self._escaped |= "\\'" in raw
        self.suspicious |= self._escaped and self.broken
        self._drop_type(match.end())
        last = len(self.tokens) - 1
        if last >= 0 and self.tokens[last][0] == "string":  # 'adjacent' 'strings' are one
            self.literals[last] = self.literals.get(last, "") + raw
            return 0
        return self._value("value" if _RENDERED.match(raw) else "string", raw)

    def _is_cut(self, raw: str) -> bool:
        """Tell whether a string at the text's end was never closed."""
        escapes = self._pattern is _MYSQL or raw[0] in "eE"
        return (_PAIR.sub("", raw) if escapes else raw).count('"' if raw[0] == '"' else "'") % 2 == 1

    def _suspect(self, text: str) -> None:
        """Note a quote where few are: the backslash of a string before it may have escaped that one's."""
        self.suspicious |= self._escaped and ("\\" in text or "'" in text)

    def _drop_type(self, end: int) -> None:
        """Forget the type of a typed literal: `DATE '2030-01-01'`, `TIMESTAMP WITH TIME ZONE '...'`."""
        last = [text.upper() for _, text in self.tokens[-4:]]
        if last[-1:] == ["ZONE"]:
            if last[:1] in (["TIMESTAMP"], ["TIME"]) and last[1] in ("WITH", "WITHOUT"):
                del self.tokens[-4:]
        elif last and last[-1] in _TYPED and not (last[-1] == "INTERVAL" and _UNIT.match(self._sql, end)):
            self.tokens.pop()

    def _quoted(self, match: re.Match[str], raw: str) -> int:
        quote = "`" if raw[0] == "`" else '"'
        self._suspect(raw)
        self.foreign |= quote == "`"
        if raw.count(quote) % 2:  # never closed: it may have swallowed a literal
            return self._value("string", raw)
        name = raw[raw.index(quote) + 1 : -1].replace(quote * 2, quote)
        simple = _SIMPLE.match(name) and name.upper() not in _RESERVED
        self.tokens.append(("name", name if simple else '"' + name.replace('"', '""') + '"'))
        self._operand = True
        return 0

    def _question(self, match: re.Match[str], raw: str) -> int:
        """Read `?`: PostgreSQL's operator if it stands between two operands, else a placeholder."""
        if self._operand and not raw[1:].isdigit() and self._is_operator(match.end()):
            self.tokens.append(("operator", raw))
            self._operand = False
            return 0
        self._value("value")
        if raw[1:] in ("|", "&"):
            self.tokens.append(("operator", raw[1]))
            self._operand = False
        return 0

    def _is_operator(self, end: int) -> bool:
        after = _AFTER_OPERATOR.match(self._sql, end, self._end)
        return after is not None and ((after[1] or "").upper() not in _KEYWORDS - {"ARRAY", "ANY", "CAST"})

    def _comment(self, match: re.Match[str], raw: str) -> int:
        end = self._after_comment(match.end()) if raw == "/*" else 0
        self._suspect(self._sql[match.end() : end] if end else raw)
        return end

    def _after_comment(self, at: int) -> int:
        """Return where a block comment ends. They nest, except where that would leave the text without an end."""
        first = self._sql.find("*/", at, self._end) + 2
        if first < 2:
            return self._end
        depth = 1
        for edge in _COMMENT_EDGE.finditer(self._sql, at, self._end) if self._nests else ():
            depth += 1 if edge[0] == "/*" else -1
            if depth == 0:
                return edge.end()
        self._nests = False
        return first

    def _dollar(self, match: re.Match[str], raw: str) -> int:
        closing = self._sql.find(raw, match.end(), self._end)
        end = closing + len(raw) if closing >= 0 else self._end
        if closing < 0:
            self._suspect(self._sql[match.end() : end])
        return self._value("string", self._sql[match.start("dollar") : end]) or end

    def _operator(self, match: re.Match[str], raw: str) -> int:
        self.broken |= raw == "\\"
        self.suspicious |= self.broken
        sign = raw in "+-" and not self._operand
        self.tokens.append(("sign" if sign else "operator", "%" if raw == "%%" else raw))
        self._operand = False
        return 0


_READERS: Final[dict[str, Callable[[_Lexer, re.Match[str], str], int]]] = {
    "word": _Lexer._word,
    "prefix": _Lexer._word,
    "mark": _Lexer._mark,
    "cast": _Lexer._cast,
    "bind": _Lexer._bind,
    "number": _Lexer._number,
    "string": _Lexer._string,
    "quoted": _Lexer._quoted,
    "question": _Lexer._question,
    "comment": _Lexer._comment,
    "dollar": _Lexer._dollar,
    "operator": _Lexer._operator,
}
_VOCABULARY: Final[dict[str, Token]] = {
    form: ("keyword", word) for word in _KEYWORDS for form in (word, word.lower(), word.capitalize())
} | {form: ("soft", form) for word in _SOFT for form in (word, word.lower(), word.capitalize())}


def _unlisted(raw: str) -> Token:
    upper = raw.upper() if raw.isascii() and not raw.islower() else ""
    return ("soft", raw) if upper in _SOFT else _VOCABULARY.get(upper, ("word", raw))


def _upper(text: str) -> str:
    """Return keywords in capitals: they are ASCII, and what Python makes of other letters changes with its version."""
    return text.upper() if text.isascii() else text


def _type(raw: str) -> str:
    """Write the name of a type in one way; a quoted one as it is."""
    return raw.strip() if '"' in raw else re.sub(r" ?([(),.\[\]]) ?", r"\1", _upper(" ".join(raw.split())))


class _Frame:
    """What is known of a pair of brackets while it is open.

    Attributes:
        kind: `query` (may hold one), `cte`, `subquery` or `list` (of IN), `call`, `array`, `slice`, `row`, `tuple`.
        start: place of the opening bracket in the output.
        name: the function called.
        verb: the operation that the clauses belong to.
        clause: the clause that is being read.
        expects: a table is next.
        term: place in the output where a term of OR began.
        same: the term before it, which came `terms` times in a row.
        target: the next table is written.
    """

    __slots__ = (
        "clause", "commas", "cte", "element", "expects", "hidden", "kind", "literals", "name", "parts", "rows", "same",
        "seen", "start", "target", "term", "terms", "verb",
    )  # fmt: skip

    def __init__(self, kind: str, start: int, name: str = "") -> None:
        self.kind = kind
        self.start = start
        self.name = name
        self.verb = self.clause = self.cte = ""
        self.expects = self.target = self.rows = self.hidden = False
        self.commas = self.parts = self.literals = self.terms = 0
        self.element = self.term = start + 1
        self.same: tuple[str, ...] = ()
        self.seen: set[tuple[str, ...]] = set()


class _Reader:
    """Reads tokens from left to right: the normalised text, and what the statement does to which tables."""

    def __init__(self, tokens: list[Token], literals: dict[int, str], *, sentinel: bool) -> None:
        self.out: list[str] = []
        self.operation = ""
        self.summary: list[str] = []
        self.tables: dict[str, None] = {}
        self.writes: dict[str, None] = {}
        self.locking = False
        self.literals: list[str] = []
        self._tokens = tokens
        self._literals = literals
        self._sentinel = sentinel
        self._at = 0
        self._frame = _Frame("query", -1)
        self._frames = [self._frame]
        self._ctes: set[str] = set()
        self._recursive = False
        self._opened: dict[int, int] = {}
        self._table_end = -1
        self._named = False

    def run(self) -> None:
        tokens, count = self._tokens, len(self._tokens)
        while count and tokens[count - 1][0] == ";":
            count -= 1
        while self._at < count:
            kind, text = tokens[self._at]
            handler = _HANDLERS.get(kind)
            if handler is None:
                self.out.append(text)
                self._named = kind == "name"
            else:
                handler(self, text)
            self._at += 1
        self._close_lists()
        if self._sentinel:
            self._fold_sentinel()
        if self.is_control:
            self._fold_control()
        _number_anonymous(self.out, self._opened)

    @property
    def is_control(self) -> bool:
        """Tell whether the statement rules the transaction or the session, and does nothing else."""
        if _SEMICOLON in self.out:
            return False
        if self.operation in ("SET", "PREPARE"):
            return "TRANSACTION" in map(str.upper, self.out[1:6])
        return self.operation in _CONTROLS

    def _peek(self, ahead: int) -> str:
        at = self._at + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def _last(self, back: int = 1) -> str:
        return self.out[-back] if len(self.out) >= back else ""

    def _soft(self, text: str) -> None:
        word = text.upper()
        before, after = _SOFT[word]
        if self._last() in before or (after and self._peek(1).upper() in after):
            self._keyword(word)
        else:
            self._word(text)

    def _word(self, text: str) -> None:
        frame = self._frame
        if not frame.verb and not self.out:
            self._begin(_upper(text))
        elif frame.expects:
            self._table()
        elif frame.clause == "WITH" and self._last() in ("WITH", "RECURSIVE", _COMMA):
            self._name_cte(text)
        elif frame.verb in _CALLING and self._last() == frame.verb:
            self._dotted()
        elif frame.name == "CAST" and frame.clause == "AS":
            self.out.append(_upper(text))
        elif self._peek(1) == "(" and self._last() != "AS" and text.isascii():
            self.out.append(text.lower())
        else:
            self.out.append(text)
        self._named = True

    def _quoted_name(self, text: str) -> None:
        frame = self._frame
        if not self.out:
            self._begin(_upper(text))
        elif frame.expects:
            self._table()
        elif frame.clause == "WITH" and self._last() in ("WITH", "RECURSIVE", _COMMA):
            self._name_cte(text)
        else:
            self.out.append(text)
        self._named = True

    def _begin(self, verb: str) -> None:
        """Read the first word of a statement that is none of the frequent ones."""
        self.out.append(verb)
        self._operate(verb)
        if verb in ("COPY", "LOCK", "VACUUM", "ANALYZE", "TRUNCATE") and self._peek(1) != "(":
            self._expect("TABLE", target=verb == "TRUNCATE")
        if verb == "REPLACE":
            self._frame.verb = "INSERT"

    def _operate(self, verb: str) -> None:
        frame = self._frame
        frame.verb = frame.clause = verb
        frame.expects = False
        self.summary.append(verb)
        if not self.operation and not frame.hidden:
            self.operation = verb

    def _expect(self, clause: str, *, target: bool = False) -> None:
        self._frame.clause = clause
        self._frame.expects = True
        self._frame.target = self._frame.target or target

    def _dotted(self) -> str:
        """Write a name with its schema, and return it without quotes."""
        parts = []
        while True:
            text = self._peek(0)
            self.out.append(text)
            parts.append(text[1:-1].replace('""', '"') if text[:1] == '"' else text)
            if self._peek(1) != "." or self._at + 2 >= len(self._tokens):
                break
            if self._tokens[self._at + 2][0] not in ("word", "name"):
                break
            self.out.append(_DOT)
            self._at += 2
        name = ".".join(parts)
        if self._frame.verb in _CALLING and not self._frame.expects:
            self.summary.append(_shown(name))
        return name

    def _table(self) -> None:
        frame = self._frame
        name = self._dotted()
        frame.expects = False
        called = self._peek(1) == "(" and frame.clause == "FROM" and not frame.target
        self._table_end = -1 if called else len(self.out)
        if called or name.lower() in self._ctes:
            return
        self.tables[name] = None
        self.summary.append(_shown(name))
        if frame.target:
            self.writes[name] = None
            frame.target = False

    def _name_cte(self, text: str) -> None:
        self.out.append(text)
        self._frame.cte = text.strip('"').lower()
        if self._recursive:
            self._ctes.add(self._frame.cte)

    def _keyword(self, word: str) -> None:
        frame = self._frame
        self._named = False
        if frame.expects and word not in _BEFORE_TABLE:
            frame.expects = False
        handler = _KEYWORD_HANDLERS.get(word)
        if handler is not None:
            handler(self, word)
        elif not self.out:
            self._begin(word)
        else:
            self.out.append(word)

    def _clause(self, word: str) -> None:
        if not self.out:
            self._begin(word)
        else:
            self._condition(word)
            self._frame.clause = word

    def _condition(self, word: str) -> None:
        """Read a word before or behind a condition."""
        self._end_terms(self._frame)
        self.out.append(word)
        self._frame.term = len(self.out)

    def _or(self, word: str) -> None:
        frame = self._frame
        if self._end_term(frame):
            self.out.append(word)
        frame.term = len(self.out)

    def _end_term(self, frame: _Frame) -> bool:
        """Return False, and take it back, if a chain of OR had two terms like this one before."""
        term = tuple(self.out[frame.term :])
        frame.terms = frame.terms + 1 if term == frame.same else 1
        frame.same = term
        if frame.terms > 2:
            del self.out[frame.term :]
        return frame.terms <= 2

    def _end_terms(self, frame: _Frame) -> None:
        if frame.terms and not self._end_term(frame):
            self.out.pop()
        frame.terms = 0
        frame.same = ()

    def _select(self, word: str) -> None:
        if self._frame.verb not in _GRANTING or self._last() == "AS":
            self._operate(word)
        self.out.append(word)

    def _change(self, word: str) -> None:
        """Read INSERT, UPDATE, DELETE or MERGE, which may also be part of a clause."""
        last, frame = self._last(), self._frame
        if word == "UPDATE" and (last == "FOR" or (last == "KEY" and self._last(2) == "NO")):
            self.locking |= frame.verb == "SELECT"
        elif last not in ("KEY", "DO", "ON", "THEN") and frame.verb not in _GRANTING:
            self._operate(word)
            frame.target = True
            frame.expects = word == "UPDATE"
        self.out.append(word)

    def _share(self, word: str) -> None:
        self.locking |= self._frame.verb == "SELECT"
        self.out.append(word)

    def _from(self, word: str) -> None:
        frame = self._frame
        if self._last() == "DISTINCT" and self._last(2) in ("IS", "NOT"):
            pass
        elif frame.verb in ("SELECT", "DELETE", "UPDATE"):
            self._expect("FROM")
        elif frame.verb == "COPY":
            self.writes.update(dict.fromkeys(self.tables))
        self.out.append(word)

    def _join(self, word: str) -> None:
        self._end_terms(self._frame)
        self._expect("FROM")
        self.out.append(word)

    def _into(self, word: str) -> None:
        if self._frame.verb in ("INSERT", "MERGE", "SELECT"):
            self._expect("INTO", target=True)
        self.out.append(word)

    def _using(self, word: str) -> None:
        if self._frame.verb in ("DELETE", "MERGE") and self._peek(1) != "(":
            self._expect("FROM")
        self.out.append(word)

    def _on(self, word: str) -> None:
        if self._frame.verb == "CREATE" and self._peek(1) != "(":
            self._expect("TABLE", target=True)
        self._condition(word)

    def _kind_of_object(self, word: str) -> None:
        """Read TABLE, VIEW or INDEX."""
        verb = self._frame.verb
        if verb in _DEFINING:
            if verb in ("CREATE", "DROP", "ALTER") and self.summary == [verb]:
                self.summary[0] = f"{verb} {word}"
            if word != "INDEX":
                self._expect("TABLE", target=verb not in ("LOCK", "COMMENT", "REINDEX"))
        elif not verb and not self.out:
            self._operate(word)
            self._expect("FROM")
        self.out.append(word)

    def _values(self, word: str) -> None:
        frame = self._frame
        if frame.kind == "list" and self._last() == _OPEN:  # SQLite's IN (VALUES (1, 2), (3, 4))
            return
        if not frame.verb:
            frame.verb = word
            if len(self._frames) == 1:
                self._operate(word)
        frame.clause = word
        frame.seen = set()
        self.out.append(word)

    def _with(self, word: str) -> None:
        frame = self._frame
        if not frame.verb or frame.verb in ("EXPLAIN", "INSERT", "CREATE", "PREPARE", "DECLARE", "COPY"):
            frame.clause = word
        self.out.append(word)

    def _recurse(self, word: str) -> None:
        self._recursive = True
        self.out.append(word)

    def _as(self, word: str) -> None:
        if self._frame.name == "CAST":
            self._frame.clause = word
        self.out.append(word)

    def _constant_word(self, word: str) -> None:
        """Read NULL, TRUE or FALSE, which are values in lists and words elsewhere."""
        listed = self._frame.kind in ("list", "array", "row", "tuple")
        alone = self._last() in (_OPEN, _CALL, _BRACKET, _COMMA) and self._peek(1) in (",", ")", "]")
        self.out.append("?" if listed and alone else word)

    def _literal(self, kind: str) -> None:
        if not self._is_exempt(kind):
            self.literals.append(self._literals.get(self._at, ""))
        self._value()

    def _value(self, text: str = "?") -> None:
        self.out.append("?")
        self._named = False

    def _is_exempt(self, kind: str) -> bool:
        """Tell whether a literal is none of the application's data: a bound, an ordinal, SQLAlchemy's own."""
        frame, last = self._frame, self._last()
        if last == "ESCAPE" or frame.name == "type":
            return True
        if kind != "number":
            return False
        if last in _BEFORE_CONSTANT or frame.clause in ("LIMIT", "OFFSET", "FETCH") or frame.name == "count":
            return True
        if self._peek(1).upper() in ("PRECEDING", "FOLLOWING"):
            return True
        if frame.clause in ("ORDER", "GROUP"):
            return last in ("BY", _COMMA)
        return self._sentinel and frame.kind == "row" and self._peek(1) == ")"

    def _comparison(self, operator: str) -> None:
        self.out += ["?", operator, "?"]
        self._named = False

    def _operator(self, text: str) -> None:
        self.out.append(text)
        self._named = False

    def _open(self, text: str) -> None:
        frame, last, start = self._frame, self._last(), len(self.out)
        following = self._peek(1)
        selects = self._tokens[self._at + 1 : self._at + 2] and following in ("SELECT", "WITH")
        called = (self._named and self._table_end != start) or last in _CALLED
        new = _Frame("query", start)
        if last == "IN":
            new.kind = "subquery" if selects else "list"
        elif frame.clause == "VALUES" and (last == "VALUES" or frame.rows):
            new.kind = "row"
        elif frame.kind in ("list", "row", "tuple", "array") and last in (_OPEN, _COMMA, _BRACKET) and not selects:
            new.kind = "tuple"
        elif frame.clause == "WITH" and last in ("AS", "MATERIALIZED"):
            new.kind, new.cte = "cte", frame.cte
        elif called:
            new.kind = "call"
            new.name = "type" if frame.name == "CAST" and frame.clause == "AS" else last
        elif frame.expects:
            new.expects, new.clause = not selects, "FROM"
            frame.expects = False
        new.hidden = frame.hidden or new.kind == "cte"
        new.parts, new.literals = len(self.summary), len(self.literals)
        self._push(new, _CALL if called and new.kind == "call" else _OPEN)

    def _push(self, frame: _Frame, text: str) -> None:
        self._frames.append(frame)
        self._frame = frame
        self.out.append(text)
        self._named = False

    def _pop(self) -> _Frame:
        frame = self._frames.pop()
        self._frame = self._frames[-1]
        return frame

    def _close(self, text: str) -> None:
        if len(self._frames) > 1:
            frame = self._pop()
            self._end_terms(frame)
            if frame.kind in ("list", "array"):
                self._end_list(frame)
            elif frame.kind == "subquery":
                self._fold_empty_subquery(frame)
            elif frame.kind == "cte":
                self._ctes.add(frame.cte)
            self._opened[len(self.out)] = frame.start
            self.out.append(_CLOSE)
            if frame.kind == "row":
                self._end_row(frame)
            elif frame.kind == "list":
                self._skip_empty_condition(frame)
        else:
            self.out.append(_CLOSE)
        self._named = False

    def _end_element(self, frame: _Frame) -> bool:
        """Return False, and take it back, if a list held an element like this before."""
        element = tuple(self.out[frame.element :])
        if element == (_OPEN, "?", _CLOSE):
            element = ("?",)
            self.out[frame.element :] = element
        if element in frame.seen:
            del self.out[frame.element :]
            return False
        frame.seen.add(element)
        return True

    def _end_list(self, frame: _Frame) -> None:
        if not self._end_element(frame) and self._last() == _COMMA:
            self.out.pop()
        if len(self.out) == frame.start + 1:
            self.out.append("?")

    def _end_row(self, frame: _Frame) -> None:
        row = tuple(self.out[frame.start :])
        if row in self._frame.seen:
            del self.out[frame.start :]
            if self._last() == _COMMA:
                self.out.pop()
        self._frame.seen.add(row)
        self._frame.rows = self._peek(1) == "," and self._peek(2) == "("

    def _skip_empty_condition(self, frame: _Frame) -> None:
        """Skip what SQLAlchemy adds to an empty list: `IN (NULL) AND (1 != 1)`, `NOT IN (NULL) OR (1 = 1)`."""
        ahead = self._tokens[self._at + 1 : self._at + 5]
        if [text for _, text in ahead] not in (["AND", "(", "!=", ")"], ["OR", "(", "=", ")"]):
            return
        if ahead[2][0] == "constant" and self._was_null(frame):
            self._at += 4

    def _was_null(self, frame: _Frame) -> bool:
        at = self._at
        while at >= 0 and self._tokens[at][1] in ("(", ")", ",", "NULL"):
            at -= 1
        return at >= 0 and self._tokens[at][1] == "IN" and self._tokens[self._at - 1][1] in ("NULL", ")")

    def _fold_empty_subquery(self, frame: _Frame) -> None:
        """Fold SQLAlchemy's other empty lists: `IN (SELECT 1 WHERE 1!=1)`."""
        if self._tokens[self._at - 1] == ("constant", "!=") and self._last(4) == "WHERE":
            values = [piece for _ in range(frame.commas + 1) for piece in (_COMMA, "?")][1:]
            self.out[frame.start + 1 :] = values if frame.commas == 0 else [_OPEN, *values, _CLOSE]
            del self.summary[frame.parts :]
            del self.literals[frame.literals :]

    def _comma(self, text: str) -> None:
        frame = self._frame
        frame.commas += 1
        self._named = False
        self._end_terms(frame)
        frame.term = len(self.out) + 1
        if frame.kind in ("list", "array"):
            if self._end_element(frame):
                self.out.append(_COMMA)
            frame.element = len(self.out)
            return
        self.out.append(_COMMA)
        if frame.clause == "FROM" or (frame.clause == "TABLE" and frame.verb in _LISTING):
            self._expect(frame.clause, target=frame.verb in ("DROP", "TRUNCATE"))

    def _bracket(self, text: str) -> None:
        last = self._last()
        array = last == "ARRAY" or (self._frame.kind == "array" and last in (_BRACKET, _COMMA))
        self._push(_Frame("array" if array else "slice", len(self.out)), _BRACKET)

    def _unbracket(self, text: str) -> None:
        if len(self._frames) > 1:
            frame = self._pop()
            if frame.kind in ("list", "array"):
                self._end_list(frame)
        self.out.append(_UNBRACKET)
        self._named = False

    def _dot(self, text: str) -> None:
        self.out.append(_DOT)
        self._named = False

    def _next_statement(self, text: str) -> None:
        self._end_terms(self._frame)
        self.out.append(_SEMICOLON)
        self._frame = _Frame("query", len(self.out))
        self._frames = [self._frame]
        self._named = False

    def _close_lists(self) -> None:
        """End the lists that the text's end left open."""
        self._end_terms(self._frame)
        while len(self._frames) > 1:
            frame = self._pop()
            self._end_terms(self._frame)
            if frame.kind in ("list", "array"):
                self._end_list(frame)
            elif frame.kind == "row" and frame.start + 1 < len(self.out) and self._frame.seen:
                del self.out[frame.start - 1 :]

    def _fold_control(self) -> None:
        if self.operation == "PRAGMA":
            return
        self.out = [token if token[:1] == '"' else _upper(token) for token in self.out]
        if self._last(2) in ("SAVEPOINT", "RELEASE", "TO"):
            self.out[-1] = "?"
        if self._last() in ("TRANSACTION", "PREPARED") or self.out[1:2] in (["TRANSACTION"], ["PREPARED"]):
            self.summary = [f"{self.operation} {self.out[1]}"]

    def _fold_sentinel(self) -> None:
        """Turn SQLAlchemy's ordered bulk insert, `SELECT p0 FROM (VALUES ...) AS imp_sen(...)`, into plain VALUES."""
        out = self.out
        try:
            name = out.index("imp_sen")
            start = out.index("SELECT")
            end = out.index("sen_counter", out.index("ORDER", name))
            source = out.index("FROM", start)
        except ValueError:
            return
        if out[0] != "INSERT" or not start < source < name < end or out[source + 2 : source + 3] != ["VALUES"]:
            return
        tail = _without_copies(out[end + 1 :])
        self.out = [*out[:start], "VALUES", _OPEN, *_plain(out[start + 1 : source]), _CLOSE, *tail]
        self._opened = {}
        self.summary.remove("SELECT")


def _plain(items: Iterable[str]) -> list[str]:
    """Turn the columns p0, p1 back into values."""
    plain: list[str] = []
    for item in items:
        if item[0] == "p" and item[1:].isdigit():
            plain.append("?")
        elif not (item[:3] == "\0::" and plain[-1:] == ["?"]):
            plain.append(item)
    return plain


def _without_copies(tail: list[str]) -> list[str]:
    """Drop the sentinels that SQLAlchemy adds to RETURNING: `t.id, t.id AS id__1`."""
    items: list[list[str]] = [[]]
    for piece in tail:
        if piece == _COMMA:
            items.append([])
        else:
            items[-1].append(piece)
    kept = items[0]
    seen = {tuple(kept[1:])}
    for item in items[1:]:
        if item[-2:-1] != ["AS"] or "__" not in item[-1] or tuple(item[:-2]) not in seen:
            kept += [_COMMA, *item]
            seen.add(tuple(item))
    return kept


def _number_anonymous(out: list[str], opened: dict[int, int]) -> None:
    """Number SQLAlchemy's own names (`anon_7`, `orders_3`, `count_2`) by the order in which they are defined.

    One of them is `anon_n`, or a table's alias or an expression's label that is made of what it names.
    """
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for at, text in enumerate(out):
        if text[-1] not in '0123456789"' or "_" not in text or text in names:
            continue
        stem = text.strip('"').rstrip("0123456789")
        if stem[-1:] == "_" and (stem == "anon_" or _is_made_of(stem, out, at, opened)):
            counts[stem] = counts.get(stem, 0) + 1
            names[text] = f"{stem}{counts[stem]}".join(('"', '"') if text[0] == '"' else ("", ""))
    if any(old != new for old, new in names.items()):
        _rename(out, names)


def _is_made_of(stem: str, out: list[str], at: int, opened: dict[int, int]) -> bool:
    """Tell whether `stem` is, with one underscore or two, what the alias at `at` names."""
    named = at - 1
    if named > 0 and out[named] == "AS":
        named -= 1
        if out[named] == _CLOSE:
            named = opened.get(named, 0) - 1
    return named >= 0 and out[named].strip('"') in (stem[:-1], stem[:-2] if stem[-2:] == "__" else stem[:-1])


def _rename(out: list[str], names: dict[str, str]) -> None:
    """Rename in place. A qualified name is a real column's, unless what qualifies it is SQLAlchemy's as well."""
    for at in range(3, len(out) - 1):
        if out[at] == "AS" and out[at - 2] == _DOT and out[at + 1] == f"{out[at - 3]}_{out[at - 1]}":
            table, column = names.get(out[at - 3], out[at - 3]), names.get(out[at - 1], out[at - 1])
            names.setdefault(out[at + 1], f"{table}_{column}")
    old = list(out)
    for at, text in enumerate(old):
        if text in names and (at < 2 or old[at - 1] != _DOT or old[at - 2] in names):
            out[at] = names[text]


def _joined(out: list[str], max_length: int) -> str:
    text = " ".join(out).replace(" \0", "").replace("\0 ", "").replace("\0", "")
    while len(text) > max_length:
        out = out[: len(out) * max_length // len(text)]
        text = " ".join(out).replace(" \0", "").replace("\0 ", "").replace("\0", "")
    return text


def _shown(name: str) -> str:
    """Return a name as one word of a summary."""
    return f'"{name}"' if any(character.isspace() for character in name) else name


def _summary(parts: Iterable[str]) -> str:
    summary = ""
    for part in parts:
        longer = f"{summary} {part}".strip()
        if len(longer) > _MAX_SUMMARY:
            break
        summary = longer
    return summary


_HANDLERS: Final[dict[str, Callable[[_Reader, str], None]]] = {
    "word": _Reader._word,
    "soft": _Reader._soft,
    "keyword": _Reader._keyword,
    "name": _Reader._quoted_name,
    "value": lambda reader, _: reader._value(),
    "string": lambda reader, _: reader._literal("string"),
    "number": lambda reader, _: reader._literal("number"),
    "constant": _Reader._comparison,
    "operator": _Reader._operator,
    "sign": _Reader._operator,
    "cast": _Reader._operator,
    "(": _Reader._open,
    ")": _Reader._close,
    "[": _Reader._bracket,
    "]": _Reader._unbracket,
    ",": _Reader._comma,
    ".": _Reader._dot,
    ";": _Reader._next_statement,
}
_KEYWORD_HANDLERS: Final[dict[str, Callable[[_Reader, str], None]]] = {
    "SELECT": _Reader._select,
    "INSERT": _Reader._change,
    "UPDATE": _Reader._change,
    "DELETE": _Reader._change,
    "MERGE": _Reader._change,
    "FROM": _Reader._from,
    "JOIN": _Reader._join,
    "STRAIGHT_JOIN": _Reader._join,
    "INTO": _Reader._into,
    "USING": _Reader._using,
    "ON": _Reader._on,
    "TABLE": _Reader._kind_of_object,
    "VIEW": _Reader._kind_of_object,
    "INDEX": _Reader._kind_of_object,
    "VALUES": _Reader._values,
    "WITH": _Reader._with,
    "RECURSIVE": _Reader._recurse,
    "OR": _Reader._or,
    "WHEN": _Reader._condition,
    "THEN": _Reader._condition,
    "AS": _Reader._as,
    "SHARE": _Reader._share,
    "NULL": _Reader._constant_word,
    "TRUE": _Reader._constant_word,
    "FALSE": _Reader._constant_word,
    **dict.fromkeys(_CLAUSES, _Reader._clause),
}

shape: Final = Fingerprinter().shape
"""Return the shape of a statement's text, remembered for the whole process. Never raises."""

literals: Final[Callable[[str], int]] = _Texts(_hash, 2_000).__getitem__
"""Return a hash of the literals of its own that a text holds; comparable within one process."""
