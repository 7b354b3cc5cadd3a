"""The history's migrations: they lead to the models' tables and back, whoever runs them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from typer.testing import CliRunner

from querytoll.cli.app import app
from querytoll.history import Store, downgrade, upgrade
from querytoll.history.engine import address, connect
from querytoll.history.migrate import configuration
from querytoll.history.models import Base
from querytoll.history.store import VERSION, VERSION_TABLE
from tests.history.making import batch, report

ROOT = Path(__file__).parents[2]
UPGRADE = "import asyncio, sys; from querytoll.history import upgrade; asyncio.run(upgrade(sys.argv[1]))"


async def tables(url: str) -> set[str]:
    async with connect(address(url)).connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


async def test_up_down_and_up_again(empty_url: str) -> None:
    """Downgrading leaves nothing behind that would stop the next upgrade; upgrading twice changes nothing."""
    everything = {*Base.metadata.tables, VERSION_TABLE}
    for _ in range(2):
        await upgrade(empty_url)
        assert await tables(empty_url) == everything
    await downgrade(empty_url)
    assert await tables(empty_url) == {VERSION_TABLE}
    await upgrade(empty_url)
    assert await tables(empty_url) == everything


async def test_each_step_is_reversible(empty_url: str) -> None:
    """Every migration can be taken back on its own and run again."""
    for script in reversed(list(ScriptDirectory.from_config(configuration(empty_url)).walk_revisions())):
        await upgrade(empty_url, script.revision)
        await downgrade(empty_url, "-1")
        await upgrade(empty_url, script.revision)


async def test_models_and_migrations_agree(empty_url: str) -> None:
    """Autogenerate finds nothing to do, in each database; the newest migration is the version that is expected."""
    await upgrade(empty_url)
    async with connect(address(empty_url)).connect() as connection:
        assert await connection.run_sync(differences) == []
    assert ScriptDirectory.from_config(configuration(empty_url)).get_heads() == [VERSION]


async def test_a_failed_migration_leaves_nothing(empty_url: str) -> None:
    """All of it or nothing: a table in the way stops it, and does not stay half done."""
    async with connect(address(empty_url)).begin() as connection:
        await connection.execute(text("CREATE TABLE querytoll_uses (x int)"))
    with pytest.raises(Exception, match="already exists"):
        await upgrade(empty_url)
    assert await tables(empty_url) == {"querytoll_uses"}


async def test_processes_upgrade_at_the_same_time(empty_url: str) -> None:
    """Workers that all start with an upgrade wait for each other, and all succeed."""
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", UPGRADE, empty_url, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        _, told = await process.communicate()
        assert process.returncode == 0, told.decode()
    await Store(empty_url).add(batch(report()))


def test_the_command(empty_url: str) -> None:
    """The tables are made, and removed; twice is once."""
    for command, expected in (("upgrade", "at head"), ("upgrade", "at head"), ("downgrade", "at base")):
        done = CliRunner().invoke(app, ["history", command, "--url", empty_url])
        assert (done.exit_code, expected in done.output) == (0, True), done.output


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql+asyncpg://nobody:secret@127.0.0.1:1/x", "cannot be used: "),
        ("mysql://h/d", "not in mysql"),
        ("sqlite+aiosqlite:////nowhere/at/all.db", "does not exist"),
    ],
)
def test_the_command_tells_what_is_wrong(url: str, complaint: str) -> None:
    """One sentence, 2, and no password."""
    done = CliRunner().invoke(app, ["history", "upgrade", "--url", url])
    assert done.exit_code == 2, done.output
    assert complaint in done.output
    assert "secret" not in done.output
    assert len(done.output.splitlines()) == 1


def test_without_alembic(tmp_path: Path) -> None:
    """Only migrating needs it; without it the pip line is told, and the sink can be made."""
    (tmp_path / "alembic.py").write_text("raise ModuleNotFoundError(\"No module named 'alembic'\", name='alembic')\n")
    url = f"sqlite+aiosqlite:///{tmp_path / 'history.db'}"
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from querytoll.history import HistorySink; "
        f"HistorySink({url!r}); sys.argv = ['querytoll', 'history', 'upgrade', '--url', {url!r}]; "
        "from querytoll.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "querytoll history: alembic is not installed; run: pip install 'querytoll[history]'\n"


def test_the_wheel_can_migrate(tmp_path: Path, empty_url: str) -> None:
    """The migrations are in the wheel, and are those that run once it is installed."""
    pytest.importorskip("hatchling", reason="for development only; the matrix tests an installed wheel anyway")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    code = f"{UPGRADE}; import querytoll; assert 'installed' in querytoll.__file__"
    command = [sys.executable, "-c", code, empty_url]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    asyncio.run(Store(empty_url).add(batch(report())))
