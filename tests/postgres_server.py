"""A real PostgreSQL server for tests: in a temporary folder, on a Unix socket, stopped by its process id."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["PostgresServer", "binaries", "postgres_server"]

# Test data need not survive a power cut.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
_NEEDED_BYTES = 512 * 2**20
_READY_S = 30
_STOP_S = 10


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL that Debian has installed, or None."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name)
    )
    return found[-1].parent if found else None


class PostgresServer:
    """A running server with a separate database for each test."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self._sockets = home
        self._settings = settings
        self._made = 0
        self._process: subprocess.Popen[Any] | None = None

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._sockets}"

    def create(self, *, template: str = "template0") -> str:
        """Create a database, empty or as a copy of `template`, and return its name."""
        self._made += 1
        name = f"tangent_{self._made}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Drop a database and close its connections."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(
            host=str(self._sockets), user="postgres", dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it does not start; contains its output.
        """
        folder = binaries()
        assert folder is not None
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [folder / "postgres", "-D", self._sockets / "data", "-k", self._sockets, *settings]
        with (self._sockets / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_as_postgres())
        _wait_until_ready(self._process, self._sockets)

    def stop(self) -> None:
        """Stop the server and close its connections."""
        assert self._process is not None
        self.thaw()
        _stop(self._process)

    def kill(self) -> None:
        """Kill all its processes with SIGKILL, like a power cut."""
        assert self._process is not None
        # Frozen, it cannot start new processes meanwhile.
        self.freeze()
        for pid in list(self._pids()):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """Suspend all its processes: the kernel still accepts connections and data, but nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume its processes."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> Iterator[int]:
        """Yield the ids of its main process and then of its child processes."""
        assert self._process is not None
        if self._process.poll() is None:
            yield self._process.pid
            of_main = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            yield from map(int, of_main.read_text().split() if of_main.exists() else ())


@contextlib.contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a server on a new cluster, and delete its files afterwards.

    Args:
        settings: server settings that replace those for fast tests.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: the server does not start; contains its output.
    """
    folder = binaries()
    if folder is None:
        raise FileNotFoundError("needs Debian's package 'postgresql'")
    home = Path(tempfile.mkdtemp(prefix="tangent-pg-", dir=_quick_folder()))
    owner = _as_postgres().get("user")
    if owner is not None:
        os.chown(home, pwd.getpwnam(owner).pw_uid, -1)
    try:
        initdb = [
            folder / "initdb",
            "-D",
            home / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **_as_postgres())
        server = PostgresServer(home, {**_SETTINGS, **settings})
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)


def _as_postgres() -> dict[str, Any]:
    """Return subprocess options for the user of Debian's package; PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _quick_folder() -> Path:
    """Return a folder that is fast for many small files and has a short path.

    The path of a socket may have at most 107 characters.
    """
    memory = Path("/dev/shm")
    # Containers often have 64 MiB of it.
    has_room = (
        memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _NEEDED_BYTES
    )
    return memory if has_room else Path("/tmp")


def _wait_until_ready(process: subprocess.Popen[Any], home: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(home), user="postgres", dbname="postgres", connect_timeout=2).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not come up: {(home / 'log').read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[Any]) -> None:
    # "Fast": it ends the connections that are still open.
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
