"""What a trial starts ends with it, daemons and ranks of torchrun included."""

import os

import pytest
from dispatcher_process import DispatcherProcess, until
from processes import is_alive, with_argument

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_a_daemon_ends_with_the_trial_that_started_it_although_its_worker_goes_on(
    dispatcher: DispatcherProcess,
) -> None:
    one_at_a_time = {"max_pack_size": 1, "max_concurrent_packs": 1}
    study_id = dispatcher.submit("daemon", trials=2, epochs=3, resources=one_at_a_time)
    (worker,) = until(lambda: dispatcher.processes("ray::ResourceTrainable"), what="a worker")
    until(lambda: with_argument(f"started-by-{worker}"), what="the daemon to start")
    until(lambda: dispatcher.store.study(study_id).progress.finished == 1, what="the first trial to end")
    until(lambda: not with_argument(f"started-by-{worker}"), what="the daemon to end", timeout_s=5.0)
    assert is_alive(worker)
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    assert {trial.worker for trial in dispatcher.store.every_trial(study_id)} == {
        f"{os.uname().nodename}:{worker}"
    }
