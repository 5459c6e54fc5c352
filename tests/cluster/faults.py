"""The faults: how each is injected, and how quickly the cluster must react."""

__all__ = ["FAULTS", "Fault"]

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster.lab import NODES, Lab
from cluster.story import Story

from studies.errors import Superseded
from studies.store import Store
from studies.trials import Claim

# The guarantee is 5 s for a process and 15 s for a node. A run's lease is 10 s, and its successor must start.
_PROCESS_S = 5.0
_NODE_S = 15.0
_LEASE_S = 10.0
# The stop timeout of systemd in docs/cluster.md.
_END_S = 30.0
_AWAY_S = 10.0
_CUT_S = 20.0
_FULL_S = 4.0

Strike = Callable[[Lab, Story, str], None]


@dataclass(frozen=True)
class Fault:
    """A fault that is injected into a running study.

    Attributes:
        description: the fault in words, for docs/reliability.md.
        strike: injects it and returns when it is over; receives the node that trains a trial beyond its
            checkpoint.
        requeues: whether it requeues trials: True for always, None for sometimes, False for never.
        within_s: seconds within which it must be noticed; None without a guarantee.
        is_charged: whether the requeues count as retries.
        hits_service: whether the service may answer 503 or nothing meanwhile.
        trials: trials per arm that a study needs to still run when the fault is over.
    """

    description: str
    strike: Strike
    requeues: bool | None = True
    within_s: float | None = None
    is_charged: bool = True
    hits_service: bool = False
    trials: int = 4


def _kill(pid: int | None) -> None:
    assert pid is not None, "no such process"
    os.kill(pid, signal.SIGKILL)


def _kill_part(name: str) -> Strike:
    def strike(lab: Lab, _story: Story, _node: str) -> None:
        lab.parts[name].send(signal.SIGKILL)

    return strike


def _terminate_part(name: str) -> Strike:
    def strike(lab: Lab, _story: Story, node: str) -> None:
        part = lab.parts[name or node]
        process = part.process
        part.send(signal.SIGTERM)
        assert process is not None
        lab.until(lambda: process.poll() is not None, what=f"{part.name} to end", timeout_s=_END_S)
        assert process.returncode == 0, part.said

    return strike


def _kill_run(lab: Lab, story: Story, _node: str) -> None:
    _kill(lab.run_of(story.id))


def _kill_worker(lab: Lab, story: Story, _node: str) -> None:
    _kill(_trainer(lab, story))


def _trainer(lab: Lab, story: Story) -> int:
    """Return a process that trains a trial beyond its checkpoint."""
    query = (
        "SELECT worker FROM trial WHERE study_id = %s AND state = 'running' "
        "AND epochs_done > checkpoint_epoch"
    )
    rows = lab.until(lambda: story.rows(query, story.id), what="a trial beyond its checkpoint")
    return int(rows[0][0].partition(":")[2])


def _kill_raylet(lab: Lab, _story: Story, node: str) -> None:
    _kill(lab.pid(node, "raylet"))


def _kill_gcs(lab: Lab, _story: Story, _node: str) -> None:
    process = lab.parts["dispatcher"].process
    assert process is not None
    _kill(lab.pid("head", "gcs_server"))
    lab.until(
        lambda: process.poll() is not None, what="the dispatcher to end with its head", timeout_s=_END_S
    )


def _stop_database(lab: Lab, _story: Story, _node: str) -> None:
    part = lab.parts["db"]
    part.is_kept = False
    # "Fast" shutdown: the server closes open connections.
    part.send(signal.SIGINT)
    _wait(lab, _AWAY_S)
    part.is_kept = True
    lab.until(lambda: part.works, what="the database to return", timeout_s=30.0)


def _freeze_database(lab: Lab, _story: Story, _node: str) -> None:
    """Suspend the whole server: its machine accepts packets, but nothing answers."""
    pids = list(lab.hosts["db"].processes())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        _wait(lab, _AWAY_S)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _cut_database(lab: Lab, _story: Story, _node: str) -> None:
    lab.hosts["db"].cut()
    try:
        _wait(lab, _AWAY_S)
    finally:
        lab.hosts["db"].plug_in()


def _cut(lab: Lab, _story: Story, node: str) -> None:
    lab.hosts[node].cut()
    try:
        _wait(lab, _CUT_S)
    finally:
        lab.hosts[node].plug_in()


def _lose(lab: Lab, story: Story, node: str) -> None:
    """Cut a machine off permanently; another takes its place and address once it counts as dead."""
    part, began = lab.parts[node], time.time()
    part.is_kept = False
    lab.hosts[node].cut()
    try:
        lab.until(lambda: story.again(began), what="the loss to be noticed", timeout_s=60.0)
    finally:
        for pid in lab.hosts[node].processes():
            os.kill(pid, signal.SIGKILL)
        lab.hosts[node].plug_in()
        part.is_kept = True


def _fill(lab: Lab, _story: Story, _node: str) -> None:
    lab.fill_disk()
    try:
        _wait(lab, _FULL_S)
    finally:
        lab.free_disk()


def _freeze_run(lab: Lab, story: Story, _node: str) -> None:
    """Suspend a run until another has claimed its study; then write with the superseded attempt."""
    pid, began = lab.run_of(story.id), time.time()
    assert pid is not None
    attempt = story.rows("SELECT attempt FROM study WHERE id = %s", story.id)[0][0]
    os.kill(pid, signal.SIGSTOP)
    lab.until(lambda: story.again(began), what="the run to count as lost", timeout_s=40.0)
    lab.until(
        lambda: not Path(f"/proc/{pid}/fd/1").exists(),
        what="the frozen run to be killed, because the next one needs its cores",
        timeout_s=15.0,
    )
    store = Store.open(lab.url, migrate=False)
    try:
        with pytest.raises(Superseded):
            store.run_writer(Claim(story.id, attempt), lease_s=_LEASE_S).renew()
    finally:
        store.close()


def _wait(lab: Lab, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lab.supervise()
        time.sleep(0.05)


FAULTS = {
    "service-killed": Fault(
        "`kill -9` of the service", _kill_part("service"), requeues=False, hits_service=True
    ),
    "dispatcher-killed": Fault(
        "`kill -9` of the dispatcher, its head and runs with it", _kill_part("dispatcher"), trials=2
    ),
    "run-killed": Fault("`kill -9` of the study's run", _kill_run, within_s=_PROCESS_S, trials=2),
    "worker-killed": Fault("`kill -9` of a training process", _kill_worker, within_s=_PROCESS_S),
    "raylet-killed": Fault("`kill -9` of a worker node's raylet", _kill_raylet, within_s=_NODE_S, trials=6),
    "head-killed": Fault("`kill -9` of the Ray head (GCS)", _kill_gcs, requeues=None, trials=2),
    "database-killed": Fault(
        "`kill -9` of PostgreSQL, restarted after a second",
        _kill_part("db"),
        requeues=None,
        hits_service=True,
    ),
    "database-away": Fault(
        f"PostgreSQL stopped for {_AWAY_S:g} s", _stop_database, requeues=None, hits_service=True
    ),
    "database-frozen": Fault(
        f"PostgreSQL suspended for {_AWAY_S:g} s", _freeze_database, requeues=None, hits_service=True
    ),
    "database-cut": Fault(
        f"the database's network cut for {_AWAY_S:g} s", _cut_database, requeues=None, hits_service=True
    ),
    "node-cut": Fault(f"a worker node's network cut for {_CUT_S:g} s", _cut, within_s=_NODE_S, trials=8),
    "node-lost": Fault("a worker node cut off permanently, and replaced", _lose, within_s=_NODE_S, trials=8),
    "disk-full": Fault(f"the checkpoints' disk full for {_FULL_S:g} s", _fill, requeues=None),
    "run-frozen": Fault(
        "a run suspended until its lease expires and another takes over",
        _freeze_run,
        within_s=_LEASE_S + _PROCESS_S,
        trials=8,
    ),
    "service-stopped": Fault(
        "SIGTERM of the service", _terminate_part("service"), requeues=False, hits_service=True
    ),
    "dispatcher-stopped": Fault(
        "SIGTERM of the dispatcher", _terminate_part("dispatcher"), requeues=None, is_charged=False, trials=2
    ),
    "node-stopped": Fault(
        "SIGTERM of a worker node", _terminate_part(""), requeues=None, is_charged=False, trials=6
    ),
}
"""By name."""

assert len(NODES) == 2, "one node continues while the other is away"
