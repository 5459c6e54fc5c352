"""What dispatchers and runs log names the study and the trials it is about.

What a run said last is told in words, whatever it is written in.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from playing import Play

from studies.states import StudyState
from workers.dispatcher import Dispatcher, _Run
from workers.settings import DispatcherSettings

__all__: list[str] = []


def test_a_run_that_broke_down_is_logged_by_its_study_and_attempt(
    play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher, run = (
        Dispatcher(DispatcherSettings(home=tmp_path), play.store, ray_address="local"),
        play.run(),
    )
    broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], text=True)
    broken.wait()
    dispatcher._runs.append(_Run(run.claim, broken))
    with caplog.at_level(logging.INFO, "tangent.dispatcher"):
        dispatcher._reap()
    (record,) = [record for record in caplog.records if "ended with code 3" in record.getMessage()]
    assert (record.__dict__["study_id"], record.__dict__["attempt"]) == (run.claim.study_id, 1)


def test_a_study_that_is_given_up_quotes_its_run_in_words(play: Play, tmp_path: Path) -> None:
    settings = DispatcherSettings(home=tmp_path)
    dispatcher, run = Dispatcher(settings, play.store, ray_address="local"), play.run()
    log = settings.log_of(run.claim.study_id)
    log.parent.mkdir(parents=True)
    line = {
        "event": "this run ends, it cannot keep its lease",
        "exception": "Traceback (most recent call last):\n  ...\nOSError: disk full",
    }
    log.write_text(json.dumps(line) + "\n")
    for _ in range(3):
        broken = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], text=True)
        broken.wait()
        dispatcher._runs.append(_Run(run.claim, broken))
        dispatcher._reap()
        claim = play.store.claim_next(dispatcher="here", lease_s=60.0)
        run = run if claim is None else play.of(claim)
    assert run.study.state is StudyState.FAILED
    assert "without finishing a trial: OSError: disk full (see " in str(run.study.state_reason)


@pytest.mark.parametrize("given", ["json", "JSON"])
def test_the_format_of_logs_is_taken_from_the_environment_as_the_service_takes_it(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("TANGENT_LOG_FORMAT", given)
    assert DispatcherSettings().log_format == "json"
