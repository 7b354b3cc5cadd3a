"""Where a reader is: its token, its output and its open brackets."""

from __future__ import annotations

from querytoll.fingerprint.words import Token


class Frame:
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


class Cursor:
    """The place in the tokens, what was written up to there, and the brackets that are open."""

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
        self._frame = Frame("query", -1)
        self._frames = [self._frame]
        self._ctes: set[str] = set()
        self._recursive = False
        self._opened: dict[int, int] = {}
        self._table_end = -1
        self._named = False

    def _peek(self, ahead: int) -> str:
        at = self._at + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def _last(self, back: int = 1) -> str:
        return self.out[-back] if len(self.out) >= back else ""

    def _push(self, frame: Frame, text: str) -> None:
        self._frames.append(frame)
        self._frame = frame
        self.out.append(text)
        self._named = False

    def _pop(self) -> Frame:
        frame = self._frames.pop()
        self._frame = self._frames[-1]
        return frame
