"""SQLAlchemy's own names to names that are numbered anew."""

from __future__ import annotations

from querytoll.fingerprint.marks import CLOSE, DOT


def number_anonymous(out: list[str], opened: dict[int, int]) -> None:
    """Number SQLAlchemy's own names (`anon_7`, `orders_3`, `count_2`) by the order in which they are defined.

    One of them is `anon_n`, or a table's alias or an expression's label that is made of what it names.
    """
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for at, text in enumerate(out):
        if text[-1] not in '0123456789"' or "_" not in text or text in names:
            continue
        stem = text.strip('"').rstrip("0123456789")
        if stem[-1:] == "_" and (stem == "anon_" or _is_made_of(stem, out, at, opened)):
            counts[stem] = counts.get(stem, 0) + 1
            names[text] = f"{stem}{counts[stem]}".join(('"', '"') if text[0] == '"' else ("", ""))
    if any(old != new for old, new in names.items()):
        _rename(out, names)


def _is_made_of(stem: str, out: list[str], at: int, opened: dict[int, int]) -> bool:
    """Tell whether `stem` is, with one underscore or two, what the alias at `at` names."""
    named = at - 1
    if named > 0 and out[named] == "AS":
        named -= 1
        if out[named] == CLOSE:
            named = opened.get(named, 0) - 1
    return named >= 0 and out[named].strip('"') in (stem[:-1], stem[:-2] if stem[-2:] == "__" else stem[:-1])


def _rename(out: list[str], names: dict[str, str]) -> None:
    """Rename in place. A qualified name is a real column's, unless what qualifies it is SQLAlchemy's as well."""
    for at in range(3, len(out) - 1):
        if out[at] == "AS" and out[at - 2] == DOT and out[at + 1] == f"{out[at - 3]}_{out[at - 1]}":
            table, column = names.get(out[at - 3], out[at - 3]), names.get(out[at - 1], out[at - 1])
            names.setdefault(out[at + 1], f"{table}_{column}")
    old = list(out)
    for at, text in enumerate(old):
        if text in names and (at < 2 or old[at - 1] != DOT or old[at - 2] in names):
            out[at] = names[text]
