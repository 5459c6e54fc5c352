"""Threads that share a step, in any thread and at any time at which Python still runs.

The caller of `share` works too, and needs no other thread to finish: threads that cannot be started, do not
survive a fork, or end with the interpreter only leave it more to do.
"""

__all__ = ["is_copied_by_fork", "share", "single_openmp_thread", "usable"]

import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch

_Part = tuple[int, int, int]


class _Shared:
    """A list of parts that several threads process."""

    def __init__(self, task: Callable[[int, int, int, Any], None], parts: Sequence[_Part]) -> None:
        self._task = task
        # Threads can share a list's iterator safely. An iterator that builds its items lazily could be
        # interrupted while it builds one.
        self._parts = iter([*parts])
        self._changed = threading.Condition()
        self._helpers = 0
        self._is_closed = False
        self._error: BaseException | None = None

    def work(self, room: Any) -> None:
        """Process parts until none is left."""
        for part in self._parts:
            self._task(*part, room)

    def help(self, room: Any) -> None:
        """Process parts in another thread, unless the list has been closed."""
        with self._changed:
            if self._is_closed:
                return
            self._helpers += 1
        error: BaseException | None = None
        try:
            self.work(room)
        except BaseException as caught:  # noqa: BLE001 # raised again in the thread that shares
            error = caught
        with self._changed:
            self._helpers -= 1
            self._error = self._error or error
            self._changed.notify()

    def close(self) -> None:
        """Wait for the threads that have begun, admit no other, and raise the first error of them."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._helpers)
        if self._error is not None:
            raise self._error


class _Helpers:
    """The threads of this process, started when they are first needed."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._offers: SimpleQueue[tuple[_Shared, Any]] = SimpleQueue()
        self._started = 0

    def offer(self, shared: _Shared, rooms: Sequence[Any]) -> None:
        with self._starting:
            try:
                # While the interpreter shuts down a new thread would never report that it has started.
                while self._started < len(rooms) and not sys.is_finalizing():
                    threading.Thread(target=self._help, name="adamp", daemon=True).start()
                    self._started += 1
            except RuntimeError:
                # The process has as many threads as it may have, or Python no longer starts any.
                pass
        for room in rooms[: self._started]:
            self._offers.put((shared, room))

    def _help(self) -> None:
        while True:
            shared, room = self._offers.get()
            shared.help(room)
            # Keep nothing of a step while waiting for the next.
            del shared, room


class _Process:
    """What belongs to this process, and is made anew after a fork.

    Attributes:
        helpers: its threads.
        copied_by_fork: the thread that the fork has copied; None in a process that was not forked, or from
            one that had not imported this module.
        threads_before: torch's number of threads before a block of `single_openmp_thread`; None outside.
    """

    def __init__(self) -> None:
        self.helpers = _Helpers()
        self.copied_by_fork: int | None = None
        self.threads_before: int | None = None

    def begin_child(self) -> None:
        self.helpers, self.copied_by_fork = _Helpers(), threading.get_ident()


_process = _Process()
os.register_at_fork(after_in_child=_process.begin_child)


def share(task: Callable[[int, int, int, Any], None], parts: Sequence[_Part], rooms: Sequence[Any]) -> None:
    """Call `task` once for each part, from as many threads as there are rooms; return when all are done.

    Args:
        task: processes a part in a room that no other thread uses.
        parts: what to do in each part, the first place and the one after the last.
        rooms: scratch memory, one for each thread; this thread uses the first.
    """
    shared = _Shared(task, parts)
    _process.helpers.offer(shared, rooms[1:])
    try:
        shared.work(rooms[0])
    finally:
        # Also after an interrupt: the tensors must outlive the threads that use them.
        shared.close()


def usable() -> int:
    """Return the number of threads that a step may use: torch's."""
    return _process.threads_before or torch.get_num_threads()


def is_copied_by_fork() -> bool:
    """Return whether this thread is the one that a fork has copied into this process.

    The threads that OpenMP keeps for the thread that forks are not copied, but in the child torch waits for
    them. It starts new ones for any other thread.
    """
    return _process.copied_by_fork is not None and threading.get_ident() == _process.copied_by_fork


@contextmanager
def single_openmp_thread() -> Generator[None]:
    """Keep torch's operations in this thread; `usable`, and so the CPU kernels, are not affected."""
    _process.threads_before = before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _process.threads_before = None
