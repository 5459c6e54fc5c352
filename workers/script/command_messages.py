"""The socket on which a worker hears the processes of a program: each has a connection of its own.

A program may start others, as torchrun does, and each that takes steps says that it goes on. Only the one
that has reported waits for an answer.
"""

__all__ = ["CommandMessages"]

import json
import os
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, cast

from workers.workload_errors import CannotTrain

# A message is a line of JSON with numbers; a program may write anything.
_MAX_MESSAGE: Final = 1 << 20
_CHUNK: Final = 1 << 16
_POLL_S: Final = 0.2
_MAX_SOCKET_PATH: Final = 100
# Processes that connect while the worker is busy.
_MAX_WAITING: Final = 128
# The largest that every database stores.
_MAX_STEP: Final = 2**31 - 1


class _ProcessOfProgram:
    """The connection of one of the program's processes, and what it has said that needs an answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.messages: deque[dict[str, Any]] = deque()
        self._rest = b""

    def read(self, heard: Callable[[int | None], None]) -> bool:
        """Read what has come, pass on signs of life, and return whether the connection is still open.

        Raises:
            CannotTrain: a line is not a JSON object, or too long.
        """
        try:
            received = self.connection.recv(_CHUNK)
        except ConnectionError:
            received = b""
        *lines, self._rest = (self._rest + received).split(b"\n")
        for message in map(_parsed, lines):
            if "step" in message:
                heard(_step(message["step"]))
            else:
                self.messages.append(message)
        if len(self._rest) > _MAX_MESSAGE:
            raise CannotTrain(
                f"expected a message of at most {_MAX_MESSAGE} bytes from the command, got more"
            )
        return bool(received)


class CommandMessages:
    """What the processes of a program say.

    Attributes:
        path: the path of the socket.
    """

    def __init__(self, heard: Callable[[int | None], None]) -> None:
        """Listen on a new socket.

        Args:
            heard: gets the step of each sign of life; None if it is not known.
        """
        self._heard = heard
        self._place = tempfile.TemporaryDirectory(prefix="tangent-")
        self.path = Path(self._place.name) / "socket"
        if len(os.fsencode(self.path)) > _MAX_SOCKET_PATH:
            self._place = tempfile.TemporaryDirectory(prefix="tangent-", dir="/tmp")  # short
            self.path = Path(self._place.name) / "socket"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(_MAX_WAITING)
        self._processes: dict[socket.socket, _ProcessOfProgram] = {}
        self._reporter: _ProcessOfProgram | None = None

    def report(self, *, has_ended: Callable[[], bool]) -> dict[str, Any] | None:
        """Return the next message of any process that needs an answer; None if the program has ended."""
        while True:
            for process in self._processes.values():
                if process.messages:
                    self._reporter = process
                    return process.messages.popleft()
            if not self._read(has_ended=has_ended()):
                return None

    def answer(self, *, has_ended: Callable[[], bool]) -> dict[str, Any] | None:
        """Return the next message of the process that has reported; None if the program has ended."""
        assert self._reporter is not None, "a report comes before a question"
        while not self._reporter.messages:
            if not self._read(has_ended=has_ended()):
                return None
        return self._reporter.messages.popleft()

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message to the process that has reported, if it has not ended."""
        with suppress(OSError):
            if self._reporter is not None:
                self._reporter.connection.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the socket and all connections."""
        self._listener.close()
        for connection in self._processes:
            connection.close()
        self._place.cleanup()

    def _read(self, *, has_ended: bool) -> bool:
        """Wait a moment for messages, and return False if none can come any more."""
        # A process with a message that needs an answer has to wait for it.
        sources = [
            self._listener,
            *(each.connection for each in self._processes.values() if not each.messages),
        ]
        ready = cast("list[socket.socket]", wait(sources, 0 if has_ended else _POLL_S))
        for source in ready:
            if source is self._listener:
                connection, _ = self._listener.accept()
                self._processes[connection] = _ProcessOfProgram(connection)
            elif not self._processes[source].read(self._heard):
                # Its process has ended, or may connect again.
                del self._processes[source]
                source.close()
        return bool(ready) or not has_ended


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message: Any = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise CannotTrain(f"expected a JSON object from the command, got {line[:200]!r}")
    return cast("dict[str, Any]", message)


def _step(value: object) -> int | None:
    """Return the step of a sign of life; None if a program has sent anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MAX_STEP else None
