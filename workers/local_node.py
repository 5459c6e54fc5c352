"""`python -m workers.local_node`: a Ray for this machine alone, in a process that its dispatcher can replace.

A process cannot start Ray twice, so the dispatcher does not start it in its own.
"""

__all__ = ["main"]

import argparse
import logging
import os
import signal
import sys
import threading

from studies.standard_error import write_line
from workers.fork_supervisor import fork_workers
from workers.local_ray import RayUnavailable, leave_ray, start_local_ray
from workers.node_process import STARTED
from workers.parent_watchdog import exit_with_parent


def main() -> int:
    """Start Ray, print its address, and keep it until SIGTERM; return 1 if it cannot be started."""
    # Trials inherit the environment but have another parent, so they must not see these variables.
    exit_with_parent(int(os.environ.pop("TANGENT_PARENT_PID")), with_group=True)
    folder = os.environ.pop("TANGENT_RAY_FOLDER")
    parser = argparse.ArgumentParser(prog="python -m workers.local_node", description=main.__doc__)
    parser.add_argument("--cpus", type=int, help="CPU cores to lend to trials (default: all)")
    arguments = parser.parse_args()
    is_ending = threading.Event()
    # It advises people to turn authentication on or off.
    logging.getLogger("ray").setLevel(logging.ERROR)
    fork_workers()
    try:
        address = start_local_ray(cpus=arguments.cpus, folder=folder)
    except RayUnavailable as error:
        write_line(f"{error}")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: is_ending.set())
    sys.stdout.write(f"{STARTED} at {address}\n")
    sys.stdout.flush()
    is_ending.wait()
    leave_ray()
    return 0


if __name__ == "__main__":
    sys.exit(main())
