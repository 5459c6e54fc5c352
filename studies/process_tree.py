"""The processes below this one: keeping hold of those whose parent ends, and ending them.

A process that calls `setsid` or forks twice leaves its parent's group and session, so killing those does not
end it. On Linux a process can adopt all its descendants that lose their parent; on other systems they are
found only while their parents live.
"""

__all__ = ["adopt_orphans", "child_pids", "descendants", "end_adopted", "end_descendants", "end_orphans"]

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 1.0
# A killed process may take some time to end: the system has to release its memory.
_KILL_WITHIN_S = 5.0
_POLL_S = 0.02
_TASKS = Path("/proc/self/task")

_has_adopted = False


def adopt_orphans() -> None:
    """Become the parent of every descendant of this process whose own parent ends."""
    global _has_adopted  # noqa: PLW0603 # the system's setting, which belongs to the process
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    _has_adopted = prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def descendants() -> set[psutil.Process]:
    """Return the living processes below this one."""
    return set(_below(psutil.Process())) if child_pids() else set()


def end_descendants(
    *, spare: Callable[[psutil.Process], bool] = lambda _: False, grace_s: float = _GRACE_S
) -> None:
    """End the processes below this one, and wait until they are gone.

    Args:
        spare: whether to leave a process alone; its own descendants are not spared with it.
        grace_s: seconds between SIGTERM and SIGKILL.
    """
    _end(lambda: [process for process in descendants() if not spare(process)], grace_s)


def end_adopted(*, grace_s: float = _GRACE_S) -> None:
    """End the processes that this one has adopted, and wait until they are gone.

    It has started its own children in its own session, and adopts only from children that it has started in
    other sessions and that have ended. Does nothing unless `adopt_orphans` was called.

    Args:
        grace_s: seconds between SIGTERM and SIGKILL.
    """
    if _has_adopted:
        _end(_adopted, grace_s)


def end_orphans(asked_at: dict[psutil.Process, float], *, known: Collection[int]) -> None:
    """Ask the adopted processes to end, and kill those that were asked a second ago. Does not wait.

    Args:
        asked_at: when each process was asked; pass the same dictionary to the next call.
        known: the ids of the children that this process has started.
    """
    for process in set(asked_at):
        if not _is_alive(process):
            del asked_at[process]
    pids = child_pids().difference(known)
    _press(_with_descendants(pids), asked_at, _GRACE_S)


def _end(find: Callable[[], list[psutil.Process]], grace_s: float) -> None:
    asked_at: dict[psutil.Process, float] = {}
    give_up_at = time.monotonic() + grace_s + _KILL_WITHIN_S
    while (left := find()) and time.monotonic() < give_up_at:
        _press(left, asked_at, grace_s)
        time.sleep(_POLL_S)


def _press(
    processes: Iterable[psutil.Process], asked_at: dict[psutil.Process, float], grace_s: float
) -> None:
    now = time.monotonic()
    for process in processes:
        # It may have ended, or run as another user.
        with contextlib.suppress(psutil.Error):
            if process not in asked_at:
                asked_at[process] = now
                process.terminate()
            elif now - asked_at[process] >= grace_s:
                process.kill()


def _adopted() -> list[psutil.Process]:
    """Return the direct children in other sessions, and the processes below them."""
    own = os.getsid(0)
    foreign: list[int] = []
    for pid in child_pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) != own:
                foreign.append(pid)
    return _with_descendants(foreign)


def _with_descendants(pids: Iterable[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            child = psutil.Process(pid)
            if _is_alive(child):
                found += [child, *_below(child)]
    return found


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children(recursive=True) if _is_alive(child)]
    except psutil.Error:
        return []


def _is_alive(process: psutil.Process) -> bool:
    """Return whether a process is alive; collect the exit code of a child that is not."""
    try:
        if not process.is_running():
            return False
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
    except psutil.Error:
        return False
    try:
        # Its first thread has ended. While others have not, the processes below it are still its children.
        return os.waitpid(process.pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def child_pids() -> set[int]:
    """Return the ids of this process's children, ended ones included."""
    # psutil would read the files of all processes on the machine.
    found: set[int] = set()
    is_known = False
    for task in _TASKS.glob("*/children"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in task.read_text().split()}
            is_known = True
    return found if is_known else {child.pid for child in psutil.Process().children()}
