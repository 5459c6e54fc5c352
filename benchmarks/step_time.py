r"""Milliseconds per optimizer step, for our AdamP and SGDP on each path and for other implementations.

The others are torch's AdamW and SGD, pytorch_optimizer's AdamP and SGDP, and PyPI's `adamp`.

    .venv/bin/python benchmarks/step_time.py --make-reference build/reference
    .venv/bin/python benchmarks/step_time.py --reference-python build/reference/bin/python \
        --markdown step_time.md --json step_time.json
    .venv/bin/python benchmarks/step_time.py --device cuda --json step_time.json

Every setting (shapes, threads, allocator) has its own process, started with the environment that the
allocator and the threads need. All sides in it step the same float32 tensors, with fixed random gradients
and a learning rate too small to move any weight, so that the same tensors are projected in every step. The
sides take turns, in a new order in every round. A side's time is the median of its turns. Its ratio to
torch's fused AdamW (fused SGD for SGD and SGDP) is computed within each round; the median ratio is printed
with its quartiles, next to the median ratio of the reference to it. The first step, which allocates and may
compile or load compiled code from a cache, is listed separately. GB/s counts the bytes that a fused step must
read and write: 28 per element for AdamW and AdamP (weight, gradient and two moments read; all but the
gradient written), 20 for SGD and SGDP with momentum. Next to it is the rate of one large copy and one large
in-place addition.

On a GPU, every model's tensors are larger than the L2 cache, so that none stays in it between steps (except
`tiny-62`, which measures launches). Sides that cannot be imported are skipped and named.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from step_reference import ReferenceProcess, ReferenceSide, make_reference
from step_shapes import CPU_SHAPES, CUDA_SHAPES, SHAPES
from step_sides import SIDES, LocalSide, Setting, Tensors, bandwidth, make_optimizer, projected_share
from step_tables import describe, markdown, show

__all__ = ["main"]

# With these, glibc allocates only from the heap and returns no memory, so that no page is faulted in twice.
_KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def _measure(setting: Setting) -> dict[str, Any]:
    """Return the milliseconds of every turn of every side under one setting, with notes on the sides."""
    torch.set_num_threads(setting.threads)
    reached = bandwidth(setting.device)
    tensors = Tensors(setting)
    reference = ReferenceProcess(setting) if setting.reference_python else None
    assert reference is None or reference.checksum == tensors.checksum, "both processes step the same tensors"
    share_before = projected_share(tensors)
    sides: dict[str, LocalSide | ReferenceSide] = {}
    left_out: dict[str, str] = {}
    for name in (name for name in SIDES if re.search(setting.sides, name)):
        try:
            if name.startswith("reference"):
                if reference is None:
                    raise ImportError("no --reference-python was given")
                sides[name] = ReferenceSide(reference, name)
            else:
                sides[name] = LocalSide(make_optimizer(name, tensors), tensors, setting)
        except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            # Other libraries raise any of these for an unsupported device or option. List the side with its
            # reason, and time the others.
            left_out[name] = f"{type(error).__name__}: {error}"
    turns: dict[str, list[float]] = {name: [] for name in sides}
    order, shuffled = list(sides), random.Random(0)
    for _ in range(setting.rounds):
        # A new order in every round, so that no side always steps after the same other side.
        shuffled.shuffle(order)
        for name in order:
            turns[name].append(sides[name].turn())
    if reference is not None:
        reference.close()
    return {
        "setting": asdict(setting),
        "elements": tensors.elements,
        "tensors": len(tensors.weights),
        "projected_tensors": share_before[0],
        "projected_elements": share_before[1],
        "projection_kept": setting.flips > 0 or projected_share(tensors) == share_before,
        "bandwidth_gb_per_s": reached,
        "turns_ms": turns,
        "first_s": {name: side.first_s for name, side in sides.items()},
        "left_out": left_out,
    }


def _in_a_process(setting: Setting) -> dict[str, Any]:
    """Return `_measure` of a setting, run in a process with the environment that it needs."""
    environment = {name: value for name, value in os.environ.items() if name not in _KEEPING}
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(setting.threads))
    if setting.allocator == "keeping":
        environment |= _KEEPING
    command = [sys.executable, __file__, "--setting", json.dumps(asdict(setting))]
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(
            f"Measuring {setting.shapes} failed with code {done.returncode}; the error is printed above."
        )
    return json.loads(done.stdout.splitlines()[-1])


def _machine(device: str) -> dict[str, Any]:
    """Return the processor, the versions and, for a GPU, the card."""
    model = re.search(
        r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
    )
    versions: dict[str, str] = {}
    for package in ("torch", "numpy", "numba", "triton", "pytorch_optimizer"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    return {
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else model[1]
        if model
        else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **versions,
    }


def _settings(given: argparse.Namespace) -> list[Setting]:
    shapes: Sequence[str] = given.shapes or (CUDA_SHAPES if given.device == "cuda" else CPU_SHAPES)
    threads: Sequence[int] = given.threads or ((1,) if given.device == "cuda" else (1, 2))
    allocators: Sequence[str] = given.allocators or (
        ("default",) if given.device == "cuda" else ("default", "keeping")
    )
    return [
        Setting(
            shapes=name,
            device=given.device,
            threads=count,
            allocator=allocator,
            projected=given.projected,
            flips=given.flips,
            rounds=given.rounds,
            turn_ms=given.turn_ms,
            sides=given.sides,
            reference_python=given.reference_python,
        )
        for allocator, count, name in product(allocators, threads, shapes)
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--make-reference",
        type=Path,
        metavar="DIR",
        help="create an environment with PyPI's adamp 0.3.0 that shares this torch, and exit",
    )
    parser.add_argument(
        "--reference-python",
        metavar="PATH",
        help="interpreter of that environment, or of another one with torch and adamp 0.3.0",
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        help="default: four models and the tiny tensors; on a GPU, larger models",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2; on a GPU, 1")
    parser.add_argument(
        "--allocators",
        nargs="+",
        choices=("default", "keeping"),
        help="default: both; on a GPU, the default one",
    )
    parser.add_argument(
        "--projected",
        choices=("none", "mixed", "all"),
        default="mixed",
        help="mixed: the weights that a norm makes scale-invariant",
    )
    parser.add_argument(
        "--flips",
        type=float,
        default=0.0,
        help="share of the tensors whose projection changes from step to step (default 0)",
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn-ms", type=float, default=100.0)
    parser.add_argument(
        "--sides",
        default="",
        metavar="REGEX",
        help="only sides whose names match; ratios need torch's fused ones",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the times of every turn, as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="file for the tables, as Markdown")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure every setting, print its table, and write the requested files."""
    given = _arguments()
    if given.make_reference is not None:
        print(make_reference(given.make_reference))
        return
    if given.setting is not None:
        print(json.dumps(_measure(Setting(**json.loads(given.setting)))))
        return
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "step_time expects a GPU for --device cuda and torch finds none: leave "
            "the option out to measure the CPU."
        )
    machine = _machine(given.device)
    print(describe(machine))
    found: list[dict[str, Any]] = []
    for setting in _settings(given):
        found.append(_in_a_process(setting))
        show(found[-1])
    if given.json is not None:
        given.json.write_text(
            json.dumps({"machine": machine, "settings": found}, indent=1) + "\n", encoding="utf-8"
        )
    if given.markdown is not None:
        given.markdown.write_text(
            "\n\n".join([describe(machine), *(markdown(measured) for measured in found)]) + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
