"""The client's multiprocess mode: numbers in files, those of dead processes included.

A process tells that it lives by a lock that the kernel takes away with it, which containers that share the folder and
numbers of processes that are given again do not confuse. Nothing is touched of a process that left no lock file, that
holds its lock, or whose number is in use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.values import ValueClass

from querytoll.errors import Faults

try:
    import fcntl
except ImportError:  # Windows, where nothing is tidied up
    fcntl = None  # type: ignore[assignment]

MAX_DEAD: Final = 16
"""Dead processes whose files are kept as they are; of more, the numbers are added up in one file of each type."""
_TYPES: Final = ("counter", "histogram", "summary")
_FOLDER_LOCK: Final = "querytoll.lock"
_JOURNAL: Final = "querytoll.journal"
_held: Final[list[int]] = []
faults: Final = Faults()


def is_multiprocess() -> bool:
    """Tell whether the client keeps its numbers in files, as it decided when it was imported."""
    return bool(getattr(ValueClass, "_multiprocess", "PROMETHEUS_MULTIPROC_DIR" in os.environ))


def folder() -> Path:
    """Return where the files are."""
    return Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])


def live() -> None:
    """Tell that this process lives, and whatever it forks; to be called once."""
    if fcntl is None:
        return
    os.register_at_fork(after_in_child=_hold)
    _hold()


def _hold() -> None:
    try:
        while _held:  # of the process that forked this one, and still holds its lock
            os.close(_held.pop())
        descriptor = os.open(_alive_file(os.getpid()), os.O_RDWR | os.O_CREAT, 0o644)
        _held.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except Exception as fault:
        faults.caught("sinks", fault)


def _alive_file(process: int) -> Path:
    return folder() / f"querytoll_{process}.alive"


@contextmanager
def tidied() -> Iterator[None]:
    """Forget gauges of dead processes, add up their other numbers where there are many, and let nobody else meanwhile.

    Whoever reads the folder in another way may see numbers of dead processes twice, or not, during the adding up.
    """
    if fcntl is None:
        yield
        return
    lock = _open_lock()
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _open_lock() -> int | None:
    try:
        lock = os.open(folder() / _FOLDER_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as fault:
        faults.caught("sinks", fault)
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        _tidy(lock)
    except Exception as fault:
        faults.caught("sinks", fault)
    return lock


def _tidy(lock: int) -> None:
    gone = _gone()
    for process in gone:
        mark_process_dead(process, str(folder()))  # type: ignore[no-untyped-call]
    if len(gone) <= MAX_DEAD and not (folder() / _JOURNAL).exists():
        return
    try:
        if _is_alone(lock):
            _finish()
            gone = _gone()
            if len(gone) > MAX_DEAD:
                _add_up(gone)
    finally:
        fcntl.flock(lock, fcntl.LOCK_SH)


def _is_alone(lock: int) -> bool:
    """Lock everybody else out; where another scrape is reading, the next one will do."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _gone() -> list[int]:
    return [process for process in _known() if _is_dead(process)]


def _known() -> list[int]:
    numbers = (
        path.name.removeprefix("querytoll_").removesuffix(".alive") for path in folder().glob("querytoll_*.alive")
    )
    return [int(number) for number in numbers if number.isdigit()]


def _is_dead(process: int) -> bool:
    """The process has ended: its lock is free, and its number belongs to nobody."""
    if process == os.getpid():
        return False
    try:
        descriptor = os.open(_alive_file(process), os.O_RDWR)
    except OSError:  # it was just added up, or it is another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it holds its lock, or it is another user's process
        return False
    finally:
        os.close(descriptor)
    return False


def _add_up(processes: Iterable[int]) -> None:
    """Make one file of each type of those of dead processes; a crash in the middle is made good by the next scrape."""
    moves, removals = {}, [str(_alive_file(process)) for process in processes]
    for kind in _TYPES:
        files = [folder() / f"{kind}_{process}.db" for process in processes]
        files = [file for file in files if file.exists()]
        total = folder() / f"{kind}_querytoll.db"
        new = total.with_suffix(".new")
        _write_sums([*files, *([total] if total.exists() else [])], new)
        moves[str(new)] = str(total)
        removals += map(str, files)
    draft = folder() / f"{_JOURNAL}.new"
    draft.write_text(json.dumps({"moves": moves, "removals": removals}))
    draft.replace(folder() / _JOURNAL)
    _finish()


def _write_sums(files: Iterable[Path], target: Path) -> None:
    sums: dict[str, float] = {}
    read: Callable[[str], Iterable[tuple[str, float, float, int]]] = MmapedDict.read_all_values_from_file
    for file in files:
        for key, value, _, _ in read(str(file)):
            sums[key] = sums.get(key, 0.0) + value
    target.unlink(missing_ok=True)
    book = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    try:
        for key, value in sums.items():
            book.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        book.close()  # type: ignore[no-untyped-call]


def _finish() -> None:
    """Do what the journal says, again where it was begun."""
    journal = folder() / _JOURNAL
    if not journal.exists():
        return
    steps = json.loads(journal.read_text())
    for new, total in steps["moves"].items():
        if os.path.exists(new):
            os.replace(new, total)
    for file in steps["removals"]:
        Path(file).unlink(missing_ok=True)
    journal.unlink()
