"""Run the tests of the built wheel on oldest and newest dependencies and Pythons; run by `make test-matrix`."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".cache" / "matrix"


class Row(NamedTuple):
    """A Python and the versions to install: `oldest`, `newest`, or `newest` with a requirement that overrides it."""

    python: str
    versions: str
    override: str = ""

    def __str__(self) -> str:
        return f"{self.versions}{' ' + self.override if self.override else ''} on Python {self.python}"

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return re.sub(r"[^\w.]+", "-", f"{self.python}-{self.versions} {self.override}".strip())

    @property
    def environment(self) -> Path:
        """Where its packages are."""
        return HOME / self.name


ROWS = {
    "quick": [Row("3.11", "oldest"), Row("3.13", "newest")],
    "full": [
        Row("3.11", "oldest"),
        Row("3.11", "newest"),
        Row("3.12", "oldest"),
        Row("3.12", "newest", "sqlalchemy<2.1"),
        Row("3.13", "newest"),
    ],
}


def main(rows: list[Row], arguments: list[str]) -> str | None:
    """Test every row; the sentence that says which failed, None where none did."""
    HOME.mkdir(parents=True, exist_ok=True)
    wheel = build()
    outcomes: dict[Row, str] = {}
    for row in rows:
        started = time.monotonic()
        outcomes[row] = test(row, wheel, arguments)
        print(f"== {row}: {outcomes[row]} in {time.monotonic() - started:.0f} s", flush=True)
    print()
    for row, outcome in outcomes.items():
        print(f"{outcome:8} {row}")
    failed = [row for row, outcome in outcomes.items() if outcome == "failed"]
    if failed:
        return f"The matrix failed. Once more: make test-matrix MATRIX={','.join(row.name for row in failed)}"
    return None if "passed" in outcomes.values() else "The matrix failed: every row was skipped"


def named(words: str) -> list[Row]:
    """The rows of a group, or those that are named themselves, with commas between them."""
    rows = ROWS | {row.name: [row] for row in ROWS["full"]}
    if unknown := set(words.split(",")) - set(rows):
        sys.exit(f"MATRIX={','.join(unknown)} is none of: {', '.join(rows)}")
    return [row for word in words.split(",") for row in rows[word]]


def build() -> Path:
    """Build the wheel that all rows test."""
    for old in HOME.glob("*.whl"):
        old.unlink()
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(HOME), str(ROOT))
    return next(HOME.glob("*.whl"))


def test(row: Row, wheel: Path, arguments: list[str]) -> str:
    """Install the row and run the tests in it: `passed`, `failed` or `skipped`."""
    print(f"\n== {row}", flush=True)
    interpreter = find(row.python)
    if not interpreter:
        print(f"There is no Python {row.python} here.")
        return "skipped"
    python = str(install(row, interpreter, wheel))
    pip(python, "install", "--no-deps", "--force-reinstall", str(wheel))
    done = subprocess.run([python, "-m", "pytest", "-q", *arguments], cwd=ROOT, check=False)
    return "failed" if done.returncode else "passed"


def find(version: str) -> str | None:
    """A Python of that version that can make environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"versions/{version}.*/bin/python"))]
    probe = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    for place in filter(None, places):
        done = subprocess.run([place, "-c", probe], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return place
    return None


def install(row: Row, interpreter: str, wheel: Path) -> Path:
    """Make the row's environment where it is missing or older than the requirements; its Python."""
    python, ready = row.environment / "bin/python", row.environment / ".ready"
    sources = [ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__)]
    if ready.exists() and all(ready.stat().st_mtime > source.stat().st_mtime for source in sources):
        return python
    subprocess.run([interpreter, "-m", "venv", "--clear", row.environment], check=True)
    constraints = row.environment / "constraints.txt"
    constraints.write_text("\n".join(pins(row)))
    pip(str(python), "install", "-c", str(constraints), f"{wheel}[test]")
    ready.touch()
    return python


def pins(row: Row) -> Iterator[str]:
    """The constraints of a row; the oldest versions are the lower bounds of pyproject.toml."""
    if row.versions == "oldest":
        yield from map(lowest, requirements())
        return
    overridden = Requirement(row.override).name if row.override else None
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#") and Requirement(line).name.lower() != overridden:
            yield line
    if row.override:
        yield row.override


def requirements() -> Iterator[Requirement]:
    """What the package and its tests need, linters excepted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != "dev"]
    for requirement in map(Requirement, itertools.chain(project["dependencies"], *extras)):
        if requirement.name != "querytoll":
            yield requirement


def lowest(requirement: Requirement) -> str:
    """The pin of a requirement's lower bound."""
    return next(f"{requirement.name}=={bound.version}" for bound in requirement.specifier if bound.operator == ">=")


def pip(python: str, *arguments: str) -> None:
    """Run pip quietly; its errors end the run."""
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "-qq", *arguments], check=True)


if __name__ == "__main__":
    try:
        sys.exit(main(named(sys.argv[1]), sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
