"""Passes what this process prints to a process that keeps the end of it for each pack.

It catches the output of C code and of child processes too, because it replaces file descriptors 1 and 2.
"""

__all__ = ["OutputCapture"]

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

_PIPE_BYTES = 2**20
_WRITTEN_WITHIN_S = 10.0
_REPLACED_AFTER_S = 0.2


class OutputCapture:
    """The output of this process, by pack.

    If the keeper dies, another one takes over, so that a full pipe cannot block training.

    Attributes:
        keeper_pid: the id of the process that keeps the output.
    """

    def __init__(self) -> None:
        """Redirect file descriptors 1 and 2 of this process for good, and start the keeper."""
        self._reading, writing = os.pipe()
        # Fewer switches between the two processes. The system may refuse.
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._order: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._start_keeper()
        _flush()
        for number in (1, 2):
            os.dup2(writing, number)
        os.close(writing)

    def begin(self, *, folder: str | None, pack_id: str, attempts: Mapping[str, int]) -> None:
        """Keep what is printed from now on as a pack's output.

        Args:
            folder: where to write it, a path or URL; None: nowhere.
            pack_id: the pack.
            attempts: the attempt of each of its trials, by trial id.
        """
        _flush()
        self._send({"begin": {"pack_id": pack_id, "attempts": dict(attempts)}, "folder": folder})
        # What is printed from now on must not be taken for output of before.
        self._wait()

    def end(self) -> None:
        """Write the output of the pack, and wait for it, but not for ever."""
        _flush()
        self._send({"end": True})
        self._wait()

    def _send(self, order: dict[str, Any]) -> None:
        with self._lock:
            self._order = order
            # Without a keeper: the next one gets the order.
            with contextlib.suppress(OSError):
                self._orders.sendall(json.dumps(order).encode() + b"\n")

    def _wait(self) -> None:
        # The keeper may have died, or its storage may not answer.
        with contextlib.suppress(OSError):
            self._orders.recv(64)

    def _start_keeper(self) -> None:
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(_WRITTEN_WITHIN_S)
        with theirs:
            keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.output_keeper", str(theirs.fileno())],
                stdin=self._reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.keeper_pid = keeper.pid
        threading.Thread(target=self._replace, args=(keeper,), name="output-keeper", daemon=True).start()

    def _replace(self, keeper: subprocess.Popen[bytes]) -> None:
        keeper.wait()
        while True:
            # Not at once: it may end as soon as it has started.
            time.sleep(_REPLACED_AFTER_S)
            # Without memory for another process, for example.
            with contextlib.suppress(OSError), self._lock:
                order = self._order
                self._start_keeper()
                break
        if order is not None and "begin" in order:
            self._send({**order, "resumes": True})
            self._wait()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A workload may have closed or replaced it.
        with contextlib.suppress(Exception):
            stream.flush()
