"""Repeated terms, elements and rows, and SQLAlchemy's empty lists, to one form."""

from __future__ import annotations

from querytoll.fingerprint.cursor import Cursor, Frame
from querytoll.fingerprint.marks import CLOSE, COMMA, OPEN


class Folding(Cursor):
    """Writes what is repeated, or added by SQLAlchemy, once or not at all."""

    def _end_term(self, frame: Frame) -> bool:
        """Return False, and take it back, if a chain of OR had two terms like this one before."""
        term = tuple(self.out[frame.term :])
        frame.terms = frame.terms + 1 if term == frame.same else 1
        frame.same = term
        if frame.terms > 2:
            del self.out[frame.term :]
        return frame.terms <= 2

    def _end_terms(self, frame: Frame) -> None:
        if frame.terms and not self._end_term(frame):
            self.out.pop()
        frame.terms = 0
        frame.same = ()

    def _end_element(self, frame: Frame) -> bool:
        """Return False, and take it back, if a list held an element like this before."""
        element = tuple(self.out[frame.element :])
        if element == (OPEN, "?", CLOSE):
            element = ("?",)
            self.out[frame.element :] = element
        if element in frame.seen:
            del self.out[frame.element :]
            return False
        frame.seen.add(element)
        return True

    def _end_list(self, frame: Frame) -> None:
        if not self._end_element(frame) and self._last() == COMMA:
            self.out.pop()
        if len(self.out) == frame.start + 1:
            self.out.append("?")

    def _end_row(self, frame: Frame) -> None:
        row = tuple(self.out[frame.start :])
        if row in self._frame.seen:
            del self.out[frame.start :]
            if self._last() == COMMA:
                self.out.pop()
        self._frame.seen.add(row)
        self._frame.rows = self._peek(1) == "," and self._peek(2) == "("

    def _skip_empty_condition(self, frame: Frame) -> None:
        """Skip what SQLAlchemy adds to an empty list: `IN (NULL) AND (1 != 1)`, `NOT IN (NULL) OR (1 = 1)`."""
        ahead = self._tokens[self._at + 1 : self._at + 5]
        if [text for _, text in ahead] not in (["AND", "(", "!=", ")"], ["OR", "(", "=", ")"]):
            return
        if ahead[2][0] == "constant" and self._was_null(frame):
            self._at += 4

    def _was_null(self, frame: Frame) -> bool:
        at = self._at
        while at >= 0 and self._tokens[at][1] in ("(", ")", ",", "NULL"):
            at -= 1
        return at >= 0 and self._tokens[at][1] == "IN" and self._tokens[self._at - 1][1] in ("NULL", ")")

    def _fold_empty_subquery(self, frame: Frame) -> None:
        """Fold SQLAlchemy's other empty lists: `IN (SELECT 1 WHERE 1!=1)`."""
        if self._tokens[self._at - 1] == ("constant", "!=") and self._last(4) == "WHERE":
            values = [piece for _ in range(frame.commas + 1) for piece in (COMMA, "?")][1:]
            self.out[frame.start + 1 :] = values if frame.commas == 0 else [OPEN, *values, CLOSE]
            del self.summary[frame.parts :]
            del self.literals[frame.literals :]
