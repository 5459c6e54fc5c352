"""The peak memory of a pack: of this process since the pack began, and of the processes below it."""

import os
import subprocess
import sys

import torch
from packs import CPU

from workers.memory_meters import PackMeter

__all__: list[str] = []

MEBIBYTE = 2**20


def test_a_peak_belongs_to_the_pack_in_which_it_was_reached() -> None:
    first = PackMeter(CPU)
    before, on_gpu = first.read()
    torch.ones(100 * MEBIBYTE // 4)
    peak, _ = first.read()
    assert peak > before + 90 * MEBIBYTE
    assert on_gpu is None
    assert PackMeter(CPU).read()[0] < peak - 90 * MEBIBYTE


def test_processes_below_count_unless_they_are_spared() -> None:
    code = "kept = bytearray(b'x') * (50 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone = PackMeter(CPU, keeper_pid=child.pid).read()[0]
        assert PackMeter(CPU).read()[0] > alone + 45 * MEBIBYTE
        child.communicate(b"\n")


def test_a_pack_gives_back_what_an_earlier_one_has_freed() -> None:
    code = (
        "import torch; from workers.memory_meters import PackMeter; cpu = torch.device('cpu')\n"
        "kept = [torch.ones(2**20 // 4) for _ in range(600)]; end = torch.ones(1000)\n"
        "full = PackMeter(cpu).read()[0]; del kept; print(full - PackMeter(cpu).read()[0])"
    )
    keeps = {**os.environ, "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
    found = subprocess.run([sys.executable, "-c", code], env=keeps, check=True, stdout=subprocess.PIPE)
    assert int(found.stdout) > 500 * MEBIBYTE
