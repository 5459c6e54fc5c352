"""`python -m workers.guardian [--fork-server] COMMAND…`: runs a command, and ends what it leaves behind.

It is the parent of a Ray node. A training process may start daemons that leave its session; when the training
process ends, however it ends, they become children of the guardian, which ends them. When its own parent is
gone, it ends everything. It also removes the node's folder, and keeps a fork server for the node's workers,
which SIGHUP replaces. It imports neither Ray nor torch.
"""

__all__ = ["FORK_SERVER", "main"]

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from studies.process_tree import adopt_orphans, end_descendants, end_orphans
from workers.fork_supervisor import FORKS, ForkSupervisor
from workers.session_folder import session_folder

FORK_SERVER = "--fork-server"
"""The option with which the node gets a fork server."""

_POLL_S = 0.2


def main() -> int:
    """Run the command until it ends or this process's parent is gone; return its exit code."""
    parent_pid = int(os.environ["TANGENT_PARENT_PID"])
    adopt_orphans()
    with session_folder() as folder:
        forks = ForkSupervisor(folder) if sys.argv[1] == FORK_SERVER else None
        return _guard(parent_pid, folder, sys.argv[1 if forks is None else 2 :], forks)


def _guard(parent_pid: int, folder: Path, command_line: Sequence[str], forks: ForkSupervisor | None) -> int:
    command = subprocess.Popen(
        command_line,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            **({} if forks is None else {FORKS: "1"}),
            "TANGENT_PARENT_PID": str(os.getpid()),
            "TANGENT_RAY_FOLDER": str(folder),
        },
    )

    def forward(number: int, _frame: Any) -> None:
        command.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    signal.signal(signal.SIGHUP, lambda _number, _frame: None if forks is None else forks.replace())
    asked_at: dict[psutil.Process, float] = {}
    while command.poll() is None and os.getppid() == parent_pid:
        known = {command.pid}
        if forks is not None:
            forks.watch()
            known |= forks.pids
        end_orphans(asked_at, known=known)
        time.sleep(_POLL_S)
    end_descendants()
    return 1 if command.returncode is None else command.returncode


if __name__ == "__main__":
    sys.exit(main())
