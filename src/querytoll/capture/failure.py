"""A driver's exception to the little of it that may be kept, and the note that helps with one of them."""

from __future__ import annotations

from querytoll.model import Site


def code_of(error: BaseException) -> str:
    """Return the SQLSTATE of a driver's exception, else its class's name; never its text, which may hold values."""
    for name in ("sqlstate", "pgcode"):
        code = getattr(error, name, None)
        if isinstance(code, str):
            return code
    return type(error).__name__


def annotate(error: BaseException, relation: str | None, site: Site | None = None) -> None:
    """Tell in a note what to change when a load on attribute access failed in async code (`MissingGreenlet`)."""
    noted = any("querytoll" in note for note in getattr(error, "__notes__", ()))
    if noted or type(error).__name__ != "MissingGreenlet":
        return
    at = f" at {site}" if site is not None else ""
    if relation is None:
        error.add_note(f"querytoll: SQL was sent from async code without await{at}; use the session's async methods.")
        return
    error.add_note(
        f"querytoll: {relation} was not loaded, and async code cannot load it on access{at}. {remedy(relation)}"
    )


def remedy(relation: str) -> str:
    """Return what makes an attribute of an ORM object available in async code."""
    owner, _, name = relation.partition(".")
    if name == "*":
        return f"A commit expired the {owner}: use expire_on_commit=False, or await session.refresh() before."
    return (
        f"Load it with its parent, .options(selectinload({relation})) for a relationship or undefer({relation}) for a "
        f"column, or await it: await obj.awaitable_attrs.{name}"
    )
