"""PostgreSQL servers of a test's own, which may be killed: Debian's, or one whose programs are given."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from scripts.postgres import Server

GIVEN = os.environ.get("QUERYTOLL_TEST_PROGRAMS")
"""The folder of a server's programs (`initdb`, `pg_ctl`): all tests run on that server then, and on no other."""
PROGRAMS = Path(GIVEN or "/usr/lib/postgresql/15/bin")
ABSENT = f"{PROGRAMS} is not there: apt-get install postgresql-15"
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "jit": "off",
    "max_prepared_transactions": "5",
}


@dataclass(frozen=True, slots=True)
class Private(Server):
    """A server that may be killed."""

    programs: Path = PROGRAMS
    data: Path = Path()
    user: str | None = None

    def stop_immediately(self) -> None:
        """`pg_ctl stop -m immediate`: no connection learns of it in good order."""
        _run(self.user, self.programs / "pg_ctl", "-D", self.data, "-m", "immediate", "-W", "stop")

    def start(self, **settings: str) -> None:
        """Start it, again if need be, and wait until it answers."""
        options = " ".join(f"-c {name}={value}" for name, value in {**SETTINGS, **settings}.items())
        sockets = f"-c unix_socket_directories={self.data.parent}"
        log = self.data.parent / "log"
        _run(
            self.user, self.programs / "pg_ctl", "-D", self.data, "-l", log, "-w", "-o", f"{options} {sockets}", "start"
        )

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def private(**settings: str) -> Iterator[Private]:
    """A PostgreSQL on data of its own, run by another user where root may not."""
    user = _another() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="querytoll-server-", dir="/tmp"))
    try:
        if user:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = folder / "data"
        arguments = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        _run(user, PROGRAMS / "initdb", "-D", data, "-U", "postgres", *arguments)
        server = Private(f"postgresql://postgres@/postgres?host={folder}&port=5432", PROGRAMS, data, user)
        server.start(**settings)
        try:
            yield server
        finally:
            with suppress(FileNotFoundError, ProcessLookupError):
                _stop(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _another() -> str:
    return next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in autocommit; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
        return rows


def _stop(server: Private) -> None:
    pid = server.pid
    os.kill(pid, signal.SIGQUIT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        time.sleep(0.02)


def _run(user: str | None, *command: str | Path) -> None:
    done = subprocess.run(
        command,
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
