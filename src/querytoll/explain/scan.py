"""SQL text to the names that it may call; of tokens, not of grammar: rather a name too many than one too few."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

EXPLAINABLE: Final = frozenset(("select", "with", "values", "table", "insert", "update", "delete", "merge"))
"""First words of statements that EXPLAIN takes and that are tried."""
READING: Final = frozenset(("select", "with", "values", "table"))
"""First words of statements that may be reads."""
_LETTER: Final = r"A-Za-z_\x80-\U0010ffff"
"""What a name begins with: to the server every byte above ASCII is a letter, even of a no-break space."""
_LATER: Final = rf"{_LETTER}0-9$"
_SPACE: Final = r"\ \t\n\r\f\v"
_ESCAPED: Final = r"'(?:[^'\\]|''|\\.)*(?:'|\Z)"
_TOKEN: Final = re.compile(
    rf"""
    (?P<space>[{_SPACE}]+ | --[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<string>[eE]{_ESCAPED}(?:[\ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[{_SPACE}]|--[^\n\r]*[\n\r])*{_ESCAPED})*
             | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
  | (?P<dollar>\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*)?)\$.*?(?:\$(?P=tag)\$|\Z))
  | (?P<bind>\$[0-9]+ | %s(?![{_LATER}]) | %\(\w+\)s(?![{_LATER}]))
  | (?P<escaped>[uU]&"(?:[^"]|"")*(?:"|\Z))
  | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
  | (?P<word>[{_LETTER}][{_LATER}]*)
  | (?P<number>\.?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)
  | (?P<operator>(?:(?!--|/\*|%s(?![{_LATER}])|%\(\w+\)s(?![{_LATER}]))[-+*/<>=~!@\#%^&|`?])+)
  | (?P<mark>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_MAX_NAME_BYTES: Final = 63
"""The server cuts longer names."""
_DEPTH: Final = re.compile(r"/\*|\*/")


class _Token(NamedTuple):
    kind: str
    text: str


_NOTHING: Final = _Token("", "")
_OPEN: Final = _Token("mark", "(")
_CLOSE: Final = _Token("mark", ")")
_DOT: Final = _Token("mark", ".")
_END: Final = _Token("mark", ";")
_AS: Final = _Token("word", "as")
_TYPED: Final = (_Token("mark", "::"), _Token("word", "returning"))


class Name(NamedTuple):
    """A name as it was written, folded to lower case where it was not quoted."""

    schema: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a text may call.

    Args:
        first: its first word.
        single: one statement, no text behind a semicolon.
        into: the word INTO occurs: SELECT INTO makes a table.
        readable: every name is what the server takes it for: none in escapes (`U&"..."`), too long, or folded by the
            rules of the server's locale.
        called: names before a parenthesis.
        dotted: names behind a dot: `row.f` calls `f(row)`.
        words: every name.
        casts: names behind `::`, behind AS in a CAST, behind RETURNING, and before a string.
        operators: symbols.
    """

    first: str
    single: bool
    into: bool
    readable: bool
    called: frozenset[Name]
    dotted: frozenset[str]
    words: frozenset[str]
    casts: frozenset[str]
    operators: frozenset[str]

    @property
    def explainable(self) -> bool:
        """EXPLAIN may be put before it: one statement, of a kind that EXPLAIN takes."""
        return self.single and self.first in EXPLAINABLE and not (self.into and self.first in ("select", "table"))

    @property
    def reading(self) -> bool:
        """It may be a read: whether it is, the plan and the catalog tell."""
        return self.explainable and self.first in READING and not self.into and self.readable


@lru_cache(maxsize=256)
def scan(text: str) -> Scanned:
    """Read the tokens of a statement or of a view's definition; remembers them."""
    return scan_once(text)


def scan_once(text: str) -> Scanned:
    """Read the tokens of a deparsed expression, which may hold a statement's values: nothing is remembered."""
    tokens = list(_tokens(text))
    called, casts = set[Name](), set[str]()
    dotted, words = set[str](), set[str]()
    casting = [False]
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else _NOTHING
        if token == _OPEN:
            casting.append(before == _Token("word", "cast"))
        elif token == _CLOSE and len(casting) > 1:
            casting.pop()
        if token.kind != "word":
            continue
        after = tokens[at + 1] if at + 1 < len(tokens) else _NOTHING
        words.add(token.text)
        schema = tokens[at - 2].text if before == _DOT and at > 1 and tokens[at - 2].kind == "word" else None
        if before == _DOT:
            dotted.add(token.text)
        if after == _OPEN:
            called.add(Name(schema, token.text))
        first = tokens[at - 3] if schema is not None and at > 2 else before
        if first in _TYPED or (first == _AS and casting[-1]) or after.kind == "string":
            casts.add(token.text)
    words_only = [token.text for token in tokens if token != _OPEN]
    end = next((at for at, token in enumerate(tokens) if token == _END), len(tokens))
    return Scanned(
        first=words_only[0] if words_only else "",
        single=all(token == _END for token in tokens[end:]),
        into="into" in words,
        readable=all(token.kind != "escaped" for token in tokens),
        called=frozenset(called),
        dotted=frozenset(dotted),
        words=frozenset(words),
        casts=frozenset(casts),
        operators=frozenset(token.text for token in tokens if token.kind == "operator"),
    )


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        kind = match.lastgroup or ""
        if kind == "comment":
            at = _after_comment(text, at)
        elif match["word"]:
            yield from _words(match["word"], text[match.start() - 1 : match.start()])
        elif match["quoted"]:
            name = match["quoted"].removesuffix('"')[1:].replace('""', '"')
            yield from _name(name, plain="%%" not in name)  # which some drivers write for one percent sign
        elif match["string"] or match["dollar"]:
            yield _Token("string", "'")
        elif kind != "space":
            yield _Token(kind, match[0])


def _words(word: str, before: str) -> Iterator[_Token]:
    """The name; where its first letter may belong to a placeholder (`%sINTO`), the rest of it as well."""
    if before in ("%", ")") and word[0] in "sbt" and word[1:2].isidentifier():
        yield from _words(word[1:], "")
    folded = word.lower()
    yield from _name(folded, plain=word.isascii() or folded == word)


def _name(name: str, plain: bool) -> Iterator[_Token]:
    if not plain or len(name.encode(errors="replace")) > _MAX_NAME_BYTES:
        yield _Token("escaped", name)
    yield _Token("word", name)


def _after_comment(text: str, at: int) -> int:
    """The position behind a block comment, which may hold others."""
    depth = 1
    for match in _DEPTH.finditer(text, at):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)
