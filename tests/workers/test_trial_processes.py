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


def test_a_script_averages_its_gradients_and_only_the_first_process_has_to_report(
    claims: dict[str, Any],
) -> None:
    for process in claims["together"]:
        for together, alone in zip(process["script"], claims["alone"]["script"], strict=True):
            assert together == pytest.approx(alone, rel=1e-4)
        assert process["resumed script"] == process["script"]
        assert process["tested together"] == 3.0


def test_each_process_starts_the_program_of_a_command_with_torchruns_variables(
    claims: dict[str, Any],
) -> None:
    first, second = claims["together"]
    assert first["program"] == second["program"] == [1 / 5, 1 / 10, 1 / 15, 1 / 20]
    (*own, address, port), other = first["variables"].split(), second["variables"].split()
    assert own == ["0", "2", "0", "1"]
    assert other == ["1", "2", "0", "1", address, port]


def test_a_script_that_breaks_the_group_of_its_processes_is_told_why(claims: dict[str, Any]) -> None:
    first, second = claims["together"]
    assert "destroy_process_group" in first["group left"] == second["group left"]
    assert "pattern" in first["pattern"] == second["pattern"]
    assert "exited with status 3" in second["dead program"]
    assert first["dead program"].startswith("lost")


def test_all_processes_give_up_to_save_a_checkpoint_together(claims: dict[str, Any]) -> None:
    assert [process["unsaved"] for process in claims["together"]] == ["not saved", "not saved"]


def test_a_batch_that_cannot_be_divided_is_refused(claims: dict[str, Any]) -> None:
    for process in claims["together"]:
        assert "divided by 2" in process["uneven"]
