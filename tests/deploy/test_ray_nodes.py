"""A Ray cluster of several nodes, each a process on this machine."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatcher_process import until
from ports import own_address
from processes import below, is_alive

from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]


class Cluster:
    """Processes of one cluster with their logs; all are stopped at the end."""

    def __init__(self, home: Path) -> None:
        """Create the token and choose the port; nothing starts yet."""
        self.home = home
        self.address = own_address()
        (home / "token").write_text(secrets.token_hex(32))
        with socket.create_server((self.address, 0)) as free:
            self.port = int(free.getsockname()[1])
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process that writes to `NAME.log`."""
        inherited = {
            variable: value
            for variable, value in os.environ.items()
            if not variable.startswith(("TANGENT_", "RAY_"))
        }
        whole = {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugin")]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.home / "token"),
            "TANGENT_HOME": str(self.home),
            **environment,
        }
        with (self.home / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=whole, cwd=self.home)
            )
        return self._processes[-1]

    def log(self, name: str) -> str:
        """Return the output of a process so far."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def dispatcher(self) -> subprocess.Popen[bytes]:
        """Start a dispatcher with the head and wait until it is ready."""
        where = {
            "TANGENT_RAY_PORT": str(self.port),
            "TANGENT_NODE_ADDRESS": self.address,
            "TANGENT_LEASE_S": "3",
        }
        process = self.start("dispatcher", "-m", "workers", "--ray", "head", **where)
        until(
            lambda: " ready on " in self.log("dispatcher") or process.poll() is not None,
            what="the dispatcher to be ready",
            timeout_s=120,
        )
        assert process.poll() is None, self.log("dispatcher")
        return process

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one core."""
        return self.start(
            "worker",
            "-m",
            "service",
            "worker",
            "join",
            f"{self.address}:{self.port}",
            "--cpus",
            "1",
            **environment,
        )

    def end(self) -> None:
        """Stop everything; nodes end with the processes that started them."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_study_waits_for_a_worker_and_dispatcher_and_worker_end_with_their_nodes(
    cluster: Cluster,
) -> None:
    dispatcher = cluster.dispatcher()
    store = Store.open(f"sqlite:///{cluster.home}/tangent.db")
    body = {
        "workload": "plane",
        "arms": ["adamp"],
        "budget": {"trials_per_arm": 3},
        "sampler": "random",
        "confirmation": {"seeds": 0},
    }
    study_id = store.submit(parse_spec(body)).id
    until(lambda: store.study(study_id).state is StudyState.RUNNING, what="the study to be claimed")
    # The head has no CPUs to offer, so the study waits for a node instead of failing.
    assert store.study(study_id).progress.finished == 0

    worker = cluster.worker()
    until(
        lambda: store.study(study_id).state in CLOSED_STUDY_STATES, what="the study to close", timeout_s=180
    )
    assert store.study(study_id).state is StudyState.COMPLETED, cluster.log("dispatcher")

    (node,) = below(worker.pid, command="workers.guardian")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0, cluster.log("worker")
    until(lambda: not is_alive(node), what="the worker's node to end")

    (head,) = below(dispatcher.pid, command="workers.guardian")
    os.kill(head, signal.SIGKILL)
    # A dispatcher whose head died exits with an error, so that a supervisor restarts both.
    assert dispatcher.wait(60) == 1
    assert "has ended; this dispatcher ends" in cluster.log("dispatcher")
    store.close()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_with_a_wrong_token_is_rejected_and_one_whose_head_dies_exits(
    cluster: Cluster,
) -> None:
    dispatcher = cluster.dispatcher()
    (cluster.home / "other").write_text(secrets.token_hex(32))
    stranger = cluster.worker(RAY_AUTH_TOKEN_PATH=str(cluster.home / "other"))
    assert stranger.wait(120) == 1
    assert "error: Ray did not start: " in cluster.log("worker")

    worker = cluster.worker()
    until(lambda: "Ray runtime started" in cluster.log("worker"), what="the worker to join", timeout_s=60)
    dispatcher.kill()
    dispatcher.wait()
    assert worker.wait(90) == 1
    assert "has ended" in cluster.log("worker")
