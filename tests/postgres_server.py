"""A real PostgreSQL server for tests.

Started in a folder of its own, reached over a Unix socket, stopped by its own process id.
"""

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

# Nothing that a test writes has to survive a power cut.
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
    """Return the folder of the newest PostgreSQL that Debian's packages have installed, or None."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name)
    )
    return found[-1].parent if found else None


class PostgresServer:
    """A running server, of which every test gets a database of its own."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self._sockets = home
        self._settings = settings
        self._made = 0
        self._process: subprocess.Popen[Any] | None = None

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._sockets}"

    def create(self, *, template: str = "template0") -> str:
        """Make a database, empty or a copy of `template`, and return its name."""
        self._made += 1
        name = f"tangent_{self._made}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement outside of any transaction."""
        with psycopg.connect(
            host=str(self._sockets), user="postgres", dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start it on its files, and wait until it answers.

        Raises:
            RuntimeError: it does not come up; with what it said.
        """
        folder = binaries()
        assert folder is not None
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [folder / "postgres", "-D", self._sockets / "data", "-k", self._sockets, *settings]
        with (self._sockets / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_as_postgres())
        _wait_until_ready(self._process, self._sockets)

    def stop(self) -> None:
        """End it, and the connections that are still open."""
        assert self._process is not None
        self.thaw()
        _stop(self._process)

    def kill(self) -> None:
        """Kill all its processes outright, as a machine does that is switched off."""
        assert self._process is not None
        # Frozen it starts no others meanwhile.
        self.freeze()
        for pid in list(self._pids()):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def freeze(self) -> None:
        """Stop all its processes where they are.

        The kernel goes on to take what is sent to them, and they answer nothing.
        """
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> Iterator[int]:
        """Yield its main process, which starts all others, and then those."""
        assert self._process is not None
        if self._process.poll() is None:
            yield self._process.pid
            of_main = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            yield from map(int, of_main.read_text().split() if of_main.exists() else ())


@contextlib.contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Yield a server with a fresh cluster; it and its files are gone afterwards.

    Args:
        settings: of the server, over those that make tests quick.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
        RuntimeError: the server does not come up; with what it said.
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
    """Return how its programs are started.

    PostgreSQL refuses to run as root, and Debian's package brings a user for it.
    """
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _quick_folder() -> Path:
    """Return where many small files are made quickly, and whose path is short.

    That of a socket may have 107 characters at most.
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
