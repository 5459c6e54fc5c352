"""AdamP and SGDP on parameters that are split over two processes, compared with whole ones."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__: list[str] = []

PLACEMENTS = ("rows", "within rows", "replicas")


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """Return what each of two processes found."""
    script = Path(__file__).with_name("sharded_claims.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("kind", "error"), [("adamp", 1e-13), ("sgdp", 1e-13), ("adamp-bf16", 0.02)])
def test_a_split_tensor_is_projected_as_the_whole_tensor_would_be(
    found: list[dict[str, Any]], placement: str, kind: str, error: float
) -> None:
    for process in found:
        channels, layers = process[f"{kind}, projected views"]
        assert channels > 0
        assert layers > 0
        assert process[f"{kind}, {placement}"] < error


def test_fully_shard_trains_as_one_process_does_also_from_a_checkpoint(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert process["fsdp"]["fully_shard"] < 1e-5
        assert process["fsdp"]["resumed"] < 1e-5


def test_zero_redundancy_optimizer_trains_as_one_process_does(found: list[dict[str, Any]]) -> None:
    assert [process["zero"] for process in found] == [0.0, 0.0]


def test_a_gradient_that_is_still_a_sum_over_processes_is_added_up(found: list[dict[str, Any]]) -> None:
    assert [process["summed gradient"] for process in found] == [0.0, 0.0]


def test_a_nan_in_the_rows_of_one_process_keeps_all_from_projecting(found: list[dict[str, Any]]) -> None:
    assert [process["nan"] for process in found] == [True, True]


@pytest.mark.parametrize(
    ("case", "advice"),
    [
        ("flattened, originals True", "use torch.distributed.fsdp.fully_shard"),
        ("flattened, originals False", "use torch.distributed.fsdp.fully_shard"),
        ("partial", "redistribute it"),
        ("moment", "set_optimizer_state_dict"),
    ],
)
def test_parts_whose_layer_is_unknown_are_refused_with_advice(
    found: list[dict[str, Any]], case: str, advice: str
) -> None:
    for process in found:
        assert advice in process["refusals"][case]
