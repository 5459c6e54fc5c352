"""The processes that the load test starts: their processor time, their memory and their end."""

__all__ = ["Process", "free_port", "started", "wait_for"]

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process started by this benchmark."""

    process: subprocess.Popen[bytes]

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far, including those of ended children."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = sum(int(field) for field in fields[11:15]) / _TICKS_PER_S
        return own + sum(_cpu_s(int(pid)) for pid in self.children)

    @property
    def rss_mb(self) -> float:
        """Resident memory of it and its children."""
        return sum(_rss_mb(pid) for pid in (self.process.pid, *map(int, self.children)))

    @property
    def children(self) -> list[str]:
        """Process ids of its children, started by any of its threads."""
        return [
            pid
            for task in Path(f"/proc/{self.process.pid}/task").glob("*/children")
            for pid in task.read_text().split()
        ]


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        return (
            sum(
                int(field) for field in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
            )
            / _TICKS_PER_S
        )
    return 0.0


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


@contextlib.contextmanager
def started(
    command: Sequence[str | Path], log: Path, environment: dict[str, str], *, ends_within_s: float = 15.0
) -> Iterator[Process]:
    """Start a process in its own process group, and end it afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        yield Process(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ends_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that no process uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(
    port: int, served: Process, log: Path, *, path: str = "/healthz", within_s: float = 30.0
) -> None:
    """Wait until a service answers.

    Raises:
        RuntimeError: it has ended, or does not answer in time; the message has the end of its log.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and served.process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1),
        ):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the service did not start: {log.read_text(errors='replace')[-2000:]}")
