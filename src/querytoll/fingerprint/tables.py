"""A statement's first words and names to its operation and tables."""

from __future__ import annotations

from querytoll.fingerprint.folding import Folding
from querytoll.fingerprint.marks import DOT
from querytoll.fingerprint.words import CALLING


class Tables(Folding):
    """Notes the operation, the tables and which of them are written."""

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
            self.out.append(DOT)
            self._at += 2
        name = ".".join(parts)
        if self._frame.verb in CALLING and not self._frame.expects:
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


def _shown(name: str) -> str:
    """Return a name as one word of a summary."""
    return f'"{name}"' if any(character.isspace() for character in name) else name
