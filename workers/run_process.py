"""The processes of runs, as their dispatcher starts and ends them."""

__all__ = ["RunProcess", "SpareRun", "stop_all"]

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from studies.trials import Claim
from workers.run import READY

_log = logging.getLogger("tangent.dispatcher")
_STOP_WITHIN_S = 8.0


@dataclass(frozen=True)
class RunProcess:
    """A process that runs a study."""

    claim: Claim
    process: subprocess.Popen[str]


class SpareRun:
    """A process that has started before its study is known, so that a study need not wait for its imports."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start the process with these variables."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.is_ready = threading.Event()
        self._started_at = time.monotonic()
        threading.Thread(target=self._read_output, name="spare-run", daemon=True).start()

    def is_late(self, timeout_s: float) -> bool:
        """Return whether the process is still not ready after `timeout_s`."""
        return not self.is_ready.is_set() and time.monotonic() - self._started_at > timeout_s

    def assign(self, claim: Claim) -> RunProcess:
        """Give the process its study."""
        assert self.process.stdin is not None, "it is started with a pipe"
        try:
            self.process.stdin.write(f"{claim.study_id} {claim.attempt}\n")
            self.process.stdin.close()
        except BrokenPipeError:
            _log.warning(
                "study %s: its run ended before it could start",
                claim.study_id,
                extra={"study_id": claim.study_id},
            )
        return RunProcess(claim, self.process)

    def kill(self) -> None:
        """Kill the process; it has no study to hand over."""
        self.process.kill()
        self.process.wait()

    def _read_output(self) -> None:
        assert self.process.stdout is not None, "it is started with a pipe"
        # Its imports may print other lines.
        for line in self.process.stdout:
            if line.strip() == READY:
                self.is_ready.set()


def stop_all(runs: Iterable[RunProcess]) -> None:
    """Ask runs to hand their studies over, and kill those that have not ended in time."""
    runs = list(runs)
    for run in runs:
        run.process.terminate()
    deadline = time.monotonic() + _STOP_WITHIN_S
    for run in runs:
        try:
            run.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.process.kill()
            run.process.wait()
