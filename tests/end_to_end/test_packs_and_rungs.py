"""Shared packs, rungs and checkpoints under faults, with a real dispatcher, Ray and SQLite."""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from dispatcher_process import DispatcherProcess, until

from studies.states import StudyMove, StudyState, TrialState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ASHA = {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}


def checkpoints(dispatcher: DispatcherProcess) -> list[Path]:
    return sorted((dispatcher.home / "checkpoints").rglob("*.pt"))


def test_a_member_that_diverges_does_not_affect_the_others(dispatcher: DispatcherProcess) -> None:
    space = {"lr": {"choices": [1e18, 0.05, 0.1]}, "momentum": 0.9, "weight_decay": 0.0}
    one_pack = {"max_concurrent_packs": 1}
    study_id = dispatcher.submit(
        "digits-mlp",
        arms=[{"optimizer": "sgd", "space": space}],
        trials=4,
        epochs=2,
        sampler="grid",
        pruner="none",
        resources=one_pack,
    )
    dispatcher.closed(study_id)
    trials = dispatcher.store.every_trial(study_id)
    states = {
        float(t.parameters["lr"]): t.state for t in trials if float(t.parameters["lr"]) in {1e18, 0.05, 0.1}
    }
    assert states[1e18] is TrialState.DIVERGED
    assert TrialState.COMPLETED in states.values()
    assert {t.pack_size for t in trials} == {4}
    assert all(t.memory_bytes and t.memory_bytes < 2**30 for t in trials), "each trial's share"
    (diverged,) = [t for t in trials if t.state is TrialState.DIVERGED]
    assert diverged.epochs_done == 1, "a diverged trial must end in its first epoch"
    assert diverged.reason is not None
    assert "lr" in diverged.reason


def test_with_asha_every_arm_trains_equal_epochs_and_pruned_trials_are_stored_as_such(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "digits-mlp", arms=["adamp", "adamw"], trials=9, epochs=9, sampler="tpe", pruner=ASHA
    )
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    assert (study.progress.completed, study.progress.pruned) == (2, 16)
    trials = dispatcher.store.every_trial(study_id)
    for arm in ("adamp", "adamw"):
        assert sum(t.epochs_done for t in trials if t.arm == arm) == 9 + 3 * 2 + 6
    for trial in trials:
        assert trial.epochs_done == (9 if trial.state is TrialState.COMPLETED else trial.to_epoch)
        assert [m.epoch for m in dispatcher.store.measurements(trial.id)] == list(
            range(1, trial.epochs_done + 1)
        )
    assert max(t.pack_size or 0 for t in trials) > 1, "trained together"
    until(
        lambda: not (dispatcher.home / "checkpoints" / study_id).exists(),
        what="the study's checkpoints to be deleted",
    )
    until(
        lambda: sum(len(dispatcher.copies(study_id, arm)) for arm in ("adamp", "adamw")) == 18,
        what="all copies",
    )
    for arm in ("adamp", "adamw"):
        copies = dispatcher.copies(study_id, arm)
        ours = {t.id: t for t in trials}
        assert sum(copy.state is optuna.trial.TrialState.PRUNED for copy in copies) == 8
        assert {copy.user_attrs["tangent_trial"] for copy in copies} == {t.id for t in trials if t.arm == arm}
        for copy in copies:
            original = ours[copy.user_attrs["tangent_trial"]]
            assert copy.user_attrs["parameters"] == original.parameters
            # Optuna takes the last reported value as the value of a pruned trial.
            assert original.value in {None, copy.value}
            measured = dispatcher.store.measurements(ours[copy.user_attrs["tangent_trial"]].id)
            assert copy.intermediate_values == {m.epoch: m.validation_metric for m in measured}


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_budget_of_steps_is_spent_in_intervals(dispatcher: DispatcherProcess) -> None:
    budget = {"trials_per_arm": 4, "steps": 90, "evaluate_every": 10}
    ids = [
        dispatcher.submit(
            workload,
            arms=["adamp", "sgd"],
            budget=budget,
            pruner=ASHA,
            confirmation={"seeds": 2},
            check_workload=True,
        )
        for workload in ("streamed-plane", "plane")
    ]
    for study_id in ids:
        study = dispatcher.closed(study_id, timeout_s=200)
        assert (study.state, study.epochs, study.interval_steps) == (StudyState.COMPLETED, 9, 10), (
            study.state_reason
        )
        trials = dispatcher.store.every_trial(study_id)
        assert {trial.state for trial in trials} == {TrialState.COMPLETED, TrialState.PRUNED}
        assert {trial.epochs_done for trial in trials} <= {1, 3, 9}
        confirmed = dispatcher.store.every_trial(study_id, phase="confirmation")
        assert {(trial.state, trial.epochs_done) for trial in confirmed} == {(TrialState.COMPLETED, 9)}
        lr, measured = confirmed[0].parameters["lr"], dispatcher.store.measurements(confirmed[0].id)
        scales = [(1 + math.cos(math.pi * (10 * interval - 1) / 90)) / 2 for interval in range(1, 10)]
        assert [m.lr for m in measured] == pytest.approx([float(lr) * scale for scale in scales])


def test_a_study_stopped_at_rungs_leaves_no_checkpoint_and_no_open_trial(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit(
        "slow-plane", trials=30, pruner={"kind": "asha", "min_epochs": 2}, resources={"max_pack_size": 3}
    )
    until(
        lambda: any(t.is_waiting for t in dispatcher.store.every_trial(study_id)),
        what="a trial that waits at a rung",
    )
    assert checkpoints(dispatcher)
    dispatcher.store.move(study_id, StudyMove.STOP)
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    assert {t.state for t in dispatcher.store.every_trial(study_id)} <= {
        TrialState.COMPLETED,
        TrialState.CANCELLED,
        TrialState.PRUNED,
    }
    until(lambda: not checkpoints(dispatcher), what="the checkpoints to be deleted")


def _kill_run(dispatcher: DispatcherProcess, study_id: str) -> None:
    os.kill(dispatcher.run_of(study_id), signal.SIGKILL)


def _kill_worker(dispatcher: DispatcherProcess, _study_id: str) -> None:
    dispatcher.kill_a_worker()


@pytest.mark.parametrize("kill", [_kill_worker, _kill_run])
def test_trials_resume_from_their_rung_after_a_kill(
    dispatcher: DispatcherProcess, kill: Callable[[DispatcherProcess, str], None]
) -> None:
    rungs = {"kind": "asha", "min_epochs": 2, "reduction_factor": 2}
    study_id = dispatcher.submit(
        "slow-plane", trials=6, pruner=rungs, resources={"max_concurrent_packs": 1, "max_pack_size": 6}
    )
    until(
        lambda: any(t.epochs_done == 3 for t in dispatcher.store.every_trial(study_id)),
        what="trials past their first rung",
    )
    kill(dispatcher, study_id)
    again = until(
        lambda: [t for t in dispatcher.store.every_trial(study_id) if t.attempt > 1],
        what="trials to be retried",
    )
    assert all(t.epochs_done >= 2 for t in again), "epochs up to the rung must be kept"
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    trials = dispatcher.store.every_trial(study_id)
    assert {(t.arm, t.number) for t in trials} == {("adamp", n) for n in range(6)}
    assert {t.retries for t in trials} == {0, 1}
    assert sum(t.epochs_done for t in trials) == 6 * 2 + 3 * 2 + 4 + 2, (
        "rungs 2, 4 and 8 of 10 epochs, each passed by half"
    )
    for trial in trials:
        assert [m.epoch for m in dispatcher.store.measurements(trial.id)] == list(
            range(1, trial.epochs_done + 1)
        )
