"""The running stack to the application's own lines, across greenlets and threads."""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

from greenlet import getcurrent
from greenlet import greenlet as Greenlet

from querytoll.model import Site

Step = tuple[CodeType, int | None]
"""A frame that awaits a greenlet: its code, and of the application's frames the instruction."""
Way = tuple[tuple[Step, ...], tuple[Site, ...], int, CodeType]
"""Frames that await a greenlet, and the stack that was found behind them; how many frames the greenlet had, and the
code of its first: with code of the application's in between, there are others."""

LIBRARY: Final = 0
APPLICATION: Final = 1
EDGE: Final = 2

# A stack is followed outwards until one of these: what lies beyond belongs to the server, not to the request.
_EDGES: Final = (
    "/querytoll/middleware.py",
    "/starlette/routing.py",
    "/fastapi/routing.py",
    "/litestar/routes/http.py",
    "/asyncio/events.py",
    "/asyncio/base_events.py",
    "/asyncio/runners.py",
    "/concurrent/futures/thread.py",
    "/anyio/_backends/_asyncio.py",
    "/threading.py",
)
_OWN: Final = f"{Path(__file__).parent}{os.sep}"
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_COMPREHENSIONS: Final = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_JUMPS: Final = frozenset((*dis.hasjrel, *dis.hasjabs))
_UNCONDITIONAL: Final = frozenset(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"))
_NO_FALL_THROUGH: Final = _UNCONDITIONAL | {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
_MAX_SITES: Final = 20_000
_MAX_WAYS: Final = 5_000
_MAX_CHARACTERS: Final = 5_000_000


class CallSites:
    """Finds the application's frames; what it learns of a file or an instruction is kept, bounded.

    Args:
        root: the project's folder; files below it are shown relative to it.
        application: more folders or files that are the application's.
        packages: installed packages that are the application's.
        library: folders or files that never are.
        depth: frames kept per stack.
    """

    def __init__(
        self,
        root: Path,
        *,
        application: Iterable[Path] = (),
        packages: Iterable[str] = (),
        library: Iterable[Path] = (),
        depth: int = 16,
    ) -> None:
        self._root = f"{os.path.abspath(root)}{os.sep}"
        self._application = tuple(os.path.abspath(path) for path in application)
        self._packages = tuple(
            f"{mark}{name}{end}" for mark in _INSTALLED for name in packages for end in (os.sep, ".py")
        )
        self._library = tuple(os.path.abspath(path) for path in library)
        self._depth = depth
        self._kinds: dict[str, int] = {}
        # The code object is kept with its sites: its id must not be reused while it is a key.
        self._sites: dict[tuple[int, int], tuple[Site, CodeType]] = {}
        # Its sites are kept with a stack, for the same reason.
        self._stacks: dict[tuple[int, ...], tuple[Site, ...]] = {}
        self._ways: dict[tuple[object, ...], Way] = {}
        self._last: dict[str, Way] = {}
        self._characters = 0

    def stack(self, skip: int, sent: str | None = None) -> tuple[Site, ...]:
        """Return the application's frames, innermost first.

        Inside of its greenlet, SQLAlchemy's twenty frames are walked once for each statement and way to it: the frames
        that await the greenlet tell whether the way is known.

        Args:
            skip: frames above this function that are known to be of no interest; fewer than the stack has.
            sent: the statement's text; None: every frame is looked at.
        """
        spawned = getcurrent().parent
        if sent is None or spawned is None:
            return self._walk(sys._getframe(skip))[1]
        way = self._last.get(sent)
        if way is not None:
            steps, stack, depth, beginning = way
            try:
                # Of the frame that spawned the greenlet nothing is to be learned.
                frame: FrameType | None = spawned.gr_frame.f_back  # type: ignore[union-attr]
                for code, at in steps:
                    # No more frames than these: an AttributeError.
                    if frame.f_code is not code or (at is not None and frame.f_lasti != at):  # type: ignore[union-attr]
                        break
                    frame = frame.f_back  # type: ignore[union-attr]
                else:
                    # As `_is_way` does, without the price of a call per statement.
                    frame = sys._getframe(depth)
                    if frame.f_back is None and frame.f_code is beginning:
                        return stack
            except (AttributeError, ValueError):
                pass
        return self._way(sent, spawned, skip + 1)

    def _way(self, sent: str, parent: Greenlet, skip: int) -> tuple[Site, ...]:
        """Find the way by all that awaits the greenlet, not by what awaited it last; else walk it."""
        spawning = parent.gr_frame
        steps, ended = self._outside(spawning and spawning.f_back)
        # The code objects are kept with their way: their ids must not be reused while they are a key.
        key = (sent, *((id(code), at) for code, at in steps))
        way = self._ways.get(key)
        if way is None or not _is_way(way):
            inside, stack = self._walk(sys._getframe(skip))
            if inside or not ended or spawning is None or self._kind(spawning.f_code.co_filename) != LIBRARY:
                return stack
            way = (steps, stack, *_beginning())
            self._keep(key, way, len(sent))
        self._last[sent] = way
        return way[1]

    def _keep(self, key: tuple[object, ...], way: Way, characters: int) -> None:
        self._characters += characters
        if len(self._ways) >= _MAX_WAYS or self._characters > _MAX_CHARACTERS:
            self._ways.clear()
            self._last.clear()
            self._characters = characters
        self._ways[key] = way

    def _outside(self, frame: FrameType | None) -> tuple[tuple[Step, ...], bool]:
        """Return the frames from this one to the edge of the request or to the depth of a stack; whether it was met."""
        steps: list[Step] = []
        depth = 0
        while frame is not None:
            kind = self._kind(frame.f_code.co_filename)
            steps.append((frame.f_code, frame.f_lasti if kind == APPLICATION else None))
            depth += kind == APPLICATION
            if kind == EDGE or depth == self._depth:
                return tuple(steps), True
            frame = frame.f_back
        return tuple(steps), False

    def _walk(self, frame: FrameType | None) -> tuple[bool, tuple[Site, ...]]:
        """Return whether the frame's own greenlet runs application code, and the stack: of equal sites the same one."""
        found: list[Site] = []
        ended = self._collect(frame, found)
        inside = bool(found)
        greenlet = getcurrent().parent
        while greenlet is not None and not ended:
            ended = self._collect(greenlet.gr_frame, found)
            greenlet = greenlet.parent
        key = tuple(map(id, found))
        stack = self._stacks.get(key)
        if stack is None:
            if len(self._stacks) >= _MAX_WAYS:
                self._stacks.clear()
            stack = self._stacks[key] = tuple(found)
        return inside, stack

    def _collect(self, frame: FrameType | None, found: list[Site]) -> bool:
        """Append the application's frames of one greenlet; True where the stack ends with them."""
        kinds, known, depth = self._kinds, self._sites, self._depth
        while frame is not None:
            code = frame.f_code
            kind = kinds.get(code.co_filename)
            if kind is None:
                kind = self._kind(code.co_filename)
            if kind:
                if kind == EDGE:
                    return True
                entry = known.get((id(code), frame.f_lasti))
                found.append(entry[0] if entry is not None else self._site(frame, code))
                if len(found) == depth:
                    return True
            frame = frame.f_back
        return False

    def _kind(self, filename: str) -> int:
        kind = self._kinds.get(filename)
        if kind is None:
            kind = self.kind(filename)
            if len(self._kinds) < _MAX_SITES:
                self._kinds[filename] = kind
        return kind

    def kind(self, filename: str) -> int:
        """Tell whether a file is `APPLICATION`, `LIBRARY` or an `EDGE` at which a request's stack ends."""
        if filename.startswith("<"):
            return APPLICATION if filename.startswith(("<stdin", "<ipython", "<console", "<python-input")) else LIBRARY
        path = os.path.abspath(filename)
        if _below(path, self._library):
            return LIBRARY
        foreign = path.startswith((_OWN, *_STDLIB, *_ENVIRONMENT)) or _is_installed(path)
        if foreign and path.replace(os.sep, "/").endswith(_EDGES):
            return EDGE
        if _below(path, self._application) or any(mark in path for mark in self._packages):
            return APPLICATION
        return LIBRARY if foreign else APPLICATION

    def definition(self, code: CodeType) -> Site | None:
        """Return the first line of a function of the application, below its decorators; None for others."""
        if self.kind(code.co_filename) != APPLICATION:
            return None
        path = os.path.abspath(code.co_filename).removeprefix(self._root).replace(os.sep, "/")
        body = [line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno]
        return Site(code.co_filename, min(body, default=code.co_firstlineno), function_name(code), path)

    def _site(self, frame: FrameType, code: CodeType) -> Site:
        path = os.path.abspath(code.co_filename)
        site = Site(
            file=code.co_filename,
            line=frame.f_lineno or code.co_firstlineno,
            function=function_name(code),
            path=path.removeprefix(self._root).replace(os.sep, "/"),
            looping=in_loop(code, frame.f_lasti),
        )
        if len(self._sites) >= _MAX_SITES:
            self._sites.clear()
        self._sites[id(code), frame.f_lasti] = (site, code)
        return site


def _beginning() -> tuple[int, CodeType]:
    """Return how many frames the running greenlet has above `stack`, which called the caller; the code of its first."""
    frame = sys._getframe(2)
    depth = 0
    while frame.f_back is not None:
        frame = frame.f_back
        depth += 1
    return depth, frame.f_code


def _is_way(way: Way) -> bool:
    """Tell whether the running greenlet has as many frames as there are on the way, and began as it did.

    The caller is called by `stack`.
    """
    try:
        first = sys._getframe(way[2] + 2)
    except ValueError:
        return False
    return first.f_code is way[3] and first.f_back is None


def function_name(code: CodeType) -> str:
    """Return the qualified name of the function, of a comprehension the function that it stands in."""
    name = code.co_qualname
    while name.endswith(_COMPREHENSIONS):
        name = name.rpartition(".")[0].removesuffix(".<locals>")
    return name


def in_loop(code: CodeType, offset: int) -> bool:
    """Tell whether the instruction lies on a cycle of its function's control flow, exception edges included.

    Ranges of backward jumps do not tell: handlers and the clean-up of `await` jump backwards too.
    """
    follows = _successors(code)
    # Python 3.12 points into the inline cache of SEND.
    offset = max((at for at in follows if at <= offset), default=0)
    pending = list(follows.get(offset, ()))
    seen: set[int] = set()
    while pending:
        at = pending.pop()
        if at == offset:
            return True
        if at not in seen:
            seen.add(at)
            pending.extend(follows.get(at, ()))
    return False


def _successors(code: CodeType) -> dict[int, list[int]]:
    bytecode = dis.Bytecode(code)
    steps = list(bytecode)
    sends = {step.offset for step in steps if step.opname == "SEND"}
    follows: dict[int, list[int]] = {}
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        after = follows[step.offset] = []
        if following is not None and step.opname not in _NO_FALL_THROUGH:
            after.append(following.offset)
        # The jump back to SEND is how a coroutine waits, not a loop of the program.
        if step.opcode in _JUMPS and step.argval not in sends:
            after.append(step.argval)
    for start, end, target, *_ in getattr(bytecode, "exception_entries", ()):
        for offset in range(start, end, 2):
            if offset in follows:
                follows[offset].append(target)
    return follows


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _is_installed(path: str) -> bool:
    return any(mark in path for mark in _INSTALLED) or _has_metadata(path)


def _has_metadata(path: str) -> bool:
    """Tell whether a package lies beside its dist-info: `pip install --target` puts it beside the application."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    while name:
        if name.lower() in _distributions(folder):
            return True
        folder, name = os.path.split(folder)
    return False


@functools.lru_cache(maxsize=1_000)
def _distributions(folder: str) -> frozenset[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return frozenset()
    return frozenset(name.partition("-")[0].lower() for name in names if name.endswith(".dist-info"))


def _folders(*paths: str) -> tuple[str, ...]:
    return tuple({f"{os.path.abspath(path)}{os.sep}" for path in paths})


_STDLIB: Final = _folders(sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__))


def environment(prefix: str) -> tuple[str, ...]:
    """Return a virtual environment's own folders; what else lies in it (`src/`) may be the application's."""
    return _folders(*(os.path.join(prefix, name) for name in ("bin", "lib", "lib64", "Lib", "Scripts")))


_ENVIRONMENT: Final = environment(sys.prefix) if sys.prefix != sys.base_prefix else ()
