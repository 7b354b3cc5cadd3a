"""A slow statement at the moment it ended, while its connection is still at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from querytoll.capture.calls import Call
    from querytoll.capture.window import Window
    from querytoll.model import Ignore


class Slow(NamedTuple):
    """A statement that took long, and what is needed to ask for its plan; not to be kept.

    Args:
        window: the innermost one that saw it.
        call: what was sent.
        started, ended: seconds of the monotonic clock.
        error: SQLSTATE, else the name of the exception's class; None on success.
        ignores: rules that are ignored around it.
        cursor: SQLAlchemy's, open.
        parameters: as the driver got them; of an executemany a list of them.
        context: SQLAlchemy's execution context.
    """

    window: Window
    call: Call
    started: float
    ended: float
    error: str | None
    ignores: tuple[Ignore, ...]
    cursor: Any
    parameters: Any
    context: Any


class Sampler(Protocol):
    """Takes slow statements; runs on the statement's own thread or task, before the application goes on."""

    def __call__(self, slow: Slow, /) -> None: ...
