"""A deadline ends its process, even if the interpreter is blocked."""

import subprocess
import sys
import time

import pytest

from workers.deadline import exit_after

__all__: list[str] = []


@pytest.mark.parametrize("stuck", ["time.sleep(60)", "sum(range(10**13))"])
def test_a_block_that_hangs_ends_the_process_and_prints_its_stack(stuck: str) -> None:
    program = f"""
import time
from workers.deadline import exit_after
def hanging_function():
    {stuck}
with exit_after(0.5):
    hanging_function()
"""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "in hanging_function" in ended.stderr
    assert time.monotonic() - began < 20


def test_a_block_that_finishes_in_time_ends_the_deadline() -> None:
    with exit_after(0.2):
        pass
    time.sleep(0.5)


def test_an_error_propagates_and_ends_the_deadline() -> None:
    with pytest.raises(ValueError, match="no such layer"), exit_after(0.2):
        raise ValueError("no such layer")
    time.sleep(0.5)
