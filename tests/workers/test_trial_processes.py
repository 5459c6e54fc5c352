"""A trial that two processes train together, compared with the same trial in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__: list[str] = []

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claims() -> dict[str, Any]:
    """Return the numbers of a trial in one process, and what each of two processes found."""
    # This folder has a folder `workers` too, which must not be imported.
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", str(ROOT / "tests" / "trial_processes_claims.py")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("optimizer", ["adamp", "adamw", "muon"])
@pytest.mark.parametrize("state", ["", " sharded"])
def test_two_processes_measure_what_one_does_with_the_same_batches(
    claims: dict[str, Any], optimizer: str, state: str
) -> None:
    for process in claims["together"]:
        for together, alone in zip(process[optimizer + state], claims["alone"][optimizer], strict=True):
            assert together == pytest.approx(alone, rel=1e-4)


def test_a_workload_may_split_its_batches_itself(claims: dict[str, Any]) -> None:
    first, second = claims["together"]
    for process in (first, second):
        for own, shared in zip(process["own share"], process["adamp"], strict=True):
            assert own == pytest.approx(shared, rel=1e-4)


@pytest.mark.parametrize("state", ["", " sharded"])
def test_a_resumed_trial_continues_bit_for_bit(claims: dict[str, Any], state: str) -> None:
    for process in claims["together"]:
        assert process["resumed" + state] == process["adamp" + state]


def test_a_sharded_state_is_divided_among_the_processes(claims: dict[str, Any]) -> None:
    first, second = (process["state"] for process in claims["together"])
    assert first["whole"] == second["whole"]
    assert first["sharded"] + second["sharded"] == first["whole"]
    assert 0 < second["sharded"] < first["whole"]


def test_processes_draw_different_noise_from_the_trials_seed(claims: dict[str, Any]) -> None:
    first, second = claims["together"]
    assert not {*first["drawn"]} & {*second["drawn"]}
    assert first["noisy"] == second["noisy"] == first["repeated"] != first["adamp"]


def test_a_loss_that_is_not_finite_in_one_process_ends_the_trial_in_all(claims: dict[str, Any]) -> None:
    assert [process["diverged"] for process in claims["together"]] == ["diverged", "diverged"]


def test_a_batch_that_cannot_be_divided_is_refused(claims: dict[str, Any]) -> None:
    for process in claims["together"]:
        assert "divided by 2" in process["uneven"]
