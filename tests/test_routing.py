"""Route templates, method labels and dependency functions of real applications, as read from the finished scope."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette import __version__ as starlette_version
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from querytoll import routing
from querytoll.routing import UNMATCHED, dependency_codes, in_debug, method_label, route_template

try:
    import fastapi.routing
    from fastapi import APIRouter, Depends, FastAPI
except ImportError:
    HAS_FASTAPI = HAS_FRONTEND = INCLUDES_MOUNTS = False
else:
    HAS_FASTAPI, HAS_FRONTEND = True, hasattr(FastAPI, "frontend")
    INCLUDES_MOUNTS = hasattr(fastapi.routing, "_IncludedRouter")

needs_fastapi = pytest.mark.skipif(not HAS_FASTAPI, reason="needs FastAPI")
CROSS_ORIGIN = {"origin": "http://elsewhere", "access-control-request-method": "GET"}
HERE = Path(__file__).parent
FILE = Path(__file__).name
RECORDS_ROUTES = tuple(map(int, starlette_version.split(".")[:2])) >= (1, 7)


class Recorder:
    """The profiler's place in the stack: keeps the scope that it passed down."""

    def __init__(self, app: ASGIApp, scopes: list[Scope] | None = None) -> None:
        self.app = app
        self.scopes: list[Scope] = [] if scopes is None else scopes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            if scope["type"] != "lifespan":
                self.scopes.append(scope)


def request(app: ASGIApp, method: str, path: str, *, host: str = "testserver", root_path: str = "") -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, headers=CROSS_ORIGIN)

    return asyncio.run(send())


def finished(app: ASGIApp, path: str, method: str = "GET", *, host: str = "testserver", root_path: str = "") -> Scope:
    """The scope that a middleware around the whole application sees after the request."""
    recorder = Recorder(app)
    request(recorder, method, path, host=host, root_path=root_path)
    return recorder.scopes[0]


def finished_socket(app: ASGIApp, path: str) -> Scope:
    scope = {"type": "websocket", "path": path, "root_path": "", "query_string": b"", "headers": [], "subprotocols": []}
    messages = iter(["websocket.connect", "websocket.disconnect"])

    async def receive() -> MutableMapping[str, Any]:
        return {"type": next(messages), "code": 1000}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return scope


# Endpoints and applications


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


async def another(request: Request) -> Response:
    return PlainTextResponse("ok")


async def failing(request: Request) -> Response:
    raise ValueError("planted")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("ok")(scope, receive, send)


async def shortening(scope: Scope, receive: Receive, send: Send) -> None:
    scope["path"] = scope["path"].removeprefix(scope["root_path"])
    await Starlette(routes=[Route("/in/{id}", endpoint)])(scope, receive, send)


class Resource(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("ok")


class Copying:
    """A middleware that passes on a copy of the scope, as many home-made ones do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


class Rewriting(Copying):
    """A middleware that strips a version from the path, in place."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["path"].removeprefix("/v1")
        await self.app(scope, receive, send)


class Refusing(Copying):
    """A middleware that answers all requests itself."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app if scope["type"] == "lifespan" else PlainTextResponse("no", status_code=401)
        await app(scope, receive, send)


class Wrapping(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def starlette(*routes: BaseRoute, middleware: Any = None) -> Starlette:
    return Starlette(routes=routes, middleware=[Middleware(middleware)] if middleware else [])


def plain(middleware: Any = None) -> Starlette:
    below = [
        Route("/", another),
        Route("/items/{id:int}", endpoint),
        Route("/items/{id:int}/more", failing, methods=["POST"]),
        Route("/slash/", another),
        Mount("/deeper/{level}", routes=[Route("/leaf/{id}", endpoint)]),
        WebSocketRoute("/ws/{room}", talk),
    ]
    return starlette(
        Route("/", endpoint),
        Route("/raw/{id:int}", endpoint),
        Route("/rest/{rest:path}", endpoint),
        Route("/twice/{id}", endpoint),
        Route("/write", endpoint, methods=["POST"]),
        Route("/both/{id}", endpoint, methods=["POST"]),
        Route("/both/{key}", another, methods=["PUT"]),
        Route("/class/{id}", Resource),
        Route("/fails/{id}", failing),
        Route("/slash/", endpoint),
        Route("/t/exact/{id}", endpoint),
        WebSocketRoute("/ws/{room}", talk),
        Mount("/static", StaticFiles(directory=HERE)),
        Mount("/opaque", opaque),
        Mount("/wrapped-opaque", GZipMiddleware(opaque)),
        Mount("/short/{id}", shortening),
        Mount("/t/{tenant}", routes=below),
        Mount("/sub", Starlette(routes=below)),
        Mount("/wrapped", GZipMiddleware(Starlette(routes=below))),
        Mount("/copied", Copying(Starlette(routes=below))),
        Mount("/refused/{id}", Starlette(routes=below, middleware=[Middleware(Refusing)])),
        Host("{shop}.example.org", Router([Route("/of/{id}", endpoint), Mount("/m/{x}", routes=below)])),
        Host("opaque.example.com", opaque),
        middleware=middleware,
    )


@dataclass(frozen=True)
class Case:
    path: str
    template: str
    method: str = "GET"
    status: int = 200
    host: str = "testserver"
    root_path: str = ""


def cases(table: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in table.items()])


PLAIN = {
    "root": Case("/", "/"),
    "converter": Case("/raw/17", "/raw/{id}"),
    "converter that refuses": Case("/raw/x", UNMATCHED, status=404),
    "path converter": Case("/rest/a/b", "/rest/{rest}"),
    "endpoint of several routes": Case("/twice/7", "/twice/{id}"),
    "head": Case("/raw/17", "/raw/{id}", "HEAD"),
    "class": Case("/class/7", "/class/{id}"),
    "class refuses method": Case("/class/7", "/class/{id}", "DELETE", 405),
    "raises": Case("/fails/7", "/fails/{id}", status=500),
    "404": Case("/nothing/7", UNMATCHED, status=404),
    "405": Case("/write", "/write", status=405),
    "405 takes the first": Case("/both/7", "/both/{id}", status=405),
    "second method": Case("/both/7", "/both/{key}", "PUT"),
    "unknown method": Case("/raw/17", "/raw/{id}", "BREW", 405),
    "redirect": Case("/slash", UNMATCHED, status=307),
    "route over mount": Case("/t/exact/7", "/t/exact/{id}"),
    "mount": Case("/t/acme/items/7", "/t/{tenant}/items/{id}"),
    "mount root": Case("/t/acme/", "/t/{tenant}/"),
    "mount in mount": Case("/t/acme/deeper/3/leaf/7", "/t/{tenant}/deeper/{level}/leaf/{id}"),
    "mount 404": Case("/t/acme/nothing/7", UNMATCHED, status=404),
    "mount 405": Case("/t/acme/items/7/more", "/t/{tenant}/items/{id}/more", status=405),
    "mount raises": Case("/t/acme/items/7/more", "/t/{tenant}/items/{id}/more", "POST", 500),
    "mount redirect": Case("/t/acme/slash", UNMATCHED, status=307),
    "mounted application": Case("/sub/items/7", "/sub/items/{id}"),
    "mounted application 404": Case("/sub/nothing/7", UNMATCHED, status=404),
    "mounted wrapper": Case("/wrapped/items/7", "/wrapped/items/{id}"),
    "mounted copy": Case("/copied/deeper/3/leaf/7", "/copied/deeper/{level}/leaf/{id}"),
    "mounted refusal": Case("/refused/7/items/8", "/refused/{id}/items/{id}", status=401),
    "mounted refusal 404": Case("/refused/7/nothing", UNMATCHED, status=401),
    "static": Case(f"/static/{FILE}", "/static/{path}"),
    "static 404": Case("/static/a/b.css", "/static/{path}", status=404),
    "opaque": Case("/opaque/a/b", "/opaque/{path}"),
    "opaque root": Case("/opaque/", "/opaque/{path}"),
    "opaque in wrapper": Case("/wrapped-opaque/a/b", "/wrapped-opaque/{path}"),
    "host": Case("/of/7", "/of/{id}", host="a.example.org"),
    "host and mount": Case("/m/1/items/7", "/m/{x}/items/{id}", host="a.example.org"),
    "host 404": Case("/nothing/7", UNMATCHED, status=404, host="a.example.org"),
    "host opaque": Case("/a/b", "/{path}", host="opaque.example.com"),
    "root path": Case("/api/raw/17", "/raw/{id}", root_path="/api"),
    "root path stripped": Case("/raw/17", "/raw/{id}", root_path="/api"),
    "root path and mount": Case("/api/t/acme/items/7", "/t/{tenant}/items/{id}", root_path="/api"),
    "root path like a mount": Case("/sub/sub/items/7", "/sub/items/{id}", root_path="/sub"),
    "root path and opaque": Case("/api/opaque/a/b", "/opaque/{path}", root_path="/api"),
    "root path stripped and opaque": Case("/opaque/a/b", "/opaque/{path}", root_path="/api"),
}


@pytest.fixture(scope="module")
def plain_app() -> Starlette:
    return plain()


@cases(PLAIN)
def test_starlette_template(plain_app: Starlette, case: Case) -> None:
    """A Starlette application has full templates, whether or not its version records the route."""
    recorder = Recorder(plain_app)
    answer = request(recorder, case.method, case.path, host=case.host, root_path=case.root_path)
    assert (answer.status_code, route_template(recorder.scopes[0])) == (case.status, case.template)


@pytest.mark.parametrize("middleware", [Wrapping, Copying, CORSMiddleware])
@pytest.mark.parametrize("name", ["converter", "405", "mount in mount", "mount 404", "static", "404", "host and mount"])
def test_starlette_template_from_inside(middleware: Any, name: str) -> None:
    """The template is the same for a middleware of the application, with others below that wrap or copy the scope."""
    case, scopes = PLAIN[name], list[Scope]()
    app = plain(middleware)
    app.add_middleware(Recorder, scopes=scopes)
    request(app, case.method, case.path, host=case.host, root_path=case.root_path)
    assert route_template(scopes[0]) == case.template


@pytest.mark.parametrize(
    ("middleware", "method", "path", "template"),
    [
        pytest.param(Rewriting, "GET", "/v1/t/acme/items/7", "/t/{tenant}/items/{id}", id="rewritten path"),
        pytest.param(Refusing, "GET", "/t/acme/items/7", "/t/{tenant}/items/{id}", id="answered for a route"),
        pytest.param(Refusing, "GET", "/static/a/b", "/static/{path}", id="answered for a mount"),
        pytest.param(Refusing, "GET", "/nothing/7", UNMATCHED, id="answered for no route"),
        pytest.param(CORSMiddleware, "OPTIONS", "/raw/17", "/raw/{id}", id="preflight"),
    ],
)
def test_middleware_before_the_router(middleware: Any, method: str, path: str, template: str) -> None:
    """A middleware that rewrites the path or answers itself leaves the route that fits, or none, but no raw path."""
    assert route_template(finished(plain(middleware), path, method)) == template


def test_middleware_of_a_mounted_application() -> None:
    """A middleware of a mounted application sees the mounts above it as templates."""
    scopes = list[Scope]()
    below = starlette(Route("/items/{id}", endpoint))
    below.add_middleware(Recorder, scopes=scopes)
    app = starlette(Mount("/t/{tenant}", routes=[Mount("/sub", below)]))
    request(app, "GET", "/t/acme/sub/items/7")
    request(app, "GET", "/t/acme/sub/nothing/7")
    assert [route_template(scope) for scope in scopes] == ["/t/{tenant}/sub/items/{id}", UNMATCHED]


def test_mounted_application_that_shortens_the_path() -> None:
    """An opaque application that rewrites the path in place costs its mount no leaf, and leaks no raw path."""
    template = route_template(finished(plain(), "/short/7/in/8"))
    assert template == ("/short/{id}/in/{id}" if RECORDS_ROUTES else UNMATCHED)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        pytest.param("/rooted/7", "/rooted/{id}", id="route"),
        pytest.param("/in/7/leaf/8", "/in/{level}/leaf/{id}", id="mount"),
        pytest.param("/nothing/7", UNMATCHED, id="404"),
    ],
)
def test_mount_without_a_path(path: str, template: str) -> None:
    """A mount at the root adds nothing to the templates of what it holds."""
    below = [Route("/rooted/{id}", endpoint), Mount("/in/{level}", routes=[Route("/leaf/{id}", endpoint)])]
    assert route_template(finished(starlette(Mount("/", routes=below)), path)) == template


@pytest.mark.parametrize(
    ("path", "template"),
    [
        pytest.param("/ws/7", "/ws/{room}", id="plain"),
        pytest.param("/t/acme/ws/7", "/t/{tenant}/ws/{room}", id="mounted"),
        pytest.param("/raw/17", UNMATCHED, id="http route"),
        pytest.param("/nothing/7", UNMATCHED, id="404"),
    ],
)
def test_websocket_template(path: str, template: str) -> None:
    """A websocket has the template of its route."""
    scope = finished_socket(plain(), path)
    assert (route_template(scope), method_label(scope)) == (template, "WEBSOCKET")


# FastAPI


def read() -> dict[str, str]:
    return {}


def fastapi_app(**settings: Any) -> FastAPI:
    leaf = APIRouter(prefix="/leaf")
    leaf.add_api_route("/{id}", read)
    leaf.add_api_route("/{id}/write", read, methods=["POST"])
    leaf.add_api_websocket_route("/ws/{room}", talk_fastapi)
    bare = APIRouter()
    bare.add_route("/starlette/{id:int}", endpoint)
    bare.add_websocket_route("/starlette-ws/{room}", talk)
    bare.mount("/mounted/{x}", starlette(Route("/in/{id}", endpoint)))
    bare.mount("/static", StaticFiles(directory=HERE))
    outer = APIRouter()
    outer.include_router(bare, prefix="/{section}")
    middle = APIRouter(prefix="/middle")
    middle.include_router(leaf, prefix="/{section}")
    below = FastAPI(root_path=settings.pop("below_root_path", ""))
    below.include_router(middle, prefix="/v1")
    below.add_api_route("/direct/{id}", read)
    below.add_route("/starlette/{id}", endpoint)
    app = FastAPI(**settings)
    app.add_api_route("/direct/{id}", read)
    app.add_api_route("/raw/{id:int}", read)
    app.add_api_route("/rest/{rest:path}", read)
    app.add_api_route("/slash/", read)
    app.add_api_route("/fails", fail)
    app.add_api_websocket_route("/ws/{room}", talk_fastapi)
    app.add_route("/starlette/{id:int}", endpoint)
    app.include_router(middle, prefix="/api")
    app.include_router(middle, prefix="/internal")
    app.include_router(leaf)
    app.include_router(outer, prefix="/bare")
    app.mount("/static", StaticFiles(directory=HERE))
    app.mount("/opaque", opaque)
    app.mount("/sub", below)
    app.mount("/t/{tenant}", GZipMiddleware(below))
    return app


def fail() -> None:
    raise ValueError("planted")


async def talk_fastapi(websocket: WebSocket) -> None:
    await talk(websocket)


FASTAPI = {
    "direct": Case("/direct/7", "/direct/{id}"),
    "converter": Case("/raw/17", "/raw/{id}"),
    "path converter": Case("/rest/a/b", "/rest/{rest}"),
    "raises": Case("/fails", "/fails", status=500),
    "404": Case("/nothing/7", UNMATCHED, status=404),
    "405": Case("/direct/7", "/direct/{id}", "POST", 405),
    "redirect": Case("/slash", UNMATCHED, status=307),
    "included": Case("/leaf/7", "/leaf/{id}"),
    "included in included": Case("/api/middle/a/leaf/7", "/api/middle/{section}/leaf/{id}"),
    "included twice": Case("/internal/middle/a/leaf/7", "/internal/middle/{section}/leaf/{id}"),
    "included 404": Case("/api/middle/a/nothing/7", UNMATCHED, status=404),
    "included 405": Case("/api/middle/a/leaf/7/write", "/api/middle/{section}/leaf/{id}/write", status=405),
    "included redirect": Case("/api/middle/a/leaf/7/", UNMATCHED, status=307),
    "starlette route": Case("/starlette/17", "/starlette/{id}"),
    "included starlette route": Case("/bare/a/starlette/7", "/bare/{section}/starlette/{id}"),
    "docs": Case("/docs", "/docs"),
    "openapi": Case("/openapi.json", "/openapi.json"),
    "static": Case(f"/static/{FILE}", "/static/{path}"),
    "static 404": Case("/static/a/b.css", "/static/{path}", status=404),
    "opaque": Case("/opaque/a/b", "/opaque/{path}"),
    "sub-application": Case("/sub/direct/7", "/sub/direct/{id}"),
    "sub-application starlette route": Case("/sub/starlette/7", "/sub/starlette/{id}"),
    "sub-application docs": Case("/sub/docs", "/sub/docs"),
    "sub-application included": Case("/sub/v1/middle/a/leaf/7", "/sub/v1/middle/{section}/leaf/{id}"),
    "sub-application 404": Case("/sub/nothing/7", UNMATCHED, status=404),
    "sub-application 405": Case("/sub/direct/7", "/sub/direct/{id}", "POST", 405),
    "parameter in mount": Case("/t/acme/v1/middle/a/leaf/7", "/t/{tenant}/v1/middle/{section}/leaf/{id}"),
    "parameter in mount, starlette route": Case("/t/acme/starlette/7", "/t/{tenant}/starlette/{id}"),
    "root path": Case("/proxy/api/middle/a/leaf/7", "/api/middle/{section}/leaf/{id}", root_path="/proxy"),
    "root path and mount": Case("/proxy/t/acme/direct/7", "/t/{tenant}/direct/{id}", root_path="/proxy"),
    "root path stripped": Case("/direct/7", "/direct/{id}", root_path="/proxy"),
    "root path stripped, static": Case("/static/a", "/static/{path}", status=404, root_path="/proxy"),
}


@pytest.fixture(scope="module")
def full_app() -> FastAPI:
    return fastapi_app()


@needs_fastapi
@cases(FASTAPI)
def test_fastapi_template(full_app: FastAPI, case: Case) -> None:
    """A FastAPI application has full templates, whatever its version records of included and of Starlette's routes."""
    recorder = Recorder(full_app)
    answer = request(recorder, case.method, case.path, root_path=case.root_path)
    assert (answer.status_code, route_template(recorder.scopes[0])) == (case.status, case.template)


SOCKETS = {
    "direct": Case("/ws/7", "/ws/{room}"),
    "included": Case("/api/middle/a/leaf/ws/7", "/api/middle/{section}/leaf/ws/{room}"),
    "included starlette route": Case("/bare/a/starlette-ws/7", "/bare/{section}/starlette-ws/{room}"),
    "sub-application": Case("/t/acme/v1/middle/a/leaf/ws/7", "/t/{tenant}/v1/middle/{section}/leaf/ws/{room}"),
    "404": Case("/nothing/7", UNMATCHED),
}


@needs_fastapi
@cases(SOCKETS)
def test_fastapi_websocket_template(full_app: FastAPI, case: Case) -> None:
    """A websocket of FastAPI has a full template wherever it was included."""
    assert route_template(finished_socket(full_app, case.path)) == case.template


@needs_fastapi
@pytest.mark.parametrize("middleware", [Wrapping, Copying])
@pytest.mark.parametrize(
    "name",
    ["direct", "included twice", "included 405", "included starlette route", "parameter in mount", "404", "docs"],
)
def test_fastapi_template_from_inside(middleware: Any, name: str) -> None:
    """The template is the same for a middleware of the application, with others below that wrap or copy the scope."""
    case, app, scopes = FASTAPI[name], fastapi_app(), list[Scope]()
    app.add_middleware(middleware)
    app.add_middleware(Recorder, scopes=scopes)
    request(app, case.method, case.path)
    assert route_template(scopes[0]) == case.template


@needs_fastapi
@pytest.mark.parametrize(
    ("path", "template"),
    [
        pytest.param("/proxy/direct/7", "/direct/{id}", id="direct"),
        pytest.param("/proxy/static/a", "/static/{path}", id="static"),
        pytest.param("/proxy/sub/direct/7", "/sub/direct/{id}", id="sub-application"),
        pytest.param("/direct/7", "/direct/{id}", id="stripped by the proxy"),
        pytest.param("/sub/direct/7", UNMATCHED, id="sub-application, stripped by the proxy"),
    ],
)
@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
def test_root_path_of_the_application(path: str, template: str) -> None:
    """The application's own root path, and a mounted application's, are no part of the template."""
    app = fastapi_app(root_path="/proxy", below_root_path="/proxy/sub")
    assert route_template(finished(app, path)) == template


@needs_fastapi
@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
def test_root_path_that_contradicts_the_mount() -> None:
    """A mounted application whose root path is not where it is mounted keeps the mount's template."""
    below = FastAPI(root_path="/elsewhere")
    below.add_api_route("/{rest:path}", read)
    app = FastAPI()
    app.mount("/sub/{tenant}", below)
    assert route_template(finished(app, "/sub/acme/7")) == "/sub/{tenant}/{rest}"


@needs_fastapi
def test_fastapi_below_starlette() -> None:
    """FastAPI below Starlette is named through both."""
    app = starlette(Mount("/outer/{x}", fastapi_app()))
    paths = {
        "/outer/1/api/middle/a/leaf/7": "/outer/{x}/api/middle/{section}/leaf/{id}",
        "/outer/1/starlette/7": "/outer/{x}/starlette/{id}",
        "/outer/1/bare/a/starlette/7": "/outer/{x}/bare/{section}/starlette/{id}",
        "/outer/1/nothing": UNMATCHED,
    }
    assert {path: route_template(finished(app, path)) for path in paths} == paths


@needs_fastapi
@pytest.mark.skipif(not INCLUDES_MOUNTS, reason="FastAPI < 0.137 drops the mounts of an included router")
def test_mounts_of_an_included_router(full_app: FastAPI) -> None:
    """A mount that was included has the prefixes of its include."""
    paths = {
        "/bare/a/mounted/1/in/7": "/bare/{section}/mounted/{x}/in/{id}",
        "/bare/a/mounted/1/nothing": UNMATCHED,
        f"/bare/a/static/{FILE}": "/bare/{section}/static/{path}",
    }
    assert {path: route_template(finished(full_app, path)) for path in paths} == paths


@needs_fastapi
@pytest.mark.skipif(not HAS_FRONTEND, reason="needs FastAPI.frontend()")
def test_frontend_files() -> None:
    """The files of a FastAPI frontend are one template each, below prefixes and mounts."""
    router = APIRouter()
    router.frontend("/ui", directory=HERE)
    below = FastAPI()
    below.frontend("/", directory=HERE)
    app = FastAPI()
    app.include_router(router, prefix="/admin")
    app.frontend("/app", directory=HERE)
    app.mount("/sub/{tenant}", below)
    paths = {
        f"/app/{FILE}": "/app/{path}",
        f"/admin/ui/{FILE}": "/admin/ui/{path}",
        f"/sub/acme/{FILE}": "/sub/{tenant}/{path}",
        "/app/nothing/7": "/app/{path}",
        "/nothing/7": UNMATCHED,
    }
    assert {path: route_template(finished(app, path)) for path in paths} == paths


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_litestar_template() -> None:
    """Litestar's own record of the template is taken, completed by the mounts above it."""
    litestar = pytest.importorskip("litestar")

    async def order(order_id: int) -> None: ...

    app = litestar.Litestar([litestar.get("/orders/{order_id:int}")(order)], logging_config=None)
    mounted = starlette(Mount("/t/{tenant}", app))
    found = [route_template(finished(app, path)) for path in ("/orders/7", "/nothing/7")]
    found += [route_template(finished(mounted, path)) for path in ("/t/acme/orders/7", "/t/acme/nothing/7")]
    assert found == ["/orders/{order_id}", UNMATCHED, "/t/{tenant}/orders/{order_id}", UNMATCHED]


class Surprise(dict[str, Any]):
    """A scope that fails whenever it is read."""

    def get(self, *_: object) -> Any:
        raise RuntimeError("planted")

    __contains__ = __getitem__ = get


def test_classes_of_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that an application makes as it goes have their templates, and not all of them are remembered."""
    leaves: set[type] = set()
    monkeypatch.setattr(routing, "_leaves", leaves)
    for n in range(2 * routing._MAX_LEAVES):
        route = type("Made", (Route,), {})(f"/{n}", of_the_application)
        assert route_template({"type": "http", "path": "/", "route": route}) == f"/{n}"
    assert len(leaves) == routing._MAX_LEAVES


class Odd(BaseRoute):
    """A route that fails to match."""

    def matches(self, scope: Scope) -> Any:
        raise RuntimeError("planted")


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param({}, id="empty"),
        pytest.param({"type": "http", "path": "/raw/7"}, id="no application"),
        pytest.param({"type": "http", "path": "/raw/7", "app": opaque}, id="opaque application"),
        pytest.param({"type": "http", "path": "/raw/7", "app": Router([Odd()])}, id="failing route"),
        pytest.param({"type": "http", "path": "/raw/7", "route": object(), "fastapi": 7}, id="foreign values"),
        pytest.param({"type": "http", "path": "/raw/7", "app": Router(), "app_root_path": "/raw"}, id="lost mount"),
        pytest.param(Surprise(), id="unreadable"),
    ],
)
def test_surprises(scope: Scope) -> None:
    """A scope that no framework would leave behind is unmatched, and nothing is raised."""
    assert (route_template(scope), dependency_codes(scope)) == (UNMATCHED, frozenset())


def test_application_mounted_in_itself() -> None:
    """Endless mounts end."""
    app = Router()
    app.routes.append(Mount("", app))
    assert route_template({"type": "http", "path": "/raw/7", "method": "GET", "app": app}) == UNMATCHED


@pytest.mark.parametrize(
    ("scope", "label"),
    [
        pytest.param({"type": "http", "method": "GET"}, "GET", id="known"),
        pytest.param({"type": "http", "method": "QUERY"}, "QUERY", id="query"),
        pytest.param({"type": "http", "method": "get"}, "_OTHER", id="lower case"),
        pytest.param({"type": "http", "method": "BREW"}, "_OTHER", id="unknown"),
        pytest.param({"type": "http"}, "_OTHER", id="missing"),
        pytest.param({"type": "websocket"}, "WEBSOCKET", id="websocket"),
    ],
)
def test_method_label(scope: Scope, label: str) -> None:
    """Methods come from a closed set."""
    assert method_label(scope) == label


@pytest.mark.parametrize(
    ("scope", "debug"),
    [
        pytest.param({"app": Starlette(debug=True)}, True, id="debug"),
        pytest.param({"app": Starlette()}, False, id="production"),
        pytest.param({"app": opaque}, False, id="opaque"),
        pytest.param({}, False, id="no application"),
    ],
)
def test_in_debug(scope: Scope, debug: bool) -> None:
    """Debug mode is what the application says, and off where none says."""
    assert in_debug(scope) is debug


# Dependencies


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def of_the_application() -> None: ...


def of_the_router() -> None: ...


def of_the_include() -> None: ...


def nested() -> None: ...


async def generator() -> AsyncIterator[str]:
    yield "session"


def sync_generator() -> Iterator[str]:
    yield "session"


@decorated
def wrapped() -> None: ...


def with_argument(value: int) -> None: ...


def replaced() -> None: ...


def replacement() -> None: ...


class Paging:
    def __init__(self, page: int = 1) -> None:
        self.page = page

    def method(self) -> None: ...


@dataclass
class Filter:
    name: str = ""

    def __post_init__(self) -> None: ...


class Checker:
    def __call__(self) -> None: ...


@pytest.fixture(scope="module")
def depending_app() -> FastAPI:
    def parent(inner: Any = Depends(nested)) -> None: ...

    kinds: list[Callable[..., Any]] = [
        generator,
        sync_generator,
        wrapped,
        partial(with_argument, 1),
        Paging,
        Filter,
        Checker(),
        Paging().method,
    ]
    router = APIRouter(dependencies=[Depends(of_the_router)])
    router.add_api_route("/kinds", read, dependencies=[Depends(kind) for kind in kinds])
    router.add_api_route("/nested", read, dependencies=[Depends(parent)])
    router.add_api_route("/endpoint", nested, dependencies=[Depends(parent)])
    router.add_api_route("/replaced", read, dependencies=[Depends(replaced)])
    router.add_api_websocket_route("/ws", talk_fastapi, dependencies=[Depends(nested)])
    app = FastAPI(dependencies=[Depends(of_the_application)])
    app.add_api_route("/direct", read, dependencies=[Depends(nested)])
    app.add_route("/starlette", endpoint)
    app.include_router(router, prefix="/a", dependencies=[Depends(of_the_include)])
    app.include_router(router, prefix="/b")
    app.mount("/static", StaticFiles(directory=HERE))
    app.mount("/sub", app)
    return app


@needs_fastapi
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/direct", {"nested"}),
        ("/sub/direct", {"nested"}),
        ("/b/nested", {"nested", "of_the_router", "depending_app.<locals>.parent"}),
        ("/a/endpoint", {"of_the_router", "of_the_include", "depending_app.<locals>.parent"}),
        (
            "/a/kinds",
            {
                "of_the_router",
                "of_the_include",
                "generator",
                "sync_generator",
                "wrapped",
                "with_argument",
                "Paging.__init__",
                "Paging.method",
                "Filter.__post_init__",
                "Checker.__call__",
            },
        ),
    ],
)
def test_dependencies_functions(depending_app: FastAPI, path: str, names: set[str]) -> None:
    """Functions, generators, classes and objects count, from the application's, includes' and the route's own."""
    names = names | {"of_the_application"}
    assert dependency_codes(finished(depending_app, path)) == {(__file__, name) for name in names}


@needs_fastapi
def test_dependencies_websocket(depending_app: FastAPI) -> None:
    """An included websocket has the dependencies of its include."""
    names = {"nested", "of_the_router", "of_the_include", "of_the_application"}
    assert dependency_codes(finished_socket(depending_app, "/a/ws")) == {(__file__, name) for name in names}


@needs_fastapi
@pytest.mark.parametrize("path", ["/starlette", "/static/a", "/nothing"])
def test_dependencies_of_other_routes(depending_app: FastAPI, path: str) -> None:
    """Routes that are not FastAPI's have no dependencies."""
    assert dependency_codes(finished(depending_app, path)) == frozenset()


@needs_fastapi
def test_dependencies_overrides(depending_app: FastAPI) -> None:
    """A function that stands in for a dependency counts as one, as long as it does."""
    before = dependency_codes(finished(depending_app, "/b/replaced"))
    depending_app.dependency_overrides[replaced] = replacement
    during = dependency_codes(finished(depending_app, "/b/replaced"))
    depending_app.dependency_overrides.clear()
    after = dependency_codes(finished(depending_app, "/b/replaced"))
    assert before == after == during - {(__file__, "replacement")} != during


@needs_fastapi
def test_dependencies_cached(depending_app: FastAPI) -> None:
    """A route's functions are collected once."""
    first, second = (dependency_codes(finished(depending_app, "/a/kinds")) for _ in range(2))
    assert first is second


@needs_fastapi
def test_dependencies_bounded(depending_app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache holds no more routes than its limit, and still answers."""
    codes: dict[int, Any] = {}
    monkeypatch.setattr(routing, "_codes", codes)
    monkeypatch.setattr(routing, "_MAX_ROUTES", 2)
    assert all(dependency_codes(finished(depending_app, f"/{way}/nested")) for way in "abab")
    assert all(dependency_codes(finished(depending_app, path)) for path in ("/direct", "/a/kinds"))
    assert len(codes) <= 2


@needs_fastapi
def test_dependencies_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache keeps no application alive, and forgets its routes with it."""
    codes: dict[int, Any] = {}
    monkeypatch.setattr(routing, "_codes", codes)
    app = FastAPI()
    app.add_api_route("/direct", read, dependencies=[Depends(nested)])
    dependency_codes(finished(app, "/direct"))
    assert len(codes) == 1
    del app
    gc.collect()
    assert codes == {}
