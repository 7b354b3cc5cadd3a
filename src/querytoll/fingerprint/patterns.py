"""The regular expressions that find a statement's tokens, and its lists of plain values."""

from __future__ import annotations

import re
from typing import Final

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
    return re.compile(
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
COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
CONSTANT: Final = re.compile(rf"[01]{_SPACE}(!=|=){_SPACE}1(?![0-9A-Za-z_.])")
UNIT: Final = re.compile(rf"{_SPACE}(?i:YEAR|MONTH|WEEK|DAY|HOUR|MINUTE|SECOND)(?![0-9A-Za-z_$])")
AFTER_OPERATOR: Final = re.compile(rf"{_SPACE}(?:['\"$%(@0-9]|:(?!:)|\?(?![|&])|({_NAME}))")
SIMPLE: Final = re.compile(r"[a-z_][a-z0-9_$]*+\Z")
PAIR: Final = re.compile(r"\\.", re.DOTALL)
RENDERED: Final = re.compile(r"'(?:%++[A-Za-z]?|null)'\Z")

_LITERAL: Final = rf"(?:[+-]?{_NUMBER}|'[^'\\]*+(?:''[^'\\]*+)*+')"
_LISTED: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL})(?:{_SPACE}{_CAST})*+{_SPACE}"
_IN_ROW: Final = rf"{_SPACE}(?:{_BIND}|\?[0-9]*+|{_LITERAL}|(?i:NULL|TRUE|FALSE))(?:{_SPACE}{_CAST})*+{_SPACE}"
ROW: Final = re.compile(rf"{_SPACE}\({_IN_ROW}(?:,{_IN_ROW})*+\)")
ROWS: Final = re.compile(rf"(?:{_SPACE},{ROW.pattern})*+")
LISTS: Final = {
    "IN": re.compile(rf"{_SPACE}\({_LISTED}(?:,{_LISTED})*+\)"),
    "ARRAY": re.compile(rf"{_SPACE}\[{_LISTED}(?:,{_LISTED})*+\]"),
}
VALUE: Final = re.compile(_IN_ROW)
BOUND: Final = re.compile(rf"(?:[\x00-\x20(),\[\]]|(?:{_BIND}|\?[0-9]*+)(?:{_SPACE}{_CAST})*+|(?i:NULL|TRUE|FALSE))*+")
COUNTED: Final = re.compile(rf"(?:{BOUND.pattern}[0-9]++{_SPACE}\))*+")
