"""A process that must not outlive another: what a killed parent leaves behind would go on to train for nobody."""

__all__ = ["end_with_parent"]

import os
import threading
import time

_LOOK_EVERY_S = 0.5


def end_with_parent(parent_pid: int | None) -> None:
    """End this process at once when its parent is no longer `parent_pid`; None watches nothing.

    A hard exit: whoever lost its parent to a SIGKILL has nobody left to report to, and its work is taken up from the record.
    """
    if parent_pid is None:
        return

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
