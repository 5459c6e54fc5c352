"""A PostgreSQL server for a benchmark, configured for a few cores, in a folder that can be reused."""

__all__ = ["Postgres", "postgres"]

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg

# All durability settings stay on; the memory settings are those of docker-compose.yml.
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
    "track_io_timing": "on",
    "log_min_messages": "warning",
}
_READY_S = 60
_STOP_S = 30
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Postgres:
    """A running server with one database, `tangent`."""

    sockets: Path
    pid: int

    @property
    def url(self) -> str:
        """The database's URL in Tangent's format."""
        return f"postgresql+psycopg://postgres@/tangent?host={self.sockets}"

    def connect(self, database: str = "tangent") -> psycopg.Connection[tuple[Any, ...]]:
        """Return a driver connection in autocommit mode."""
        return psycopg.connect(host=str(self.sockets), user="postgres", dbname=database, autocommit=True)

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all its processes, running or ended."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return _cpu_s(self.pid, with_dead=True) + sum(_cpu_s(int(child)) for child in children)


def _cpu_s(pid: int, *, with_dead: bool = False) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11 : 15 if with_dead else 13]) / _TICKS_PER_S


@contextlib.contextmanager
def postgres(home: Path) -> Iterator[Postgres]:
    """Yield a server on the cluster in `home`, which is created if missing.

    Afterwards the server is stopped; its files are kept.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: the server does not start; the message has its output.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name)
    )
    if not found:
        raise FileNotFoundError("needs Debian's package 'postgresql'")
    # PostgreSQL refuses to run as root; Debian's package creates a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    whose: dict[str, Any] = {
        "cwd": "/",
        "user": user,
        "group": user,
        "extra_groups": None if user is None else [],
    }
    home.mkdir(parents=True, exist_ok=True)
    if user is not None:
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    is_new = not (home / "data").exists()
    if is_new:
        initdb = [
            found[-1],
            "-D",
            home / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        subprocess.run(initdb, check=True, capture_output=True, **whose)
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [found[-1].parent / "postgres", "-D", home / "data", "-k", home, *settings]
    with (
        (home / "log").open("ab") as log,
        cast(
            "subprocess.Popen[bytes]", subprocess.Popen(command, stdout=log, stderr=log, **whose)
        ) as process,
    ):
        try:
            server = Postgres(home, process.pid)
            _wait_until_ready(server, process)
            if is_new:
                with server.connect("postgres") as connection:
                    connection.execute("CREATE DATABASE tangent")
                with server.connect() as connection:
                    connection.execute("CREATE EXTENSION pg_stat_statements")
            yield server
        finally:
            # SIGINT is PostgreSQL's fast shutdown, which closes open connections.
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_S)


def _wait_until_ready(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            server.connect("postgres").close()
            return
        time.sleep(0.1)
    raise RuntimeError(
        f"PostgreSQL did not start: {(server.sockets / 'log').read_text(errors='replace')[-2000:]}"
    )
