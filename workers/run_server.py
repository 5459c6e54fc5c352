"""A process that has imported what runs need, and forks them: `python -m workers.run --serve`.

A run's imports take two seconds of a core, in the middle of the study before it. A forked run has them from
the start. It becomes a child of the dispatcher, which adopts processes whose parent has ended. It runs with
the environment of the server.
"""

__all__ = ["SERVE", "ForkedRun", "RunServer", "serve"]

import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from workers import random_ids
from workers.fork_server import UNFIT

SERVE = "--serve"
"""The argument that makes `workers.run` a server."""

_FORKED_WITHIN_S = 5.0
_ADOPTED_WITHIN_S = 5.0
_POLL_S = 0.01
_READY = b"ready\n"
# pyarrow, which Ray Tune imports, otherwise starts a thread, and a process of several cannot be forked.
_WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


class ForkedRun:
    """A run that a server has forked: what a dispatcher uses of `subprocess.Popen`.

    Attributes:
        pid: its process id.
        stdin: writes to its standard input.
        stdout: reads its standard output.
        stderr: reads its standard error.
        returncode: its exit code; None until `poll` or `wait` has found that it has ended.
    """

    def __init__(self, pid: int, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> None:
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time.
        """
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired("a run", timeout)
            time.sleep(_POLL_S)
        return code

    def kill(self) -> None:
        """Kill the process if it runs."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process to end if it runs."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class RunServer:
    """The server, as its dispatcher sees it.

    Attributes:
        environment: the variables of the runs that it forks.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start the server; it ends with this process."""
        self.environment = dict(environment)
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_FORKED_WITHIN_S)
        with theirs:
            self._process = subprocess.Popen(
                # -P keeps the working directory off the import path: its files could replace any module.
                [sys.executable, "-P", "-m", "workers.run", SERVE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                # A run that is started instead shows the same error, without passwords.
                stderr=subprocess.DEVNULL,
                env=self.environment | _WITHOUT_THREADS,
            )
        self._is_ready = False
        self._started_at = time.monotonic()

    @property
    def is_unfit(self) -> bool:
        """Whether it has ended because no run can be forked on this machine."""
        return self._process.poll() == UNFIT

    def is_late(self, timeout_s: float) -> bool:
        """Return whether it has ended, or is still not ready after `timeout_s`."""
        is_late = not self.is_ready() and time.monotonic() - self._started_at > timeout_s
        return is_late or self._process.poll() is not None

    def is_ready(self) -> bool:
        """Return whether its imports are done."""
        if not self._is_ready and select.select([self._connection], [], [], 0)[0]:
            with suppress(OSError):
                self._is_ready = self._connection.recv(len(_READY)) == _READY
        return self._is_ready

    def fork(self) -> ForkedRun:
        """Fork a run, and return it.

        Raises:
            OSError: the server has ended or does not answer.
        """
        pipes = [os.pipe() for _ in range(3)]
        (its_in, to_in), (from_out, its_out), (from_err, its_err) = pipes
        try:
            socket.send_fds(self._connection, [b"%d\n" % os.getpid()], [its_in, its_out, its_err])
            answer = self._connection.recv(32)
            if not answer:
                raise ConnectionResetError("the server of runs has ended")
        except OSError:
            for end in (to_in, from_out, from_err):
                os.close(end)
            raise
        finally:
            for end in (its_in, its_out, its_err):
                os.close(end)
        return ForkedRun(
            int(answer),
            os.fdopen(to_in, "w"),
            os.fdopen(from_out, errors="replace"),
            os.fdopen(from_err, errors="replace"),
        )

    def end(self) -> None:
        """End the server; its runs go on."""
        self._process.kill()
        self._process.wait()
        self._connection.close()


def serve() -> int | None:
    """Fork runs until the dispatcher is gone, and return the exit code; return None in each run."""
    with random_ids.drawing_none():
        importlib.import_module("workers.study_run")
    gc.collect()
    # A collection in a run would otherwise write to, and so copy, the memory that it shares.
    gc.freeze()
    if len(list(Path("/proc/self/task").iterdir())) > 1 or random_ids.are_shared():
        return UNFIT
    with socket.socket(fileno=os.dup(0)) as dispatcher:
        dispatcher.sendall(_READY)
        while True:
            order, streams, _, _ = socket.recv_fds(dispatcher, 32, 3)
            if not order:
                return 0
            pid = _fork_twice()
            if pid == 0:
                break
            dispatcher.sendall(b"%d" % pid)
            for stream in streams:
                os.close(stream)
    _begin_run(int(order), streams)
    return None


def _fork_twice() -> int:
    """Fork a process whose parent has ended, and return its id there as 0."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(writing, b"%d" % pid)
            os._exit(0)
    else:
        # Until then it is not a child of the dispatcher.
        os.waitpid(between, 0)
    found = 0 if between == 0 else int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return found


def _begin_run(parent_pid: int, streams: list[int]) -> None:
    import numpy as np

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    del sys.argv[1:]
    # All runs would otherwise draw the same numbers where nothing is seeded.
    np.random.seed()  # noqa: NPY002
    deadline = time.monotonic() + _ADOPTED_WITHIN_S
    while os.getppid() != parent_pid:
        if time.monotonic() > deadline:
            raise OSError("the dispatcher has not adopted this run")
        time.sleep(_POLL_S)
