"""Runs that break down: a study fails only when run after run finishes no trial."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from playing import Play

from studies.errors import StoreUnavailable
from studies.states import StudyState
from studies.trials import Claim
from workers.dispatcher import Dispatcher, _Run
from workers.settings import DispatcherSettings
from workers.study_run import NO_DATABASE

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
    play.store.release(run.claim)
    run = play.claim()
    for _ in range(3):
        broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], text=True)
        broken.wait()
        dispatcher._runs.append(_Run(run.claim, broken))
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
        dispatcher._runs.append(_Run(run.claim, ended))
        dispatcher._reap()
        run = play.claim()
    assert run.study.state is StudyState.RUNNING


class ReadyProcess:
    """A process that is ready to run a study, and remembers the claims that it is sent."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", ""], text=True)
        self.is_ready = threading.Event()
        self.is_ready.set()
        self.claims: list[Claim] = []

    def tell(self, claim: Claim) -> None:
        self.claims.append(claim)


def test_a_claimed_study_is_run_even_if_the_database_goes_away_right_after_the_claim(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = Dispatcher(DispatcherSettings(home=tmp_path), play.store, ray_address="local")
    ready = ReadyProcess()
    dispatcher._next = ready  # pyright: ignore[reportAttributeAccessIssue]
    study_id = play.submit(arms=["adamp"])

    def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database went away")

    for read in ("overdue_claims", "study", "finished_trials"):
        monkeypatch.setattr(play.store, read, unavailable)
    with pytest.raises(StoreUnavailable):
        dispatcher._claim()
    ready.process.wait()
    assert ready.claims == [Claim(study_id, 1)]
    assert [run.claim for run in dispatcher._runs] == ready.claims


def test_a_claim_counts_the_trials_that_have_ended(play: Play) -> None:
    run = play.run(arms=["adamp"])
    assert run.claim.finished_trials == 0
    for trial in run.begin(0, 1):
        run.complete(trial, 0.9)
    play.store.release(run.claim)
    assert play.claim().claim.finished_trials == 2
