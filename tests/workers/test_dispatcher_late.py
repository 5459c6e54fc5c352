"""A run that hangs without dying: it must not keep the machines that the next one needs."""

import signal
import subprocess
import sys
from pathlib import Path

from playing import Play

from studies.states import StudyState
from workers.dispatcher import Dispatcher, _Run
from workers.settings import Settings

__all__: list[str] = []


def test_a_run_that_lives_without_its_lease_is_ended_when_its_study_is_claimed_again(play: Play, tmp_path: Path) -> None:
    dispatcher, run = Dispatcher(Settings(home=tmp_path), play.store, ray_address="local"), play.run()
    hung = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True)
    dispatcher._runs.append(_Run(run.claim, hung, 0))
    hung.send_signal(signal.SIGSTOP)
    run.lapse()
    claim = play.store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    dispatcher._end_late(claim)
    assert hung.wait(10) == -signal.SIGKILL
    dispatcher._reap()
    assert dispatcher._runs == []
    assert play.of(claim).study.state is StudyState.RUNNING
