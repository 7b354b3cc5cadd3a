"""A statement's text to tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from querytoll.fingerprint.patterns import (
    AFTER_OPERATOR,
    BOUND,
    COMMENT_EDGE,
    CONSTANT,
    COUNTED,
    LISTS,
    MYSQL,
    PAIR,
    RENDERED,
    ROW,
    ROWS,
    SIMPLE,
    UNIT,
    VALUE,
)
from querytoll.fingerprint.words import KEYWORDS, OPERANDS, RESERVED, TYPED, VOCABULARY, Token, capitals, unlisted

SENTINEL: Final = ") AS imp_sen("
_MAX_READ: Final = 2_000_000


class Lexer:
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
        kind, text = VOCABULARY.get(raw) or unlisted(raw)
        if tokens and tokens[-1][0] == ".":
            kind, text = "word", raw
        tokens.append((kind, text))
        self._raw = raw
        self._operand = kind != "keyword" or text in OPERANDS
        if kind == "keyword":
            if text in LISTS:
                return self._list(text, match.end())
            if text == "VALUES":
                return self._rows(match.end())
        return 0

    def _list(self, word: str, at: int) -> int:
        found = LISTS[word].match(self._sql, at, self._end)
        if found is None:
            return 0
        left, right = "()" if word == "IN" else "[]"
        self.literals[len(self.tokens) + 1] = found[0]
        self.tokens += [(left, left), (self._kind(BOUND, at, found.end()), "?"), (right, right)]
        self._operand = True
        return found.end()

    def _rows(self, at: int) -> int:
        first = ROW.match(self._sql, at, self._end)
        if first is None:
            return 0
        rows = ROWS.match(self._sql, first.end(), self._end)
        assert rows is not None
        end = rows.end()
        value = (self._kind(COUNTED if self._sql.startswith(SENTINEL, end) else BOUND, at, end), "?")
        self.tokens.append(("(", "("))
        self.literals[len(self.tokens)] = self._sql[at:end]
        for _ in VALUE.finditer(self._sql, first.start() + first[0].index("(") + 1, first.end() - 1):
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
        constant = CONSTANT.match(self._sql, match.start("number"), self._end)
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
        return self._value("value" if RENDERED.match(raw) else "string", raw)

    def _is_cut(self, raw: str) -> bool:
        """Tell whether a string at the text's end was never closed."""
        escapes = self._pattern is MYSQL or raw[0] in "eE"
        return (PAIR.sub("", raw) if escapes else raw).count('"' if raw[0] == '"' else "'") % 2 == 1

    def _suspect(self, text: str) -> None:
        """Note a quote where few are: the backslash of a string before it may have escaped that one's."""
        self.suspicious |= self._escaped and ("\\" in text or "'" in text)

    def _drop_type(self, end: int) -> None:
        """Forget the type of a typed literal: `DATE '2030-01-01'`, `TIMESTAMP WITH TIME ZONE '...'`."""
        last = [text.upper() for _, text in self.tokens[-4:]]
        if last[-1:] == ["ZONE"]:
            if last[:1] in (["TIMESTAMP"], ["TIME"]) and last[1] in ("WITH", "WITHOUT"):
                del self.tokens[-4:]
        elif last and last[-1] in TYPED and not (last[-1] == "INTERVAL" and UNIT.match(self._sql, end)):
            self.tokens.pop()

    def _quoted(self, match: re.Match[str], raw: str) -> int:
        quote = "`" if raw[0] == "`" else '"'
        self._suspect(raw)
        self.foreign |= quote == "`"
        if raw.count(quote) % 2:  # never closed: it may have swallowed a literal
            return self._value("string", raw)
        name = raw[raw.index(quote) + 1 : -1].replace(quote * 2, quote)
        simple = SIMPLE.match(name) and name.upper() not in RESERVED
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
        after = AFTER_OPERATOR.match(self._sql, end, self._end)
        return after is not None and ((after[1] or "").upper() not in KEYWORDS - {"ARRAY", "ANY", "CAST"})

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
        for edge in COMMENT_EDGE.finditer(self._sql, at, self._end) if self._nests else ():
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


_READERS: Final[dict[str, Callable[[Lexer, re.Match[str], str], int]]] = {
    "word": Lexer._word,
    "prefix": Lexer._word,
    "mark": Lexer._mark,
    "cast": Lexer._cast,
    "bind": Lexer._bind,
    "number": Lexer._number,
    "string": Lexer._string,
    "quoted": Lexer._quoted,
    "question": Lexer._question,
    "comment": Lexer._comment,
    "dollar": Lexer._dollar,
    "operator": Lexer._operator,
}


def _type(raw: str) -> str:
    """Write the name of a type in one way; a quoted one as it is."""
    return raw.strip() if '"' in raw else re.sub(r" ?([(),.\[\]]) ?", r"\1", capitals(" ".join(raw.split())))
