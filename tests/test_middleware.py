"""What the middleware makes of real requests, and that the application, the server and the client notice nothing."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import fastapi
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from querytoll import Profiler, ProfilerMiddleware, Report, Settings, Trace
from querytoll.capture import Window, attach, detach, everywhere, listeners, window
from querytoll.capture.assemble import Request as Observed
from querytoll.capture.scope import current
from querytoll.errors import Faults
from querytoll.model import Kind

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
END: Message = {"type": "http.response.body", "body": b"done"}
DEPENDENCIES_END_LATE = tuple(map(int, fastapi.__version__.split(".")[:2])) >= (0, 118)
"""FastAPI leaves its dependencies after the response; before this version it did so ahead of it."""


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Listeners are as before; no scope, no window that sees everything and no ticking clock is left."""
    listened = event.contains(Engine, "do_execute", listeners.do_execute)
    yield
    attach() if listened else detach()
    assert current.get() is None
    assert everywhere == []
    assert [sampler for sampler in window._samplers._samplers.values() if sampler.windows] == []


@pytest.fixture
def engine(postgres_url: str) -> AsyncEngine:
    """An engine for any number of event loops: it keeps no connection."""
    return create_async_engine(postgres_url, poolclass=NullPool)


@pytest.fixture
def sync_engine(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    yield made
    made.dispose()


async def ask(engine: AsyncEngine, *words: str) -> None:
    """Send one statement for each word, which its text holds."""
    async with engine.connect() as connection:
        for word in words:
            await connection.execute(text(f"SELECT '{word}'"))


def ask_sync(engine: Engine, *words: str) -> None:
    with engine.connect() as connection:
        for word in words:
            connection.execute(text(f"SELECT '{word}'"))


class Traffic:
    """An application behind the middleware, and the reports of what it was asked."""

    def __init__(self, app: ASGIApp, **settings: Any) -> None:
        self.reports: list[Report] = []
        self.profiler = Profiler(Settings(**settings), detectors=[], sinks=[self.reports.append])
        self.app = ProfilerMiddleware(app, self.profiler)

    @property
    def traces(self) -> list[Trace]:
        return [report.trace for report in self.reports]

    @property
    def trace(self) -> Trace:
        """The only trace."""
        (trace,) = self.traces
        return trace

    @property
    def phases(self) -> dict[str, str]:
        """Phase by the word that was asked for."""
        return phases(self.trace)

    async def get(self, path: str = "/") -> httpx.Response:
        return await get(self.app, path)


def phases(trace: Trace) -> dict[str, str]:
    return {statement.sql[8:-1]: statement.phase for statement in trace.statements}


async def get(app: ASGIApp, path: str = "/") -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.get(path)


def http_scope(path: str = "/", *, spec_version: str = "2.3", **more: Any) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
        **more,
    }


def socket_scope(path: str = "/") -> Scope:
    return {"type": "websocket", "path": path, "root_path": "", "query_string": b"", "headers": [], "subprotocols": []}


async def drive(app: ASGIApp, scope: Scope, incoming: Iterable[Message] = ()) -> list[Message]:
    """Call an application as a server does; what it sent."""
    messages = iter(incoming)
    sent: list[Message] = []

    async def receive() -> Message:
        return next(messages, {"type": f"{scope['type']}.disconnect", "code": 1000})

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest application."""
    await send(START)
    await send(END)


class Opening(Profiler):
    """Fails when a request begins."""

    def open(self, kind: Kind) -> Window | None:
        raise RuntimeError(kind)


class Timing(Profiler):
    """Fails when the response begins."""

    @property  # type: ignore[override]
    def server_timing(self) -> bool | None:
        raise RuntimeError

    @server_timing.setter
    def server_timing(self, wanted: bool | None) -> None: ...


class Closing(Profiler):
    """Fails when a request ends."""

    def close(self, window: Window, request: Observed | None) -> None:
        raise RuntimeError


# One trace per request


async def test_a_request_is_one_trace(engine: AsyncEngine) -> None:
    """Everything that an application sends for one request is in one trace with its name, route, path and status."""

    async def order(request: Request) -> Response:
        await ask(engine, "order", "items")
        return PlainTextResponse("7", status_code=201)

    traffic = Traffic(Starlette(routes=[Route("/orders/{id:int}", order, methods=["POST", "GET"])]))
    assert (await traffic.get("/orders/7?page=2")).text == "7"
    trace = traffic.trace
    assert (trace.kind, trace.name, trace.method) == ("request", "GET /orders/{id}", "GET")
    assert (trace.route, trace.path, trace.status) == ("/orders/{id}", "/orders/7", 201)
    assert [statement.sql for statement in trace.statements] == ["SELECT 'order'", "SELECT 'items'"]
    assert 0 < trace.database_seconds < trace.elapsed
    assert re.fullmatch("[0-9a-f]{32}", trace.id)
    assert current.get() is None


async def test_every_request_is_a_trace_of_its_own(engine: AsyncEngine) -> None:
    """Requests, one after the other or side by side, have traces of different ids with their own statements."""

    async def count(request: Request) -> Response:
        n = int(request.path_params["n"])
        for word in range(n):
            await ask(engine, str(word))
        return PlainTextResponse("")

    traffic = Traffic(Starlette(routes=[Route("/{n}", count)]))
    await asyncio.gather(*(traffic.get(f"/{n}") for n in range(5)))
    await traffic.get("/5")
    assert sorted((trace.path, len(trace.statements)) for trace in traffic.traces) == [(f"/{n}", n) for n in range(6)]
    assert len({trace.id for trace in traffic.traces}) == 6


async def test_a_sync_endpoint_in_the_threadpool_is_counted(sync_engine: Engine) -> None:
    """Statements of a `def` endpoint, which runs in another thread, are the request's."""
    app = FastAPI()

    @app.get("/")
    def endpoint() -> str:
        ask_sync(sync_engine, "one", "two")
        return ""

    traffic = Traffic(app)
    await traffic.get()
    assert traffic.phases == {"one": "endpoint", "two": "endpoint"}
    assert not any(statement.blocking for statement in traffic.trace.statements)


async def test_tasks_of_a_request_are_counted(engine: AsyncEngine) -> None:
    """Statements of tasks that the endpoint starts and awaits are the request's."""

    async def endpoint(request: Request) -> Response:
        async with asyncio.TaskGroup() as group:
            for word in "abc":
                group.create_task(ask(engine, word))
        await asyncio.gather(ask(engine, "d"), ask(engine, "e"))
        return PlainTextResponse("")

    traffic = Traffic(Starlette(routes=[Route("/", endpoint)]))
    await traffic.get()
    assert sorted(traffic.phases) == list("abcde")


async def test_a_task_that_outlives_its_request_has_a_trace_of_its_own(engine: AsyncEngine) -> None:
    """What runs after the request has ended is never added to its trace, and is not lost either."""
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def late() -> None:
        await go_on.wait()
        await ask(engine, "late")

    async def endpoint(request: Request) -> Response:
        await ask(engine, "early")
        tasks.append(asyncio.create_task(late()))
        return PlainTextResponse("")

    traffic = Traffic(Starlette(routes=[Route("/", endpoint)]))
    await traffic.get()
    go_on.set()
    await asyncio.gather(*tasks)
    await asyncio.sleep(0)
    request, task = traffic.traces
    assert (request.kind, phases(request)) == ("request", {"early": "endpoint"})
    assert (task.kind, task.name, phases(task)) == ("task", "GET /", {"late": "background"})
    assert task.statements[0].detached


async def test_streamed_and_background_statements_belong_to_the_request(engine: AsyncEngine) -> None:
    """Statements of a streamed body and of background tasks, before and after its last byte, are the request's."""

    async def body() -> AsyncIterator[bytes]:
        yield b"1"
        await ask(engine, "in the stream")
        yield b"2"

    def endpoint(tasks: BackgroundTasks) -> Response:
        tasks.add_task(ask, engine, "afterwards")
        return StreamingResponse(body())

    app = FastAPI()
    app.get("/")(endpoint)
    traffic = Traffic(app)
    assert (await traffic.get()).content == b"12"
    assert traffic.phases == {"in the stream": "response", "afterwards": "background"}


async def test_a_commit_after_the_response_is_in_the_trace(engine: AsyncEngine) -> None:
    """A session that a yield-dependency commits belongs to the request with its flush and its transaction's outcome."""
    app = FastAPI()

    async def session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as made:
            yield made
            await made.execute(text("SELECT 'before the commit'"))
            await made.commit()

    @app.get("/")
    async def endpoint(session=Depends(session)) -> str:  # type: ignore[no-untyped-def]
        await session.execute(text("SELECT 'endpoint'"))
        return ""

    traffic = Traffic(app)
    await traffic.get()
    (transaction,) = traffic.trace.transactions
    assert (transaction.outcome, transaction.statements) == ("committed", 2)


async def test_the_phases_of_a_request_are_told_apart(engine: AsyncEngine, sync_engine: Engine) -> None:
    """Dependencies of every kind, endpoint, streamed body and background tasks are phases of their own."""
    app = FastAPI()

    async def entered() -> AsyncIterator[None]:
        await ask(engine, "entered")
        yield
        await ask(engine, "left")

    async def inner(_=Depends(entered)) -> None:  # type: ignore[no-untyped-def]
        await ask(engine, "inner")

    def threaded(_=Depends(inner)) -> None:  # type: ignore[no-untyped-def]
        ask_sync(sync_engine, "threaded")

    class Paging:
        def __init__(self) -> None:
            ask_sync(sync_engine, "class")

    class Guard:
        async def __call__(self) -> None:
            await ask(engine, "object")

    @app.get("/", dependencies=[Depends(threaded), Depends(Paging), Depends(Guard())])
    async def endpoint(tasks: BackgroundTasks) -> Response:
        await ask(engine, "endpoint")
        tasks.add_task(ask, engine, "background")
        return StreamingResponse(body())

    async def body() -> AsyncIterator[bytes]:
        await ask(engine, "first")
        yield b"1"
        await ask(engine, "last")
        yield b"2"

    traffic = Traffic(app)
    assert (await traffic.get()).content == b"12"
    dependencies = ("entered", "inner", "threaded", "class", "object")
    assert traffic.phases == {
        **dict.fromkeys(dependencies, "dependency"),
        "endpoint": "endpoint",
        **dict.fromkeys(("first", "last"), "response"),
        "background": "background",
        "left": "background" if DEPENDENCIES_END_LATE else "dependency",
    }


async def test_a_file_sent_by_the_server_ends_the_response(engine: AsyncEngine) -> None:
    """Regression: with `http.response.pathsend` there is no body message, and background work counted as response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await ask(engine, "before")
        await send({"type": "http.response.pathsend", "path": "/srv/file"})
        await ask(engine, "after")

    traffic = Traffic(app)
    await drive(traffic.app, http_scope())
    assert traffic.phases == {"before": "response", "after": "background"}


# WebSockets


async def test_a_websocket_is_one_trace(engine: AsyncEngine) -> None:
    """All messages of a websocket are in one trace, whose status is that of the handshake."""

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        async for word in socket.iter_text():
            await ask(engine, word)
            await socket.send_text(word)

    traffic = Traffic(Starlette(routes=[WebSocketRoute("/chat/{room}", chat)]))
    incoming = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": word} for word in "abc")]
    sent = await drive(traffic.app, socket_scope("/chat/7"), incoming)
    assert [message.get("text") for message in sent] == [None, "a", "b", "c"]
    trace = traffic.trace
    assert (trace.kind, trace.name, trace.path) == ("websocket", "WEBSOCKET /chat/{room}", "/chat/7")
    assert trace.status == 101
    assert list(phases(trace)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close", "code": 1008}], 403),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b"who?"},
            ],
            401,
        ),
        ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1000}], 101),
        ([], None),
    ],
    ids=["closed", "denied", "accepted", "silent"],
)
async def test_the_status_of_a_websocket_is_that_of_its_handshake(messages: list[Message], status: int | None) -> None:
    """A refused handshake has the status that the client saw, a denial response (regression: none) its own."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    traffic = Traffic(app)
    assert await drive(traffic.app, socket_scope()) == messages
    assert traffic.trace.status == status


# Exceptions, cancellation, disconnects


async def test_the_applications_exception_passes_through_untouched() -> None:
    """The very object arrives, neither chained nor wrapped, one frame of ours in its traceback; the trace says 500."""
    error = ValueError("mine")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    traffic = Traffic(app)
    scope = http_scope()
    with pytest.raises(ValueError, match="mine") as caught:
        await drive(traffic.app, scope)
    assert caught.value is error
    assert error.__cause__ is error.__context__ is None
    frames = [frame.filename.rpartition("/")[2] for frame in traceback.extract_tb(error.__traceback__)]
    assert frames.count("middleware.py") == 1
    assert traffic.trace.status == 500
    assert scope == http_scope()
    assert current.get() is None


async def test_a_base_exception_passes_through_untouched() -> None:
    """What is no `Exception` is not ours to catch, either."""

    class Stop(BaseException):
        pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Stop

    traffic = Traffic(app)
    with pytest.raises(Stop):
        await drive(traffic.app, http_scope())
    assert traffic.trace.status == 500


async def test_an_exception_is_not_replaced_by_a_fault_of_ours() -> None:
    """When the profiler fails at the end of a failing request, the server sees the application's exception alone."""
    error = ValueError("mine")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await drive(ProfilerMiddleware(app, Closing(sinks=[])), http_scope())
    assert caught.value is error
    assert error.__context__ is None
    assert current.get() is None


async def test_a_handled_exception_has_the_status_of_its_answer() -> None:
    """What an exception handler answers is what counts."""
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> None:
        raise HTTPException(418)

    traffic = Traffic(app)
    assert (await traffic.get()).status_code == 418
    assert traffic.trace.status == 418


async def test_an_exception_after_the_response_began_leaves_its_status() -> None:
    """The status is what the client saw, also when the body or a background task fails later."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise ValueError("late")

    traffic = Traffic(app)
    with pytest.raises(ValueError, match="late"):
        await drive(traffic.app, http_scope())
    assert traffic.trace.status == 200


async def test_an_exception_that_a_caller_is_handling_is_not_the_applications() -> None:
    """Regression: called from an `except` block, an application that returned was taken for one that had raised."""
    traffic = Traffic(lambda scope, receive, send: asyncio.sleep(0))
    try:
        raise ValueError
    except ValueError:
        await drive(traffic.app, socket_scope())
    assert traffic.trace.status is None


async def test_cancellation_passes_through(engine: AsyncEngine) -> None:
    """CancelledError arrives with its message; the trace says 499 and has the statement that was cut short."""
    running = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await ask(engine, "before")
        async with engine.connect() as connection:
            running.set()
            await connection.execute(text("SELECT pg_sleep(60)"))

    traffic = Traffic(app)
    scope = http_scope()
    task = asyncio.create_task(drive(traffic.app, scope))
    await running.wait()
    task.cancel("client gone")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("client gone",)
    assert traffic.trace.status == 499
    assert [statement.error for statement in traffic.trace.statements] == [None, "CancelledError"]
    assert scope == http_scope()


async def test_a_timeout_around_the_application_works() -> None:
    """`asyncio.timeout` outside of the middleware turns its own cancellation into TimeoutError, as without us."""
    traffic = Traffic(lambda scope, receive, send: asyncio.sleep(60))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await drive(traffic.app, http_scope())
    assert traffic.trace.status == 499


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_client_that_disconnects_ends_the_trace(engine: AsyncEngine, spec_version: str) -> None:
    """When the client goes in the middle of a stream, by message or by OSError, the trace ends with what was done."""
    gone = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        while True:
            await ask(engine, "row")
            yield b"row"

    rows: Any = body()
    traffic = Traffic(Starlette(routes=[Route("/", lambda request: StreamingResponse(rows))]))

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            gone.set()
            if spec_version == "2.4":
                raise OSError("gone")

    with nullcontext() if spec_version == "2.3" else pytest.raises((ClientDisconnect, ExceptionGroup)):
        await traffic.app(http_scope(spec_version=spec_version), receive, send)
    await rows.aclose()
    assert traffic.trace.status == 200
    assert traffic.trace.statements[0].phase == "response"
    assert current.get() is None


def test_a_client_of_a_real_server_that_disconnects_ends_the_trace(engine: AsyncEngine) -> None:
    """A connection that is closed in the middle of a stream ends the request and its trace in uvicorn as well."""

    async def body() -> AsyncIterator[bytes]:
        await ask(engine, "row")
        while True:
            yield b"row"
            await asyncio.sleep(0.01)

    traffic = Traffic(Starlette(routes=[Route("/", lambda request: StreamingResponse(body()))]))
    server = uvicorn.Server(uvicorn.Config(traffic.app, port=0, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        await_that(lambda: server.started)
        with socket.create_connection(server.servers[0].sockets[0].getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            received = b""
            while b"row" not in received:
                chunk = client.recv(1000)
                assert chunk, received
                received += chunk
        await_that(lambda: len(traffic.reports) == 1)
    finally:
        server.should_exit = True
        thread.join()
    assert (traffic.trace.status, traffic.phases) == (200, {"row": "response"})


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_an_error_of_the_server_while_sending_reaches_the_application() -> None:
    """`send` raises into the application, as without us."""
    seen: list[Exception] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(START)
        except OSError as error:
            seen.append(error)

    async def send(message: Message) -> None:
        raise error

    error = OSError("gone")
    await Traffic(app).app(http_scope(), drive, send)  # type: ignore[arg-type]
    assert seen == [error]


# Installed twice, above and below others


async def test_a_nested_install_is_a_no_op(engine: AsyncEngine) -> None:
    """Of two middlewares, the outer one counts and the inner one does nothing, whichever profilers they have."""
    inner = Traffic(Starlette(routes=[Route("/", lambda request: PlainTextResponse("inner"))]))
    outer = Traffic(inner.app)
    twice = ProfilerMiddleware(outer.app, outer.profiler)
    assert (await get(twice)).text == "inner"
    assert (len(outer.reports), inner.reports) == (1, [])


async def test_the_mark_in_the_scope_is_removed() -> None:
    """The scope that a caller uses again, to retry or to fall back, is as before, and the second call is a trace."""
    seen: list[set[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(set(scope))
        if len(seen) == 1:
            raise ValueError("first")
        await answer(scope, receive, send)

    traffic = Traffic(app)
    scope = http_scope()
    with pytest.raises(ValueError, match="first"):
        await drive(traffic.app, scope)
    assert scope == http_scope()
    await drive(traffic.app, scope)
    assert scope == http_scope()
    assert [trace.status for trace in traffic.traces] == [500, 200]
    assert seen[0] - set(scope) == {"querytoll"}


async def test_a_request_out_of_the_sample_is_not_taken_by_an_inner_install() -> None:
    """A request that the outer middleware leaves out is left out by the inner one, or the rate would not hold."""
    inner = Traffic(answer)
    outer = Traffic(inner.app, sample_rate=0)
    scope = http_scope()
    await drive(outer.app, scope)
    assert inner.reports == outer.reports == []
    assert scope == http_scope()


async def test_a_profiler_that_is_off_does_not_hide_an_inner_one() -> None:
    """Off means off: around a mounted application with a profiler of its own, a disabled one is not there."""
    inner = Traffic(answer)
    outer = Traffic(inner.app, enabled=False)
    await drive(outer.app, http_scope())
    assert (len(inner.reports), outer.reports) == (1, [])


async def test_a_request_from_within_a_request_is_a_trace_of_its_own(engine: AsyncEngine) -> None:
    """An application that calls itself over ASGI makes two traces; the outer one has the statements of both."""

    async def inner(request: Request) -> Response:
        await ask(engine, "inner")
        return PlainTextResponse("")

    async def outer(request: Request) -> Response:
        await ask(engine, "outer")
        await traffic.get("/inner")
        return PlainTextResponse("")

    traffic = Traffic(Starlette(routes=[Route("/inner", inner), Route("/outer", outer)]))
    await traffic.get("/outer")
    assert {trace.name: list(phases(trace)) for trace in traffic.traces} == {
        "GET /inner": ["inner"],
        "GET /outer": ["outer", "inner"],
    }


class Passing(BaseHTTPMiddleware):
    """The middleware that everybody writes; the application runs in a task of its own behind it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["passed"] = "yes"
        return response


@pytest.mark.parametrize("place", ["above", "below", "both"])
async def test_base_http_middleware_changes_nothing(engine: AsyncEngine, place: str) -> None:
    """With BaseHTTPMiddleware around us, inside of us or both, everything of the request is still in its one trace."""

    async def body() -> AsyncIterator[bytes]:
        for word in ("1", "2"):
            await ask(engine, f"stream {word}")
            yield word.encode()

    app = FastAPI()

    @app.get("/{word}")
    async def endpoint(word: str, tasks: BackgroundTasks) -> Response:
        await ask(engine, word)
        tasks.add_task(ask, engine, "background")
        return StreamingResponse(body())

    reports: list[Report] = []
    if place in ("below", "both"):
        app.add_middleware(Passing)
    app.add_middleware(ProfilerMiddleware, profiler=Profiler(detectors=[], sinks=[reports.append]))
    if place in ("above", "both"):
        app.add_middleware(Passing)
    response = await get(app, "/endpoint")
    assert (response.content, response.headers["passed"]) == (b"12", "yes")
    (report,) = reports
    assert report.trace.name == "GET /{word}"
    assert phases(report.trace) == {
        "endpoint": "endpoint",
        "stream 1": "response",
        "stream 2": "response",
        "background": "background",
    }


async def test_exceptions_pass_base_http_middleware(engine: AsyncEngine) -> None:
    """The application's exception is the same object on the far side of both."""
    error = ValueError("mine")

    async def endpoint(request: Request) -> Response:
        raise error

    reports: list[Report] = []
    profiler = Profiler(detectors=[], sinks=[reports.append])
    stack = [Middleware(Passing), Middleware(ProfilerMiddleware, profiler=profiler), Middleware(Passing)]
    with pytest.raises(ValueError, match="mine") as caught:
        await get(Starlette(routes=[Route("/", endpoint)], middleware=stack))
    assert caught.value is error
    assert reports[0].trace.status == 500


async def test_a_mounted_application_is_part_of_the_request(engine: AsyncEngine) -> None:
    """A request to a mounted application, installed in itself or not, is one trace with the full route."""
    shop = FastAPI()

    @shop.get("/orders/{id}")
    async def order(id: int) -> int:
        await ask(engine, "order")
        return id

    inner: list[Report] = []
    shop.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[inner.append]))
    traffic = Traffic(Starlette(routes=[Mount("/shops/{shop}", shop)]))
    assert (await traffic.get("/shops/3/orders/7")).json() == 7
    assert traffic.trace.name == "GET /shops/{shop}/orders/{id}"
    assert phases(traffic.trace) == {"order": "endpoint"}
    assert inner == []


async def test_a_middleware_in_a_mounted_application_sees_that_one_alone(engine: AsyncEngine) -> None:
    """Installed below a mount, it profiles the mounted application and nothing beside it."""
    reports: list[Report] = []
    shop = FastAPI()
    shop.add_middleware(ProfilerMiddleware, profiler=Profiler(sinks=[reports.append]))

    @shop.get("/")
    async def index() -> str:
        await ask(engine, "shop")
        return ""

    app = FastAPI()

    @app.get("/")
    async def home() -> str:
        await ask(engine, "home")
        return ""

    app.mount("/shop", shop)
    await get(app, "/")
    await get(app, "/shop/")
    (report,) = reports
    assert phases(report.trace) == {"shop": "endpoint"}


# Untouched


async def test_lifespan_is_untouched(engine: AsyncEngine) -> None:
    """The lifespan's scope, `receive` and `send` are passed on as they are, and its statements are nobody's."""
    passed: list[tuple[Any, ...]] = []

    async def app(*asgi: Any) -> None:
        passed.append(asgi)
        await ask(engine, "startup")

    traffic = Traffic(app)
    scope: Scope = {"type": "lifespan", "state": {}}
    receive, send = object(), object()
    await traffic.app(scope, receive, send)  # type: ignore[arg-type]
    assert [tuple(map(id, asgi)) for asgi in passed] == [(id(scope), id(receive), id(send))]
    assert scope == {"type": "lifespan", "state": {}}
    assert traffic.reports == []


async def test_a_lifespan_in_full_runs(engine: AsyncEngine) -> None:
    """An application starts and stops through the middleware; its state reaches the requests."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        await ask(engine, "up")
        yield {"greeting": "hello"}
        await ask(engine, "down")

    app = Starlette(lifespan=lifespan, routes=[Route("/", lambda request: PlainTextResponse(request.state.greeting))])
    traffic = Traffic(app)
    state: dict[str, str] = {}
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await drive(traffic.app, {"type": "lifespan", "state": state}, incoming)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent = await drive(traffic.app, http_scope(state=state))
    assert sent[1]["body"] == b"hello"
    assert len(traffic.reports) == 1


async def test_scope_and_receive_are_passed_on_themselves() -> None:
    """The application gets the server's own scope and `receive`."""
    passed: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.extend((scope, receive))

    scope, receive = http_scope(), object()
    await Traffic(app).app(scope, receive, answer)  # type: ignore[arg-type]
    assert passed[0] is scope
    assert passed[1] is receive


async def test_messages_are_passed_on_themselves() -> None:
    """Without `Server-Timing`, the server gets the very messages that the application sent, unknown ones too."""
    messages = [
        {"type": "http.response.start", "status": 200, "headers": [(b"X-Case", b"Kept")], "trailers": True},
        {"type": "http.response.body", "body": b"1", "more_body": True},
        {"type": "http.response.body", "body": b""},
        {"type": "http.response.trailers", "headers": []},
        {"type": "http.response.of.the.future"},
        {},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    traffic = Traffic(app, server_timing=False)
    sent = await drive(traffic.app, http_scope())
    assert list(map(id, sent)) == list(map(id, messages))


@pytest.mark.parametrize("server_timing", [True, False])
async def test_headers_keep_their_order_and_repetitions(server_timing: bool) -> None:
    """Two cookies stay two, names keep their case and place, and the application's own list is not written to."""
    headers = [(b"Set-Cookie", b"a=1"), (b"x-first", b"1"), (b"set-cookie", b"b=2"), (b"Server-Timing", b"app;dur=1")]
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    before = list(headers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)
        await send(END)

    sent = await drive(Traffic(app, server_timing=server_timing).app, http_scope())
    assert sent[0]["headers"][:4] == before
    assert [name for name, _ in sent[0]["headers"][4:]] == [b"server-timing"] * server_timing
    assert headers == before
    assert message["headers"] is headers


@pytest.mark.parametrize("headers", [None, (), iter([(b"a", b"1")])], ids=["none", "tuple", "iterator"])
async def test_headers_may_be_any_iterable_or_absent(headers: Any) -> None:
    """`Server-Timing` is added to whatever the specification allows."""
    message: Message = {"type": "http.response.start", "status": 204}
    if headers is not None:
        message["headers"] = headers

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)
        await send(END)

    sent = await drive(Traffic(app, server_timing=True).app, http_scope())
    assert [name for name, _ in sent[0]["headers"] if name != b"a"] == [b"server-timing"]


@pytest.mark.parametrize("server_timing", [True, False])
async def test_chunks_arrive_while_the_application_still_runs(server_timing: bool) -> None:
    """Each chunk is with the client before the application makes the next one: nothing is held back."""
    arrived = asyncio.Semaphore(0)
    chunks: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for chunk in (b"1", b"2", b"3"):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await arrived.acquire()
        await send(END)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            chunks.append(message["body"])
            arrived.release()

    async with asyncio.timeout(30):
        await Traffic(app, server_timing=server_timing).app(http_scope(), drive, send)  # type: ignore[arg-type]
    assert chunks == [b"1", b"2", b"3", b"done"]


# Server-Timing


async def test_server_timing_tells_time_and_statements(engine: AsyncEngine) -> None:
    """The header is `db;dur=12.3;desc="12 statements"`, in milliseconds, of what came before it."""

    async def endpoint(request: Request) -> Response:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))
        await ask(engine, *map(str, range(int(request.path_params["n"]))))
        return StreamingResponse(body())

    async def body() -> AsyncIterator[bytes]:
        await ask(engine, "too late to be told")
        yield b""

    traffic = Traffic(Starlette(routes=[Route("/{n}", endpoint)]), server_timing=True)
    header = (await traffic.get("/11")).headers["server-timing"]
    told = re.fullmatch(r'db;dur=(\d+\.\d);desc="12 statements"', header)
    assert told is not None, header
    assert 50 <= float(told[1]) <= traffic.trace.database_seconds * 1000 + 0.1
    assert len(traffic.trace.statements) == 13


@pytest.mark.parametrize(
    ("words", "header"),
    [([], 'db;dur=0.0;desc="0 statements"'), (["one"], r'db;dur=\d+\.\d;desc="1 statement"')],
    ids=["none", "one"],
)
async def test_server_timing_counts_in_english(engine: AsyncEngine, words: list[str], header: str) -> None:
    """No statement is told as well, and one is not plural."""

    async def endpoint(request: Request) -> Response:
        if words:
            await ask(engine, *words)
        return PlainTextResponse("")

    traffic = Traffic(Starlette(routes=[Route("/", endpoint)]), server_timing=True)
    assert re.fullmatch(header, (await traffic.get()).headers["server-timing"])


@pytest.mark.parametrize(
    ("server_timing", "debug", "answered"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
@pytest.mark.parametrize("make", [Starlette, FastAPI])
async def test_server_timing_is_for_debug_mode_unless_it_is_set(
    make: type[Starlette], server_timing: bool | None, debug: bool, answered: bool
) -> None:
    """By default the header is there in debug mode only; True always sends it and False never does."""
    app = make(debug=debug)
    app.add_route("/", lambda request: PlainTextResponse(""))
    reports: list[Report] = []
    profiler = Profiler(Settings(server_timing=server_timing), sinks=[reports.append])
    app.add_middleware(ProfilerMiddleware, profiler=profiler)
    assert ("server-timing" in (await get(app)).headers) is answered
    assert len(reports) == 1


async def test_server_timing_of_a_middleware_around_the_application() -> None:
    """Debug mode is also seen by a middleware that wraps the application instead of being added to it."""
    traffic = Traffic(Starlette(debug=True, routes=[Route("/", lambda request: PlainTextResponse(""))]))
    assert "server-timing" in (await traffic.get()).headers


# Sampling and switching off


@pytest.mark.parametrize(("rate", "share"), [(0, 0), (1, 20)])
async def test_all_or_no_requests_are_in_the_sample(rate: float, share: int) -> None:
    """A rate of 1 takes every request, a rate of 0 none."""
    traffic = Traffic(answer, sample_rate=rate)
    for _ in range(20):
        await drive(traffic.app, http_scope())
    assert len(traffic.reports) == share


async def test_a_request_is_in_the_sample_whole_or_not_at_all(engine: AsyncEngine) -> None:
    """A rate in between takes some requests, each with all of its statements."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/sql":
            await ask(engine, "one", "two")
        await answer(scope, receive, send)

    traffic = Traffic(app, sample_rate=0.5)
    for _ in range(200):
        await drive(traffic.app, http_scope())
    assert 0 < len(traffic.reports) < 200
    traffic.reports.clear()
    for _ in range(20):
        await drive(traffic.app, http_scope("/sql"))
    assert {len(trace.statements) for trace in traffic.traces} <= {2}


async def test_sampling_leaves_the_applications_random_numbers_alone() -> None:
    """Regression: the sample was drawn from the generator that the application seeds, and changed its numbers."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    await drive(Traffic(answer, sample_rate=1e-12).app, http_scope())
    assert random.random() == expected


async def test_switched_off_nothing_is_attached_and_all_is_passed_on(engine: AsyncEngine) -> None:
    """With `enabled=False` there is no listener, no trace, and `send` is the server's own."""
    detach()
    passed: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.extend((dict(scope), send))
        await ask(engine, "unseen")

    async def send(message: Message) -> None:
        pass

    traffic = Traffic(app, enabled=False, server_timing=True)
    assert not event.contains(Engine, "do_execute", listeners.do_execute)
    await traffic.app(http_scope(), drive, send)  # type: ignore[arg-type]
    assert passed == [http_scope(), send]
    assert traffic.reports == []


# Faults of ours


@pytest.mark.parametrize("kind", [Opening, Timing, Closing])
async def test_a_fault_of_the_profiler_never_reaches_the_request(
    kind: type[Profiler], caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the profiler fails, the request is answered as without it, and the fault is counted and logged once."""
    profiler = kind(sinks=[])
    app = ProfilerMiddleware(answer, profiler)
    for _ in range(2):
        assert await drive(app, http_scope()) == [START, END]
    assert profiler.faults.counts == {"middleware": 2}
    assert [record.name for record in caplog.records] == ["querytoll"]
    assert current.get() is None


async def test_what_is_sent_goes_to_the_server_as_it_is() -> None:
    """The server's own awaitable comes back for all but the last message, whose end is waited for."""
    server: list[tuple[Message, asyncio.Future[None]]] = []

    def send(message: Message) -> asyncio.Future[None]:
        server.append((message, asyncio.get_running_loop().create_future()))
        return server[-1][1]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (START, {**END, "more_body": True}, {"type": "http.response.trailers"}):
            assert send(message) is server[-1][1]
            assert server[-1][0] is message
        last = asyncio.ensure_future(send(END))
        await asyncio.sleep(0)
        assert server[-1][0] is END
        assert not last.done()
        server[-1][1].set_result(None)
        await last

    traffic = Traffic(app)
    await traffic.app(http_scope(), drive, send)  # type: ignore[arg-type]
    assert traffic.trace.status == 200
    assert traffic.profiler.faults.counts == {}


async def test_a_scope_that_lacks_its_path_is_answered() -> None:
    """Regression: a scope without the path that the specification demands left its window open."""
    scope = http_scope()
    del scope["path"]
    traffic = Traffic(answer)
    assert await drive(traffic.app, scope) == [START, END]
    assert traffic.profiler.faults.counts == {}
    assert traffic.trace.path is None


async def test_any_object_with_the_same_methods_is_a_profiler() -> None:
    """The middleware takes what has the parts that it needs; a window that is None means that nobody looks."""

    class Nobody:
        active = True
        server_timing = True
        faults = Faults()

        def open(self, kind: Kind) -> Window | None:
            return None

        def close(self, window: Window, request: Observed) -> None:
            raise AssertionError

    assert await drive(ProfilerMiddleware(answer, Nobody()), http_scope()) == [START, END]
