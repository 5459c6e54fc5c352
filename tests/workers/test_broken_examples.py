"""The check finds the mistake of each broken example; its output is kept beside the example."""

import re
from pathlib import Path

import pytest
from golden_text import assert_golden

from workers.workload_check.__main__ import main

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "examples" / "jobs" / "broken"
EXAMPLES = {
    "mean_metric:MeanOfBatch": "validation metric",
    "overlapping_splits:OverlappingSplits": "separate splits",
    "unseeded_noise:UnseededNoise": "same training twice",
    "unused_head:UnusedHead": "gradients",
    "wrong_axis:WrongAxis": "validation loss",
}
# These depend on the machine, or on noise without a seed.
TIMES = re.compile(r"^\w+ +(speed|card: epoch_s): .*\n", re.MULTILINE)
VALUES = re.compile(r"(?<= loss: )[\d.]+|(?<=training loss )[\d.]+|(?<=accuracy )[\d.]+")


def printed(target: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit status and the output of `tangent check`, with places below the repository's root."""
    status = main([target])
    return status, VALUES.sub("…", TIMES.sub("", capsys.readouterr().out.replace(f"{ROOT}/", "")))


@pytest.mark.parametrize("target", EXAMPLES)
def test_the_mistake_of_a_broken_example_is_an_error_with_its_place(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BROKEN)
    status, output = printed(target, capsys)
    assert status == 1
    errors = [line for line in output.splitlines() if line.startswith("error")]
    name = target.partition(":")[0]
    assert errors[0].split(maxsplit=1)[1].startswith(f"{EXAMPLES[target]}: ")
    assert re.search(rf"\(examples/jobs/broken/{name}\.py:\d+\)$", errors[0])
    assert_golden(BROKEN / f"{name}.txt", output)


def test_the_sound_example_has_no_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BROKEN)
    status, output = printed("sound_digits:SoundDigits", capsys)
    assert (status, re.findall(r"^(?:error|warning) .*", output, re.MULTILINE)) == (0, [])
