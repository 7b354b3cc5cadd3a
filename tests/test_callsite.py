"""The line to blame: the application's innermost, across greenlets, threads and tasks; never a library's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
import threading
import weakref
import zipapp
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fastapi
import greenlet
import httpx
import pytest
import sqlalchemy
import starlette
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import querytoll
from querytoll import callsite
from querytoll.callsite import APPLICATION, EDGE, LIBRARY, CallSites, function_name, in_loop
from querytoll.capture import Capture, attach
from querytoll.model import Site
from tests.capture.watching import Watch

HERE = Path(__file__).parent
ROOT = HERE.parent
ONE = text("SELECT 1")


@pytest.fixture
def sites() -> CallSites:
    return CallSites(ROOT)


@pytest.fixture
def watch(sites: CallSites) -> Callable[[], Watch]:
    attach()
    return lambda: Watch(Capture(sites))


Watching = Callable[[], Watch]


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    made = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with made.connect():
        pass  # of two at once, each would make a connection
    yield made
    await made.dispose()


@pytest.fixture
def sync_engine() -> Iterator[Engine]:
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield made
    made.dispose()


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def names(stack: tuple[Site, ...]) -> list[str]:
    return [site.function.rpartition(".")[2] for site in stack]


# Loops

SYNC_PRELUDE = """
XS = [1, 2]
class Block:
    def __enter__(self): return self
    def __exit__(self, *error): return False
def fail(): raise ValueError
"""
ASYNC_PRELUDE = """
class ABlock:
    async def __aenter__(self): return self
    async def __aexit__(self, *error): return False
async def numbers():
    yield 1
    yield 2
"""
ONCE = {
    "straight line": "PROBE",
    "before a loop": "PROBE\nfor x in XS: pass",
    "after a loop": "for x in XS: pass\nPROBE",
    "between loops": "for x in XS: pass\nPROBE\nwhile XS: break",
    "the iterable of a loop": "for x in PROBE or XS: pass",
    "the iterable of a comprehension": "[x for x in PROBE or XS]",
    "else of a loop": "for x in XS: pass\nelse: PROBE",
    "a loop that returns at once": "for x in XS:\n    PROBE\n    return",
    "a loop that breaks at once": "while True:\n    PROBE\n    break",
    "a find that breaks": "for x in XS:\n    if x == 2:\n        PROBE\n        break",
    "if": "if XS:\n    PROBE",
    "else": "if not XS:\n    pass\nelse:\n    PROBE",
    "match": "match XS:\n    case [1, y]:\n        PROBE",
    "try": "try:\n    PROBE\nexcept ValueError:\n    pass",
    "handler": "try:\n    fail()\nexcept ValueError:\n    PROBE",
    "handler with a name": "try:\n    fail()\nexcept ValueError as error:\n    PROBE",
    "second handler": "try:\n    fail()\nexcept KeyError:\n    pass\nexcept ValueError:\n    PROBE",
    "else of try": "try:\n    pass\nexcept ValueError:\n    pass\nelse:\n    PROBE",
    "finally": "try:\n    pass\nfinally:\n    PROBE",
    "finally after an error": (
        "try:\n    try:\n        fail()\n    finally:\n        PROBE\nexcept ValueError:\n    pass"
    ),
    "after try": "try:\n    fail()\nexcept ValueError:\n    pass\nPROBE",
    "try inside a handler": (
        "try:\n    fail()\nexcept ValueError:\n    try:\n        PROBE\n    except KeyError:\n        pass"
    ),
    "exception group": "try:\n    fail()\nexcept* ValueError:\n    PROBE",
    "after with": "with Block():\n    pass\nPROBE",
    "with": "with Block():\n    PROBE",
    "with of two": "with Block() as a, Block() as b:\n    PROBE",
    "with of with": "with Block():\n    with Block():\n        PROBE",
    "with after a loop": "for x in XS: pass\nwith Block():\n    PROBE",
    "try inside with": "with Block():\n    try:\n        fail()\n    except ValueError:\n        PROBE",
    "with inside try": "try:\n    with Block():\n        PROBE\nfinally:\n    pass",
    "return": "return PROBE",
    "an argument": "print(PROBE, end='', file=open('/dev/null', 'w')) if not XS else PROBE",
    "an attempt that is not repeated": "try:\n    PROBE\nexcept ValueError:\n    raise",
}
REPEATED = {
    "for": "for x in XS:\n    PROBE",
    "while": "n = 0\nwhile n < 2:\n    n += 1\n    PROBE",
    "while True": "n = 0\nwhile True:\n    PROBE\n    n += 1\n    if n == 2:\n        break",
    "nested": "for x in XS:\n    for y in XS:\n        PROBE",
    "the iterable of an inner loop": "for x in XS:\n    for y in PROBE or XS:\n        pass",
    "else of an inner loop": "for x in XS:\n    for y in XS: pass\n    else: PROBE",
    "after an inner loop": "for x in XS:\n    for y in XS: pass\n    PROBE",
    "if": "for x in XS:\n    if x:\n        PROBE",
    "after continue": "for x in XS:\n    if x == 1:\n        continue\n    PROBE",
    "before continue": "for x in XS:\n    if x == 1:\n        PROBE\n        continue",
    "match": "for x in XS:\n    match x:\n        case 1: PROBE",
    "try": "for x in XS:\n    try:\n        PROBE\n    except ValueError:\n        pass",
    "handler": "for x in XS:\n    try:\n        fail()\n    except ValueError:\n        PROBE",
    "continue in a handler": (
        "for x in XS:\n    try:\n        fail()\n    except ValueError as error:\n        PROBE\n        continue"
    ),
    "finally": "for x in XS:\n    try:\n        pass\n    finally:\n        PROBE",
    "else of try": (
        "for x in XS:\n    try:\n        pass\n    except ValueError:\n        pass\n    else:\n        PROBE"
    ),
    "loop inside try": "try:\n    for x in XS:\n        PROBE\nexcept ValueError:\n    pass",
    "loop inside a handler": "try:\n    fail()\nexcept ValueError:\n    for x in XS:\n        PROBE",
    "retry": "while True:\n    try:\n        PROBE\n        break\n    except ValueError:\n        pass",
    "retry that returns": "for x in XS:\n    try:\n        return PROBE\n    except ValueError:\n        continue",
    "with": "for x in XS:\n    with Block():\n        PROBE",
    "loop inside with": "with Block():\n    for x in XS:\n        PROBE",
    "retry inside with": (
        "while True:\n    with Block():\n        try:\n"
        "            PROBE\n            break\n        except ValueError:\n            pass"
    ),
    "list": "[PROBE for x in XS]",
    "set": "{PROBE for x in XS}",
    "dict": "{x: PROBE for x in XS}",
    "condition of a comprehension": "[x for x in XS if PROBE]",
    "inner iterable of a comprehension": "[y for x in XS for y in (PROBE or XS)]",
}
ASYNC_ONCE = {
    "async with": "async with ABlock():\n    PROBE",
    "after async with": "async with ABlock():\n    pass\nPROBE",
    "after async for": "async for x in numbers(): pass\nPROBE",
    "async with after async for": "async for x in numbers(): pass\nasync with ABlock():\n    PROBE",
    "try inside async with": "async with ABlock():\n    try:\n        fail()\n    except ValueError:\n        PROBE",
    "several awaits": "PROBE\nPROBE\nPROBE",
    "timeout": "import asyncio\nasync with asyncio.timeout(5):\n    PROBE",
}
ASYNC_REPEATED = {
    "async for": "async for x in numbers():\n    PROBE",
    "async for inside async with": "async with ABlock():\n    async for x in numbers():\n        PROBE",
    "async with inside for": "for x in XS:\n    async with ABlock():\n        PROBE",
    "async with inside async for": "async for x in numbers():\n    async with ABlock():\n        PROBE",
    "async comprehension": "[PROBE async for x in numbers()]",
    "handler inside async for": (
        "async for x in numbers():\n    try:\n        fail()\n    except ValueError:\n        PROBE\n        continue"
    ),
}
TABLE = [
    *((f"{kind}, {name}, once", body, kind, False) for kind in ("sync", "async") for name, body in ONCE.items()),
    *((f"{kind}, {name}, repeated", body, kind, True) for kind in ("sync", "async") for name, body in REPEATED.items()),
    *((f"async, {name}, once", body, "async", False) for name, body in ASYNC_ONCE.items()),
    *((f"async, {name}, repeated", body, "async", True) for name, body in ASYNC_REPEATED.items()),
]


@pytest.mark.parametrize(("body", "kind", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_line_in_a_loop_is_told_from_one_that_runs_once(body: str, kind: str, expected: bool) -> None:
    """By control flow, on every Python: handlers, `with` and `await` jump backwards too, and are no loops."""
    assert probed(body, kind) == {expected}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("PROBE\nyield 1\nyield 2", False),
        ("yield 1\nPROBE", False),
        ("for x in XS:\n    PROBE\n    yield x", True),
        ("for x in XS:\n    yield PROBE", True),
        ("yield from XS\nPROBE", False),
        ("try:\n    yield 1\nfinally:\n    PROBE", False),
        ("with Block():\n    yield PROBE", False),
    ],
)
def test_generators_loop_only_where_they_do(body: str, expected: bool) -> None:
    """A dependency with yield is no loop, a row generator is one."""
    assert probed(body, "generator") == {expected}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "body", ["n = 3\nwhile not (PROBE or n < 1): n -= 1", "n = 3\nwhile (x := (PROBE, n < 1)) and n: n -= 1"]
)
def test_the_condition_of_while_loops_from_its_second_evaluation(body: str, kind: str) -> None:
    """CPython compiles it twice: before the loop, and at its end."""
    assert True in probed(body, kind)


def probed(body: str, kind: str) -> set[bool]:
    """Run the code; what `in_loop` says where it calls PROBE."""
    answers: set[bool] = set()

    def probe() -> None:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        answers.add(in_loop(frame.f_back.f_code, frame.f_back.f_lasti))

    async def aprobe() -> None:
        await asyncio.sleep(0)
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        answers.add(in_loop(frame.f_back.f_code, frame.f_back.f_lasti))

    is_async = kind == "async"
    source = body.replace("PROBE", "(await aprobe())" if is_async else "probe()")
    header = "async def run():" if is_async else "def run():"
    code = f"{SYNC_PRELUDE}{ASYNC_PRELUDE}\n{header}\n{textwrap.indent(source, '    ')}\n"
    namespace: dict[str, Any] = {"probe": probe, "aprobe": aprobe}
    exec(compile(code, "probed.py", "exec"), namespace)
    if is_async:
        asyncio.run(namespace["run"]())
    elif kind == "generator":
        list(namespace["run"]())
    else:
        namespace["run"]()
    return answers


def test_a_helper_in_a_loop_is_no_loop_but_its_caller_is(sync_engine: Engine, watch: Watching) -> None:
    """The stack tells both: issued at the helper, looped at the caller."""

    def helper(connection: Connection) -> None:
        connection.execute(ONE)

    def caller(connection: Connection) -> None:
        for _ in range(2):
            helper(connection)
        connection.execute(ONE)

    with watch() as seen, sync_engine.connect() as connection:
        caller(connection)
    loops = [[site.looping for site in statement.stack[:2]] for statement in seen.statements]
    assert loops == [[False, True], [False, True], [False, False]]


async def test_a_loop_of_awaited_statements_is_seen_across_the_greenlet(engine: AsyncEngine, watch: Watching) -> None:
    with watch() as seen:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            for _ in range(2):
                await connection.execute(ONE)
            [await connection.execute(ONE) for _ in range(2)]
    assert [s.site.looping for s in seen.statements if s.site] == [False, True, True, True, True]


# Across greenlets, tasks and threads


async def test_the_awaiting_line_is_found_across_the_greenlet(engine: AsyncEngine, watch: Watching) -> None:
    """Coroutines that await each other are the stack, innermost first."""

    async def repository(session: AsyncSession) -> int:
        await session.execute(ONE)
        return line() - 1

    async def service(session: AsyncSession) -> int:
        return await repository(session)

    with watch() as seen:
        async with AsyncSession(engine) as session:
            issued = await service(session)
            called = line() - 1
    stack = seen.only.stack
    assert names(stack)[:2] == ["repository", "service"]
    assert stack[0].line == issued
    assert (stack[2].file, stack[2].line) == (__file__, called)


async def test_code_inside_run_sync_is_found(engine: AsyncEngine, watch: Watching) -> None:
    """There the application itself runs in the greenlet; what awaits it is on the stack too."""

    def inside(connection: Connection) -> int:
        connection.execute(ONE)
        return line() - 1

    async def outside() -> int:
        async with engine.connect() as connection:
            return await connection.run_sync(inside)

    with watch() as seen:
        issued = await outside()
    assert names(seen.only.stack)[:2] == ["inside", "outside"]
    assert seen.only.stack[0].line == issued


async def test_a_gathered_coroutine_is_found(engine: AsyncEngine, watch: Watching) -> None:
    """A task's stack begins with its own coroutine: what gathers is not on it."""

    async def one(n: int) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT {n}"))

    async def gathers() -> None:
        await asyncio.gather(one(1), one(2))

    with watch() as seen:
        await gathers()
    assert [names(statement.stack) for statement in seen.statements] == [["one"], ["one"]]


async def test_a_thread_has_its_own_stack(sync_engine: Engine, watch: Watching) -> None:
    """`asyncio.to_thread` and plain threads: the function that runs there, nothing of the machinery."""

    def work() -> None:
        with sync_engine.connect() as connection:
            connection.execute(ONE)

    with watch() as seen:
        await asyncio.to_thread(work)
    assert names(seen.only.stack) == ["work"]
    everywhere = Watch(Capture(CallSites(ROOT)), everywhere=True)
    with everywhere:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert names(everywhere.only.stack) == ["work"]


async def test_a_greenlet_of_the_applications_own_is_crossed(sync_engine: Engine, watch: Watching) -> None:
    """gevent-like code: the greenlet that switched to this one is its caller."""

    def work() -> None:
        with sync_engine.connect() as connection:
            connection.execute(ONE)

    def switches() -> None:
        other = greenlet.greenlet(work)
        other.gr_context = contextvars.copy_context()
        other.switch()

    with watch() as seen:
        switches()
    assert names(seen.only.stack)[:2] == ["work", "switches"]


async def test_comprehensions_and_lambdas_have_their_functions_name(engine: AsyncEngine, watch: Watching) -> None:
    """Python 3.11 runs a comprehension in a frame of its own, 3.12 does not: the name is the same."""

    async def comprehends() -> None:
        async with engine.connect() as connection:
            [await connection.execute(ONE) for _ in range(1)]
            {n: await connection.execute(ONE) for n in range(1)}
            _ = [x async for x in (await connection.execute(ONE) for _ in range(1))]

    with watch() as seen:
        await comprehends()
    assert {names(statement.stack)[0] for statement in seen.statements} == {"comprehends"}
    assert function_name((lambda: 0).__code__).endswith("name.<locals>.<lambda>")


def test_methods_and_closures_have_qualified_names() -> None:
    class Repository:
        def get(self) -> Callable[[], None]:
            def inner() -> None: ...

            return inner

    assert function_name(Repository.get.__code__).endswith("<locals>.Repository.get")
    assert function_name(Repository().get().__code__).endswith("Repository.get.<locals>.inner")


def test_the_stack_is_as_deep_as_asked(sync_engine: Engine) -> None:
    def recurse(connection: Connection, depth: int) -> None:
        if depth:
            recurse(connection, depth - 1)
        else:
            connection.execute(ONE)

    attach()
    for depth in (1, 3, 8):
        seen = Watch(Capture(CallSites(ROOT, depth=depth)))
        with seen, sync_engine.connect() as connection:
            recurse(connection, 20)
        assert names(seen.only.stack) == ["recurse"] * depth


def test_no_application_code_gives_an_empty_stack(sync_engine: Engine) -> None:
    """A statement that only libraries are behind has no site, rather than a wrong one."""
    attach()
    seen = Watch(Capture(CallSites(ROOT, library=[ROOT])))
    with seen, sync_engine.connect() as connection:
        connection.execute(ONE)
    assert (seen.only.stack, seen.only.site) == ((), None)


# Frameworks


async def respond(app: Any) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/")).status_code == 200


async def test_a_request_ends_the_stack_at_its_endpoint(
    engine: AsyncEngine, sync_engine: Engine, watch: Watching
) -> None:
    """The test, the client and the server around it are not its callers: async, sync, streaming and background."""

    async def helper() -> None:
        async with engine.connect() as connection:
            await connection.execute(ONE)

    async def background() -> None:
        await helper()

    async def streaming() -> AsyncIterator[str]:
        await helper()
        yield "x"

    async def endpoint(request: Request) -> Response:
        await helper()
        return StreamingResponse(streaming(), background=BackgroundTask(background))

    def sync_endpoint(request: Request) -> Response:
        with sync_engine.connect() as connection:
            connection.execute(ONE)
        return PlainTextResponse("x")

    with watch() as seen:
        await respond(Starlette(routes=[Route("/", endpoint)]))
        await respond(Starlette(routes=[Route("/", sync_endpoint)]))
    assert [names(statement.stack) for statement in seen.statements] == [
        ["helper", "endpoint"],
        ["helper", "streaming"],
        ["helper", "background"],
        ["sync_endpoint"],
    ]


async def test_dependencies_of_fastapi_are_the_applications(engine: AsyncEngine, watch: Watching) -> None:
    async def dependency() -> AsyncIterator[int]:
        async with engine.connect() as connection:
            await connection.execute(ONE)
            yield 1
            await connection.execute(ONE)

    app = fastapi.FastAPI()

    @app.get("/")
    async def endpoint(value: int = fastapi.Depends(dependency)) -> int:
        async with engine.connect() as connection:
            await connection.execute(ONE)
        return value

    with watch() as seen:
        await respond(app)
    assert [names(statement.stack)[0] for statement in seen.statements] == ["dependency", "endpoint", "dependency"]
    assert all(len(statement.stack) == 1 for statement in seen.statements)


# Whose code it is


def test_files_below_the_root_are_shown_relative_to_it(sites: CallSites, sync_engine: Engine) -> None:
    attach()
    for root, shown in ((ROOT, "tests/test_callsite.py"), (HERE, "test_callsite.py"), (HERE / "capture", __file__)):
        seen = Watch(Capture(CallSites(root)))
        with seen, sync_engine.connect() as connection:
            connection.execute(ONE)
        assert seen.only.site is not None
        assert (seen.only.site.path, seen.only.site.file) == (shown, __file__)


PLACES = [
    (__file__, APPLICATION),
    ("/srv/app/main.py", APPLICATION),
    (str(ROOT / "examples" / "shop" / "shop" / "main.py"), APPLICATION),
    ("relative.py", APPLICATION),
    ("/srv/app.pyz/app/main.py", APPLICATION),
    ("<stdin>", APPLICATION),
    ("<ipython-input-1-abc>", APPLICATION),
    ("/tmp/ipykernel_123/456.py", APPLICATION),
    ("<string>", LIBRARY),
    ("<frozen importlib._bootstrap>", LIBRARY),
    (querytoll.__file__, LIBRARY),
    (querytoll.testing.__file__ if hasattr(querytoll, "testing") else querytoll.__file__, LIBRARY),
    (sqlalchemy.__file__, LIBRARY),
    (greenlet.__file__, LIBRARY),
    (asyncio.tasks.__file__, LIBRARY),
    (contextlib.__file__, LIBRARY),
    (sysconfig.get_path("stdlib") + "/json/decoder.py", LIBRARY),
    ("/usr/lib/python3/dist-packages/six.py", LIBRARY),
    ("/home/ada/.local/lib/python3.12/site-packages/some/thing.py", LIBRARY),
    (starlette.__path__[0] + "/routing.py", EDGE),
    (fastapi.__path__[0] + "/routing.py", EDGE),
    (threading.__file__, EDGE),
    (asyncio.events.__file__, EDGE),
    (str(Path(querytoll.__file__).parent / "middleware.py"), EDGE),
    ("/srv/app/starlette/routing.py", APPLICATION),
    ("/srv/app/threading.py", APPLICATION),
    ("/srv/app/querytoll/middleware.py", APPLICATION),
]


@pytest.mark.parametrize(("filename", "kind"), PLACES, ids=[place[0] for place in PLACES])
def test_whose_a_file_is(sites: CallSites, filename: str, kind: int) -> None:
    assert sites.kind(filename) == kind


def test_settings_decide_against_the_rule() -> None:
    """Folders, files and installed packages become the application's; others never are, even below the root."""
    sites = CallSites(
        ROOT,
        application=[Path("/opt/shared"), Path("/srv/lib/python3/site-packages/ours_by_path")],
        packages=["ours"],
        library=[ROOT / "vendor", ROOT / "app" / "base.py"],
    )
    installed = "/srv/lib/python3/site-packages"
    assert sites.kind("/opt/shared/models.py") == APPLICATION
    assert sites.kind(f"{installed}/ours/models.py") == APPLICATION
    assert sites.kind(f"{installed}/ours.py") == APPLICATION
    assert sites.kind(f"{installed}/ours_by_path/a.py") == APPLICATION
    assert sites.kind(f"{installed}/ours_not/models.py") == LIBRARY
    assert sites.kind(f"{installed}/theirs/ours/models.py") == LIBRARY
    assert sites.kind(str(ROOT / "vendor" / "thing.py")) == LIBRARY
    assert sites.kind(str(ROOT / "vendored.py")) == APPLICATION
    assert sites.kind(str(ROOT / "app" / "base.py")) == LIBRARY
    assert sites.kind(str(ROOT / "app" / "base_of_ours.py")) == APPLICATION


@pytest.mark.parametrize("below", [".venv", "venv", ".", "../venv"])
def test_an_environment_anywhere_is_told_from_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """Inside of the project, beside it, or the project's folder itself (`VIRTUAL_ENV=/app`, code in `/app`)."""
    root = tmp_path / "app"
    prefix = os.path.abspath(root / below)
    monkeypatch.setattr(callsite, "_ENVIRONMENT", callsite.environment(prefix))
    sites = CallSites(root)
    assert sites.kind(str(root / "main.py")) == APPLICATION
    assert sites.kind(str(root / "shop" / "models.py")) == APPLICATION
    assert sites.kind(f"{prefix}/bin/uvicorn") == LIBRARY
    assert sites.kind(f"{prefix}/lib/python3.12/site-packages/sqlalchemy/engine/base.py") == LIBRARY
    assert sites.kind(f"{prefix}/src/editable/models.py") == APPLICATION


def test_packages_that_lie_beside_the_code_are_no_code_of_the_application(tmp_path: Path) -> None:
    """`pip install --target .` (AWS Lambda): what has a dist-info beside it is installed, and its routing an edge."""
    for name in ("SQLAlchemy-2.0.30", "starlette-1.0", "some_thing-1.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    sites = CallSites(tmp_path)
    assert sites.kind(str(tmp_path / "sqlalchemy" / "engine" / "base.py")) == LIBRARY
    assert sites.kind(str(tmp_path / "starlette" / "routing.py")) == EDGE
    assert sites.kind(str(tmp_path / "some_thing" / "a.py")) == LIBRARY
    assert sites.kind(str(tmp_path / "some_thing.py")) == LIBRARY
    assert sites.kind(str(tmp_path / "app" / "sqlalchemy" / "repository.py")) == APPLICATION
    assert sites.kind(str(tmp_path / "handler.py")) == APPLICATION
    assert sites.kind(str(tmp_path / "some" / "a.py")) == APPLICATION


def test_library_frames_between_application_frames_are_left_out(
    tmp_path: Path, sync_engine: Engine, sites: CallSites
) -> None:
    """Application, library, application: the library's decorator or base class is never blamed."""
    library = imported(
        tmp_path / "site-packages" / "retrying.py",
        "def retry(call):\n    for _ in range(1):\n        return call()\n",
    )

    def query() -> None:
        with sync_engine.connect() as connection:
            connection.execute(ONE)

    def caller() -> None:
        library.retry(query)

    attach()
    seen = Watch(Capture(sites))
    with seen:
        caller()
    assert names(seen.only.stack)[:2] == ["query", "caller"]


def test_a_repository_base_class_can_be_a_library(tmp_path: Path, sync_engine: Engine) -> None:
    """`library_paths`: every query goes through one line of the base class; its caller is the one to blame."""
    base = imported(
        tmp_path / "base.py",
        "class Base:\n    def run(self, connection, statement):\n        return connection.execute(statement)\n",
    )

    def endpoint(connection: Connection) -> None:
        base.Base().run(connection, ONE)

    attach()
    found = []
    for library in ([], [tmp_path / "base.py"]):
        seen = Watch(Capture(CallSites(ROOT, library=library)))
        with seen, sync_engine.connect() as connection:
            endpoint(connection)
        found.append(names(seen.only.stack)[0])
    assert found == ["run", "endpoint"]


def imported(path: Path, source: str) -> ModuleType:
    """Write a module and import it from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


APP = """
import json, sys
from pathlib import Path
from sqlalchemy import create_engine, text
from querytoll import Profiler, Settings

def query(connection):
    connection.execute(text("SELECT 1"))

def main():
    profiler = Profiler(Settings(project_root=Path(sys.argv[1])), sinks=[])
    engine = create_engine("sqlite://")
    with profiler.profile("app") as profile, engine.connect() as connection:
        query(connection)
    (statement,) = profile.trace.statements
    print(json.dumps([[site.path, site.file, site.line, site.function] for site in statement.stack]))
"""


def ran(arguments: list[str], root: Path) -> Any:
    """Run Python on the application, which prints its stack."""
    source = str(Path(querytoll.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, *arguments, str(root)], env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_zipapp_is_the_application(tmp_path: Path) -> None:
    """Really built and run: file inside of the archive, line and function, no frame of the libraries."""
    source = tmp_path / "source"
    (source / "shopapp").mkdir(parents=True)
    (source / "shopapp" / "__init__.py").write_text(APP)
    archive = tmp_path / "shop.pyz"
    zipapp.create_archive(source, archive, main="shopapp:main")
    stack = ran([str(archive)], tmp_path)
    assert [(path, function) for path, _, _, function in stack[:2]] == [
        ("shop.pyz/shopapp/__init__.py", "query"),
        ("shop.pyz/shopapp/__init__.py", "main"),
    ]
    assert stack[0][2] == 8
    assert all(str(archive) in file for _, file, _, _ in stack)


def test_an_editable_install_is_the_application(tmp_path: Path) -> None:
    """Its code lies outside of the project's folder, where a .pth file in the environment points to."""
    (tmp_path / "elsewhere" / "shopapp").mkdir(parents=True)
    (tmp_path / "elsewhere" / "shopapp" / "__init__.py").write_text(APP)
    installed = tmp_path / "env" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "__editable__.shopapp.pth").write_text(str(tmp_path / "elsewhere"))
    program = f"import site; site.addsitedir({str(installed)!r}); import shopapp; shopapp.main()"
    stack = ran(["-c", program], tmp_path / "project")
    expected = str(tmp_path / "elsewhere" / "shopapp" / "__init__.py")
    assert [(path, file) for path, file, *_ in stack] == [(expected, expected)] * 2


def test_a_program_from_the_command_line_is_the_application(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{APP}\nmain()\n")
    stack = ran([str(script)], tmp_path)
    assert [(path, function) for path, _, _, function in stack] == [
        ("script.py", "query"),
        ("script.py", "main"),
        ("script.py", "<module>"),
    ]


# Memory


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch, sites: CallSites) -> None:
    """Promise 3: code that is made anew and again (templates, notebooks) fills no memory."""
    monkeypatch.setattr(callsite, "_MAX_SITES", 50)
    for n in range(200):
        namespace: dict[str, Any] = {}
        exec(compile("def call(stack):\n    return stack(1)\n", f"/srv/app/generated{n}.py", "exec"), namespace)
        (site, *_) = namespace["call"](sites.stack)
        assert site.file == f"/srv/app/generated{n}.py"
    assert len(sites._sites) <= 50
    assert len(sites._kinds) <= 50


def test_a_code_object_that_dies_never_lends_its_place_to_another(sites: CallSites) -> None:
    """Ids are used again: the site of a new function is its own."""
    for n in range(300):
        namespace: dict[str, Any] = {}
        source = f"{chr(10) * (n % 7)}def call{n}(stack):\n    return stack(1)\n"
        exec(compile(source, "/srv/app/same.py", "exec"), namespace)
        (site, *_) = namespace[f"call{n}"](sites.stack)
        assert (site.function, site.line) == (f"call{n}", n % 7 + 2)
        del namespace
        gc.collect(0)


def test_no_frame_is_kept(sites: CallSites) -> None:
    """A site is plain data: what a frame holds dies with its call."""

    class Held:
        pass

    def call() -> weakref.ref[Held]:
        held = Held()
        sites.stack(1)
        return weakref.ref(held)

    assert call()() is None


async def test_a_site_is_the_same_object_every_time(engine: AsyncEngine, watch: Watching) -> None:
    """Learned once per instruction: the hot path makes no new ones."""

    async def ask(call: Callable[[Any], Awaitable[Any]]) -> None:
        await call(ONE)

    with watch() as seen:
        async with engine.connect() as connection:
            for _ in range(3):
                await ask(connection.execute)
    first, *others = (statement.site for statement in seen.statements)
    assert all(other is first for other in others)
