"""SQLAlchemy's ordered bulk insert to the plain one."""

from __future__ import annotations

from collections.abc import Iterable

from querytoll.fingerprint.marks import CLOSE, COMMA, OPEN


def plain_insert(out: list[str]) -> list[str] | None:
    """Turn SQLAlchemy's ordered bulk insert, `SELECT p0 FROM (VALUES ...) AS imp_sen(...)`, into plain VALUES."""
    try:
        name = out.index("imp_sen")
        start = out.index("SELECT")
        end = out.index("sen_counter", out.index("ORDER", name))
        source = out.index("FROM", start)
    except ValueError:
        return None
    if out[0] != "INSERT" or not start < source < name < end or out[source + 2 : source + 3] != ["VALUES"]:
        return None
    tail = _without_copies(out[end + 1 :])
    return [*out[:start], "VALUES", OPEN, *_plain(out[start + 1 : source]), CLOSE, *tail]


def _plain(items: Iterable[str]) -> list[str]:
    """Turn the columns p0, p1 back into values."""
    plain: list[str] = []
    for item in items:
        if item[0] == "p" and item[1:].isdigit():
            plain.append("?")
        elif not (item[:3] == "\0::" and plain[-1:] == ["?"]):
            plain.append(item)
    return plain


def _without_copies(tail: list[str]) -> list[str]:
    """Drop the sentinels that SQLAlchemy adds to RETURNING: `t.id, t.id AS id__1`."""
    items: list[list[str]] = [[]]
    for piece in tail:
        if piece == COMMA:
            items.append([])
        else:
            items[-1].append(piece)
    kept = items[0]
    seen = {tuple(kept[1:])}
    for item in items[1:]:
        if item[-2:-1] != ["AS"] or "__" not in item[-1] or tuple(item[:-2]) not in seen:
            kept += [COMMA, *item]
            seen.add(tuple(item))
    return kept
