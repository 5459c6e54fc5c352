"""`tangent up` on this machine, the kinds of processes below it, and a study during which some are killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from cluster.ledger import Row
from dispatcher_process import until
from invariants import ClientView, broken
from ports import free_port
from processes import below, is_alive

from service.client import Client
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import Store

__all__ = ["KINDS", "Kind", "Machine", "machine", "repeat", "repeat_in_turn", "run_study"]

_ROOT = Path(__file__).parents[1]
_READY_WITHIN_S = 150.0
_CLOSED_WITHIN_S = 200.0
_ENDED_WITHIN_S = 20.0
_NOTICED_WITHIN_S = 15.0
_BODY: Mapping[str, Any] = {
    "workload": "slow-plane",
    "arms": ["adamp", "sgd"],
    "budget": {"trials_per_arm": 3, "epochs": 10},
    "sampler": "random",
    "resources": {"max_pack_size": 1},
    "confirmation": {"seeds": 0},
    # Two kills may hit the same trial, also in its second attempt.
    "max_retries": 6,
}


class Machine:
    """`tangent up` with the workloads of `tests/plugin`, its files in `home`."""

    def __init__(self, home: Path, *, within: Sequence[str] = (), **environment: str) -> None:
        """Prepare; `start` starts it, with these variables, as the arguments of the command `within`."""
        self.home, self.port, self._within, self._environment = home, free_port(), within, environment
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{home}/tangent.db"
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id of `tangent up`."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, and wait until it prints its URL."""
        paths = os.pathsep.join(str(_ROOT / folder) for folder in (".", "tests/plugin"))
        silent = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
        up = [sys.executable, "-m", "service", "up", "--home", str(self.home), "--port", str(self.port)]
        with (self.home / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, *up],
                env={**silent, "PYTHONPATH": paths, "TANGENT_CPUS": "2", **self._environment},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("Dashboard: "), (self.home / "up.log").read_text()
        return self

    def stop(self) -> None:
        """Stop it with SIGTERM."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(40)
            self._process.kill()
            self._process.communicate()

    def start_again(self) -> None:
        """Start `tangent up` again after it was killed, once everything below it has ended."""
        assert self._process is not None
        self._process.communicate()
        self.start()

    def is_ready(self) -> bool:
        """Return whether /readyz answers 200."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        return False

    def reports_an_outage(self) -> bool:
        """Return whether /readyz names a problem; a killed dispatcher counts as able for up to 30 s."""
        with contextlib.suppress(httpx.HTTPError):
            response = httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False)
            return not response.is_success or bool(response.json()["dispatcher_problems"])
        return True

    def runs(self, *, of_a_study: bool) -> list[int]:
        """Return the runs that have a study, or the spare ones."""
        logs = (self.home / "logs").resolve()
        found: list[int] = []
        for pid in below(self.pid, command="workers.run"):
            with contextlib.suppress(OSError):
                output = Path(f"/proc/{pid}/fd/1").resolve()
                if (output.parent == logs and output.name.startswith("run-")) == of_a_study:
                    found.append(pid)
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of process that `tangent up` runs.

    Attributes:
        description: its name in the documentation.
        pids: returns the processes of this kind.
        trains: whether trials in training are lost with it.
        ends_ray_late: whether the raylet ends with it, but only after seconds.
    """

    description: str
    pids: Callable[[Machine], Sequence[int]]
    trains: bool = False
    ends_ray_late: bool = False


def _running(module: str) -> Callable[[Machine], Sequence[int]]:
    """Return a function that finds the processes `python -m MODULE`."""

    def is_it(pid: int) -> bool:
        with contextlib.suppress(psutil.Error, ValueError):
            arguments = psutil.Process(pid).cmdline()
            return arguments[arguments.index("-m") + 1] == module
        return False

    return lambda machine: [pid for pid in below(machine.pid, command=module) if is_it(pid)]


def _below(command: str) -> Callable[[Machine], Sequence[int]]:
    return lambda machine: below(machine.pid, command=command)


KINDS: Mapping[str, Kind] = {
    "service": Kind("`tangent up` itself, started again by hand", lambda machine: [machine.pid], trains=True),
    "dispatcher": Kind("the dispatcher", _running("workers"), trains=True),
    "guardian": Kind("the guardian of Ray's processes", _running("workers.guardian"), trains=True),
    "fork-server": Kind("the fork server of Ray's workers", _running("workers.fork_server")),
    "ray-node": Kind("the process that starts Ray", _running("workers.local_node"), trains=True),
    "gcs": Kind("Ray's GCS", _below("gcs_server"), trains=True),
    "raylet": Kind("the raylet", _below("raylet/raylet"), trains=True),
    "dashboard-agent": Kind(
        "Ray's dashboard agent", _below("ray::DashboardAgent"), trains=True, ends_ray_late=True
    ),
    "runtime-env-agent": Kind(
        "Ray's runtime environment agent", _below("ray::RuntimeEnvAgent"), trains=True, ends_ray_late=True
    ),
    "log-monitor": Kind("Ray's log monitor", _below("log_monitor.py")),
    "dashboard": Kind("Ray's dashboard", _below("dashboard/dashboard.py")),
    "autoscaler": Kind("Ray's autoscaler", _below("autoscaler/_private/monitor.py")),
    "run": Kind("the study's run", lambda machine: machine.runs(of_a_study=True), trains=True),
    "spare-run": Kind("the spare run", lambda machine: machine.runs(of_a_study=False)),
    "worker": Kind("a training process", _below("ray::ResourceTrainable"), trains=True),
    "analysis": Kind("a process of the analysis pool", _below("multiprocessing")),
}


def repeat(machine: Machine, kinds: Sequence[str]) -> Row:
    """Run a study, kill one process of each kind in its middle, and check what follows."""
    return run_study(machine, "+".join(kinds), lambda: _kill(machine, kinds))


def repeat_in_turn(machine: Machine, faults: Sequence[str], *, seconds: float) -> list[Row]:
    """Run one long study, kill processes in it again and again, then stop it and check what is left.

    Args:
        machine: where.
        faults: kinds of processes, as `raylet` or `raylet+run`, in this order.
        seconds: no process is killed after this time.
    """
    began, rows = time.monotonic(), list[Row]()
    until(machine.is_ready, what="a service that is ready", timeout_s=_READY_WITHIN_S)
    long = {"budget": {"trials_per_arm": 100, "epochs": 40}, "max_retries": 100}
    with Client(machine.url) as client:
        study_id = client.submit({**_BODY, **long}).id
    store = Store.open(machine.database, migrate=False)
    try:
        for fault in faults:
            if time.monotonic() - began > seconds:
                break
            rows.append(_strike(machine, store, study_id, fault))
            if rows[-1].broken:
                break
        until(machine.is_ready, what="a service that is ready again", timeout_s=60)
        with Client(machine.url) as client:
            client.stop(study_id)
        until(lambda: store.study(study_id).state is StudyState.COMPLETED, what="the study's end")
        page = httpx.get(f"{machine.url}/studies/{study_id}", timeout=60, trust_env=False)
        left = [] if page.is_success else [f"the study's page answers {page.status_code}"]
        deadline = time.monotonic() + 30
        while (found := broken(store, are_copies_due=True)) and time.monotonic() < deadline:
            time.sleep(0.5)
    except AssertionError as error:
        left, found = [str(error)], list[str]()
    finally:
        store.close()
    for row in rows:
        row.broken += [*left, *found]
        row.outcome = "broken" if row.broken else "completed"
    return rows


def _strike(machine: Machine, store: Store, study_id: str, fault: str) -> Row:
    """Kill processes while trials train, and wait until trials train again."""
    kinds, row = fault.split("+"), Row(fault)

    def done() -> int:
        return store.study(study_id).progress.epochs_done

    def requeued() -> int:
        return sum(trial.attempt - 1 for trial in store.every_trial(study_id))

    try:
        until(machine.is_ready, what="a service that is ready", timeout_s=_READY_WITHIN_S)
        trained = done()
        until(lambda: done() >= trained + 4, what="epochs", timeout_s=90)
        httpx.get(f"{machine.url}/studies/{study_id}", timeout=60, trust_env=False)
        before, began = requeued(), time.monotonic()
        _kill(machine, kinds)
        if any(KINDS[kind].trains for kind in kinds):
            until(lambda: requeued() > before, what="a requeued trial")
            row.noticed_s = time.monotonic() - began
        least = done()
        until(lambda: done() > least, what="another epoch", timeout_s=120)
        row.resumed_s = time.monotonic() - began if row.noticed_s is not None else None
        row.requeued = row.retries = requeued() - before
        if row.requeued and row.noticed_s is None:
            row.broken.append(f"{row.requeued} trials were requeued")
    except AssertionError as error:
        row.broken.append(str(error))
    return row


def _kill(machine: Machine, kinds: Sequence[str]) -> None:
    """Kill one process of each kind one right after the other; start `tangent up` again if it was killed."""
    victims = [
        until(lambda kind=kind: KINDS[kind].pids(machine), what=f"a process: {kind}", timeout_s=60)[0]
        for kind in kinds
    ]
    everything = below(machine.pid)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if "service" in kinds:
        until(
            lambda: not any(map(is_alive, everything)),
            what="its processes to end",
            timeout_s=_ENDED_WITHIN_S,
        )
        machine.start_again()
    # A dispatcher that is started again starts a Ray of its own, so no outage follows when the old one ends.
    elif "dispatcher" not in kinds and any(KINDS[kind].ends_ray_late for kind in kinds):
        until(machine.reports_an_outage, what="an outage", timeout_s=_NOTICED_WITHIN_S)


def run_study(machine: Machine, fault: str, strike: Callable[[], None]) -> Row:
    """Run a study with a fault in its middle, and check what follows."""
    until(machine.is_ready, what="a service that is ready", timeout_s=_READY_WITHIN_S)
    row, told = Row(fault), ClientView()
    with Client(machine.url) as client:
        study_id = told.accepted(client.submit(_BODY))
        until(lambda: client.study(study_id).progress.epochs_done >= 6, what="epochs", timeout_s=90)
        # The page starts the analysis pool.
        assert httpx.get(f"{machine.url}/studies/{study_id}", timeout=60, trust_env=False).is_success
        told.saw(client.every_trial(study_id))
    store = Store.open(machine.database, migrate=False)
    try:
        began = time.monotonic()
        strike()
        _observe(store, study_id, row, began=began)
        study = store.study(study_id)
        row.outcome = study.state.value
        if study.state is not StudyState.COMPLETED:
            row.broken.append(f"the study is {study.state.value}: {study.state_reason}")
        row.retries = sum(trial.retries for trial in store.every_trial(study_id))
        # Copies to Optuna's tables follow the end of the study.
        deadline = time.monotonic() + 30
        while (found := broken(store, told, are_copies_due=True)) and time.monotonic() < deadline:
            time.sleep(0.5)
        row.broken += found
    finally:
        store.close()
    try:
        until(machine.is_ready, what="a service that is ready again", timeout_s=60)
    except AssertionError as error:
        row.broken.append(str(error))
    page = httpx.get(f"{machine.url}/studies/{study_id}", timeout=60, trust_env=False)
    if not page.is_success:
        row.broken.append(f"the study's page answers {page.status_code}")
    return row


def _observe(store: Store, study_id: str, row: Row, *, began: float) -> None:
    """Wait for the study's end, and note when trials were requeued and when training went on."""
    least = store.study(study_id).progress.epochs_done
    while time.monotonic() - began < _CLOSED_WITHIN_S:
        study = store.study(study_id)
        done = study.progress.epochs_done
        row.requeued = sum(event.kind == "trial.requeued" for event in store.events(study_id))
        if row.noticed_s is None and row.requeued:
            row.noticed_s, least = time.monotonic() - began, done
        if row.resumed_s is None and row.requeued and done > least:
            row.resumed_s = time.monotonic() - began
        least = min(least, done)
        if study.state in CLOSED_STUDY_STATES:
            return
        time.sleep(0.1)
    row.broken.append(
        f"the study is not closed after {_CLOSED_WITHIN_S:g} s: {store.study(study_id).progress}"
    )


@contextmanager
def machine(home: Path, *, within: Sequence[str] = (), **environment: str) -> Iterator[Machine]:
    """Yield a running `tangent up`, see `Machine`, and stop it afterwards."""
    running = Machine(home, within=within, **environment)
    try:
        yield running.start()
    finally:
        running.stop()
