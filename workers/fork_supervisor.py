"""The fork server of a Ray node, as the node's guardian starts, watches and replaces it."""

__all__ = ["FORKS", "ForkSupervisor", "fork_workers"]

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

FORKS = "TANGENT_FORKS"
"""The variable that the process that starts a Ray node has if there is a fork server."""

_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0


def fork_workers() -> None:
    """Make the Ray node that this process starts ask its fork server, if it has one, for its workers."""
    # Workers must not see it.
    if os.environ.pop(FORKS, None) is None:
        return
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
        # All fork servers write the ids of their workers to one pipe.
        told, self._tell = os.pipe()
        os.set_blocking(told, False)
        self._told = os.fdopen(told, "rb")
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
                self._server.kill()
                self._server.wait()
            # Whatever it has told before its end is then in the pipe.
            code = self._server.poll()
            self._read_forked()
            if code is not None:
                self._end(code)
        if self._must_replace:
            self._must_replace, self._start_at = False, -math.inf
        self._forked = set(filter(_is_alive, self._forked))
        if self._server is None and time.monotonic() >= self._start_at:
            self._started_at = self._start_at = time.monotonic()
            # Without memory for another process, for example.
            with suppress(OSError):
                self._server = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P keeps the working directory off the path: it may contain another package named `workers`.
            [sys.executable, "-P", "-m", "workers.fork_server", str(self._folder), str(self._tell)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[self._tell],
        )

    def _end(self, code: int) -> None:
        self._server = None
        if time.monotonic() - self._started_at > _MAX_DELAY_S:
            self._delay_s = _FIRST_DELAY_S
        self._start_at = math.inf if code == UNFIT else time.monotonic() + self._delay_s
        self._delay_s = min(_MAX_DELAY_S, 2 * self._delay_s)

    def _read_forked(self) -> None:
        self._forked |= {int(line) for line in (self._told.read() or b"").split()}


def _is_alive(pid: int) -> bool:
    """Return whether a process has not ended; collect its exit code if it is a child of this one."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return psutil.pid_exists(pid)
