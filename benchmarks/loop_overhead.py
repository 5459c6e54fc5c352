"""The cost of Tangent's training loop beside the same loop written by hand in torch, as a ratio of times.

    .venv/bin/python benchmarks/loop_overhead.py --json loop.json --markdown loop.md

Both sides train the same model with the same optimizer, batches, cosine schedule and evaluation, each epoch
in turn and in a new order, in one process of one thread. The ratio of their processor times, which other
processes disturb less than wall times, is computed within each round, and the median is printed with its
quartiles. The allocator keeps freed memory, as in a worker. Tangent's side also seeds, probes the weights,
watches for divergence and makes a report of each epoch. The first epoch, which allocates, does not count.

`digits-cnn` is a workload of tensors, trained alone. The other job has a `DataLoader` and 10 million
parameters.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, cast

import torch
from tables import Table, add_outputs, machine, publish
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from studies.catalog import WorkloadCard
from studies.training_settings import TrainingSettings
from workers.node_process import WORKER_ENVIRONMENT
from workers.optimizers import OptimizerEntry, build_optimizer, load_optimizers
from workers.pack_protocol import Member, Pack
from workers.training import train_pack
from workers.workloads import (
    Data,
    LoopWorkload,
    Split,
    SplitName,
    TensorWorkload,
    builtin_tensor_workloads,
    to_device,
)

__all__ = ["main"]

_CPU = torch.device("cpu")
_CLASSES, _INPUTS, _EXAMPLES = 10, 512, 640


class Wide(LoopWorkload):
    """Four layers of 1,600 units on random pictures, in batches of 16 from a `DataLoader`."""

    card = WorkloadCard(
        name="wide",
        title="Wide network",
        description="Fully connected layers with layer normalisation on random inputs.",
        source="random numbers",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=1.0,
        epochs=1,
        batch_size=16,
        examples={"train": _EXAMPLES, "validation": 128, "test": 128},
        parameters=10_000_000,
        epoch_s=1.0,
    )

    def __init__(self) -> None:
        """Draw the examples."""
        source = torch.Generator().manual_seed(0)

        def drawn(examples: int) -> TensorDataset:
            inputs = torch.randn(examples, _INPUTS, generator=source)
            return TensorDataset(inputs, torch.randint(_CLASSES, (examples,), generator=source))

        self.train = drawn(_EXAMPLES)
        self.held_out = {"validation": drawn(128), "test": drawn(128)}

    def build_model(self) -> nn.Module:
        """Return the network."""
        layers: list[nn.Module] = []
        for inputs in (_INPUTS, 1600, 1600, 1600, 1600):
            layers += [nn.Linear(inputs, 1600), nn.LayerNorm(1600), nn.ReLU()]
        return nn.Sequential(*layers[:-3], nn.Linear(1600, 1000), nn.ReLU(), nn.Linear(1000, _CLASSES))

    def train_batches(
        self,
        *,
        batch_size: int,
        epoch: int,  # noqa: ARG002
    ) -> DataLoader[tuple[Tensor, ...]]:
        """Return the batches of an epoch."""
        return DataLoader(self.train, batch_size=batch_size, shuffle=True, drop_last=True)

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy."""
        inputs, targets = batch
        return nn.functional.cross_entropy(model(inputs), targets)

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, float | Tensor]:
        """Return the mean loss and the accuracy."""
        loss, right = torch.zeros(()), torch.zeros(())
        for batch in DataLoader(self.held_out[split], batch_size=128):
            inputs, targets = to_device(batch, device)
            outputs = model(inputs)
            loss += nn.functional.cross_entropy(outputs, targets, reduction="sum")
            right += (outputs.argmax(dim=-1) == targets).sum()
        examples = len(self.held_out[split])
        return {"loss": loss / examples, "accuracy": right / examples}


def _by_hand_tensors(
    workload: TensorWorkload, data: Data, optimizer: Optimizer, model: nn.Module, *, epochs: int
) -> Iterator[float]:
    """Train on tensors as a person would write it, and yield each epoch's validation metric."""
    size = workload.card.batch_size
    steps = len(data.train) // size
    scheduler = CosineAnnealingLR(optimizer, steps * epochs)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(data.train))[: steps * size].view(steps, size):
            loss = workload.loss(model(data.train.inputs[rows]), data.train.targets[rows])
            loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            accuracy = _evaluated(workload, model, data.validation)
        yield accuracy


def _evaluated(workload: TensorWorkload, model: nn.Module, split: Split) -> float:
    """Return the metric of a split; the loss is computed too, as a person would print it."""
    loss, metric = 0.0, 0.0
    for inputs, targets in zip(split.inputs.split(512), split.targets.split(512), strict=True):
        outputs = model(inputs)
        loss += workload.loss(outputs, targets).item() * len(targets)
        metric += workload.metric_sum(outputs, targets).item()
    return metric / len(split)


def _by_hand_batches(
    workload: Wide, optimizer: Optimizer, model: nn.Module, *, epochs: int
) -> Iterator[float]:
    """Train on a `DataLoader` as a person would write it, and yield each epoch's validation metric."""
    size = workload.card.batch_size
    scheduler = CosineAnnealingLR(optimizer, _EXAMPLES // size * epochs)
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for batch in workload.train_batches(batch_size=size, epoch=epoch):
            loss = workload.training_step(model, cast("tuple[Tensor, Tensor]", tuple(batch)))
            loss.backward()  # pyright: ignore[reportUnknownMemberType]  # torch leaves its arguments untyped
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            accuracy = workload.evaluate(model, "validation", device=_CPU)["accuracy"]
        yield float(accuracy)


def _sides(
    workload: TensorWorkload | Wide, entry: OptimizerEntry, *, epochs: int
) -> dict[str, Iterator[object]]:
    """Return Tangent's loop and the one written by hand; each step of an iterator is an epoch."""
    data = workload.load_data(_CPU) if isinstance(workload, TensorWorkload) else None
    card = workload.card
    pack = Pack(
        pack_id="loop",
        workload=card.name,
        optimizer=entry.card.name,
        members=(Member(trial_id="t", attempt=1, parameters=entry.card.defaults, seed=0),),
        from_epoch=0,
        to_epoch=epochs,
        epochs=epochs,
        training=TrainingSettings(batch_size=card.batch_size, schedule="cosine"),
        maximize=True,
        width=1,
    )
    model = workload.build_model()
    optimizer = build_optimizer(entry, model, entry.card.defaults, decay_1d=True)
    return {
        "Tangent": train_pack(pack, workload=workload, entry=entry, data=data, device=_CPU),
        "by hand": (
            _by_hand_tensors(workload, data, optimizer, model, epochs=epochs)
            if isinstance(workload, TensorWorkload) and data is not None
            else _by_hand_batches(cast("Wide", workload), optimizer, model, epochs=epochs)
        ),
    }


def _rounds(sides: Mapping[str, Iterator[object]], rounds: int) -> Generator[dict[str, float]]:
    """Yield the processor seconds of each side's epoch, after a first one that does not count."""
    order, shuffled = list(sides), random.Random(0)
    for count in range(rounds + 1):
        shuffled.shuffle(order)
        seconds: dict[str, float] = {}
        for name in order:
            started = time.process_time()
            next(sides[name])
            seconds[name] = time.process_time() - started
        if count:
            yield seconds


def main() -> None:
    """Measure both jobs, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--optimizer", default="adamp", help="the optimizer of both sides (default: adamp)")
    parser.add_argument("--rounds", type=int, default=41, help="epochs that count (default: 41)")
    add_outputs(parser)
    given = parser.parse_args()
    if not WORKER_ENVIRONMENT.keys() <= os.environ.keys():
        # The allocator reads its settings when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**WORKER_ENVIRONMENT, **os.environ})
    torch.set_num_threads(1)
    entry = load_optimizers()[given.optimizer]
    jobs: dict[str, TensorWorkload | Wide] = {
        "digits-cnn": builtin_tensor_workloads()["digits-cnn"],
        "10M parameters": Wide(),
    }
    measured: dict[str, Any] = {"machine": machine()}
    rows: list[list[str]] = []
    for name, workload in jobs.items():
        # Only the last epoch evaluates the test split.
        rounds = list(_rounds(_sides(workload, entry, epochs=given.rounds + 2), given.rounds))
        ratios = sorted(seconds["Tangent"] / seconds["by hand"] for seconds in rounds)
        low, middle, high = statistics.quantiles(ratios, n=4)
        hand = statistics.median(seconds["by hand"] for seconds in rounds)
        rows.append([name, f"{1000 * hand:.1f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"])
        measured[name] = rounds
    header = ("job", "by hand, ms an epoch", "Tangent / by hand", "quartiles")
    title = f"Tangent's loop beside one written by hand, {given.optimizer}, one thread"
    publish(given, measured, [Table(title=title, header=header, rows=rows)])


if __name__ == "__main__":
    main()
