"""A statement's text to its shape, from scratch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from querytoll.fingerprint.lexer import SENTINEL, Lexer
from querytoll.fingerprint.patterns import MYSQL, STANDARD
from querytoll.fingerprint.reader import Reader
from querytoll.fingerprint.words import QUERIES
from querytoll.model import Shape

_MAX_SUMMARY: Final = 255
MAX_LENGTH: Final = 20_000
_BLANKS: Final = "".join(map(chr, range(33)))


def read(sql: str, max_length: int = MAX_LENGTH) -> Shape:
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
        inlined=bool(reader.literals) and reader.operation in QUERIES,
    )


def hash_of_literals(sql: str) -> int:
    return hash(tuple(_reader(sql, MAX_LENGTH).literals))


def _reader(sql: str, max_length: int) -> Reader:
    sql = _clean(sql)
    lexer = Lexer(sql, STANDARD, 2 * max_length)
    lexer.run()
    if lexer.foreign or lexer.suspicious:
        other = Lexer(sql, MYSQL, 2 * max_length)
        other.run()
        lexer = other if lexer.foreign or not other.broken else lexer
    reader = Reader(lexer.tokens, lexer.literals, sentinel=SENTINEL in sql)
    reader.run()
    return reader


def _clean(sql: str) -> str:
    """Blank what no output can encode: NUL, and lone surrogates."""
    if not sql.isascii():
        sql = sql.encode(errors="replace").decode()
    return sql.replace("\0", " ").rstrip(_BLANKS)


def _joined(out: list[str], max_length: int) -> str:
    text = " ".join(out).replace(" \0", "").replace("\0 ", "").replace("\0", "")
    while len(text) > max_length:
        out = out[: len(out) * max_length // len(text)]
        text = " ".join(out).replace(" \0", "").replace("\0 ", "").replace("\0", "")
    return text


def _summary(parts: Iterable[str]) -> str:
    summary = ""
    for part in parts:
        longer = f"{summary} {part}".strip()
        if len(longer) > _MAX_SUMMARY:
            break
        summary = longer
    return summary
