"""`python -m workers.ray_start …`.

Ray's own `ray start`, in a process that ends with the one that started it.
"""

__all__ = ["main"]

import os
import sys
from typing import Any, cast

from workers.parent_watchdog import exit_with_parent


def main() -> None:
    """Start a node as the command line says; with `--block` this returns when the node has ended."""
    # Not left to Ray's workers, which inherit the environment: their parent is another. A GCS that stayed
    # behind would keep the port from the next.
    exit_with_parent(int(os.environ.pop("TANGENT_PARENT_PID")), with_group=True)
    from ray.scripts import scripts

    sys.argv = ["ray", "start", *sys.argv[1:]]
    # Ray's functions have no complete types.
    cast("Any", scripts).main()


if __name__ == "__main__":
    main()
