"""Keeps a dispatcher alive as a process of its own.

`service` may start `python -m workers`, but not import it.
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

_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0
_TAIL_BYTES = 8192
_READY = "ready on "
"""What the dispatcher's log says once its database and its Ray are there.

The catalogue alone may be an earlier one's.
"""
_STEADY_S = 120.0
"""After so long without a fault a dispatcher counts as sound, and the next delay is the first again."""


class DispatcherSupervisor:
    """One `python -m workers`, started again with a growing delay whenever it ends without being asked to.

    Args:
        environment: its settings, on top of this process's own environment.
        log: file that gets all it writes.
        say: called with one sentence whenever something unexpected happened; from another thread.
    """

    def __init__(self, environment: Mapping[str, str], *, log: Path, say: Callable[[str], None]) -> None:
        # The token and the address are this user's, for talking to services; nothing that a trial runs has
        # any business with them.
        inherited = {
            name: value for name, value in os.environ.items() if name not in {"TANGENT_TOKEN", "TANGENT_URL"}
        }
        self._environment = {**inherited, **environment}
        self.log = log
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0
        self._is_stopping = threading.Event()
        self._starting = threading.Lock()
        self._keeper: threading.Thread | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has been asked for."""
        return self._is_stopping.is_set()

    @property
    def pid(self) -> int | None:
        """Process id of the dispatcher of the moment, or None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process, unless a stop has been asked for; it is not ready yet."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self._starting, self.log.open("ab") as log:
            if self._is_stopping.is_set():
                return
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                # Without the folder of the moment on the path: it may hold somebody's own `workers`.
                [sys.executable, "-P", "-m", "workers"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # A Ctrl-C in the terminal reaches this process alone, which then ends the other in good
                # order.
                start_new_session=True,
            )

    def wait_until_ready(self, *, timeout_s: float) -> bool:
        """Return True once it says that it is ready.

        False if it ends, a stop is asked for, or time is up before.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self.is_stopping:
            if _READY in self._said():
                return True
            if self._process is None or self._process.poll() is not None:
                return False
            time.sleep(0.2)
        return False

    def keep(self) -> None:
        """From now on start it again when it ends unasked, in a thread of its own."""
        self._keeper = threading.Thread(target=self._keep, name="dispatcher-keeper", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._is_stopping.is_set():
            began = time.monotonic()
            code = self._process.wait() if self._process else 0
            if self._is_stopping.is_set():
                return
            if time.monotonic() - began > _STEADY_S:
                delay_s = _FIRST_DELAY_S
            self._say(f"the dispatcher ended, {self._account(code)}; starting it again in {delay_s:g} s")
            if self._is_stopping.wait(delay_s):
                return
            delay_s = min(_MAX_DELAY_S, 2 * delay_s)
            try:
                self.start()
            except OSError as error:
                self._say(f"the dispatcher cannot be started: {error}")

    def stop(self, *, timeout_s: float) -> None:
        """Ask the process to end, wait so long, then end it and its children by force."""
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

    def kill(self) -> None:
        """End the process and what it left behind in its session, at once.

        For use after `stop` was called, even by a signal's handler.
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _account(self, code: int) -> str:
        """Return how the process ended; what it said last explains an exit, but not a kill."""
        return (
            f"killed by {signal.Signals(-code).name}"
            if code < 0
            else f"with exit status {code} ({self.last_line()})"
        )

    def last_line(self) -> str:
        """Return the last line that the process wrote, or where to look if it wrote none."""
        lines = [line.strip() for line in self._said().splitlines() if line.strip()]
        from studies.logs import message_of

        return message_of(lines[-1]) if lines else f"it said nothing in {self.log}"

    def _said(self) -> str:
        """Return the end of what the process of the moment has written."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_offset, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")
