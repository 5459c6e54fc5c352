"""Stops, cancels and bad trials on a cluster of hosts, with and without an unreachable node."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.lab import NODES, Lab
from cluster.ledger import Row, append
from cluster.story import Story

from studies.states import StudyMove, StudyState, TrialState

__all__: list[str] = []

_REPETITIONS = int(os.environ.get("TANGENT_REPETITIONS", "1"))
_LEDGER = os.environ.get("TANGENT_LEDGER")
_STOPPED_WITHIN_S = 10.0

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.timeout(300 + 120 * _REPETITIONS, func_only=True),
]


@contextmanager
def kept(name: str) -> Iterator[Row]:
    """Yield a row, and store it even if the test fails."""
    row = Row(name)
    try:
        yield row
    except AssertionError as error:
        row.outcome = "broken"
        row.broken.append(str(error))
        raise
    finally:
        if _LEDGER:
            append(Path(_LEDGER), [row])


@pytest.mark.parametrize("is_cut", [False, True], ids=["all-there", "node-cut"])
@pytest.mark.parametrize("verb", [StudyMove.STOP, StudyMove.CANCEL])
def test_stop_and_cancel_end_a_study_within_ten_seconds(cluster: Lab, verb: StudyMove, is_cut: bool) -> None:
    for _ in range(_REPETITIONS):
        with kept(f"{verb.value}-while-cut" if is_cut else verb.value) as row:
            end_early(cluster, row, verb, is_cut=is_cut)
            assert row.resumed_s is not None
            assert row.resumed_s <= _STOPPED_WITHIN_S, (
                f"{verb.value} took {row.resumed_s:.1f} s, promised within {_STOPPED_WITHIN_S:g} s"
            )


def end_early(cluster: Lab, row: Row, verb: StudyMove, *, is_cut: bool) -> None:
    """Stop or cancel a running study; record when the response came and when the study closed."""
    cluster.healed()
    body = {
        "workload": "slow-plane",
        "arms": ["adamp", "sgd"],
        "budget": {"trials_per_arm": 200, "epochs": 12},
        "sampler": "random",
    }
    rungs = {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}
    story = Story(
        cluster, {**body, "pruner": rungs, "resources": {"max_pack_size": 3}, "confirmation": {"seeds": 0}}
    )
    node = cluster.until(story.victim, what="a trial beyond its checkpoint", timeout_s=120.0)
    if is_cut:
        cluster.hosts[node].cut()
    try:
        asked_at = time.time()
        with cluster.client() as client:
            client.move(story.id, verb)
        row.noticed_s = time.time() - asked_at
        cluster.until(
            lambda: story.is_closed, what=f"the study to be closed after {verb.value}", timeout_s=60.0
        )
        row.resumed_s = time.time() - asked_at
    finally:
        if is_cut:
            cluster.hosts[node].plug_in()
    row.requeued = len(story.again(asked_at))
    end = story.finish()
    row.slowest_s = max(answer.took_s for answer in story.probe.since(asked_at))
    row.outcome = end.state.value
    assert end.state is (StudyState.COMPLETED if verb is StudyMove.STOP else StudyState.CANCELLED)
    assert not (faults := story.faults()), faults


BAD = {
    "trial-dies": ("deadly-high-lr", "its worker was lost"),
    "trial-hangs": ("hanging-high-lr", "no epoch finished within"),
    "trial-out-of-memory": ("greedy-high-lr", "memory ran out"),
}
"""A workload of which one configuration ends its worker each time, and what is said of it."""


@pytest.mark.parametrize("name", BAD)
def test_a_trial_that_always_kills_its_worker_fails_alone_with_the_reason(cluster: Lab, name: str) -> None:
    workload, said = BAD[name]
    if name == "trial-out-of-memory" and not all(cluster.hosts[node].is_bounded for node in NODES):
        pytest.skip("needs control groups, to bound a host's memory")
    for _ in range(_REPETITIONS):
        with kept(name) as row:
            cluster.healed()
            story, began = Story(cluster, _one_bad_of_four(workload)), time.time()
            end = story.finish()
            row.resumed_s = time.time() - began
            again = story.again(began)
            row.noticed_s = again[0].at - began if again else None
            row.requeued, row.retries = len(again), sum(trial.is_charged for trial in again)
            row.outcome = end.state.value
            trials = story.seen
            (failed,) = [trial for trial in trials if trial.state is TrialState.FAILED]
            row.outcome = f"{end.state.value}; the trial: {failed.reason}"
            assert end.state is StudyState.COMPLETED
            assert failed.parameters["lr"] == 1e6
            assert failed.reason is not None
            assert said in failed.reason
            assert [trial.state for trial in trials].count(TrialState.COMPLETED) == len(trials) - 1
            assert not (faults := story.faults()), faults


def _one_bad_of_four(workload: str) -> dict[str, Any]:
    space = {"lr": {"choices": [1e6, 0.05, 0.1]}, "momentum": 0.9, "weight_decay": 0.0}
    return {
        "workload": workload,
        "arms": [{"optimizer": "sgd", "space": space}],
        "budget": {"trials_per_arm": 4},
        "sampler": "grid",
        "confirmation": {"seeds": 0},
        "max_retries": 1,
        # Long enough that even a slow machine ends only trials that hang.
        "resources": {"epoch_timeout_s": 5.0 if workload.startswith("hanging") else 60.0},
    }


def test_a_study_fails_with_the_reason_if_the_disk_stays_full(cluster: Lab) -> None:
    for _ in range(_REPETITIONS):
        with kept("disk-full-for-good") as row:
            cluster.healed()
            cluster.fill_disk()
            try:
                body = {
                    "workload": "plane",
                    "arms": ["sgd"],
                    "budget": {"trials_per_arm": 4},
                    "sampler": "random",
                    "confirmation": {"seeds": 0},
                }
                rungs = {"kind": "asha", "min_epochs": 1, "reduction_factor": 2}
                began = time.time()
                story = Story(cluster, {**body, "pruner": rungs, "max_retries": 1})
                end = story.finish()
            finally:
                cluster.free_disk()
            again = story.again(began)
            row.resumed_s = time.time() - began
            row.requeued, row.retries = len(again), sum(trial.is_charged for trial in again)
            row.outcome = f"{end.state.value}: {end.state_reason}".replace(str(cluster.folder), "…")
            assert end.state is StudyState.FAILED
            assert end.state_reason is not None
            assert "No space left on device" in end.state_reason
            assert not (faults := story.faults()), faults
