"""The process of one study's run: `python -m workers.run`.

It imports what it needs, joins Ray and prints `ready`; then it reads its study from a line of standard input,
`STUDY ATTEMPT`. So a dispatcher can keep one ready. With `--serve` it forks such processes (`run_server.py`).
"""

__all__ = ["NO_RAY", "READY", "main"]

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from studies.errors import StoreUnavailable, Superseded
from studies.logs import configure_logging
from studies.private_files import create_private_folder, open_privately
from studies.store import Store
from studies.trials import Claim
from workers.local_ray import RayUnavailable, insufficient_resources, join_ray, leave_ray, lent_resources
from workers.parent_watchdog import exit_with_parent
from workers.run_server import SERVE, serve
from workers.settings import DispatcherSettings

_log = logging.getLogger("tangent.run")
NO_RAY = 75
"""Exit code of a run that could not join Ray. Neither study nor run is at fault."""

# Longer than a lease: while another process holds SQLite's write lock, no other run can take the study over.
_LOCK_WAIT_S = 60.0

READY = "ready"
"""What a run prints once it can be given a study."""


def _cluster_name(ray_address: str) -> str:
    """Return a name that all runs on one Ray cluster share.

    A loopback address means a different cluster on each machine.
    """
    host = ray_address.rpartition(":")[0]
    is_loopback = host.startswith("127.") or host in {"localhost", "[::1]"}
    return f"{socket.gethostname()}/{ray_address}" if is_loopback else ray_address


def _redirect_output(log: Path) -> None:
    """Append everything that this process prints from now on to a file."""
    create_private_folder(log.parent)
    with open(log, "ab", opener=open_privately) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def main() -> int:
    """Get ready, wait for a study and run it.

    Return 0 once the study's state is stored, whatever it is, or if no study came.
    """
    if sys.argv[1:] == [SERVE]:
        code = serve()
        if code is not None:
            return code
    # A server has imported it with care for Ray's random ids.
    from workers.study_run import NO_DATABASE, StudyRun

    settings = DispatcherSettings()
    exit_with_parent(settings.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(settings.log_format, process="run")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    store = Store.open(settings.database, migrate=False, lock_wait_s=_LOCK_WAIT_S)
    try:
        join_ray(settings.ray_address)
    except RayUnavailable as error:
        _log.warning("run ends: %s", error)
        return NO_RAY
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    words = sys.stdin.readline().split()
    if len(words) != 2:
        return 0
    study_id, attempt = words[0], int(words[1])
    _redirect_output(settings.log_of(study_id))
    configure_logging(settings.log_format, process="run", study_id=study_id, attempt=attempt)
    try:
        run = StudyRun(
            store,
            Claim(study_id, attempt),
            lease_s=settings.lease_s,
            checkpoints=settings.checkpoints_of(study_id),
            artifacts=settings.artifacts_of(study_id),
            machines=_cluster_name(settings.ray_address),
            turn_s=settings.turn_s,
            packages=settings.packages,
            lent=lent_resources,
        )

        def leave(_signal: int, _frame: Any) -> None:
            run.leave()

        signal.signal(signal.SIGTERM, leave)
        reason = insufficient_resources(run.spec.resources.cpus_per_pack, run.spec.resources.gpus_per_pack)
        state = run.fail(reason) if reason is not None else run.carry_out()
    except Superseded as error:
        _log.warning("run ends: %s", error)
        return 0
    except StoreUnavailable as error:
        _log.warning("run ends: %s", error)
        return NO_DATABASE
    _log.info("study %s is %s", study_id, state.value)
    leave_ray()
    return 0


if __name__ == "__main__":
    sys.exit(main())
