"""A study in which one arm has no usable value: its exit status, its finding, and the workload's frames."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.trials import Measurement, NewTrial, PendingTrial, Report

__all__: list[str] = []

Run = Callable[..., Result]

TRACEBACK = 'Traceback\n  File "/lab/points.py", line 7, in load_data\nFileNotFoundError: points.csv'
REASON = "load_data of workload 'points' raised FileNotFoundError: points.csv"


def _completed(trial: PendingTrial, epoch: int) -> Report:
    ended: dict[str, Any] = {"ended": "completed", "value": 0.5, "best_epoch": 2, "test_value": 0.5}
    measurement = Measurement(epoch=epoch, elapsed_s=float(epoch), validation_metric=0.5)
    return Report(trial.id, 1, measurement, **(ended if epoch == 2 else {}))


@pytest.fixture
def failed(store: Store, body: dict[str, Any]) -> str:
    """A study whose adamp trials all failed with an error of the workload, and its adamw trials succeeded."""
    study = store.submit(parse_spec(body))
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    for arm in store.arms(study.id):
        pending = writer.create(
            [
                NewTrial(arm.name, n, "sampled", arm.defaults | {"lr": 0.001 * (n + 1)}, seed=7)
                for n in range(3)
            ]
        )
        writer.start(pending)
        if arm.name == "adamp":
            attempts = [(trial.id, 1) for trial in pending]
            writer.requeue(attempts, reason=REASON, traceback=TRACEBACK, max_retries=0)
        else:
            for epoch in (1, 2):
                writer.record([_completed(trial, epoch) for trial in pending])
    writer.close(StudyMove.FAIL, reason=f"no trial of arm 'adamp' has a usable value: {REASON}")
    return study.id


def test_watch_and_verdict_exit_with_1(run: Run, failed: str) -> None:
    assert (run("watch", failed).exit_code, run("verdict", failed).exit_code) == (1, 1)
    assert run("verdict", failed, "--json").exit_code == 1


def test_the_finding_starts_with_the_arm_and_its_reason(failed: str, live: str) -> None:
    analysis = httpx.get(f"{live}/v1/studies/{failed}/analysis").json()
    sentence = analysis["finding"]["sentence"].replace("\N{NO-BREAK SPACE}", " ")
    assert sentence.startswith(f"No trial of AdamP has a usable value: 3 trials failed; the last: {REASON}")
    assert (analysis["checks"][0]["kind"], analysis["checks"][0]["arm"]) == ("no-usable-value", "adamp")


def test_the_workloads_frames_are_in_the_api_the_command_line_and_the_trials_page(
    run: Run, failed: str, live: str
) -> None:
    trial = httpx.get(f"{live}/v1/trials/{failed}.adamp.0").json()
    assert (trial["reason"], trial["traceback"]) == (REASON, TRACEBACK)
    assert httpx.get(f"{live}/v1/trials/{failed}.adamw.0").json()["traceback"] is None
    for command in ("show", "watch"):
        assert TRACEBACK in run(command, failed).stdout
    page = httpx.get(f"{live}/trials/{failed}.adamp.0").text
    assert "line 7, in load_data" in page
