"""PgBouncer in transaction mode: every transaction may be on another server connection."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from querytoll import Profiler, Settings
from scripts.postgres import Server
from tests.explain.sampling import SLOW, THRESHOLD, Sink, fill
from tests.explain.servers import execute

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@pytest.fixture(scope="module")
def bounced(debian_server: Server) -> Iterator[str]:
    """SQLAlchemy's URL of a database behind PgBouncer, which has two server connections for everybody."""
    if not Path(PGBOUNCER).exists():
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    execute(debian_server.url(driver=None), "CREATE DATABASE bounced")
    fill(debian_server.url("bounced", driver=None))
    home = debian_server.address.partition("host=")[2].partition("&")[0]
    with tempfile.TemporaryDirectory(prefix="querytoll-bouncer-", dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o777)
        (place / "users").write_text('"postgres" ""\n')
        (place / "ini").write_text(
            f"[databases]\nbounced = host={home} port=5432 user=postgres\n[pgbouncer]\nlisten_addr =\n"
            f"unix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = trust\nauth_file = {folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 2\nignore_startup_parameters = extra_float_digits\n"
        )
        command = [PGBOUNCER, *(("-u", "postgres") if os.geteuid() == 0 else ()), str(place / "ini")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if (place / ".s.PGSQL.6432").exists():
                    break
                time.sleep(0.02)
            yield f"postgresql+asyncpg://postgres@/bounced?host={folder}&port=6432"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    execute(debian_server.url(driver=None), "DROP DATABASE bounced WITH (FORCE)")


async def test_plans_come_through_pgbouncer(bounced: str) -> None:
    """Configured as SQLAlchemy's documentation says, plans are made and nothing is left on the shared connections."""
    engine = create_async_engine(
        bounced,
        poolclass=NullPool,
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__{uuid4()}__",
        },
    )
    sink = Sink()
    settings = Settings(slow_statement_seconds=THRESHOLD, explain_interval_seconds=1e-9, explain_floor_seconds=1e6)
    profiler = Profiler(settings, engines=[engine], sinks=[sink])
    for kind in range(10):
        async with profiler.profile("x"), engine.begin() as connection:
            rows = (await connection.execute(text(SLOW + ":kind"), {"kind": kind})).all()
            assert len(rows) == 12
            assert await connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "off"
        await profiler.drain()
    await profiler.aclose()
    await engine.dispose()
    assert sink.outcomes["error"] == 0
    assert [plan.source for plan in sink.plans].count("analyze") >= 10
    assert profiler.faults.counts["explain"] == 0
