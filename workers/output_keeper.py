"""`python -m workers.output_keeper`: reads what a worker prints, and keeps the end of it for each pack.

It is a process of its own, so that a worker that is killed or crashes loses none of its last lines. It reads
as fast as the worker writes, holds a bounded part in memory, and writes that to the study's folder.

Its standard input is the worker's output. The file descriptor in its argument is a socket with orders of the
worker, one JSON object a line: `{"begin": HEADER, "folder": URL}`, with `"resumes": true` if the pack has
begun before, and `{"end": true}`. It answers each with a line, the latter once the output of the pack is
written.
"""

__all__ = ["TAIL_BYTES", "main"]

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any

TAIL_BYTES = 64 * 2**10
"""How much of a pack's output is kept. Progress bars repeat themselves, so readers see less."""

_READ_BYTES = 2**20
_POLL_S = 0.2
_WRITE_EVERY_S = 3.0


class _Keeper:
    """The end of one pack's output, and where it is written."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._header: dict[str, Any] = {}
        self._tail = b""
        self._bytes = self._written_bytes = 0
        self._version: int | None = None
        self._written_at = time.monotonic()
        self._writer: threading.Thread | None = None

    def begin(self, folder: str | None, header: dict[str, Any]) -> None:
        self._folder, self._header = folder, header
        self._tail = b""
        self._bytes = self._written_bytes = 0
        self._version = None
        self._written_at = time.monotonic()

    def read(self) -> bool:
        """Read what there is, but no more than one block; return False at the end of the input."""
        try:
            data = os.read(0, _READ_BYTES)
        except BlockingIOError:
            return True
        self._bytes += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:] if len(data) < TAIL_BYTES else data[-TAIL_BYTES:]
        return data != b""

    def drain(self) -> None:
        """Read everything that is there, but not for ever."""
        give_up_at = time.monotonic() + _POLL_S
        while select.select([0], [], [], 0)[0] and self.read() and time.monotonic() < give_up_at:
            pass

    def write_sometimes(self) -> None:
        """Write the output in another thread if it has grown and was not written for a while."""
        is_writing = self._writer is not None and self._writer.is_alive()
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S and not is_writing:
            self._start_writing()

    def write(self) -> None:
        """Write the output if it has grown, and wait until it is written."""
        for _ in range(2):
            if self._writer is not None:
                self._writer.join()
            self._start_writing()
        if self._writer is not None:
            self._writer.join()

    def write_last(self) -> None:
        """Write the output, if there is any, even if it has not grown: the study's run waits for it."""
        self._header = {**self._header, "is_last": True}
        self._written_bytes = 0
        self.write()

    def _start_writing(self) -> None:
        self._written_at = time.monotonic()
        if self._folder is None or self._bytes == self._written_bytes:
            return
        # Versions are ordered by time, because another keeper may have written some.
        self._written_bytes, previous, self._version = self._bytes, self._version, time.time_ns()
        header = {**self._header, "version": self._version, "size": self._bytes}
        self._writer = threading.Thread(target=_write, args=(self._folder, header, self._tail, previous))
        self._writer.start()


def _write(folder: str, header: dict[str, Any], tail: bytes, previous: int | None) -> None:
    from workers.output_files import write_output

    # Whatever the storage answers: training goes on without its output.
    with contextlib.suppress(Exception):
        write_output(folder, header, tail, previous=previous)


def main() -> None:
    """Keep output until the worker is gone and everything that it printed is written."""
    parent_pid = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # It ends with its worker, and after it.
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(0, False)
    orders = socket.socket(fileno=int(sys.argv[1]))
    keeper = _Keeper()
    pending = b""
    while os.getppid() == parent_pid:
        ready, _, _ = select.select([0, orders], [], [], _POLL_S)
        if 0 in ready and not keeper.read():
            break
        keeper.write_sometimes()
        if orders not in ready:
            continue
        received = orders.recv(_READ_BYTES)
        if not received:
            break
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "resumes" not in order:
                keeper.drain()
            if "begin" in order:
                keeper.begin(order["folder"], order["begin"])
            else:
                keeper.write()
                keeper.begin(None, {})
            orders.sendall(b"done\n")
    keeper.drain()
    keeper.write_last()


if __name__ == "__main__":
    main()
