"""Studies of a script and of a command: pruned at rungs, confirmed, and continued after a killed worker.

Real dispatcher, Ray and SQLite.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, until

from studies.artifacts import ArtifactView
from studies.states import StudyState, TrialState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

ASHA = {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}


@pytest.mark.parametrize("workload", ["own-loop", "program"])
def test_a_study_of_scripts_is_pruned_at_rungs_and_confirmed(
    dispatcher: DispatcherProcess, workload: str
) -> None:
    study_id = dispatcher.submit(
        workload,
        arms=["adamp", "sgd"],
        trials=4,
        pruner=ASHA,
        confirmation={"seeds": 2},
        keep={"weights": "best", "files": True},
    )
    study = dispatcher.closed(study_id, timeout_s=240)
    assert study.state is StudyState.COMPLETED, study.state_reason
    trials = dispatcher.store.every_trial(study_id)
    states = Counter(trial.state for trial in trials)
    assert set(states) == {TrialState.COMPLETED, TrialState.PRUNED}
    assert {trial.epochs_done for trial in trials} <= {1, 3, 9}
    confirmed = dispatcher.store.every_trial(study_id, phase="confirmation")
    assert {(trial.state, trial.epochs_done) for trial in confirmed} == {(TrialState.COMPLETED, 9)}
    assert all(trial.test_value is not None for trial in confirmed)
    assert dispatcher.processes("program.py") == []
    kept = dispatcher.store.artifacts(study_id)
    weights = {each.arm: each.sha256 for each in kept if each.weights_of == "best"}
    assert weights.keys() == {"adamp", "sgd"}
    for each in kept:
        file = dispatcher.home / "checkpoints" / "kept-files" / study_id / each.id
        assert hashlib.sha256(file.read_bytes()).hexdigest() == each.sha256
    if workload == "own-loop":
        trained = Counter((dispatcher.home / "own-loop-epochs").read_text().splitlines())
        # A trial that pauses continues from what it has saved.
        assert set(trained.values()) == {1}
        logged = {
            each.trial_id: [each.name, *logged_epochs(dispatcher, each)]
            for each in kept
            if each.kind == "file"
        }
        assert [logged[trial.id] for trial in confirmed] == [["log.jsonl", *range(1, 10)]] * len(confirmed)


def logged_epochs(dispatcher: DispatcherProcess, kept: ArtifactView) -> list[int]:
    """Return the epochs in a kept log."""
    lines = (
        (dispatcher.home / "checkpoints" / "kept-files" / kept.study_id / kept.id).read_text().splitlines()
    )
    return [json.loads(line)["epoch"] for line in lines]


def test_the_workers_of_a_node_load_shared_data_once_and_the_node_removes_them(
    own: Callable[[], AbstractContextManager[DispatcherProcess]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))  # short, for Ray's sockets
    monkeypatch.setenv("RAY_TMPDIR", str(nodes))
    with own() as dispatcher:
        study_id = dispatcher.submit(
            "mnist5k-cnn", arms=["sgd"], trials=4, epochs=1, resources={"max_pack_size": 1}
        )
        study = dispatcher.closed(study_id, timeout_s=240)
        assert study.state is StudyState.COMPLETED, study.state_reason
        workers = {trial.worker for trial in dispatcher.store.every_trial(study_id)}
        assert len(workers) == 2
        (folder,) = nodes.glob("ray-*/session_2*/tangent-data")
        assert len([each for each in folder.iterdir() if each.is_dir()]) == 1
        dispatcher.stop()
        until(lambda: not list(nodes.glob("ray-*")), what="the node's folder to be removed")
    nodes.rmdir()


def test_a_long_epoch_shows_its_steps_and_does_not_look_hung(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit(
        "slow-steps", trials=1, max_retries=0, resources={"epoch_timeout_s": 40}, check_workload=False
    )
    until(
        lambda: any((trial.step or 0) > 10 for trial in dispatcher.store.every_trial(study_id)),
        what="a step within the first epoch",
    )
    [trial] = dispatcher.store.every_trial(study_id)
    assert trial.heard_at is not None
    assert trial.started_at is not None
    assert trial.heard_at > trial.started_at
    assert trial.epochs_done == 0
    dispatcher.closed(study_id, timeout_s=120)
    [trial] = dispatcher.store.every_trial(study_id)
    assert trial.state is TrialState.FAILED
    assert "raise epoch_timeout_s" in str(trial.reason)


def test_a_script_whose_worker_is_killed_continues_from_what_it_has_saved(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit("own-loop", arms=["sgd"], trials=1, epochs=40)
    [trial] = dispatcher.store.every_trial(study_id) or until(
        lambda: dispatcher.store.every_trial(study_id), what="a trial"
    )

    def trained() -> list[int]:
        lines = (dispatcher.home / "own-loop-epochs").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith(trial.id)]

    dispatcher.epochs(study_id, 12)
    dispatcher.kill_a_worker()
    assert dispatcher.closed(study_id, timeout_s=120).state is StudyState.COMPLETED
    [trial] = dispatcher.store.every_trial(study_id)
    assert (trial.state, trial.epochs_done, trial.attempt) == (TrialState.COMPLETED, 40, 2)
    epochs = trained()
    assert set(epochs) == set(range(1, 41))
    assert epochs.count(1) == 1
    assert len(epochs) < 52
