"""The processes of runs, as their dispatcher starts and ends them."""

__all__ = ["RunProcess", "SpareRun", "stop_all"]

import logging
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from studies.database_urls import masked
from studies.logs import message_of
from studies.standard_error import write_line
from studies.trials import Claim
from workers.run import READY
from workers.run_server import ForkedRun

_log = logging.getLogger("tangent.dispatcher")
_STOP_WITHIN_S = 8.0
_READ_WITHIN_S = 0.5
_LINES_KEPT = 100
_LONGEST_ERROR = 300
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)\b")


@dataclass(frozen=True)
class RunProcess:
    """A process that runs a study."""

    claim: Claim
    process: subprocess.Popen[str] | ForkedRun


class SpareRun:
    """A process that has started before its study is known, so that a study need not wait for its imports.

    Args:
        process: it; its standard streams are pipes.
    """

    def __init__(self, process: subprocess.Popen[str] | ForkedRun) -> None:
        self.process = process
        self.is_ready = threading.Event()
        self._started_at = time.monotonic()
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        threading.Thread(target=self._read_output, name="spare-run", daemon=True).start()
        self._error_reader = threading.Thread(target=self._read_errors, name="spare-run-errors", daemon=True)
        self._error_reader.start()

    @classmethod
    def start(cls, environment: Mapping[str, str]) -> Self:
        """Start the process with these variables."""
        return cls(
            subprocess.Popen(
                # -P keeps the working directory off the import path: its files could replace any module.
                [sys.executable, "-P", "-m", "workers.run"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
            )
        )

    @property
    def last_error(self) -> str:
        """The last error that the process printed, or else its last message."""
        # The last lines of a process that has just ended may still be in the pipe.
        self._error_reader.join(_READ_WITHIN_S)
        lines = [line for line in self._last_lines if line.strip()]
        if not lines:
            return "it printed nothing"
        error = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])
        return message_of(error.strip())[:_LONGEST_ERROR]

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
        """Kill the process, if it has not ended; it has no study to hand over."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None, "it is started with a pipe"
        self.process.stdin.close()

    def _read_output(self) -> None:
        assert self.process.stdout is not None, "it is started with a pipe"
        with self.process.stdout as output:
            # Its imports may print other lines.
            for line in output:
                if line.strip() == READY:
                    self.is_ready.set()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None, "it is started with a pipe"
        with self.process.stderr as errors:
            # Once the process has its study, its output goes to the study's log.
            for line in errors:
                # A library that the run cannot import prints its error before the run masks tracebacks.
                self._last_lines.append(masked(line))
                write_line(line.rstrip("\n"))


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
