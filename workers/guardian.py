"""`python -m workers.guardian COMMAND…`: runs a command, and ends every process that it leaves behind.

It is the parent of a Ray node. A training process may start daemons that leave its session; when the training
process ends, however it ends, they become children of the guardian, which ends them. When its own parent is
gone, it ends everything. It also removes the node's folder. It imports neither Ray nor torch.
"""

__all__ = ["main"]

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from studies.process_tree import adopt_orphans, end_descendants, end_orphans
from workers.session_folder import session_folder

_POLL_S = 0.2


def main() -> int:
    """Run the command until it ends or this process's parent is gone; return its exit code."""
    parent_pid = int(os.environ["TANGENT_PARENT_PID"])
    adopt_orphans()
    with session_folder() as folder:
        return _guard(parent_pid, folder)


def _guard(parent_pid: int, folder: Path) -> int:
    command = subprocess.Popen(
        sys.argv[1:],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TANGENT_PARENT_PID": str(os.getpid()), "TANGENT_RAY_FOLDER": str(folder)},
    )

    def forward(number: int, _frame: Any) -> None:
        command.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    asked_at: dict[psutil.Process, float] = {}
    while command.poll() is None and os.getppid() == parent_pid:
        end_orphans(asked_at, known={command.pid})
        time.sleep(_POLL_S)
    end_descendants()
    return 1 if command.returncode is None else command.returncode


if __name__ == "__main__":
    sys.exit(main())
