"""Finished ASGI scope to the full template of the route that took the request; all framework guesswork lives here."""

from __future__ import annotations

import inspect
import logging
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from types import CodeType
from typing import Any, Final, get_args

from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope

UNMATCHED: Final = "(unmatched)"
"""Template of a request that no route took: a 404, a slash redirect."""

CodeKey = tuple[str, str]
"""`co_filename` and `co_qualname` of a function's code object."""

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"))
_REST: Final = "/{path}"
_BRANCHES: Final = (Mount, Host)
_leaves: Final[set[type]] = set()
"""Classes of routes that are no branches: to look one up costs a quarter of `isinstance`."""
_MAX_LEAVES: Final = 100
_ROUTED: Final = frozenset(("app_root_path", "endpoint", "fastapi", "path_params", "route", "router"))
_INITIALISERS: Final = ("__new__", "__init__", "__post_init__")
_MAX_WRAPPERS: Final = 32
_MAX_ROUTES: Final = 4096
_NO_CODES: Final[frozenset[CodeKey]] = frozenset()

_log = logging.getLogger(__name__)
_codes: dict[int, tuple[weakref.ref[Any], frozenset[CodeKey]]] = {}


def route_template(scope: Scope) -> str:
    """Name the route that took the request by its full template: `/api/orders/{id}`.

    Takes the very scope that was passed down, once the application has returned. The template starts below the server's
    or proxy's `root_path`, converters are left out, and whatever a mounted application without routes serves is one
    template (`/static/{path}`). A 405 has the template of the route that refused the method. Where no router saw the
    scope (a middleware answered, or passed on a copy), it is the route that would have taken the request.
    """
    try:
        route = _route(scope)
        # Nearly every request has a route, and went through no mount.
        if route is not None and "app_root_path" not in scope:
            template: str = getattr(route, "path_format", "")
            if template:
                return template
        return _template(scope, route) or UNMATCHED
    except Exception:
        _log.debug("no template for a request", exc_info=True)
        return UNMATCHED


def method_label(scope: Scope) -> str:
    """Fold the request's method into a closed set: a registered method, `_OTHER`, or `WEBSOCKET`."""
    method: str = scope.get("method", "")
    if method in _METHODS:
        return method
    return "WEBSOCKET" if scope.get("type") == "websocket" else "_OTHER"


def in_debug(scope: Scope) -> bool:
    """Tell whether the application in the scope runs in debug mode."""
    try:
        return scope["app"].debug is True
    except (KeyError, AttributeError):
        return False


def endpoint_code(scope: Scope) -> CodeType | None:
    """Return the code of the function that answers, decorators aside; None where it is not known."""
    try:
        return getattr(inspect.unwrap(scope["endpoint"]), "__code__", None)
    except Exception:
        return None


def dependency_codes(scope: Scope) -> frozenset[CodeKey]:
    """List the functions that FastAPI ran as dependencies of the route, without its endpoint.

    Decorated functions count by their innermost function, classes by their initialisers, other objects by `__call__`.
    Empty for routes that are not FastAPI's. Of `app.dependency_overrides` every function is listed.
    """
    try:
        owner = _route(scope)
        # By identity: routes define __eq__ without __hash__, so that neither they nor weak mappings can hold them.
        hit = _codes.get(id(owner))
        if hit is not None and hit[0]() is owner:
            codes = hit[1]
        elif getattr(owner, "dependant", None) is None:
            return _NO_CODES
        else:
            codes = _codes_of(owner)
        overrides = getattr(scope.get("app"), "dependency_overrides", None)
        return codes.union(*map(_code_keys, overrides.values())) if overrides else codes
    except Exception:
        _log.debug("no dependencies for a request", exc_info=True)
        return _NO_CODES


def response_fields(scope: Scope) -> tuple[frozenset[str], frozenset[str]] | None:
    """Name the fields of the route's response model and of the models in it, and their source files.

    None where FastAPI makes no answer of a response model, and objects may be read in ways that are not seen.
    """
    try:
        owner = _route(scope)
        if getattr(owner, "response_field", None) is None:
            return None
        return _fields_of(owner.response_model)
    except Exception:
        _log.debug("no response model for a request", exc_info=True)
        return None


def _fields_of(annotation: object) -> tuple[frozenset[str], frozenset[str]]:
    names: set[str] = set()
    files: set[str] = set()
    pending, known = [annotation], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        pending += get_args(each)
        for name, field in getattr(each, "model_fields", {}).items():
            names.update(str(alias) for alias in (name, field.alias, field.validation_alias) if alias is not None)
            pending.append(field.annotation)
        for name, hint in getattr(each, "__annotations__", {}).items():
            names.add(name)
            pending.append(hint)
        if hasattr(each, "model_fields"):
            files.add(getattr(sys.modules[each.__module__], "__file__", None) or "")
    return frozenset(names), frozenset(files)


def _template(scope: Scope, route: Any) -> str | None:
    # What the framework recorded, relative to the innermost mount.
    leaf = _unrouted(scope) if route is None else getattr(route, "path_format", None)
    if leaf is None:
        # Once a router has seen the scope, a missing endpoint means that none of its routes took the request.
        return _walked(scope, None) if "endpoint" in scope or "router" not in scope else None
    # Set by the first Mount on the way down, and by nothing else.
    return _walked(scope, leaf) if "app_root_path" in scope else leaf


def _unrouted(scope: Scope) -> str | None:
    """Template of what is answered without a route."""
    template = _frontend(scope)
    return scope.get("path_template") if template is None else template  # Litestar's


def _route(scope: Scope) -> Any:
    """The innermost route as it was included, None where the framework recorded no route or only a mount."""
    route = scope.get("route")
    context = scope["fastapi"].get("effective_route_context") if "fastapi" in scope else None
    if context is not None:
        # FastAPI >= 0.137 records an included route as it was declared: its prefixes and dependencies are in the
        # context, which stays behind when an included mount leads on to another application.
        if context.original_route is route:
            return context
        included = context.starlette_route
        if included is not None and getattr(included, "endpoint", scope) is scope.get("endpoint"):
            return included
    kind = type(route)
    if kind in _leaves:
        return route
    if isinstance(route, _BRANCHES):
        return None
    if len(_leaves) < _MAX_LEAVES:
        _leaves.add(kind)
    return route


def _frontend(scope: Scope) -> str | None:
    """Template of files served by `FastAPI.frontend()`, which records nothing but the length of its own path."""
    length = scope["fastapi"].get("frontend_specificity") if "fastapi" in scope else None
    if length is None:
        return None
    path, root = scope["path"], scope.get("root_path", "")
    below = path[len(root) :] if path.startswith(f"{root}/") else path
    return f"{below[:length]}{_REST}"


def _walked(scope: Scope, leaf: str | None) -> str | None:
    """Complete a leaf by the mounts above it; find it, where it is not known."""
    app = scope["router"] if "router" in scope else scope.get("app")
    if _router(app) is None:
        return leaf
    root = scope.get("root_path", "")
    start = {key: value for key, value in scope.items() if key not in _ROUTED}
    start["root_path"] = scope.get("app_root_path", root)
    if leaf is None:
        return _found(app, start, scope.get("endpoint"))
    # A mounted application may have shortened the path in place; the mounts' own part of it is in its root path.
    for path in (scope["path"], f"{root}/"):
        prefix = _prefix(app, {**start, "path": path}, root)
        if prefix is not None:
            return prefix + leaf
    return leaf


def _prefix(app: object, scope: Scope, root: str) -> str | None:
    """Templates of the mounts that lead from `app` to the raw path `root`."""
    router = _router(app)
    if router is None or scope["root_path"] == root:
        return ""
    for route in _flat(router.routes):
        if isinstance(route, _BRANCHES):
            match, child = route.matches(scope)
            if match is Match.FULL:
                below = _prefix(route.app, _entered(route.app, scope, child), root)
                return None if below is None else _own_prefix(route) + below
    return None


def _found(app: object, scope: Scope, endpoint: object) -> str | None:
    """Match as the routers do; a known endpoint spares the routes that have another one."""
    router = _router(app)
    if router is None:
        return _REST
    refusing = None
    for route in _flat(router.routes):
        if endpoint is not None and getattr(route, "endpoint", endpoint) is not endpoint:
            continue
        match, child = route.matches(scope)
        if match is Match.FULL and isinstance(route, _BRANCHES):
            known = None if child["endpoint"] is endpoint else endpoint
            below = _found(route.app, _entered(route.app, scope, child), known)
            return None if below is None else _own_prefix(route) + below
        if match is Match.FULL:
            return getattr(route, "path_format", None)
        if match is Match.PARTIAL and refusing is None:
            refusing = getattr(route, "path_format", None)
    return refusing


def _router(app: object) -> Any:
    """The application with routes inside ASGI wrappers that keep to the custom of naming it `app`; None: opaque."""
    for _ in range(_MAX_WRAPPERS):
        if app is None or isinstance(getattr(app, "routes", None), (list, tuple)):
            return app
        app = getattr(app, "app", None)
    return None


def _flat(routes: Any) -> Iterator[Any]:
    """Routes as they match, those of included routers with their prefixes (FastAPI >= 0.137)."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            for context in contexts():
                yield context.starlette_route or context
        elif isinstance(route, BaseRoute):
            yield route


def _entered(app: object, scope: Scope, child: Scope) -> Scope:
    """The scope inside a mounted application: a FastAPI one overwrites the root path by its own."""
    root = getattr(_router(app), "root_path", "")
    return {**scope, **child, "root_path": root} if root else {**scope, **child}


def _own_prefix(route: Mount | Host) -> str:
    return route.path_format.removesuffix(_REST) if isinstance(route, Mount) else ""


def _codes_of(owner: Any) -> frozenset[CodeKey]:
    """Remember a route's functions for as long as the route lives."""
    if len(_codes) >= _MAX_ROUTES:
        _codes.clear()
    key, codes = id(owner), _dependency_codes(owner.dependant)
    _codes[key] = (weakref.ref(owner, lambda _: _codes.pop(key, None)), codes)
    return codes


def _dependency_codes(dependant: Any) -> frozenset[CodeKey]:
    codes: set[CodeKey] = set()
    pending = list(dependant.dependencies)
    while pending:
        dependency = pending.pop()
        codes |= _code_keys(dependency.call)
        pending += dependency.dependencies
    return frozenset(codes - _code_keys(dependant.call))


def _code_keys(call: object) -> frozenset[CodeKey]:
    """Code that runs when FastAPI calls a dependency."""
    innermost = _innermost(call)
    if hasattr(innermost, "__code__"):
        functions = [innermost]
    else:
        owner, names = (innermost, _INITIALISERS) if isinstance(innermost, type) else (type(innermost), ("__call__",))
        functions = [_innermost(getattr(owner, name, None)) for name in names]
    codes = [code for function in functions if (code := getattr(function, "__code__", None)) is not None]
    # All generated initialisers of dataclasses share one name in "<string>".
    return frozenset((code.co_filename, code.co_qualname) for code in codes if code.co_filename != "<string>")


def _innermost(call: object) -> object:
    """The function inside partials, bound methods and decorators.

    The wrapper of a decorator is left out: it may as well run around functions that are no dependencies.
    """
    for _ in range(_MAX_WRAPPERS):
        if isinstance(call, partial):
            inner: object = call.func
        else:
            inner = getattr(call, "__wrapped__", None) or getattr(call, "__func__", None)
        if inner is None:
            break
        call = inner
    return call
