"""What takes too long ends its process, even where the interpreter gives nobody else a turn."""

import subprocess
import sys
import time

import pytest

from workers.deadline import exit_after

__all__: list[str] = []


@pytest.mark.parametrize("stuck", ["time.sleep(60)", "sum(range(10**13))"])
def test_what_hangs_is_ended_and_its_place_told(stuck: str) -> None:
    program = f"""
import time
from workers.deadline import ended_after
def the_place():
    {stuck}
with ended_after(0.5):
    the_place()
"""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "in the_place" in ended.stderr
    assert time.monotonic() - began < 20


def test_what_is_done_in_time_goes_on_however_long_the_rest_takes() -> None:
    with exit_after(0.2):
        pass
    time.sleep(0.5)


def test_an_error_passes_and_stops_the_clock() -> None:
    with pytest.raises(ValueError, match="no such layer"), exit_after(0.2):
        raise ValueError("no such layer")
    time.sleep(0.5)
