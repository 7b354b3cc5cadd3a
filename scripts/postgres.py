"""A folder to a running PostgreSQL that its users share and that ends with the last of them."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import make_url

POSTMASTER = Path(__file__).with_name("postmaster.py")
CACHE = POSTMASTER.parent.parent / ".cache"


class ServerError(Exception):
    """The server cannot be had; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a PostgreSQL listens, as a URL of any driver and database."""

    address: str

    def url(self, database: str = "postgres", driver: str | None = "asyncpg") -> str:
        """URL for SQLAlchemy; for libpq where `driver` is None."""
        name = f"postgresql+{driver}" if driver else "postgresql"
        return make_url(self.address).set(drivername=name, database=database).render_as_string(hide_password=False)


@contextmanager
def embedded(home: Path) -> Iterator[Server]:
    """Share the embedded server of a folder, which is made, initialised and started when it must be.

    Raises:
        ServerError: it did not start.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "users").open("a") as users, (home / "life").open("a") as life:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield Server(_address(home))
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            _await_end(users, life)


def _address(home: Path, timeout_seconds: float = 90.0) -> str:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, POSTMASTER, home], capture_output=True, text=True, check=False, start_new_session=True
        )
        if done.returncode:
            raise ServerError(done.stderr.strip())
        if folder := _answering(home / "socket"):
            return f"postgresql://postgres@/postgres?host={folder}&port=5432"
        time.sleep(0.05)  # another process is starting it
    raise ServerError(f"PostgreSQL in {home} did not start within {timeout_seconds:.0f} s")


def _answering(note: Path) -> str | None:
    try:
        folder = note.read_text()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/.s.PGSQL.5432")
    except OSError:
        return None
    return folder


def _await_end(users: IO[str], life: IO[str], timeout_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not _lockable(life, fcntl.LOCK_EX) and time.monotonic() < deadline:
        if not _lockable(users, fcntl.LOCK_EX) and _lockable(users, fcntl.LOCK_SH):
            return  # others go on using it
        time.sleep(0.02)


def _lockable(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True
