"""Runs that break down: a study is given up only when they come to nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from playing import Play

from studies.states import StudyState
from workers.dispatcher import Dispatcher, _Run
from workers.run import NO_DATABASE
from workers.settings import DispatcherSettings

__all__: list[str] = []


@pytest.mark.parametrize(("confirms", "state"), [(True, StudyState.RUNNING), (False, StudyState.FAILED)])
def test_a_study_whose_runs_break_down_is_given_up_unless_they_finish_trials_of_its_search_or_its_confirmation(  # noqa: E501
    play: Play, tmp_path: Path, confirms: bool, state: StudyState
) -> None:
    dispatcher = Dispatcher(DispatcherSettings(home=tmp_path), play.store, ray_address="local")
    run = play.run(arms=["adamp"], confirmation={"seeds": 2})
    for trial in run.begin(0, 1, 2):
        run.complete(trial, 0.9 + trial.number / 100)
    confirmations = list(run.confirm(0, 2))
    for _ in range(3):
        broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], text=True)
        broken.wait()
        dispatcher._runs.append(_Run(run.claim, broken, dispatcher._finished(run.claim.study_id)))
        if confirms:
            run.writer.start(confirmations[:1])
            run.complete(confirmations.pop(0), 0.9)
        dispatcher._reap()
        claim = play.store.claim_next(dispatcher="here", lease_s=60.0)
        run = run if claim is None else play.of(claim)
    assert run.study.state is state


def test_a_study_is_not_given_up_for_a_database_that_was_away(play: Play, tmp_path: Path) -> None:
    dispatcher = Dispatcher(DispatcherSettings(home=tmp_path), play.store, ray_address="local")
    run = play.run(arms=["adamp"])
    for _ in range(5):
        ended = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({NO_DATABASE})"], text=True)
        ended.wait()
        dispatcher._runs.append(_Run(run.claim, ended, dispatcher._finished(run.claim.study_id)))
        dispatcher._reap()
        run = play.claim()
    assert run.study.state is StudyState.RUNNING
