"""Tokens to the normalised text and the facts of a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from querytoll.fingerprint.anonymous import number_anonymous
from querytoll.fingerprint.clauses import Clauses
from querytoll.fingerprint.cursor import Frame
from querytoll.fingerprint.marks import BRACKET, CALL, CLOSE, COMMA, DOT, OPEN, SEMICOLON, UNBRACKET
from querytoll.fingerprint.sentinel import plain_insert
from querytoll.fingerprint.words import BEFORE_CONSTANT, CALLED, CALLING, CONTROLS, LISTING, SOFT, capitals


class Reader(Clauses):
    """Reads tokens from left to right: the normalised text, and what the statement does to which tables."""

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
        number_anonymous(self.out, self._opened)

    @property
    def is_control(self) -> bool:
        """Tell whether the statement rules the transaction or the session, and does nothing else."""
        if SEMICOLON in self.out:
            return False
        if self.operation in ("SET", "PREPARE"):
            return "TRANSACTION" in map(str.upper, self.out[1:6])
        return self.operation in CONTROLS

    def _soft(self, text: str) -> None:
        word = text.upper()
        before, after = SOFT[word]
        if self._last() in before or (after and self._peek(1).upper() in after):
            self._keyword(word)
        else:
            self._word(text)

    def _word(self, text: str) -> None:
        frame = self._frame
        if not frame.verb and not self.out:
            self._begin(capitals(text))
        elif frame.expects:
            self._table()
        elif frame.clause == "WITH" and self._last() in ("WITH", "RECURSIVE", COMMA):
            self._name_cte(text)
        elif frame.verb in CALLING and self._last() == frame.verb:
            self._dotted()
        elif frame.name == "CAST" and frame.clause == "AS":
            self.out.append(capitals(text))
        elif self._peek(1) == "(" and self._last() != "AS" and text.isascii():
            self.out.append(text.lower())
        else:
            self.out.append(text)
        self._named = True

    def _quoted_name(self, text: str) -> None:
        frame = self._frame
        if not self.out:
            self._begin(capitals(text))
        elif frame.expects:
            self._table()
        elif frame.clause == "WITH" and self._last() in ("WITH", "RECURSIVE", COMMA):
            self._name_cte(text)
        else:
            self.out.append(text)
        self._named = True

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
        if last in BEFORE_CONSTANT or frame.clause in ("LIMIT", "OFFSET", "FETCH") or frame.name == "count":
            return True
        if self._peek(1).upper() in ("PRECEDING", "FOLLOWING"):
            return True
        if frame.clause in ("ORDER", "GROUP"):
            return last in ("BY", COMMA)
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
        called = (self._named and self._table_end != start) or last in CALLED
        new = Frame("query", start)
        if last == "IN":
            new.kind = "subquery" if selects else "list"
        elif frame.clause == "VALUES" and (last == "VALUES" or frame.rows):
            new.kind = "row"
        elif frame.kind in ("list", "row", "tuple", "array") and last in (OPEN, COMMA, BRACKET) and not selects:
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
        self._push(new, CALL if called and new.kind == "call" else OPEN)

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
            self.out.append(CLOSE)
            if frame.kind == "row":
                self._end_row(frame)
            elif frame.kind == "list":
                self._skip_empty_condition(frame)
        else:
            self.out.append(CLOSE)
        self._named = False

    def _comma(self, text: str) -> None:
        frame = self._frame
        frame.commas += 1
        self._named = False
        self._end_terms(frame)
        frame.term = len(self.out) + 1
        if frame.kind in ("list", "array"):
            if self._end_element(frame):
                self.out.append(COMMA)
            frame.element = len(self.out)
            return
        self.out.append(COMMA)
        if frame.clause == "FROM" or (frame.clause == "TABLE" and frame.verb in LISTING):
            self._expect(frame.clause, target=frame.verb in ("DROP", "TRUNCATE"))

    def _bracket(self, text: str) -> None:
        last = self._last()
        array = last == "ARRAY" or (self._frame.kind == "array" and last in (BRACKET, COMMA))
        self._push(Frame("array" if array else "slice", len(self.out)), BRACKET)

    def _unbracket(self, text: str) -> None:
        if len(self._frames) > 1:
            frame = self._pop()
            if frame.kind in ("list", "array"):
                self._end_list(frame)
        self.out.append(UNBRACKET)
        self._named = False

    def _dot(self, text: str) -> None:
        self.out.append(DOT)
        self._named = False

    def _next_statement(self, text: str) -> None:
        self._end_terms(self._frame)
        self.out.append(SEMICOLON)
        self._frame = Frame("query", len(self.out))
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
        self.out = [token if token[:1] == '"' else capitals(token) for token in self.out]
        if self._last(2) in ("SAVEPOINT", "RELEASE", "TO"):
            self.out[-1] = "?"
        if self._last() in ("TRANSACTION", "PREPARED") or self.out[1:2] in (["TRANSACTION"], ["PREPARED"]):
            self.summary = [f"{self.operation} {self.out[1]}"]

    def _fold_sentinel(self) -> None:
        folded = plain_insert(self.out)
        if folded is not None:
            self.out = folded
            self._opened = {}
            self.summary.remove("SELECT")


_HANDLERS: Final[dict[str, Callable[[Reader, str], None]]] = {
    "word": Reader._word,
    "soft": Reader._soft,
    "keyword": Reader._keyword,
    "name": Reader._quoted_name,
    "value": lambda reader, _: reader._value(),
    "string": lambda reader, _: reader._literal("string"),
    "number": lambda reader, _: reader._literal("number"),
    "constant": Reader._comparison,
    "operator": Reader._operator,
    "sign": Reader._operator,
    "cast": Reader._operator,
    "(": Reader._open,
    ")": Reader._close,
    "[": Reader._bracket,
    "]": Reader._unbracket,
    ",": Reader._comma,
    ".": Reader._dot,
    ";": Reader._next_statement,
}
