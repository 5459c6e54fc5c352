"""The benchmark of optimizer steps still runs and measures what it documents."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.step_shapes import SHAPES, parameters

__all__: list[str] = []

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step_time.py"


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_has_its_published_number_of_parameters(name: str) -> None:
    assert any(parameter.view != "none" for parameter in parameters(name))


def test_an_unknown_model_raises_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of the shapes resnet50, .*, got 'vgg'"):
        parameters("vgg")


def test_every_side_takes_its_turns_on_tensors_with_the_same_projection(tmp_path: Path) -> None:
    short = [
        "--shapes",
        "tiny-62",
        "--threads",
        "1",
        "--allocators",
        "keeping",
        "--rounds",
        "2",
        "--turn-ms",
        "1",
    ]
    written = ["--json", str(tmp_path / "found.json"), "--markdown", str(tmp_path / "found.md")]
    subprocess.run([sys.executable, SCRIPT, *short, *written], check=True, capture_output=True, timeout=120)

    (measured,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["settings"]
    expected = {
        "torch AdamW fused",
        "torch SGD fused",
        "pytorch_optimizer AdamP loop",
        "tangent AdamP plain",
        "tangent SGDP plain",
    }
    assert expected <= measured["turns_ms"].keys()
    assert all(len(turns) == 2 and min(turns) > 0 for turns in measured["turns_ms"].values())
    assert measured["projection_kept"]
    assert measured["projected_tensors"] == pytest.approx(20 / 62)
    assert set(measured["left_out"]) >= {"reference AdamP", "reference SGDP"}
    assert "| torch AdamW fused |" in (tmp_path / "found.md").read_text(encoding="utf-8")
