"""Ends a process when another one is gone: its parent, or the head of its Ray cluster.

Otherwise a killed parent would leave processes that train although no run collects their results.
"""

__all__ = ["LEAVE_SIGNAL", "exit_with_parent", "exit_without"]

import os
import signal
import socket
import threading
import time

LEAVE_SIGNAL = signal.SIGUSR1
"""The signal by which a node that is about to end warns the processes that train on it.

Each saves its pack's checkpoints after the current epoch and takes no further pack.
"""

_POLL_S = 0.5
# Ray counts a node as dead after 9 s without a heartbeat, and dispatches its packs elsewhere.
_CONNECT_EVERY_S = 3.0
_SILENT_FOR_S = 12.0


def exit_with_parent(parent_pid: int | None, *, with_group: bool = False) -> None:
    """End this process at once when its parent is no longer `parent_pid`; None watches nothing.

    It is a hard exit: after a SIGKILL of the parent no process would receive a report, and the work resumes
    from the database.

    Args:
        parent_pid: the parent's process id.
        with_group: whether to kill the whole process group.
    """
    if parent_pid is None:
        return

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_POLL_S)
        if with_group:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watchdog", daemon=True).start()


def exit_without(
    address: str, *, silent_for_s: float = _SILENT_FOR_S, connect_every_s: float = _CONNECT_EVERY_S
) -> None:
    """End this process at once when nothing has listened at an address for some time.

    It is a hard exit, as above: a machine that cannot reach its cluster cannot deliver its results.

    Args:
        address: `HOST:PORT`.
        silent_for_s: seconds without a connection after which the process ends.
        connect_every_s: seconds between attempts.
    """
    host, _, port = address.rpartition(":")

    def watch() -> None:
        last_connected = time.monotonic()
        while time.monotonic() - last_connected < silent_for_s:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=connect_every_s).close()
                last_connected = time.monotonic()
            except OSError:
                pass
            time.sleep(connect_every_s)
        os._exit(1)

    threading.Thread(target=watch, name="head-watchdog", daemon=True).start()
