"""A run that hangs without dying: it must not keep the machines that the next one needs."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import Play

from studies.states import StudyState
from workers.dispatcher import Dispatcher, _Run
from workers.settings import DispatcherSettings

__all__: list[str] = []


@pytest.fixture
def hung() -> Iterator[subprocess.Popen[str]]:
    """A process that is held still."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True)
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def dispatcher(play: Play, tmp_path: Path) -> Dispatcher:
    """A dispatcher that may run one study at a time."""
    return Dispatcher(DispatcherSettings(home=tmp_path, max_runs=1), play.store, ray_address="local")


def test_a_run_that_lives_without_its_lease_is_ended_when_its_study_is_claimed_again(
    play: Play, dispatcher: Dispatcher, hung: subprocess.Popen[str]
) -> None:
    run = play.run()
    dispatcher._runs.append(_Run(run.claim, hung))
    dispatcher._end_overdue()
    assert hung.poll() is None, "it has its lease"
    run.lapse()
    claim = play.store.claim_next(dispatcher="there", lease_s=60.0)
    assert claim is not None
    dispatcher._end_overdue()
    assert hung.wait(10) == -signal.SIGKILL
    dispatcher._reap()
    assert dispatcher._runs == []
    assert play.of(claim).study.state is StudyState.RUNNING


def test_a_run_that_hangs_in_the_only_place_does_not_keep_it(
    play: Play, dispatcher: Dispatcher, hung: subprocess.Popen[str]
) -> None:
    run = play.run()
    for _ in range(4):
        dispatcher._runs.append(_Run(run.claim, hung))
        run.lapse()
        play.store.settle_lapsed_leases()
        dispatcher._end_overdue()
        assert hung.wait(10) == -signal.SIGKILL
        dispatcher._reap()
        assert dispatcher._runs == []
        run = play.claim()
    assert run.study.state is StudyState.RUNNING, "what was killed here has not broken down"
