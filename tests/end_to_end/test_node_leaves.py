"""A worker's machine stops during an epoch: no finished epoch is lost and no retry is charged."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dispatcher_process import until
from ports import own_address

from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]


@contextmanager
def started(home: Path, name: str, *command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that writes to `NAME.log`, and stop it afterwards."""
    inherited = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith(("TANGENT_", "RAY_"))
    }
    environment = {
        **inherited,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugin")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "TANGENT_HOME": str(home),
        "TANGENT_LEASE_S": "3",
        "TANGENT_RAY_PORT": str(port),
        "TANGENT_NODE_ADDRESS": own_address(),
    }
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment, cwd=home
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_that_stops_loses_no_finished_epoch(tmp_path: Path) -> None:
    with socket.create_server((own_address(), 0)) as free:
        port = int(free.getsockname()[1])
    (tmp_path / "token").write_text(secrets.token_hex(32))
    with started(tmp_path, "dispatcher", "workers", "--ray", "head", "--cpus", "1", port=port) as dispatcher:
        log = tmp_path / "dispatcher.log"
        until(
            lambda: " ready on " in log.read_text() or dispatcher.poll() is not None,
            what="the dispatcher to be ready",
            timeout_s=120,
        )
        assert dispatcher.poll() is None, log.read_text()
        store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
        with started(
            tmp_path, "worker", "workers.node", f"{own_address()}:{port}", "--cpus", "1", port=port
        ) as node:
            until(
                lambda: "Ray runtime started" in (tmp_path / "worker.log").read_text(),
                what="the node to join",
                timeout_s=90,
            )
            body = {
                "workload": "slow-plane",
                "arms": ["sgd"],
                "budget": {"trials_per_arm": 2, "epochs": 80},
                "sampler": "random",
            }
            study_id = store.submit(
                parse_spec({**body, "confirmation": {"seeds": 0}, "resources": {"max_pack_size": 1}})
            ).id
            until(
                lambda: (
                    all(t.epochs_done >= 5 for t in store.every_trial(study_id))
                    and store.every_trial(study_id)
                ),
                what="epochs of both trials",
            )
            before = {t.id: t.epochs_done for t in store.every_trial(study_id)}
            asked = time.monotonic()
            node.send_signal(signal.SIGTERM)
            assert node.wait(30) == 0, (tmp_path / "worker.log").read_text()
            assert time.monotonic() - asked < 10.0
        (moved,) = until(
            lambda: [t for t in store.every_trial(study_id) if t.attempt > 1], what="a requeued trial"
        )
        assert moved.epochs_done >= before[moved.id]
        assert moved.retries == 0
        until(
            lambda: store.study(study_id).state in CLOSED_STUDY_STATES,
            what="the study to close",
            timeout_s=120,
        )
        assert store.study(study_id).state is StudyState.COMPLETED
        for trial in store.every_trial(study_id):
            assert trial.retries == 0
            assert [m.epoch for m in store.measurements(trial.id)] == list(range(1, 81))
        store.close()
