"""Trials that hang, run out of memory or kill their process fail alone and with a reason."""

import os
import signal
import time
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process, until

from studies.states import StudyMove, StudyState, TrialState
from studies.views import TrialView

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

# The first lr makes predictions exceed 1000 in the second step, which triggers the fault; see tests/plugin.
SPACE = {"lr": {"choices": [1e6, 0.01, 0.02]}, "momentum": 0.0, "weight_decay": 0.0}
FOUR = {"arms": [{"optimizer": "sgd", "space": SPACE}], "trials": 4, "sampler": "grid"}
ONE_PACK = {"max_concurrent_packs": 1}


def one(
    dispatcher: DispatcherProcess,
    workload: str,
    *,
    seconds: float | None = None,
    max_retries: int = 0,
    within_s: float = 90.0,
) -> TrialView:
    """Return the only trial of a study, which must have failed with a reason."""
    resources = {} if seconds is None else {"epoch_timeout_s": seconds}
    study = dispatcher.closed(
        dispatcher.submit(workload, trials=1, max_retries=max_retries, resources=resources),
        timeout_s=within_s,
    )
    (trial,) = dispatcher.store.every_trial(study.id)
    assert (study.state, trial.state) == (StudyState.FAILED, TrialState.FAILED), study.state_reason
    assert study.state_reason is not None
    assert trial.reason is not None
    assert trial.reason.startswith(study.state_reason.removeprefix("the only trial failed: "))
    return trial


def only_the_guilty_fails(dispatcher: DispatcherProcess, study_id: str) -> TrialView:
    """Return the one trial of four in a pack that failed; the others must have completed all epochs."""
    study = dispatcher.closed(study_id, timeout_s=150.0)
    assert study.state is StudyState.COMPLETED, study.state_reason
    trials = dispatcher.store.every_trial(study_id)
    (guilty,) = [t for t in trials if t.state is TrialState.FAILED]
    assert guilty.parameters["lr"] == 1e6
    assert [t.state for t in trials if t is not guilty] == [TrialState.COMPLETED] * 3
    for trial in trials:
        if trial is not guilty:
            assert [m.epoch for m in dispatcher.store.measurements(trial.id)] == [1, 2, 3, 4]
    assert guilty.reason is not None
    return guilty


def requeue_reasons(dispatcher: DispatcherProcess, study_id: str) -> list[str]:
    """Return why trials were requeued, according to the event stream."""
    return [str(e.data["reason"]) for e in dispatcher.store.events(study_id) if e.kind == "trial.requeued"]


def test_a_trial_that_hangs_is_killed_with_the_reason(dispatcher: DispatcherProcess) -> None:
    trial = one(dispatcher, "hanging", seconds=3.0)
    assert trial.reason == "no epoch finished within 3 s, so its process was killed"


def test_a_dead_process_is_noticed_within_five_seconds(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("slow-plane", trials=1, epochs=20)
    dispatcher.epochs(study_id, 2)
    dispatcher.kill_a_worker()
    killed = time.monotonic()
    until(lambda: requeue_reasons(dispatcher, study_id), what="the trial to be requeued", timeout_s=10.0)
    assert time.monotonic() - killed < 5.0
    dispatcher.store.move(study_id, StudyMove.CANCEL)
    dispatcher.closed(study_id)


def test_only_the_trial_that_kills_its_pack_fails(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("deadly-high-lr", **FOUR, max_retries=1, resources=ONE_PACK)
    guilty = only_the_guilty_fails(dispatcher, study_id)
    assert (guilty.attempt, guilty.retries) == (2, 1)
    assert guilty.reason == f"{requeue_reasons(dispatcher, study_id)[0]}; given up after 2 attempts"
    assert requeue_reasons(dispatcher, study_id)[0].startswith("its worker was lost: the process crashed")


@pytest.mark.slow
def test_a_trial_that_blocks_the_interpreter_is_killed(dispatcher: DispatcherProcess) -> None:
    trial = one(dispatcher, "hanging-hard", seconds=5.0, max_retries=1)
    assert trial.attempt == 2
    assert "within 5 s" in str(trial.reason)


@pytest.mark.slow
def test_a_pack_that_never_loads_its_data_is_killed_after_two_more_minutes(
    dispatcher: DispatcherProcess,
) -> None:
    trial = one(dispatcher, "hanging-in-data", seconds=5.0, within_s=180.0)
    assert "within 5 s" in str(trial.reason)


@pytest.mark.slow
def test_only_the_trial_that_makes_its_pack_hang_fails(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit(
        "hanging-high-lr", **FOUR, max_retries=1, resources={**ONE_PACK, "epoch_timeout_s": 5.0}
    )
    guilty = only_the_guilty_fails(dispatcher, study_id)
    assert guilty.attempt == 2
    assert "within 5 s" in str(guilty.reason)


@pytest.mark.slow
def test_a_suspended_worker_is_killed_by_its_run(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("slow-plane", trials=1, resources={"epoch_timeout_s": 10.0})
    dispatcher.epochs(study_id, 2)
    for pid in dispatcher.processes("ray::ResourceTrainable"):
        os.kill(pid, signal.SIGSTOP)
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    assert requeue_reasons(dispatcher, study_id) == [
        "no epoch finished within 10 s, so its process was killed"
    ]


@pytest.mark.slow
def test_a_trial_that_allocates_too_much_memory_fails_with_the_amount(
    dispatcher: DispatcherProcess,
) -> None:
    trial = one(dispatcher, "greedy-at-once", max_retries=1)
    assert trial.reason is not None
    assert trial.reason.startswith("out of memory: RuntimeError: ")
    assert "can't allocate memory: you tried to allocate 4503599627370496 bytes" in trial.reason
    assert trial.reason.endswith("; given up after 2 attempts")


def _share_in_use() -> tuple[float, float]:
    """Return the fraction of this machine's memory in use, and the fraction that a gibibyte is."""
    kibibytes = {
        line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()
    }
    return 1 - kibibytes["MemAvailable"] / kibibytes["MemTotal"], 2**20 / kibibytes["MemTotal"]


@pytest.mark.slow
def test_only_the_trial_that_exhausts_its_machines_memory_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use, gibibyte = _share_in_use()
    # Ray's memory monitor then acts when 3 GiB more are in use.
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{in_use + 3 * gibibyte:.4f}")
    with dispatcher_process(tmp_path) as dispatcher:
        study_id = dispatcher.submit("greedy-high-lr", **FOUR, max_retries=1, resources=ONE_PACK)
        guilty = only_the_guilty_fails(dispatcher, study_id)
        assert guilty.reason is not None
        assert guilty.reason.startswith("its worker was killed: ")
        assert " ran out of memory (" in guilty.reason


@pytest.mark.slow
def test_a_run_that_stops_loses_no_finished_epoch(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("slow-plane", trials=2, epochs=40, resources={"max_pack_size": 1})
    dispatcher.epochs(study_id, 10)
    before = {t.id: t.epochs_done for t in dispatcher.store.every_trial(study_id)}
    os.kill(dispatcher.run_of(study_id), signal.SIGTERM)
    asked = time.monotonic()
    again = until(
        lambda: [t for t in dispatcher.store.every_trial(study_id) if t.attempt > 1],
        what="trials to be requeued",
    )
    assert time.monotonic() - asked < 10.0
    assert all(t.epochs_done >= before[t.id] for t in again)
    study = dispatcher.closed(study_id)
    assert study.state is StudyState.COMPLETED
    for trial in dispatcher.store.every_trial(study_id):
        assert (trial.attempt, trial.retries) == (2, 0)
        assert [m.epoch for m in dispatcher.store.measurements(trial.id)] == list(range(1, 41))


@pytest.mark.slow
@pytest.mark.parametrize("verb", [StudyMove.STOP, StudyMove.CANCEL])
def test_a_study_whose_trials_hang_stops_or_cancels_within_ten_seconds(
    dispatcher: DispatcherProcess, verb: StudyMove
) -> None:
    study_id = dispatcher.submit("hanging-hard", trials=2)
    until(lambda: dispatcher.store.study(study_id).progress.running, what="a trial that hangs")
    time.sleep(5.0)
    asked = time.monotonic()
    dispatcher.store.move(study_id, verb)
    dispatcher.closed(study_id, timeout_s=10.0)
    assert time.monotonic() - asked < 10.0
    until(
        lambda: not dispatcher.processes("ray::ResourceTrainable"),
        what="its processes to end",
        timeout_s=10.0,
    )
