"""A run of pytest to expectations about queries: fixture, markers, and the watch over a whole suite.

Every run of pytest imports this module: what it needs of querytoll is imported where it is used.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from querytoll.errors import QueryAssertionError
    from querytoll.suite.run import Run
    from querytoll.testing import Queries

MARKERS: Final = {
    "max_queries(limit, table=None, operation=None, per='test')": "at most so many queries in the test; with "
    "per='request' in each of its requests",
    "no_n_plus_one": "no read that is repeated per row, in any request of the test or outside of them",
    "queries_ignore(what, *, reason)": "findings of this rule, relation or path are right in this test: "
    "'n-plus-one', 'Order.items', 'app/legacy/*', 'n-plus-one@Order.items'",
}
OPTIONS: Final = {
    "baseline": ("FILE", "findings that are known; others fail the run"),
    "lock": ("FILE", "queries of each route (queries.lock); more of them fail the run"),
    "lock-per": ("route|test", "what the lock lists: routes, or tests"),
    "watch": ("requests|tests|all", "what counts: requests, statements of tests, those of their fixtures (requests)"),
    "rules": ("RULE,...", "rules whose findings count; * for any; all that do not depend on time by default"),
    "results": ("FILE", "write what was found, for querytoll check"),
}
FLAGS: Final = {
    "fail": "findings fail the run; with a baseline they do if they are new",
    "update": "write the baseline and the lock anew",
}
WORKER: Final = "querytoll"
"""Key under which a worker of pytest-xdist hands over its results."""
_APPLICATIONS: Final = (("starlette.applications", "Starlette"), ("fastapi", "FastAPI"))
_run: Final = pytest.StashKey["Run"]()
_queries: Final = pytest.StashKey["Queries"]()
_called: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with an ini value of its own."""
    group = parser.getgroup("querytoll", "queries of the applications under test")
    group.addoption("--querytoll", action="store_true", help="watch the queries of every request in the whole run")
    parser.addini("querytoll", "watch the queries of every request in the whole run", type="bool", default=False)
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--querytoll-{name}", metavar=metavar, help=text)
        parser.addini(f"querytoll_{name.replace('-', '_')}", text, default="")
    for name, text in FLAGS.items():
        group.addoption(f"--querytoll-{name}", action="store_true", help=text)
    parser.addini("querytoll_fail", FLAGS["fail"], type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and begin to watch where that was asked for."""
    for signature, text in MARKERS.items():
        config.addinivalue_line("markers", f"{signature}: {text}")
    if config.getoption("querytoll_update") and not any(_option(config, name) for name in ("baseline", "lock")):
        raise pytest.UsageError("--querytoll-update: name what to write, by --querytoll-baseline or --querytoll-lock")
    if not hasattr(config, "workerinput"):  # of pytest-xdist, which has no terminal
        config.pluginmanager.register(_Painting(config))
    if _wanted(config) and not config.option.collectonly:
        _start(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave applications as they were."""
    run = config.stash.get(_run, None)
    if run is not None:
        run.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers, and tell requests apart where a test of ours needs it."""
    ours = [item for item in items if _expectations(item)]
    if ours and _run not in config.stash:
        _start(config)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note that the run is not complete."""
    if items:
        run = items[0].config.stash.get(_run, None)
        if run is not None:
            run.watch.incomplete()


@pytest.fixture
def queries(request: pytest.FixtureRequest) -> Iterator[Queries]:
    """The statements of the test so far, those of its fixtures left out: a `querytoll.testing.Queries`."""
    from querytoll.testing import Queries

    if _run not in request.config.stash:
        _start(request.config)
    run = request.config.stash[_run]
    recording = request.node.stash[_queries] = Queries(run.settings, run.ignoring(_ignored(request.node)))
    if request.node.stash.get(_called, False):  # asked for by the test itself, with getfixturevalue
        recording.begin()
    yield recording
    recording.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Watch a test from its first fixture to its last."""
    run = item.config.stash.get(_run, None)
    if run is None:
        return (yield)
    run.begin(item.nodeid, _ignored(item))
    try:
        return (yield)
    finally:
        run.watch.end()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Record the test itself, and hold it to its markers."""
    __tracebackhide__ = True
    run = item.config.stash.get(_run, None)
    if run is None:
        return (yield)
    recording = _recording(item, run)
    item.stash[_called] = True
    run.watch.enter()
    try:
        result = yield
    finally:
        run.watch.leave()
        if recording is not None:
            recording.end()
        item.user_properties.extend(run.properties())
    if recording is not None:
        _hold(item, recording)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the text of an expectation that was not met, and the statements of a test that failed otherwise."""
    report = yield
    errors = sys.modules.get("querytoll.errors")
    if call.excinfo is None or not report.failed or errors is None:
        return report
    if isinstance(call.excinfo.value, errors.QueryAssertionError):
        _show_unmet(item, report, call.excinfo.value)
    elif call.when == "call":
        _show_statements(item, report)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker of pytest-xdist has seen."""
    run = node.config.stash.get(_run, None)
    if run is not None:
        run.merge(getattr(node, "workeroutput", {}).get(WORKER))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Compare the run to the baseline and to the lock, which may fail it."""
    config = session.config
    run = config.stash.get(_run, None)
    if run is None or not _wanted(config):
        return
    if session.testsfailed or exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or _partial(config):
        run.watch.incomplete()
    if hasattr(config, "workeroutput"):
        config.workeroutput[WORKER] = run.watch.results.to_json()
        return
    run.finish()
    if run.verdict is not None and run.verdict.failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write what the run showed: one screen at most."""
    run = config.stash.get(_run, None)
    if run is None or run.verdict is None:
        return
    from querytoll.suite.summary import summary

    markup: dict[str, dict[str, bool]] = {
        "title": {"bold": True},
        "bad": {"red": True, "bold": True},
        "warn": {"yellow": True},
        "good": {"green": True},
    }
    terminalreporter.write_sep("=", "querytoll")
    for text, style in (
        *summary(run.verdict, terminalreporter._tw.fullwidth),
        *((note, "plain") for note in run.notes),
    ):
        terminalreporter.write_line(text, **markup.get(style, {}))


def _wanted(config: pytest.Config) -> bool:
    """Tell whether the run is watched: by itself, or because it would be of no use to ask for the rest."""
    typed = any(config.getoption(f"querytoll_{name}") for name in ("fail", "rules", "watch"))
    files = any(_option(config, name) for name in ("baseline", "lock", "results"))
    listed = config.getini("querytoll") or config.getini("querytoll_fail")
    return bool(config.getoption("querytoll") or typed or files or listed)


def _option(config: pytest.Config, name: str) -> str:
    return str(config.getoption(f"querytoll_{name}") or config.getini(f"querytoll_{name}") or "")


def _path(config: pytest.Config, name: str) -> Path | None:
    """A file of the command line is relative to where it was typed, one of the configuration to its folder."""
    typed: str | None = config.getoption(f"querytoll_{name}")
    if typed:
        return config.invocation_params.dir / typed
    value: str = config.getini(f"querytoll_{name}")
    return config.rootpath / value if value else None


def _start(config: pytest.Config) -> None:
    """Watch every application that is built from here on."""
    from querytoll.errors import ConfigurationError
    from querytoll.suite.run import Files, Run

    worker = hasattr(config, "workerinput")  # of pytest-xdist: its controller compares and writes
    files = Files() if worker else Files(_path(config, "baseline"), _path(config, "lock"), _path(config, "results"))
    try:
        run = Run(
            config.rootpath,
            files,
            scope=_option(config, "watch") or "requests",
            rules=_option(config, "rules"),
            per=_option(config, "lock_per") or "route",
            update=config.getoption("querytoll_update"),
            strict=bool(config.getoption("querytoll_fail") or config.getini("querytoll_fail") or files.baseline),
        )
    except ConfigurationError as error:
        raise pytest.UsageError(f"querytoll: {error}") from error
    run.on_stop(*[_wrap(module, name, run) for module, name in _APPLICATIONS])
    config.stash[_run] = run


def _wrap(module: str, name: str, run: Run) -> Callable[[], None]:
    """Put our middleware around the stack of every application of a class; return what undoes it."""
    try:
        application = getattr(importlib.import_module(module), name)
    except ImportError:
        return lambda: None
    original = application.__dict__.get("build_middleware_stack")
    if original is None:  # it has that of its base
        return lambda: None

    @functools.wraps(original)
    def build_middleware_stack(self: Any) -> Any:
        return _middleware()(original(self), run.watch)

    application.build_middleware_stack = build_middleware_stack

    def undo() -> None:
        application.build_middleware_stack = original

    return undo


@functools.cache
def _middleware() -> Any:
    from querytoll.middleware import ProfilerMiddleware

    class Watching(ProfilerMiddleware):
        """Observe a request for the run, besides what the application's own profiler does."""

        key = "querytoll.suite"

    return Watching


def _expectations(item: pytest.Item) -> bool:
    """Tell whether a test uses what this plugin offers; a marker that says nothing of use fails the collection."""
    for marker in item.iter_markers("queries_ignore"):
        if len(marker.args) != 1 or not marker.kwargs.get("reason"):
            raise pytest.UsageError(
                f"{item.nodeid}: write @pytest.mark.queries_ignore('rule, relation or path', reason='why it is right')"
            )
    for marker in item.iter_markers("max_queries"):
        if not _is_limit(marker):
            raise pytest.UsageError(
                f"{item.nodeid}: write @pytest.mark.max_queries(5), and after the number what you need of "
                "table='orders', operation='SELECT', per='request'"
            )
    names = ("max_queries", "no_n_plus_one")
    return "queries" in getattr(item, "fixturenames", ()) or any(map(item.get_closest_marker, names))


def _is_limit(marker: pytest.Mark) -> bool:
    def limited(limit: int, table: str | None = None, operation: str | None = None, per: str = "test") -> bool:
        return isinstance(limit, int) and per in ("test", "request")

    try:
        return limited(*marker.args, **marker.kwargs)
    except TypeError:
        return False


def _ignored(item: pytest.Item) -> list[str]:
    return [marker.args[0] for marker in item.iter_markers("queries_ignore")]


def _recording(item: pytest.Item, run: Run) -> Queries | None:
    """Return the recording of a test that has expectations, begun."""
    if not _expectations(item):
        return None
    from querytoll.testing import Queries

    recording = item.stash.get(_queries, None) or Queries(run.settings, run.ignoring(_ignored(item)))
    recording.begin()
    return recording


def _hold(item: pytest.Item, recording: Queries) -> None:
    """Hold a test that passed to its markers."""
    from querytoll.testing import hold_to_limit, hold_to_rules

    limit = item.get_closest_marker("max_queries")
    if limit is not None:
        hold_to_limit(recording, *limit.args, **limit.kwargs)
    if item.get_closest_marker("no_n_plus_one") is not None:
        hold_to_rules(recording, ("n-plus-one",))


def _show_unmet(item: pytest.Item, report: pytest.TestReport, error: QueryAssertionError) -> None:
    from querytoll.suite.failure import full_sql

    report.querytoll_unmet = True  # type: ignore[attr-defined]  # for the process that has the terminal
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:  # without the name of the class, which alone fills pytest's short summary
        crash.message = str(error)
    if report.when == "call" and not _raised_in(item, error):
        report.longrepr = f"{error}\n\n{item.location[0]}:{(item.location[1] or 0) + 1}: {type(error).__name__}"
    if item.config.get_verbosity() > 0 and error.report is not None:
        report.sections.append(("querytoll: full SQL", full_sql(error.report)))


def _raised_in(item: pytest.Item, error: BaseException) -> bool:
    """Tell whether a line of the test raised it: a marker and a decorator have no traceback that is worth showing."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(Path(frame.f_code.co_filename).name == item.path.name for frame, _ in frames)


def _show_statements(item: pytest.Item, report: pytest.TestReport) -> None:
    from querytoll.suite.failure import full_sql, statements

    recording = item.stash.get(_queries, None)
    if recording is not None and item.funcargs.get("queries") is recording:  # type: ignore[attr-defined]
        shown = full_sql(recording.report) if item.config.get_verbosity() > 0 else statements(recording.report)
        noun = "query" if recording.count == 1 else "queries"
        report.sections.append((f"querytoll: {recording.count} {noun} so far", shown))


class _Painting:
    """Paints expectations that were not met on the terminal of the run, and nowhere else: not in XML, not in logs."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Have the terminal's writer painted with where it shows the report."""
        if getattr(report, "querytoll_unmet", False) and report.longrepr is not None:
            shown: Any = report.longrepr if hasattr(report.longrepr, "toterminal") else _Text(report.longrepr)
            with suppress(Exception):  # another plugin's, which cannot be changed, is shown as it is
                shown.toterminal = functools.partial(self._show, shown.toterminal)
            report.longrepr = shown

    def _show(self, show: Callable[[Any], None], writer: Any) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        # With FORCE_COLOR a writer to a string has markup too: pytest takes XML from one.
        mine = reporter is not None and writer is reporter._tw and writer.hasmarkup
        show(_Painted(writer) if mine else writer)


class _Text(str):
    """A failure without a traceback."""

    def toterminal(self, writer: Any) -> None:
        """Write it."""
        writer.line(self)


class _Painted:
    """A terminal's writer that paints what pytest writes of an expectation that was not met."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._margin = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def line(self, text: str = "", **markup: bool) -> None:
        """Write a line; those of the error, which pytest has all in red, in colours of their own but for the first."""
        from querytoll.suite.paint import painted

        first = re.match(r"(E +)\S*QueryAssertionError: ", text)
        if first:
            self._margin = first[1]
        if isinstance(text, _Text):
            self._writer.line(painted(text))
        elif first or not self._margin or not markup.get("red"):
            self._writer.line(text, **markup)
        else:
            margin, rest = text[: len(self._margin)], text[len(self._margin) :]
            self._writer.write(margin, **markup)
            self._writer.line(painted(rest))


def _partial(config: pytest.Config) -> bool:
    """Tell whether files or single tests were asked for."""
    return any("::" in argument or Path(argument).is_file() for argument in config.args)
