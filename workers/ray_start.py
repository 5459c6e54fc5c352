"""`python -m workers.ray_start …`: Ray's own `ray start`, in a process that ends with its parent."""

__all__ = ["main"]

import os
import sys
from typing import Any, cast

from workers.fork_supervisor import fork_workers
from workers.parent_watchdog import exit_with_parent


def main() -> None:
    """Start a node as the command line says; with `--block`, return when the node has ended."""
    # Ray's workers inherit the environment but have another parent, so they must not see these variables.
    # With the whole group, because a GCS that stays behind would keep the port.
    exit_with_parent(int(os.environ.pop("TANGENT_PARENT_PID")), with_group=True)
    folder = os.environ.pop("TANGENT_RAY_FOLDER")
    from ray.scripts import scripts

    fork_workers()
    sys.argv = ["ray", "start", *sys.argv[1:], f"--temp-dir={folder}"]
    # Ray's functions have no complete types.
    cast("Any", scripts).main()


if __name__ == "__main__":
    main()
