"""What is measured: each module is a contestant, whose `install(app, engine)` adds it to the application.

A module that cannot be imported belongs to a package that is not installed; it does not take part.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Final, cast

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

Install = Callable[[FastAPI, AsyncEngine], None]

BARE: Final = "bare"
"""The contestant that the others are compared with."""
PROFILED: Final = "querytoll"
"""The contestant that has targets."""
DISABLED: Final = "querytoll_disabled"
"""The same switched off, which has a target too."""
USUAL: Final = (BARE, PROFILED, DISABLED, "querytoll_capture_only", "cursor_listeners")
"""Who takes part when nobody is named."""


class UnknownContestant(LookupError):
    """No module has the name; says which names there are."""


def names() -> list[str]:
    """Every contestant: the bare application, querytoll, then the rest by name."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda name: (name != BARE, name != PROFILED))


def load(name: str) -> Install:
    """Import a contestant.

    Raises:
        UnknownContestant: there is none of that name.
        ImportError: it needs a package that is not installed.
    """
    if name not in names():
        raise UnknownContestant(f"no contestant {name!r}; there are {', '.join(names())}")
    return cast(Install, importlib.import_module(f"{__name__}.{name}").install)


def absent(name: str) -> str | None:
    """Why a contestant cannot take part; None where it can."""
    try:
        load(name)
    except ImportError as error:
        return str(error)
    return None
