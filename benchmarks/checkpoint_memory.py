"""The memory that saving and loading a large checkpoint takes, in parts of the trial's own state.

    .venv/bin/python benchmarks/checkpoint_memory.py --megabytes 2048

A fully connected model takes one step with AdamW, so its state is three times its weights. Then its
checkpoint is saved as in training, and in a new process the same trial resumes from it. Anonymous memory
(`RssAnon`) is read every few milliseconds: memory that the system cannot drop. What is mapped from the file
is not in it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers.checkpoints import load, save
from workers.optimizers import load_optimizers
from workers.pack_protocol import Member, Pack
from workers.solo import Solo
from workers.tensor_states import bytes_of
from workers.workloads import LoopWorkload, SplitName

__all__ = ["main"]

_WIDTH: Final = 1024
_EVERY_S: Final = 0.002


class LargeModel(LoopWorkload):
    """Layers without an activation, as many as asked for, one step in an epoch."""

    card = WorkloadCard(
        name="large-model",
        title="Large model",
        description="Fully connected layers on random inputs.",
        source="random numbers",
        metric="error",
        unit="1",
        direction="minimize",
        target=0.0,
        epochs=2,
        batch_size=1,
        examples={"train": 1, "validation": 1, "test": 1},
        parameters=_WIDTH**2,
        epoch_s=1.0,
    )

    def __init__(self, layers: int) -> None:
        self._layers = layers

    def build_model(self) -> nn.Module:
        """Return the layers."""
        return nn.Sequential(*(nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(self._layers)))

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Tensor]:
        """Return one batch."""
        del epoch
        return [torch.ones(batch_size, _WIDTH)]

    def training_step(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Return the outputs' mean square."""
        return model(batch).square().mean()

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        """Return a constant."""
        del model, split, device
        return {"error": 0.0}


def main() -> None:
    """Print the peaks as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the state")
    parser.add_argument("--resume", help="a checkpoint; used by the script itself")
    options = parser.parse_args()
    layers = max(1, options.megabytes * 2**20 // (3 * 4 * _WIDTH**2))
    if options.resume is not None:
        print(json.dumps(_peak(lambda: _solo(layers, load(options.resume)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        url = str(Path(folder) / "state.pt")
        solo = _solo(layers)
        solo.train_epoch(1)
        size, before = bytes_of(solo.checkpoint()), _anonymous()
        saving = _peak(lambda: save(url, solo.checkpoint()))
        resuming = json.loads(
            subprocess.run(
                [sys.executable, __file__, "--megabytes", str(options.megabytes), "--resume", url],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
        )
    print(
        json.dumps(
            {
                "state_bytes": size,
                "saving_takes": round((saving["peak"] - before) / size, 3),
                "saving_s": round(saving["seconds"], 2),
                "resuming_takes": round((resuming["peak"] - resuming["before"]) / size, 3),
                "resuming_s": round(resuming["seconds"], 2),
            }
        )
    )


def _solo(layers: int, state: Mapping[str, Any] | None = None) -> Solo:
    entry = load_optimizers()["adamw"]
    member = Member(
        trial_id="t", attempt=1, parameters=entry.card.defaults, seed=0, checkpoint="-" if state else None
    )
    pack = Pack(
        pack_id="p",
        workload="large-model",
        optimizer="adamw",
        members=(member,),
        from_epoch=1 if state else 0,
        to_epoch=2,
        epochs=2,
        training=TrainingSettings(batch_size=1),
        maximize=False,
    )
    return Solo(
        member,
        pack=pack,
        workload=LargeModel(layers),
        entry=entry,
        data=None,
        device=torch.device("cpu"),
        state=state,
    )


def _peak(call: Callable[[], object]) -> dict[str, float]:
    """Return the anonymous memory before a call and at its peak, and the call's seconds."""
    before = peak = _anonymous()
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_EVERY_S):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - started
    is_over.set()
    watcher.join()
    peak = max(peak, _anonymous())
    del kept
    return {"before": before, "peak": peak, "seconds": seconds}


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
