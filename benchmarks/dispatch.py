"""A dispatcher started like a user's: `python -m workers` in its own process, with its own SQLite and Ray."""

__all__ = ["Dispatch", "dispatching"]

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from side_processes import Side

from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import Store
from studies.views import StudyView

_LOOK_EVERY_S = 0.25
_ROOT = Path(__file__).parents[1]


class Dispatch:
    """A running dispatcher."""

    def __init__(self, home: Path, side: Side, process: subprocess.Popen[bytes]) -> None:
        """Connect to a dispatcher that was started."""
        self.store = Store.open(f"sqlite:///{home}/tangent.db")
        self.home = home
        self._side = side
        self._process = process

    def ready(self) -> float:
        """Wait until a run is ready for the next study, with its imports done.

        Returns the monotonic time at which it became ready.

        Raises:
            RuntimeError: the dispatcher has ended; the message has its output.
        """
        while "ready on" not in self._log_text() or self.run_pid() is None:
            self._check()
            time.sleep(_LOOK_EVERY_S)
        return self._side.rest()

    def carried_out(self, body: Mapping[str, Any]) -> StudyView:
        """Submit a study, wait until it is closed, and return it.

        Raises:
            RuntimeError: it did not complete, or the dispatcher has ended.
        """
        study_id = self.store.submit(parse_spec(body)).id
        while self.store.study(study_id).state not in CLOSED_STUDY_STATES:
            self._check()
            time.sleep(_LOOK_EVERY_S)
        study = self.store.study(study_id)
        if study.state is not StudyState.COMPLETED:
            raise RuntimeError(
                f"expected the study to complete, but it is {study.state.value}: "
                f"{study.state_reason}; the log is in {self.home}/logs"
            )
        return study

    def run_pid(self) -> int | None:
        """Return the dispatcher's newest run process, which waits for the next study, or None."""
        return max(self.runs(), default=None)

    def runs(self) -> Sequence[int]:
        """Return the process ids of the dispatcher's runs."""
        found: list[int] = []
        for task in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            for pid in task.read_text().split():
                command = Path(f"/proc/{pid}/cmdline")
                if command.exists() and b"workers.run" in command.read_bytes().split(b"\0"):
                    found.append(int(pid))
        return found

    def _log_text(self) -> str:
        return (self.home / "dispatcher.log").read_text(errors="replace")

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(
                f"the dispatcher ended with code {self._process.returncode}: {self._log_text()[-2000:]}"
            )


@contextmanager
def dispatching(home: Path, side: Side, *, cpus: int, paths: Sequence[Path] = ()) -> Iterator[Dispatch]:
    """Start a dispatcher on a database in `home`, and stop it afterwards.

    Args:
        home: an empty folder.
        side: the side that its processes are marked for.
        cpus: cores of its Ray, and thus packs at once.
        paths: additional folders on its processes' import path, for a benchmark's own workloads.
    """
    environment = {
        **side.environment,
        "TANGENT_HOME": str(home),
        "TANGENT_PARENT_PID": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(map(str, [_ROOT, *paths])),
    }
    with (home / "dispatcher.log").open("wb") as log:
        command = [sys.executable, "-m", "workers", "--cpus", str(cpus)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home)
    try:
        yield Dispatch(home, side, process)
    finally:
        process.terminate()
        process.wait()
