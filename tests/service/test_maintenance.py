"""Studies whose dispatcher has died still end when their owner stops them."""

import time

import pytest
from dispatcher_process import until
from simulated_dispatch import SimulatedDispatcher, report

from service.client import Client
from studies.states import StudyState, TrialState
from studies.store import Store

__all__: list[str] = []


def test_a_study_is_stopped_without_any_dispatcher(live: str, store: Store) -> None:
    play = SimulatedDispatcher(store)
    run = play.run()
    ended, flying = run.begin(0, 1)
    run.complete(ended, 0.9)
    run.writer.record([report(flying, 1)])
    store.run_writer(run.claim, lease_s=1.0).renew()
    with Client(live) as client:
        study = client.stop(run.claim.study_id)
        assert study.state is StudyState.STOPPING, "its run may still be alive"
        deadline = time.monotonic() + 10
        while study.state is StudyState.STOPPING:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            study = client.study(study.id)
    assert study.state is StudyState.COMPLETED
    assert [run.trial(trial).state for trial in (ended, flying)] == [
        TrialState.COMPLETED,
        TrialState.CANCELLED,
    ]


def test_a_dispatcher_that_can_start_no_run_is_logged_once_and_again_when_it_can(
    live: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> list[str]:
        return [record.getMessage() for record in caplog.records if "dispatcher there" in record.getMessage()]

    assert live
    store.heartbeat("there", problem="ImportError: libray is missing")
    until(logged, what="the report", timeout_s=10.0)
    store.heartbeat("there", problem="ImportError: libray is missing")
    store.heartbeat("there")
    until(lambda: len(logged()) == 2, what="the end of the problem", timeout_s=10.0)
    assert logged()[0].endswith("can start no run: ImportError: libray is missing")
