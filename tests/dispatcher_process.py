"""A real dispatcher process with a real Ray, a database and a folder of packages, by default `tests/plugin`.

Tests can start, kill and restart it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from invariants import broken
from optuna.trial import FrozenTrial
from optuna_copies import copies_at
from processes import below

from studies.database_urls import sqlite_url
from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from studies.views import StudyView

__all__ = ["SECRETS", "DispatcherProcess", "dispatcher_process", "until"]

_ROOT = Path(__file__).parents[1]
_PLUGIN = _ROOT / "tests" / "plugin"
SECRETS = {
    "TANGENT_TOKEN": "tangent_secret-of-the-client",
    "TANGENT_TOKEN_FILE": "/secrets/token-of-the-client",
    "PGPASSWORD": "secret-of-the-database",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-operator",
}
"""Variables of the dispatcher's environment that no trial may see."""

_HOSTILE_MODULES = ("secrets", "optuna", "queue", "numba", "pickle", "socket", "logging", "torch", "studies")
_HOSTILE_CODE = "import pathlib; pathlib.Path(__file__).with_suffix('.executed').touch()"


def until(is_true: Callable[[], Any], *, what: str, timeout_s: float = 60.0) -> Any:
    """Call `is_true` repeatedly until its result is true, and return the result."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = is_true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"timed out after {timeout_s:g} s waiting for {what}")


class DispatcherProcess:
    """`python -m workers` on a database, with its files in `home`."""

    def __init__(self, home: Path, *, database: str | None = None, packages: Path = _PLUGIN) -> None:
        """Open the store, by default SQLite in `home`; `start` starts the process."""
        self.home = home
        self._packages = packages
        self._database = database
        self.url = database or sqlite_url(home / "tangent.db")
        self.store = Store.open(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The dispatcher's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The output of the dispatcher and its runs so far."""
        files = [self.home / "dispatcher.log", *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(
            f"== {file.name}\n{file.read_text(errors='replace')}" for file in files if file.exists()
        )

    @property
    def problem(self) -> str | None:
        """Why the dispatcher can start no run, according to its last heartbeat; None if it can."""
        return self.store.dispatchers()[f"{os.uname().nodename}:{self.pid}"].problem

    @property
    def start_folder(self) -> Path:
        """Its working directory, with modules that leave a file `NAME.executed` if anything imports them."""
        return self.home / "start"

    def start(self) -> Self:
        """Start the process and wait until it has announced its catalogue."""
        self.start_folder.mkdir(exist_ok=True)
        for name in _HOSTILE_MODULES:
            (self.start_folder / f"{name}.py").write_text(_HOSTILE_CODE)
        environment = {
            **os.environ,
            **SECRETS,
            "TANGENT_TRIAL_ENVIRONMENT": "HF_TOKEN",
            "HF_TOKEN": "for-trials",
            "TANGENT_DATA": str(self.home),
            "TANGENT_PACKAGES": str(self._packages),
            "TANGENT_HOME": str(self.home),
            **({"TANGENT_DATABASE_URL": self._database} if self._database is not None else {}),
            "TANGENT_LEASE_S": "3",
            "TANGENT_PARENT_PID": str(os.getpid()),
            "PYTHONPATH": os.pathsep.join(str(_ROOT / folder) for folder in (".", "tests/killing")),
        }
        with (self.home / "dispatcher.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers", "--cpus", "2"],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.start_folder,
                umask=0,
            )
        ready = f"ready on {os.uname().nodename}:{self.pid}"
        until(
            lambda: self._process is not None and (ready in self.log or self._process.poll() is not None),
            what="a dispatcher that is ready",
            timeout_s=150.0,
        )
        assert self._process.poll() is None, self.log
        return self

    def kill(self) -> None:
        """Kill it with SIGKILL, as the system does when memory runs out."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Stop it with SIGTERM and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(30)

    def submit(self, workload: str, *, arms: list[Any] | None = None, trials: int = 3, **fields: Any) -> str:
        """Submit a study and return its id; without confirmation unless the fields request it."""
        budget = {
            "trials_per_arm": trials,
            "epochs": fields.pop("epochs", None),
            "replicates": fields.pop("replicates", 1),
        }
        body = {
            "workload": workload,
            "arms": arms or ["adamp"],
            "budget": budget,
            "sampler": "random",
            # Paired trials are never pruned.
            **({"search": {"paired": 0}} if "pruner" in fields else {}),
            "confirmation": {"seeds": 0},
            # Most workloads of the plugin are faulty on purpose.
            "check_workload": False,
            **fields,
        }
        return self.store.submit(parse_spec(body)).id

    def closed(self, study_id: str, *, timeout_s: float = 90.0) -> StudyView:
        """Wait until a study is closed and return it."""
        try:
            until(
                lambda: self.store.study(study_id).state in CLOSED_STUDY_STATES,
                what=f"study {study_id} to close",
                timeout_s=timeout_s,
            )
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {self.store.study(study_id).progress}\n{self.log[-6000:]}"
            ) from None
        return self.store.study(study_id)

    def copies(self, study_id: str, arm: str) -> list[FrozenTrial]:
        """Return Optuna's copies of an arm's trials."""
        return copies_at(self.url, f"tangent/{study_id}/{arm}")

    def epochs(self, study_id: str, at_least: int) -> None:
        """Wait until a study has trained at least this many epochs."""
        until(
            lambda: self.store.study(study_id).progress.epochs_done >= at_least,
            what=f"{at_least} epochs of {study_id}",
        )

    def processes(self, of: str) -> list[int]:
        """Return the ids of the processes below this dispatcher whose command line contains `of`."""
        return below(self.pid, command=of)

    def run_of(self, study_id: str) -> int:
        """Return the id of a study's run process, found by its log file."""
        log = self.home / "logs" / f"run-{study_id}.log"
        runs = [
            pid
            for pid in self.processes("workers.run")
            if Path(f"/proc/{pid}/fd/1").resolve() == log.resolve()
        ]
        assert len(runs) == 1, runs
        return runs[0]

    def kill_a_worker(self) -> None:
        """Kill a Ray process that is training a pack."""
        os.kill(
            until(lambda: self.processes("ray::ResourceTrainable"), what="a worker that trains")[0],
            signal.SIGKILL,
        )


@contextmanager
def dispatcher_process(
    home: Path, *, database: str | None = None, packages: Path = _PLUGIN
) -> Iterator[DispatcherProcess]:
    """Yield a running dispatcher, by default on SQLite in `home`, and end it afterwards.

    The database must satisfy all invariants at the end.
    """
    home.mkdir(parents=True, exist_ok=True)
    dispatcher = DispatcherProcess(home, database=database, packages=packages).start()
    try:
        yield dispatcher
        dispatcher.stop()
        assert broken(dispatcher.store) == []
    finally:
        dispatcher.stop()
        dispatcher.store.close()
