"""The regular expressions that find a statement's tokens, and its lists of plain values."""

from __future__ import annotations

import re
import sys
from typing import Final

# Before CPython 3.11.5 a possessive group lost its place when an iteration failed half-way (gh-106052). Nothing here
# depends on it for linear time: what repeats has no two ways to match.
_POSSESSIVE_GROUPS: Final = sys.version_info >= (3, 11, 5)


def _compile(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(pattern if _POSSESSIVE_GROUPS else re.sub(r"\)([*+?])\+", r")\1", pattern), flags)


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
    return _compile(
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


STANDARD: Final = _master(
    rf"(?:[Uu]&|[BbNnXx])?{_STRING}|[Ee]{_ESCAPED}", rf"(?:[Uu]&)?{_QUOTED}|`[^`]*+(?:`|\Z)", r"/\*|--[^\n]*+"
)
MYSQL: Final = _master(
    rf'[BbNnXx]?{_ESCAPED}|"(?:[^"\\]++|""|\\.)*+(?:"|\\?\Z)',
    r"`[^`]*+(?:``[^`]*+)*+(?:`|\Z)",
    r"/\*|--[^\n]*+|\#[^\n]*+",
)
COMMENT_EDGE: Final = _compile(r"/\*|\*/")
CONSTANT: Final = _compile(rf"[01]{_SPACE}(!=|=){_SPACE}1(?![0-9A-Za-z_.])")
UNIT: Final = _compile(rf"{_SPACE}(?i:YEAR|MONTH|WEEK|DAY|HOUR|MINUTE|SECOND)(?![0-9A-Za-z_$])")
AFTER_OPERATOR: Final = _compile(rf"{_SPACE}(?:['\"$%(@0-9]|:(?!:)|\?(?![|&])|({_NAME}))")
SIMPLE: Final = _compile(r"[a-z_][a-z0-9_$]*+\Z")
PAIR: Final = _compile(r"\\.", re.DOTALL)
RENDERED: Final = _compile(r"'(?:%++[A-Za-z]?|null)'\Z")

_LITERAL: Final = rf"(?:[+-]?{_NUMBER}|'[^'\\]*+(?:''[^'\\]*+)*+')"
_LISTED: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL})(?:{_SPACE}{_CAST})*+{_SPACE}"
_IN_ROW: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL}|(?i:NULL|TRUE|FALSE))(?:{_SPACE}{_CAST})*+{_SPACE}"
ROW: Final = _compile(rf"{_SPACE}\({_IN_ROW}(?:,{_IN_ROW})*+\)")
ROWS: Final = _compile(rf"(?:{_SPACE},{ROW.pattern})*+")
LISTS: Final = {
    "IN": _compile(rf"{_SPACE}\({_LISTED}(?:,{_LISTED})*+\)"),
    "ARRAY": _compile(rf"{_SPACE}\[{_LISTED}(?:,{_LISTED})*+\]"),
}
VALUE: Final = _compile(_IN_ROW)
BOUND: Final = _compile(rf"(?:[\x00-\x20(),\[\]]|(?:{_BIND}|\?[0-9]*+)(?:{_SPACE}{_CAST})*+|(?i:NULL|TRUE|FALSE))*+")
COUNTED: Final = _compile(rf"(?:{BOUND.pattern}[0-9]++{_SPACE}\))*+")
