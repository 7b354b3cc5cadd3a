"""The words of SQL, by what they do to a statement."""

from __future__ import annotations

from typing import Final

Token = tuple[str, str]
"""Kind and text: keywords in capitals, names without needless quotes, values without their text."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS: Final = _words(
    "ALL ALTER ANALYZE AND ANY ARRAY AS ASC BEGIN BETWEEN BY CASCADE CASE CAST CHECK COLLATE COMMIT CONSTRAINT CREATE "
    "CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DEFAULT DELETE DESC DISTINCT DIV DO DROP ELSE END "
    "ESCAPE EXCEPT EXISTS EXPLAIN EXTRACT FALSE FETCH FOR FOREIGN FROM FULL GLOB GROUP HAVING ILIKE IN INNER INSERT "
    "INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOCALTIME LOCALTIMESTAMP MERGE NATURAL NOT NULL NULLS OF "
    "OFFSET ON ONLY OR ORDER OUTER OVER OVERLAPS OVERRIDING PRAGMA PRIMARY RECURSIVE REFERENCES REGEXP RETURNING RIGHT "
    "RLIKE ROLLBACK SELECT SESSION_USER SET SIMILAR SOME STRAIGHT_JOIN SYMMETRIC TABLE TABLESAMPLE THEN TO TRUE "
    "TRUNCATE UNION UNIQUE UPDATE USING VALUES WHEN WHERE WINDOW WITH WITHIN XOR"
)
DEFINING: Final = _words("CREATE DROP ALTER REFRESH COMMENT TRUNCATE LOCK REINDEX")
SOFT: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    word: (_words(before), _words(after))
    for word, before, after in (
        ("ACTION", "NO", ""),
        ("AT", "", "TIME"),
        ("CONCURRENTLY", "INDEX VIEW", ""),
        ("CONFLICT", "ON", ""),
        ("CURRENT", "", "ROW"),
        ("DUPLICATE", "ON", ""),
        ("FILTER", "\0)", ""),
        ("FIRST", "NULLS FETCH", ""),
        ("FOLLOWING", "UNBOUNDED ?", ""),
        ("GROUPS", "", "BETWEEN UNBOUNDED CURRENT"),
        ("IF", "", "EXISTS NOT"),
        ("INDEX", "CREATE DROP ALTER UNIQUE REINDEX", ""),
        ("KEY", "NO FOR PRIMARY FOREIGN DUPLICATE", ""),
        ("LAST", "NULLS", ""),
        ("LOCKED", "SKIP", ""),
        ("MATCHED", "WHEN NOT", ""),
        ("MATERIALIZED", "AS NOT CREATE REFRESH DROP", ""),
        ("NEXT", "FETCH", ""),
        ("NO", "FOR", "KEY ACTION"),
        ("NOTHING", "DO", ""),
        ("NOWAIT", "UPDATE SHARE MODE", ""),
        ("ORDINALITY", "WITH", ""),
        ("PARTITION", "", "BY"),
        ("PRECEDING", "UNBOUNDED ?", ""),
        ("RANGE", "", "BETWEEN UNBOUNDED CURRENT"),
        ("REPLACE", "OR", "INTO"),
        ("ROW", "CURRENT", ""),
        ("ROWS", "", "BETWEEN UNBOUNDED CURRENT"),
        ("SHARE", "FOR KEY IN", "MODE"),
        ("SKIP", "", "LOCKED"),
        ("TEMPORARY", "CREATE", ""),
        ("TIES", "WITH", ""),
        ("TIME", "AT WITH WITHOUT", ""),
        ("UNBOUNDED", "", "PRECEDING FOLLOWING"),
        ("VIEW", "CREATE DROP ALTER REPLACE TEMPORARY MATERIALIZED", ""),
        ("ZONE", "TIME", ""),
        *((unit, "?", "") for unit in ("YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND")),
    )
}
"""Keywords that people also name columns: the word before, or the one after, that makes them keywords."""
RESERVED: Final = KEYWORDS | {"USER"}
OPERANDS: Final = _words(
    "NULL TRUE FALSE END DEFAULT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER LOCALTIME LOCALTIMESTAMP "
    "SESSION_USER"
)
TYPED: Final = _words(
    "BIT BOOL BOOLEAN BOX BYTEA CIDR CITEXT DATE HSTORE INET INTERVAL JSON JSONB JSONPATH LTREE MACADDR MONEY NUMERIC "
    "POINT TIME TIMESTAMP TIMESTAMPTZ TIMETZ TSQUERY TSVECTOR UUID VECTOR XML"
)
CALLED: Final = _words("ANY ARRAY CAST EXTRACT LEFT RIGHT SOME")
CLAUSES: Final = _words("WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH UNION INTERSECT EXCEPT WINDOW FOR RETURNING SET")
CONTROLS: Final = _words("BEGIN START COMMIT ROLLBACK ABORT END SAVEPOINT RELEASE PRAGMA")
QUERIES: Final = _words("SELECT INSERT UPDATE DELETE MERGE REPLACE VALUES TABLE CALL")
GRANTING: Final = DEFINING | {"GRANT", "REVOKE"}
LISTING: Final = _words("DROP TRUNCATE LOCK ANALYZE VACUUM")
CALLING: Final = _words("CALL EXEC EXECUTE")
BEFORE_TABLE: Final = _words("ONLY LATERAL TABLE IF NOT EXISTS CONCURRENTLY OR VIEW")
BEFORE_CONSTANT: Final = _words("SELECT LIMIT OFFSET FIRST NEXT IS")
VOCABULARY: Final[dict[str, Token]] = {
    form: ("keyword", word) for word in KEYWORDS for form in (word, word.lower(), word.capitalize())
} | {form: ("soft", form) for word in SOFT for form in (word, word.lower(), word.capitalize())}


def unlisted(raw: str) -> Token:
    upper = raw.upper() if raw.isascii() and not raw.islower() else ""
    return ("soft", raw) if upper in SOFT else VOCABULARY.get(upper, ("word", raw))


def capitals(text: str) -> str:
    """Return keywords in capitals: they are ASCII, and what Python makes of other letters changes with its version."""
    return text.upper() if text.isascii() else text
