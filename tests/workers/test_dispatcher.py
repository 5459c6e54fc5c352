"""Runs under their dispatcher: failed runs, runs that hang, and claims during database outages."""

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatcher_process import until
from simulated_dispatch import SimulatedDispatcher, SimulatedRun

from studies.errors import StoreUnavailable
from studies.states import StudyState
from studies.trials import Claim
from workers.dispatcher import Dispatcher
from workers.managed_ray import ManagedRay
from workers.run_process import RunProcess
from workers.settings import DispatcherSettings
from workers.study_run import NO_DATABASE

__all__: list[str] = []


@pytest.fixture
def settings(tmp_path: Path) -> DispatcherSettings:
    """Settings that allow one run at a time."""
    return DispatcherSettings(home=tmp_path, max_runs=1)


@pytest.fixture
def dispatcher(play: SimulatedDispatcher, settings: DispatcherSettings) -> Dispatcher:
    """A dispatcher; the test runs the steps of its loop itself."""
    return Dispatcher(settings, play.store, ray=ManagedRay(settings))


@pytest.fixture
def hung() -> Iterator[subprocess.Popen[str]]:
    """A stopped process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True)
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def run_exits(dispatcher: Dispatcher, claim: Claim, *, status: int) -> None:
    """Let the run of a claim exit, and let the dispatcher notice."""
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"], text=True)
    process.wait()
    dispatcher._runs.append(RunProcess(claim, process))
    dispatcher._reap()


@pytest.mark.parametrize(("confirms", "state"), [(True, StudyState.RUNNING), (False, StudyState.FAILED)])
def test_a_study_fails_after_three_failed_runs_unless_they_finish_search_or_confirmation_trials(
    play: SimulatedDispatcher, dispatcher: Dispatcher, confirms: bool, state: StudyState
) -> None:
    run = play.run(arms=["adamp"], confirmation={"seeds": 2})
    for trial in run.begin(0, 1, 2):
        run.complete(trial, 0.9 + trial.number / 100)
    confirmations = list(run.confirm(0, 2))
    play.store.release(run.claim)
    run = play.claim()
    for _ in range(3):
        if confirms:
            run.writer.start(confirmations[:1])
            run.complete(confirmations.pop(0), 0.9)
        run_exits(dispatcher, run.claim, status=1)
        run = claimed_again(play, run)
    assert run.study.state is state


def claimed_again(play: SimulatedDispatcher, run: SimulatedRun) -> SimulatedRun:
    claim = play.store.claim_next(dispatcher="here", lease_s=60.0)
    return run if claim is None else play.of(claim)


def test_a_study_does_not_fail_because_of_a_database_outage(
    play: SimulatedDispatcher, dispatcher: Dispatcher
) -> None:
    run = play.run(arms=["adamp"])
    for _ in range(5):
        run_exits(dispatcher, run.claim, status=NO_DATABASE)
        run = play.claim()
    assert run.study.state is StudyState.RUNNING


def test_a_failed_run_is_logged_with_its_study_and_attempt(
    play: SimulatedDispatcher, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    run = play.run()
    with caplog.at_level(logging.INFO, "tangent.dispatcher"):
        run_exits(dispatcher, run.claim, status=3)
    (record,) = [record for record in caplog.records if "status 3" in record.getMessage()]
    assert (record.__dict__["study_id"], record.__dict__["attempt"]) == (run.claim.study_id, 1)


def test_a_failed_study_quotes_the_last_message_of_its_run(
    play: SimulatedDispatcher, dispatcher: Dispatcher, settings: DispatcherSettings
) -> None:
    run = play.run()
    log = settings.log_of(run.claim.study_id)
    log.parent.mkdir(parents=True)
    line = {
        "event": "run ends because it cannot renew its lease",
        "exception": "Traceback (most recent call last):\n  ...\nOSError: disk full",
    }
    log.write_text("x" * 10_000 + "\n" + json.dumps(line) + "\n")
    for _ in range(3):
        run_exits(dispatcher, run.claim, status=1)
        run = claimed_again(play, run)
    assert run.study.state is StudyState.FAILED
    assert f"OSError: disk full (see {log})" in str(run.study.state_reason)


def test_a_run_that_outlives_its_lease_is_killed_once_its_study_is_claimed_again(
    play: SimulatedDispatcher, dispatcher: Dispatcher, hung: subprocess.Popen[str]
) -> None:
    run = play.run()
    dispatcher._runs.append(RunProcess(run.claim, hung))
    dispatcher._kill_overdue()
    assert hung.poll() is None, "its lease has not expired"
    run.lapse()
    claim = play.store.claim_next(dispatcher="there", lease_s=60.0)
    assert claim is not None
    dispatcher._kill_overdue()
    assert hung.wait(10) == -signal.SIGKILL
    dispatcher._reap()
    assert dispatcher._runs == []
    assert play.of(claim).study.state is StudyState.RUNNING


def test_runs_that_hang_are_killed_and_do_not_fail_their_study(
    play: SimulatedDispatcher, dispatcher: Dispatcher, hung: subprocess.Popen[str]
) -> None:
    run = play.run()
    for _ in range(4):
        dispatcher._runs.append(RunProcess(run.claim, hung))
        run.lapse()
        play.store.settle_lapsed_leases()
        dispatcher._kill_overdue()
        assert hung.wait(10) == -signal.SIGKILL
        dispatcher._reap()
        assert dispatcher._runs == []
        run = play.claim()
    assert run.study.state is StudyState.RUNNING


class ReadyRun:
    """A spare run that is ready and records the claims assigned to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, text=True
        )
        self.is_ready = threading.Event()
        self.is_ready.set()
        self.claims: list[Claim] = []

    def assign(self, claim: Claim) -> RunProcess:
        self.claims.append(claim)
        return RunProcess(claim, self.process)


def test_a_claimed_study_is_run_even_if_the_database_fails_right_after_the_claim(
    play: SimulatedDispatcher, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = ReadyRun()
    dispatcher._spare = spare  # pyright: ignore[reportAttributeAccessIssue]
    study_id = play.submit(arms=["adamp"])

    def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database went away")

    for read in ("overdue_claims", "study", "finished_trials"):
        monkeypatch.setattr(play.store, read, unavailable)
    with pytest.raises(StoreUnavailable):
        dispatcher._claim()
    spare.process.communicate("")
    assert spare.claims == [Claim(study_id, 1)]
    assert [run.claim for run in dispatcher._runs] == spare.claims


def test_a_run_that_dies_before_it_has_a_study_is_reported_with_its_error_until_another_is_ready(
    play: SimulatedDispatcher, dispatcher: Dispatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ray.py").write_text(
        "raise ImportError('libray is missing at ftp://me:secret@here/')"
    )
    monkeypatch.setattr(dispatcher, "_run_environment", lambda: {"PYTHONPATH": str(tmp_path / "broken")})

    def problem() -> str | None:
        dispatcher._prepare_spare()
        dispatcher._beat()
        return play.store.dispatchers()[dispatcher._settings.name].problem

    reported = until(problem, what="the report", timeout_s=30.0)
    assert reported.startswith(
        "a run exited with status 1 before it had a study: ImportError: libray is missing at ftp://me:"
    )
    assert "secret" not in reported
    assert dispatcher._spare is None
    dispatcher._prepare_spare()
    assert dispatcher._spare is None, "the next one starts after a delay"
    dispatcher._spare = ready = ReadyRun()  # pyright: ignore[reportAttributeAccessIssue]
    assert problem() is None
    ready.process.communicate("")


def test_a_claim_counts_the_trials_that_have_ended(play: SimulatedDispatcher) -> None:
    run = play.run(arms=["adamp"])
    assert run.claim.finished_trials == 0
    for trial in run.begin(0, 1):
        run.complete(trial, 0.9)
    play.store.release(run.claim)
    assert play.claim().claim.finished_trials == 2
