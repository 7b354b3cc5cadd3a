"""Keywords to the clauses that they open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from querytoll.fingerprint.marks import BRACKET, CALL, COMMA, OPEN
from querytoll.fingerprint.tables import Tables
from querytoll.fingerprint.words import BEFORE_TABLE, CLAUSES, DEFINING, GRANTING


class Clauses(Tables):
    """Reads keywords: each opens a clause, or tells what is next."""

    def _keyword(self, word: str) -> None:
        frame = self._frame
        self._named = False
        if frame.expects and word not in BEFORE_TABLE:
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

    def _select(self, word: str) -> None:
        if self._frame.verb not in GRANTING or self._last() == "AS":
            self._operate(word)
        self.out.append(word)

    def _change(self, word: str) -> None:
        """Read INSERT, UPDATE, DELETE or MERGE, which may also be part of a clause."""
        last, frame = self._last(), self._frame
        if word == "UPDATE" and (last == "FOR" or (last == "KEY" and self._last(2) == "NO")):
            self.locking |= frame.verb == "SELECT"
        elif last not in ("KEY", "DO", "ON", "THEN") and frame.verb not in GRANTING:
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
        if verb in DEFINING:
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
        if frame.kind == "list" and self._last() == OPEN:  # SQLite's IN (VALUES (1, 2), (3, 4))
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
        alone = self._last() in (OPEN, CALL, BRACKET, COMMA) and self._peek(1) in (",", ")", "]")
        self.out.append("?" if listed and alone else word)


_KEYWORD_HANDLERS: Final[dict[str, Callable[[Clauses, str], None]]] = {
    "SELECT": Clauses._select,
    "INSERT": Clauses._change,
    "UPDATE": Clauses._change,
    "DELETE": Clauses._change,
    "MERGE": Clauses._change,
    "FROM": Clauses._from,
    "JOIN": Clauses._join,
    "STRAIGHT_JOIN": Clauses._join,
    "INTO": Clauses._into,
    "USING": Clauses._using,
    "ON": Clauses._on,
    "TABLE": Clauses._kind_of_object,
    "VIEW": Clauses._kind_of_object,
    "INDEX": Clauses._kind_of_object,
    "VALUES": Clauses._values,
    "WITH": Clauses._with,
    "RECURSIVE": Clauses._recurse,
    "OR": Clauses._or,
    "WHEN": Clauses._condition,
    "THEN": Clauses._condition,
    "AS": Clauses._as,
    "SHARE": Clauses._share,
    "NULL": Clauses._constant_word,
    "TRUE": Clauses._constant_word,
    "FALSE": Clauses._constant_word,
    **dict.fromkeys(CLAUSES, Clauses._clause),
}
