"""Trials that two processes train together: with DistributedDataParallel, on Ray, with gloo."""

import os
import signal

import pytest
from dispatcher_process import DispatcherProcess, until
from processes import is_alive, with_argument

from studies.states import StudyMove, StudyState, TrialState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

TWO = {"processes_per_trial": 2}


def trained(dispatcher: DispatcherProcess, study_id: str, epochs: int) -> None:
    """Wait until the trial of a study has trained some epochs; starting two processes takes a while."""
    until(
        lambda: any(
            len(dispatcher.store.measurements(t.id)) >= epochs for t in dispatcher.store.every_trial(study_id)
        ),
        what=f"{epochs} epochs",
        timeout_s=120.0,
    )


def ranks(dispatcher: DispatcherProcess) -> list[int]:
    """Return the ids of the processes that train trials of several processes."""
    return dispatcher.processes("ray::RayTrainWorker") + dispatcher.processes("train_rank")


@pytest.mark.parametrize("workload", ["slow-looped-plane", "shared-loop"])
def test_a_trial_whose_process_is_killed_resumes_as_a_whole_and_leaves_none_behind(
    dispatcher: DispatcherProcess, workload: str
) -> None:
    study_id = dispatcher.submit(workload, trials=1, epochs=25, resources=TWO)
    # Far beyond the first checkpoint.
    trained(dispatcher, study_id, 12)
    first = ranks(dispatcher)
    assert len(first) == 2
    os.kill(first[1], signal.SIGKILL)
    study = dispatcher.closed(study_id, timeout_s=120.0)
    assert study.state is StudyState.COMPLETED, study.state_reason
    (trial,) = dispatcher.store.every_trial(study_id)
    assert (trial.state, trial.attempt) == (TrialState.COMPLETED, 2)
    assert (trial.memory_bytes or 0) > 800 * 2**20, "of both processes, each with torch and Ray"
    measured = dispatcher.store.measurements(trial.id)
    assert [measurement.epoch for measurement in measured] == list(range(1, 26))
    until(lambda: not any(map(is_alive, first)), what="the first processes to end")
    until(lambda: not with_argument(f"started-by-{first[0]}"), what="the daemon of the first to end")
    until(lambda: not with_argument(f"started-by-{first[1]}"), what="the daemon of the second to end")


def test_an_error_in_one_process_fails_the_trial_with_its_line(dispatcher: DispatcherProcess) -> None:
    study = dispatcher.closed(
        dispatcher.submit("broken-loop", trials=1, max_retries=0, resources={**TWO, "shard_optimizer": True})
    )
    (trial,) = dispatcher.store.every_trial(study.id)
    assert trial.state is TrialState.FAILED
    assert trial.reason is not None
    assert "the fourth layer has no weights" in trial.reason
    assert "tangent_plugin.py, line" in trial.reason


def test_a_cancel_ends_all_processes_and_what_they_have_started(dispatcher: DispatcherProcess) -> None:
    study_id = dispatcher.submit("slow-looped-plane", trials=1, epochs=1000, resources=TWO)
    trained(dispatcher, study_id, 1)
    found = ranks(dispatcher)
    assert len(found) == 2
    dispatcher.store.move(study_id, StudyMove.CANCEL)
    dispatcher.closed(study_id)
    until(lambda: not any(map(is_alive, found)), what="the processes to end", timeout_s=10.0)
    for rank in found:
        until(lambda rank=rank: not with_argument(f"started-by-{rank}"), what="its daemon to end")
