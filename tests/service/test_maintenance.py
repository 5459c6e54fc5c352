"""Studies whose dispatcher has died still end when their owner stops them."""

import time

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
