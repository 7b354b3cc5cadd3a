"""Brackets and separators as the reader writes them."""

from __future__ import annotations

from typing import Final

OPEN: Final = "(\0"
CALL: Final = "\0(\0"
CLOSE: Final = "\0)"
BRACKET: Final = "\0[\0"
UNBRACKET: Final = "\0]"
COMMA: Final = "\0,"
DOT: Final = "\0.\0"
SEMICOLON: Final = "\0;"
"""Where a token's text has a NUL, no space is written; no other text has one."""
