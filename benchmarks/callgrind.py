"""Instructions of a stretch of this process, told by Valgrind to a parent that runs it under callgrind.

Valgrind takes orders from the program that it runs: a sequence of instructions without effect, the order's address in
a register. It is written here by hand, because a compiler is more than a benchmark may ask for.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

_ORDER: Final = ord("C") << 24 | ord("T") << 16
_ZERO, _DUMP, _START, _STOP = _ORDER + 1, _ORDER + 3, _ORDER + 4, _ORDER + 5
# mov rax, rdi; xor edx, edx; rol rdi, 3, 13, 61, 51 (valgrind.h); xchg rbx, rbx; mov rax, rdx; ret
_CODE: Final = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
_MACHINES: Final = ("x86_64", "AMD64")


def unavailable() -> str | None:
    """Why instructions cannot be counted here; None where they can."""
    if platform.machine() not in _MACHINES:
        return f"instructions are counted on {_MACHINES[0]} only"
    return None if shutil.which("valgrind") else "instructions are counted where valgrind is installed"


class Counter:
    """Counts in the process that callgrind runs; anywhere else its orders do nothing."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)

    def start(self) -> None:
        """Go on slowly, counting."""
        self._order(_START)

    def stop(self) -> None:
        """Go on fast, without counting."""
        self._order(_STOP)

    def zero(self) -> None:
        """Begin a stretch."""
        self._order(_ZERO)

    def dump(self, name: str) -> None:
        """End a stretch of that name."""
        text = ctypes.create_string_buffer(name.encode())
        self._order(_DUMP, ctypes.addressof(text))

    def _order(self, order: int, argument: int = 0) -> None:
        words = (ctypes.c_uint64 * 6)(order, argument)
        self._call(ctypes.addressof(words))


def counted(arguments: Sequence[str], seed: int = 0) -> tuple[Any, dict[str, int]]:
    """Run a Python program under callgrind.

    Args:
        arguments: of the Python interpreter.
        seed: of the interpreter's hashes.

    Returns:
        What the program printed, as JSON; instructions by name of the stretches that it dumped.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="querytoll-callgrind-") as folder:
        tool = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"]
        done = subprocess.run(
            [*tool, f"--callgrind-out-file={folder}/out", sys.executable, *arguments],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(done.stdout), dict(filter(None, map(_stretch, Path(folder).glob("out.*"))))


def _stretch(dump: Path) -> tuple[str, int] | None:
    text = dump.read_text(errors="replace")
    name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None
