"""The fork server of a Ray node, as the node's guardian starts, watches and replaces it."""

__all__ = ["ForkSupervisor", "fork_workers"]

import math
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import psutil

from workers import fork_client
from workers.fork_server import UNFIT

_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0


def fork_workers() -> None:
    """Make the Ray node that this process starts ask its fork server for its workers."""
    from ray._private import ray_constants

    # Ray joins it to the path of its own folder, which an absolute path replaces.
    cast("Any", ray_constants).SETUP_WORKER_FILENAME = fork_client.__file__


class ForkSupervisor:
    """Keeps a fork server running, and knows the workers that it has forked.

    Args:
        folder: the folder of the node.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._forked: set[int] = set()
        self._started_at = self._start_at = -math.inf
        self._delay_s = _FIRST_DELAY_S
        self._must_replace = False

    @property
    def pids(self) -> set[int]:
        """The fork server and the workers, which are not what workers have left behind."""
        return self._forked if self._server is None else {*self._forked, self._server.pid}

    def replace(self) -> None:
        """Have `watch` replace the fork server; the workers that it has forked go on."""
        self._must_replace = True

    def watch(self) -> None:
        """Start a fork server if there is none, and forget workers that have ended."""
        if self._server is not None:
            if self._must_replace:
                self._server.terminate()
                self._server.wait()
            self._read_forked(self._server)
            code = self._server.poll()
            if code is not None:
                self._end(self._server, code)
        if self._must_replace:
            self._must_replace, self._start_at = False, -math.inf
        self._forked = set(filter(_is_alive, self._forked))
        if self._server is None and time.monotonic() >= self._start_at:
            self._started_at = self._start_at = time.monotonic()
            # Without memory for another process, for example.
            with suppress(OSError):
                self._server = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            # -P keeps the working directory off the path: it may contain another package named `workers`.
            [sys.executable, "-u", "-P", "-m", "workers.fork_server", str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None, "it is started with a pipe"
        os.set_blocking(server.stdout.fileno(), False)
        return server

    def _end(self, server: subprocess.Popen[bytes], code: int) -> None:
        assert server.stdout is not None, "it is started with a pipe"
        server.stdout.close()
        self._server = None
        if time.monotonic() - self._started_at > _MAX_DELAY_S:
            self._delay_s = _FIRST_DELAY_S
        self._start_at = math.inf if code == UNFIT else time.monotonic() + self._delay_s
        self._delay_s = min(_MAX_DELAY_S, 2 * self._delay_s)

    def _read_forked(self, server: subprocess.Popen[bytes]) -> None:
        assert server.stdout is not None, "it is started with a pipe"
        # What its imports may print has no place here. A line is written at once.
        lines = (server.stdout.read() or b"").split(b"\n")
        self._forked |= {int(line) for line in lines if line.isdigit()}


def _is_alive(pid: int) -> bool:
    """Return whether a process has not ended; collect its exit code if it is a child of this one."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return psutil.pid_exists(pid)
