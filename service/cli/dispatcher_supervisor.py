"""Runs a dispatcher in a child process and restarts it when it exits.

`service` may start `python -m workers` but must not import it.
"""

__all__ = ["DispatcherSupervisor"]

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from studies.child_environment import service_environment
from studies.private_files import create_private_folder, open_privately
from studies.process_tree import end_adopted

_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0
_TAIL_BYTES = 8192
_READY = "ready on "
"""The dispatcher logs this once its database and Ray are up.

A catalogue in the database does not show that, because an earlier dispatcher may have written it.
"""
_STEADY_S = 120.0
"""A dispatcher that ran for this long counts as healthy, and the next restart delay starts over."""


class DispatcherSupervisor:
    """One `python -m workers` process, restarted with exponential backoff whenever it exits unexpectedly.

    Args:
        environment: settings of the dispatcher, added to this process's own environment.
        log: file to which its output is appended.
        warn: called with a message when the dispatcher exits or cannot be restarted, from another thread.
    """

    def __init__(self, environment: Mapping[str, str], *, log: Path, warn: Callable[[str], None]) -> None:
        self._environment = {**service_environment(os.environ), **environment}
        self.log = log
        self._warn = warn
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        self._is_stopping = threading.Event()
        self._starting = threading.Lock()
        self._restarter: threading.Thread | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopping.is_set()

    @property
    def pid(self) -> int | None:
        """Process id of the current dispatcher, or None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, unless `stop` was called. Does not wait until it is ready."""
        create_private_folder(self.log.parent)
        with self._starting, open(self.log, "ab", opener=open_privately) as log:
            if self._is_stopping.is_set():
                return
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                # -P keeps the current folder off the import path: it may hold another `workers` package.
                [sys.executable, "-P", "-m", "workers"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C in the terminal must reach only this process, which then shuts the dispatcher down.
                start_new_session=True,
            )

    def wait_until_ready(self, *, timeout_s: float) -> bool:
        """Wait until the dispatcher is ready.

        Return False if it exits, `stop` is called or the timeout passes first.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self.is_stopping:
            if _READY in self._output_tail():
                return True
            if self._process is None or self._process.poll() is not None:
                return False
            time.sleep(0.2)
        return False

    def keep_running(self) -> None:
        """Start a thread that restarts the dispatcher whenever it exits unexpectedly."""
        self._restarter = threading.Thread(
            target=self._restart_on_exit, name="dispatcher-restarter", daemon=True
        )
        self._restarter.start()

    def _restart_on_exit(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._is_stopping.is_set():
            began = time.monotonic()
            code = self._process.wait() if self._process else 0
            end_adopted()
            if self._is_stopping.is_set():
                return
            if time.monotonic() - began > _STEADY_S:
                delay_s = _FIRST_DELAY_S
            self._warn(f"the dispatcher {self._describe_exit(code)}; restarting it in {delay_s:g} s")
            if self._is_stopping.wait(delay_s):
                return
            delay_s = min(_MAX_DELAY_S, 2 * delay_s)
            try:
                self.start()
            except OSError as error:
                self._warn(f"cannot start the dispatcher: {error}")

    def stop(self, *, timeout_s: float) -> None:
        """Ask the process to exit; after the timeout, kill it and its children."""
        with self._starting:
            self._is_stopping.set()
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()
        self._process.wait()
        end_adopted()

    def kill(self) -> None:
        """Kill the process and everything left in its session.

        Safe to call from a signal handler, and after `stop`.
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _describe_exit(self, code: int) -> str:
        """Return how the process ended; its last line of output explains an exit, but not a kill."""
        return (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"exited with status {code} ({self.last_line()})"
        )

    def last_line(self) -> str:
        """Return the last line of the process's output, or that there is none."""
        from studies.logs import message_of

        lines = [line.strip() for line in self._output_tail().splitlines() if line.strip()]
        return message_of(lines[-1]) if lines else f"{self.log} is empty"

    def _output_tail(self) -> str:
        """Return the end of the current process's output."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_offset, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")
