"""The one ContextVar: which windows see the statements of this task or thread."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from querytoll.errors import ConfigurationError
from querytoll.model import Ignore

if TYPE_CHECKING:
    from querytoll.capture.window import Window

F = TypeVar("F", bound=Callable[..., Any])


class Scope:
    """The windows that are open here, innermost first, and the rules that are ignored here.

    `plain` only where all of them see every engine.
    """

    __slots__ = ("ignores", "plain", "windows")

    def __init__(self, windows: tuple[Window, ...], ignores: tuple[Ignore, ...], plain: bool) -> None:
        self.windows = windows
        self.ignores = ignores
        self.plain = plain


current: Final[ContextVar[Scope | None]] = ContextVar("querytoll", default=None)

# To look up a method of a ContextVar costs eight times as much as to call it.
get_scope: Final = current.get
set_scope: Final = current.set
reset_scope: Final = current.reset

NOWHERE: Final = Scope((), (), True)


class ignore:
    """Switch a rule off for the statements of a block or a function, sync or async.

    Args:
        rule: slug of the rule (`n-plus-one`).
        reason: why the code is right as it is; kept with the statements.

    Raises:
        ConfigurationError: it decorates a generator function.
    """

    __slots__ = ("_entry",)

    def __init__(self, rule: str, *, reason: str) -> None:
        self._entry = Ignore(rule, reason)

    def __enter__(self) -> None:
        scope = current.get() or NOWHERE
        current.set(Scope(scope.windows, (*scope.ignores, self._entry), scope.plain))

    def __exit__(self, *exc_info: object) -> None:
        # No token is kept: tasks that are in the same block at once end it in any order.
        scope = current.get()
        if scope is None or self._entry not in scope.ignores:
            return
        at = len(scope.ignores) - 1 - scope.ignores[::-1].index(self._entry)
        ignores = scope.ignores[:at] + scope.ignores[at + 1 :]
        current.set(Scope(scope.windows, ignores, scope.plain) if scope.windows or ignores else None)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"ignore: {function.__qualname__} is a generator function: others run between its statements; "
                f"write `with ignore({self._entry.rule!r}, reason=...)` around the statements in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: Any, **kwargs: Any) -> Any:
                with ignore(self._entry.rule, reason=self._entry.reason):
                    return await function(*args, **kwargs)

            return cast(F, waiting)

        @functools.wraps(function)
        def calling(*args: Any, **kwargs: Any) -> Any:
            with ignore(self._entry.rule, reason=self._entry.reason):
                return function(*args, **kwargs)

        return cast(F, calling)
