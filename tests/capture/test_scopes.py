"""Which window sees what: nesting, neighbours, tasks, threads, generators, and tasks that outlive their request."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from querytoll.capture import Capture, Window, everywhere, ignore, window
from querytoll.capture.assemble import assemble
from querytoll.capture.scope import Scope, current
from querytoll.errors import ConfigurationError
from querytoll.model import Ignore, Trace
from tests.capture.watching import Watch

Watching = Callable[[], Watch]


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(postgres_url, pool_size=20)
    yield made
    await made.dispose()


@pytest.fixture
def sync_engine() -> Iterator[Engine]:
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield made
    made.dispose()


async def ask(engine: AsyncEngine, *names: str) -> None:
    """Send one statement per name, each on its own connection."""
    for name in names:
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT 1 AS {name}"))


def ask_sync(engine: Engine, *names: str) -> None:
    for name in names:
        with engine.connect() as connection:
            connection.execute(text(f"SELECT 1 AS {name}"))


def asked(seen: Watch | Trace) -> list[str]:
    """The names that were asked for."""
    return [statement.sql.rpartition(" ")[2] for statement in seen.statements]


# Nesting and neighbours


async def test_a_window_sees_what_windows_inside_of_it_see(engine: AsyncEngine, watch: Watching) -> None:
    with watch() as outer:
        await ask(engine, "a")
        with watch() as inner:
            await ask(engine, "b")
        await ask(engine, "c")
    assert (asked(outer), asked(inner)) == (["a", "b", "c"], ["b"])


async def test_statements_belong_to_the_innermost_window(engine: AsyncEngine, watch: Watching) -> None:
    """`Statement.window` tells requests of one test apart."""
    with watch() as outer:
        for _ in range(2):
            with watch():
                await ask(engine, "a", "b")
        await ask(engine, "c")
    serials = [statement.window for statement in outer.statements]
    assert serials[0] == serials[1] != serials[2] == serials[3] != serials[4]
    assert serials[4] == outer.window.serial


async def test_a_neighbour_sees_nothing(engine: AsyncEngine, watch: Watching) -> None:
    """Pitfall 6: two windows at the same time in two tasks share no statement; one around both sees all."""

    async def request(*names: str) -> Watch:
        with watch() as seen:
            for name in names:
                await ask(engine, name)
                await asyncio.sleep(0)
        return seen

    with watch() as outer:
        one, two = await asyncio.gather(request("a", "b"), request("c", "d", "e"))
    assert (asked(one), asked(two)) == (["a", "b"], ["c", "d", "e"])
    assert sorted(asked(outer)) == ["a", "b", "c", "d", "e"]


async def test_task_groups_and_gathers_belong_to_the_window_that_starts_them(
    engine: AsyncEngine, watch: Watching
) -> None:
    with watch() as seen:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(engine, "a"))
            group.create_task(ask(engine, "b"))
        await asyncio.gather(ask(engine, "c"), ask(engine, "d"))
        await asyncio.create_task(ask(engine, "e"))
        await asyncio.wait_for(ask(engine, "f"), 10)
    assert sorted(asked(seen)) == ["a", "b", "c", "d", "e", "f"]
    assert not any(statement.detached for statement in seen.statements)


async def test_a_failing_task_group_keeps_what_was_sent(engine: AsyncEngine, watch: Watching) -> None:
    async def fail() -> None:
        await ask(engine, "a")
        raise LookupError

    async def long() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(30) AS b"))

    started = asyncio.Event()
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: started.set())

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(long())
            await started.wait()
            group.create_task(fail())

    with watch() as seen, pytest.raises(BaseExceptionGroup):
        await both()
    assert {(s.sql.rpartition(" ")[2], s.error) for s in seen.statements} == {("a", None), ("b", "CancelledError")}


async def test_a_task_from_before_the_window_is_not_seen(engine: AsyncEngine, watch: Watching) -> None:
    """A worker that a request only talks to is not the request."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def work() -> None:
        while True:
            await ask(engine, await queue.get())
            queue.task_done()

    worker = asyncio.create_task(work())
    await asyncio.sleep(0)
    with watch() as seen:
        queue.put_nowait("a")
        await queue.join()
        await ask(engine, "b")
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert asked(seen) == ["b"]


async def test_windows_of_one_task_follow_each_other(engine: AsyncEngine, watch: Watching) -> None:
    traces = []
    for name in ("a", "b", "c"):
        with watch() as seen:
            await ask(engine, name)
        traces.append(asked(seen))
    assert traces == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("order", ["inner first", "outer first"])
async def test_windows_that_overlap_leave_no_scope_behind(engine: AsyncEngine, capture: Capture, order: str) -> None:
    """Two blocks entered by hand and left in any order: each sees its own time, and nothing is set afterwards."""
    one = Window(capture, "block", "one").open()
    two = Window(capture, "block", "two").open()
    await ask(engine, "a")
    first, second = (two, one) if order == "inner first" else (one, two)
    first.close()
    await ask(engine, "b")
    second.close()
    await ask(engine, "c")
    assert asked(assemble(first)) == ["a"]
    assert asked(assemble(second)) == ["a", "b"]
    assert current.get() is None


# Threads


async def test_a_thread_that_inherits_the_context_is_seen(sync_engine: Engine, watch: Watching) -> None:
    """`asyncio.to_thread` and `copy_context().run` carry the window; starlette's threadpool does the same."""
    with watch() as seen:
        await asyncio.to_thread(ask_sync, sync_engine, "a")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(ask_sync, sync_engine, "b"))
        thread.start()
        thread.join()
    assert asked(seen) == ["a", "b"]
    assert [statement.blocking for statement in seen.statements] == [False, False]


async def test_a_synchronous_driver_on_the_event_loop_is_called_blocking(
    sync_engine: Engine, engine: AsyncEngine, watch: Watching
) -> None:
    with watch() as seen:
        ask_sync(sync_engine, "a")
        await ask(engine, "b")
        async with engine.connect() as connection:
            await connection.run_sync(lambda sync: sync.execute(text("SELECT 1 AS c")))
    assert {s.sql.rpartition(" ")[2]: s.blocking for s in seen.statements} == {"a": True, "b": False, "c": False}


def test_threads_without_the_context_are_seen_everywhere_only(
    sync_engine: Engine, watch: Watching, capture: Capture
) -> None:
    """A pool's own threads know no window; one that looks everywhere sees them and those that have one."""
    sync_engine.connect().close()  # two threads that ask a StaticPool first open one each, and it loses one
    with Watch(capture, everywhere=True) as all_of_it, watch() as seen:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: ask_sync(sync_engine, name), ["a", "b"]))
        ask_sync(sync_engine, "c")
    assert asked(seen) == ["c"]
    assert sorted(asked(all_of_it)) == ["a", "b", "c"]


def test_windows_of_many_threads_keep_apart(sqlite_url: str, watch: Watching) -> None:
    """Eight threads, each with a window of its own and its own number of statements."""
    engine = create_engine(sqlite_url)
    counts: dict[int, int] = {}

    def work(n: int) -> None:
        with watch() as seen:
            for _ in range(n):
                ask_sync(engine, "x")
                time.sleep(0)
        counts[n] = len(seen.statements)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert counts == {n: n for n in range(1, 9)}


def test_a_loop_in_another_thread_is_seen_everywhere(postgres_url: str, capture: Capture) -> None:
    """A live server in a thread: its requests have windows of their own, and the test sees them all."""

    async def serve() -> list[str]:
        engine = create_async_engine(postgres_url)
        with Watch(capture) as request:
            await ask(engine, "a")
        await ask(engine, "b")
        await engine.dispose()
        return asked(request)

    requests: list[list[str]] = []
    with Watch(capture, everywhere=True) as seen:
        thread = threading.Thread(target=lambda: requests.append(asyncio.run(serve())))
        thread.start()
        thread.join()
    assert requests == [["a"]]
    assert asked(seen) == ["a", "b"]
    assert len(seen.trace.transactions) == 2


# Generators


async def test_a_generator_that_is_consumed_in_the_window_is_seen(engine: AsyncEngine, watch: Watching) -> None:
    """What counts is where a generator runs, not where it was made."""

    async def rows() -> AsyncIterator[int]:
        await ask(engine, "a")
        yield 1
        await ask(engine, "b")
        yield 2

    made = rows()
    assert await anext(made) == 1
    with watch() as seen:
        assert [row async for row in made] == [2]
    assert asked(seen) == ["b"]


async def test_a_dependency_with_yield_is_seen_on_both_sides(engine: AsyncEngine, watch: Watching) -> None:
    @contextlib.asynccontextmanager
    async def dependency() -> AsyncIterator[None]:
        await ask(engine, "before")
        yield
        await ask(engine, "after")

    with watch() as seen:
        async with dependency():
            await ask(engine, "inside")
    assert asked(seen) == ["before", "inside", "after"]


async def test_a_window_that_closes_in_another_context_harms_nobody(capture: Capture) -> None:
    """Fixtures and generators may leave where they did not enter: the window closes, nothing is raised."""
    opened = contextvars.copy_context().run(Window(capture, "test", "elsewhere").open)
    opened.close()
    assert opened.closed
    assert current.get() is None


def test_a_window_that_raises_inside_closes(sync_engine: Engine, watch: Watching) -> None:
    seen = watch()
    with contextlib.suppress(LookupError), seen:
        ask_sync(sync_engine, "a")
        raise LookupError
    assert asked(seen) == ["a"]


# Tasks that outlive their request


class Outlived:
    """Takes the windows of tasks that outlived their request."""

    def __init__(self, capture: Capture) -> None:
        self.traces: list[Trace] = []
        self.capture = Capture(capture.sites, capture.faults, outlived=self.take)

    def take(self, left: Window) -> None:
        assert left.closed
        self.traces.append(assemble(left))


@pytest.fixture
def outlived(capture: Capture) -> Outlived:
    return Outlived(capture)


async def test_a_task_that_outlives_its_request_is_reported_once_and_detached(
    engine: AsyncEngine, watch: Watching, outlived: Outlived
) -> None:
    """The request has what ran before its end; the rest is a trace of its own; a test around both sees all."""
    asked_a, ended = asyncio.Event(), asyncio.Event()

    async def outlive() -> None:
        await ask(engine, "a")
        asked_a.set()
        await ended.wait()
        await ask(engine, "b", "c")

    with watch() as test:
        with Watch(outlived.capture) as request:
            task = asyncio.create_task(outlive())
            await asked_a.wait()
            await ask(engine, "d")
        ended.set()
        await task
        await asyncio.sleep(0)
    assert sorted(asked(request)) == ["a", "d"]
    (trace,) = outlived.traces
    assert (trace.kind, trace.name, asked(trace)) == ("task", "watched", ["b", "c"])
    assert {statement.phase for statement in trace.statements} == {"background"}
    assert all(statement.detached for statement in trace.statements)
    assert {s.sql.rpartition(" ")[2]: s.detached for s in test.statements} == {
        "a": False,
        "d": False,
        "b": True,
        "c": True,
    }


async def test_the_trace_of_an_outliving_task_covers_its_statements(engine: AsyncEngine, outlived: Outlived) -> None:
    """It begins with the first of them and not after it: moments are positive and parts lie inside of the whole."""
    ended = asyncio.Event()

    async def outlive() -> None:
        await ended.wait()
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(0.03)"))
            await connection.execute(text("SELECT 1"))

    with Watch(outlived.capture):
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
    ended.set()
    await task
    await asyncio.sleep(0)
    (trace,) = outlived.traces
    first, second = trace.statements
    assert 0 <= first.started <= second.started
    assert second.started >= first.elapsed >= 0.03
    assert 0.03 <= trace.database_seconds <= trace.elapsed
    assert trace.transactions[0].elapsed >= first.elapsed
    assert trace.connections[0].busy <= trace.connections[0].hold <= trace.elapsed


async def test_a_statement_that_is_under_way_when_its_request_ends_is_not_lost(
    engine: AsyncEngine, outlived: Outlived
) -> None:
    async def outlive() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.1)"))

    with Watch(outlived.capture) as request:
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0.05)
    await task
    await asyncio.sleep(0)
    assert asked(request) == []
    (trace,) = outlived.traces
    assert len(trace.statements) == 1
    assert 0.09 <= trace.statements[0].elapsed <= trace.elapsed


async def test_each_outliving_task_has_a_trace_of_its_own(engine: AsyncEngine, outlived: Outlived) -> None:
    ended = asyncio.Event()

    async def outlive(n: int) -> None:
        await ended.wait()
        for _ in range(n):
            await ask(engine, f"n{n}")
        if n == 3:
            raise LookupError

    tasks = []
    for n in (1, 2, 3):
        with Watch(outlived.capture):
            tasks.append(asyncio.create_task(outlive(n)))
            await asyncio.sleep(0)
    ended.set()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[2], LookupError)
    await asyncio.sleep(0)
    assert sorted(map(asked, outlived.traces)) == [["n1"], ["n2"] * 2, ["n3"] * 3]


async def test_a_cancelled_outliving_task_is_reported(engine: AsyncEngine, outlived: Outlived) -> None:
    with Watch(outlived.capture):
        task = asyncio.create_task(forever(engine))
        await asyncio.sleep(0)
    await until(lambda: len(window._outliving) == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    (trace,) = outlived.traces
    assert len(trace.statements) >= 1


async def test_a_task_that_runs_for_ever_is_reported_in_pieces(
    engine: AsyncEngine, outlived: Outlived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded: after a while its window is reported and a new one begins; no statement is lost between them."""
    monkeypatch.setattr(window, "DETACHED_SECONDS", 0.05)
    with Watch(outlived.capture):
        task = asyncio.create_task(forever(engine))
        await asyncio.sleep(0)
    await until(lambda: len(outlived.traces) >= 2)
    before = len(outlived.traces)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert len(outlived.traces) == before + 1
    numbers = [name for trace in outlived.traces for name in asked(trace)]
    assert numbers == [f"n{n}" for n in range(len(numbers))]


async def until(met: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if met():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never happened")


async def forever(engine: AsyncEngine) -> None:
    for n in range(10_000):
        await ask(engine, f"n{n}")
        await asyncio.sleep(0.005)


async def test_a_window_that_nobody_reports_for_forgets_what_comes_late(engine: AsyncEngine, watch: Watching) -> None:
    """Pitfall 7: without a taker nothing is kept, and nothing is added to the closed trace."""
    with watch() as seen:
        task = asyncio.create_task(forever(engine))
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen.statements == ()
    assert seen.window.rows == []


async def test_a_nested_window_in_an_outliving_task_is_not_detached(
    engine: AsyncEngine, watch: Watching, outlived: Outlived
) -> None:
    """A task that a request started and that profiles itself sees its own work; the closed request is not in it."""
    ended = asyncio.Event()
    inner = watch()

    async def outlive() -> None:
        await ended.wait()
        with inner:
            await ask(engine, "a")

    with Watch(outlived.capture) as request:
        task = asyncio.create_task(outlive())
        await asyncio.sleep(0)
    ended.set()
    await task
    assert (asked(inner), asked(request), outlived.traces) == (["a"], [], [])
    assert not inner.only.detached


async def test_a_task_that_outlives_a_block_of_its_request_belongs_to_the_request(
    engine: AsyncEngine, outlived: Outlived
) -> None:
    """The request is open and has the statement; nobody else reports it."""
    ended = asyncio.Event()

    async def outlive() -> None:
        await ended.wait()
        await ask(engine, "a")

    with Watch(outlived.capture, kind="request") as request:
        with Watch(outlived.capture, kind="block") as block:
            task = asyncio.create_task(outlive())
            await asyncio.sleep(0)
        ended.set()
        await task
    await asyncio.sleep(0)
    assert (asked(request), asked(block), outlived.traces) == (["a"], [], [])
    assert (request.only.detached, request.only.phase) == (False, "endpoint")


# ignore()

RULE = Ignore("n-plus-one", "three rows at most")


async def test_ignored_rules_travel_with_the_statements(engine: AsyncEngine, watch: Watching) -> None:
    with watch() as seen:
        await ask(engine, "a")
        with ignore(*RULE[:1], reason=RULE.reason):
            await ask(engine, "b")
            with ignore("slow-query", reason="report"):
                await asyncio.gather(ask(engine, "c"))
        await ask(engine, "d")
    ignored = {statement.sql.rpartition(" ")[2]: statement.ignored for statement in seen.statements}
    assert ignored == {"a": (), "b": (RULE,), "c": (RULE, Ignore("slow-query", "report")), "d": ()}


async def test_ignore_holds_in_windows_that_open_inside(engine: AsyncEngine, watch: Watching) -> None:
    """A test that ignores a rule around a request means the request."""
    with watch() as outer, ignore(RULE.rule, reason=RULE.reason), watch() as inner:
        await ask(engine, "a")
    with ignore(RULE.rule, reason=RULE.reason), watch() as alone:
        await ask(engine, "a")
    assert [seen.only.ignored for seen in (outer, inner, alone)] == [(RULE,)] * 3


async def test_ignore_decorates_functions_of_both_kinds(
    engine: AsyncEngine, sync_engine: Engine, watch: Watching
) -> None:
    """The scope ends with the call, also when it raises; names and results stay."""

    @ignore(RULE.rule, reason=RULE.reason)
    async def fetch() -> int:
        await ask(engine, "a")
        return 1

    @ignore(RULE.rule, reason=RULE.reason)
    def fail(name: str) -> None:
        ask_sync(sync_engine, name)
        raise LookupError(name)

    with watch() as seen:
        assert await asyncio.gather(fetch(), fetch()) == [1, 1]
        with pytest.raises(LookupError, match="b"):
            fail("b")
        await ask(engine, "c")
    assert (fetch.__name__, fail.__name__) == ("fetch", "fail")
    assert [bool(statement.ignored) for statement in seen.statements] == [True, True, True, False]


async def test_ignore_of_several_tasks_at_once_ends_for_each_with_its_block(
    engine: AsyncEngine, watch: Watching
) -> None:
    """One object, as a module may hold it, entered by tasks that leave it in the order in which they came."""
    quiet = ignore(RULE.rule, reason=RULE.reason)

    async def work(seconds: float, name: str) -> None:
        with quiet:
            await ask(engine, f"{name}_ignored")
            await asyncio.sleep(seconds)
        await ask(engine, name)

    with watch() as seen:
        await asyncio.gather(work(0.02, "a"), work(0.04, "b"), work(0.06, "c"))
        with quiet, quiet:
            pass
        await ask(engine, "d")
    ignored = {statement.sql.rpartition(" ")[2]: bool(statement.ignored) for statement in seen.statements}
    assert ignored == {name: name.endswith("_ignored") for name in ignored}
    assert len(ignored) == 7


def test_ignore_refuses_generator_functions() -> None:
    """It would not reach their statements, and hide from the framework that a dependency yields."""

    async def session() -> AsyncIterator[int]:
        yield 1

    def numbers() -> Iterator[int]:
        yield 1

    for function in (session, numbers):
        with pytest.raises(ConfigurationError, match="generator function"):
            ignore(RULE.rule, reason=RULE.reason)(function)


async def test_ignore_without_a_window_costs_and_keeps_nothing(engine: AsyncEngine) -> None:
    with ignore("slow-query", reason="nobody looks"):
        await ask(engine, "a")
    assert current.get() is None


# Memory


class Weak(Window):
    """A window that can be referred to weakly."""

    __slots__ = ("__weakref__",)


async def test_windows_die_with_their_requests(engine: AsyncEngine, capture: Capture) -> None:
    """Neither listeners nor clocks nor finished tasks keep a window; failures and cancellations included.

    A connection does, as it keeps the context that it was made in: here they are made before.
    """
    windows: list[weakref.ref[Window]] = []
    await asyncio.gather(*(ask(engine, "a") for _ in range(20)))

    async def request(n: int) -> None:
        opened = Weak(capture, "request", f"{n}").open()
        windows.append(weakref.ref(opened))
        try:
            await ask(engine, "a")
            async with engine.connect() as connection:
                await connection.execute(text("SELEKT" if n % 3 else "SELECT pg_sleep(0.01)"))
        finally:
            opened.close()
            assemble(opened)

    results = await asyncio.gather(*(request(n) for n in range(12)), return_exceptions=True)
    task = asyncio.create_task(request(0))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in results) == 8
    del results, task
    for _ in range(100):
        gc.collect()
        if all(window() is None for window in windows):
            break
        await asyncio.sleep(0.02)  # the driver is cancelling
    assert [window for window in windows if window() is not None] == []


async def test_a_scope_that_a_task_keeps_holds_no_statements(engine: AsyncEngine, watch: Watching) -> None:
    """A task keeps its context for life: what is in it must be small once the window is assembled."""
    kept: list[Scope | None] = []
    never = asyncio.Event()

    async def stay() -> None:
        kept.append(current.get())
        await never.wait()

    with watch() as seen:
        task = asyncio.create_task(stay())
        await ask(engine, *(f"n{n}" for n in range(5)))
    (scope,) = kept
    assert scope is not None
    assert [left.rows + left.holds for left in scope.windows] == [[]]  # type: ignore[operator]
    assert len(seen.statements) == 5
    never.set()
    await task


async def test_the_default_is_nothing(engine: AsyncEngine) -> None:
    """Pitfall 7: outside of windows there is no scope, hence no place to keep statements."""
    await ask(engine, "a")
    assert contextvars.Context().run(current.get) is None
    assert everywhere == []


def test_serials_are_never_used_twice(capture: Capture) -> None:
    serials: list[Any] = []
    threads = [
        threading.Thread(target=lambda: serials.extend(Window(capture, "block", "").serial for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(serials)) == 800
