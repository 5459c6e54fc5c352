"""A process that must not outlive another.

What a killed parent leaves behind would go on to train for nobody.
"""

__all__ = ["LEAVE_SIGNAL", "exit_with_parent", "exit_without"]

import os
import signal
import socket
import threading
import time

LEAVE_SIGNAL = signal.SIGUSR1
"""What a node that is about to end sends those that train on it.

Each leaves its pack's state after the present epoch, and begins nothing more.
"""

_LOOK_EVERY_S = 0.5
# Ray counts a node as dead after 9 s without a sign of life, and gives what it trained to others.
_KNOCK_EVERY_S = 3.0
_SILENT_FOR_S = 12.0


def exit_with_parent(parent_pid: int | None, *, with_group: bool = False) -> None:
    """End this process at once, or all of its process group, when its parent is no longer `parent_pid`.

    None watches nothing.

    A hard exit: whoever lost its parent to a SIGKILL has nobody left to report to, and its work is taken up
    from the record.
    """
    if parent_pid is None:
        return

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_LOOK_EVERY_S)
        if with_group:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def exit_without(
    address: str, *, silent_for_s: float = _SILENT_FOR_S, knock_every_s: float = _KNOCK_EVERY_S
) -> None:
    """End this process at once when nothing has listened at `HOST:PORT` for so long.

    A hard exit, as above: on a machine that is cut off from its Ray there is nobody left who would take what
    it trains.
    """
    host, _, port = address.rpartition(":")

    def watch() -> None:
        last_heard = time.monotonic()
        while time.monotonic() - last_heard < silent_for_s:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=knock_every_s).close()
                last_heard = time.monotonic()
            except OSError:
                pass
            time.sleep(knock_every_s)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
