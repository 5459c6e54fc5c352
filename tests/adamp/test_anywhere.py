"""Where AdamP and SGDP step: in threads that outlive the main one, exit handlers and forked processes."""

import json
import subprocess
import sys

import pytest

__all__: list[str] = []

# Tensors that several threads share, and that torch's own operations share too. Each place steps its own
# tensors, from the same numbers, so that all of them must end with the same bits.
SCRIPT = """
import atexit, json, os, threading
import torch
from adamp import SGDP, AdamP

PATHS = {"numba": {}, "plain": {"fused": False}, "foreach": {"foreach": True}}
torch.set_num_threads(2)

def made():
    optimizers = {}
    for build in (AdamP, SGDP):
        for path, flags in PATHS.items():
            generator = torch.Generator().manual_seed(0)
            weight = torch.nn.Parameter(torch.randn(64, 5000, generator=generator))
            weight.grad = torch.randn(64, 5000, generator=generator)
            optimizers[f"{build.__name__} {path}"] = build([weight], lr=0.1, **flags), weight
    return optimizers

def step(place, optimizers):
    found = {}
    for name, (optimizer, weight) in optimizers.items():
        optimizer.step()
        found[name] = [weight.detach()[row, column].item() for row, column in ((0, 0), (31, 7), (63, 4999))]
    os.write(1, (json.dumps([place, found]) + "\\n").encode())

def outlive():
    threading.main_thread().join()
    step("thread", in_thread)
    if os.fork() == 0:
        step("child", in_child)
        os._exit(0)
    os.wait()

in_thread, at_exit, in_child = made(), made(), made()
threading.Thread(target=outlive).start()
atexit.register(step, "exit", at_exit)
"""


def test_every_path_steps_after_the_main_thread_in_exit_handlers_and_in_forked_processes() -> None:
    """The thread that forks has stepped before, so it has threads that its child lacks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stderr == ""
    found: dict[str, dict[str, list[float]]] = dict(map(json.loads, done.stdout.splitlines()))
    assert set(found) == {"thread", "exit", "child"}
    for place in found.values():
        assert len(place) == 6
        for name, numbers in place.items():
            error = 0.0 if name.endswith("numba") else 1e-5
            assert numbers == pytest.approx(found["exit"][name], rel=error, abs=0), name
