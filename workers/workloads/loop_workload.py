"""A workload with its own batches, training step and evaluation, trained by Tangent's loop."""

__all__ = [
    "READERS",
    "ComputedMetric",
    "LoopWorkload",
    "MetricValue",
    "SplitName",
    "diverged_if_nan",
    "moved",
    "own_generator",
    "to_device",
]

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from workers.signs_of_life import note_again
from workers.trial_files import TrialFolder
from workers.workloads.configuration import Configurable

B = TypeVar("B")
SplitName = Literal["validation", "test"]

READERS: Final = 4
"""Processes that read the files of a built-in workload.

Their number determines what they draw, so it does not depend on the machine.
"""


class ComputedMetric(Protocol):
    """A metric that has seen a whole split, like those of torchmetrics."""

    def compute(self) -> Any:
        """Return its value, a number or a tensor with one element."""
        ...


MetricValue = float | Tensor | ComputedMetric
"""A metric's value over a split, as a workload may return it."""


class LoopWorkload(Configurable, ABC):
    """A model with batches of any kind, a training step and an evaluation.

    Tangent's loop builds the optimizer, sets the learning rate, moves batches to the device, takes the steps,
    watches for divergence, saves checkpoints and resumes from them. Its trials are trained one at a time: a
    `TensorWorkload` of tensors can be stacked, which is faster for small models.

    A trial must depend on nothing but its configuration and its seed. Before each epoch the global generators
    of torch, numpy and `random` are seeded. Draw from these: a `DataLoader` without a `generator` of its own
    does, in its workers too, but give it the same `num_workers` everywhere: each worker draws from a stream
    of its own. In this process the model and the optimizer draw between two batches: draw what differs from
    batch to batch from `own_generator()`, so that every optimizer sees the same batches.
    """

    splits_batches: ClassVar[bool] = False
    """Whether `train_batches` returns a process's own share of each batch in a trial of several processes.

    If not, it returns whole batches, the same in every process, and each trains on an equal part of the rows
    of every tensor in them. Such a workload need not know of the processes. With True it reads `rank` and
    `world_size`, and returns batches of `batch_size / world_size` examples that no other process has.
    """
    rank: int = 0
    """The number of this process among those of the trial, from 0."""
    world_size: int = 1
    """How many processes train the trial."""
    _folder: TrialFolder | None = None

    @property
    def folder(self) -> Path:
        """A local folder of the trial's own, whose files are kept if `keep.files` says so.

        It is removed when the trial ends or pauses, and empty when a trial continues.

        Raises:
            RuntimeError: no trial is being trained, as in `load_data`.
        """
        return self._own_folder().path

    def log(self, **values: object) -> None:
        """Append a line to `log.jsonl` in the folder: the time and the values, as JSON.

        Args:
            values: by name; what JSON cannot hold is written as text.

        Raises:
            RuntimeError: no trial is being trained.
        """
        self._own_folder().log(**values)

    def in_folder(self, folder: TrialFolder) -> Self:
        """Return a copy of the workload for one trial, with its folder."""
        mine = copy.copy(self)
        object.__setattr__(mine, "_folder", folder)
        return mine

    def _own_folder(self) -> TrialFolder:
        if self._folder is None:
            raise RuntimeError("expected to be called while a trial is built or trained; no trial is")
        return self._folder

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model on the CPU, initialised from the global generators, which the caller seeds."""

    @abstractmethod
    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        """Return the batches of an epoch, on the CPU: tensors, or dicts, lists and tuples of them.

        The loop takes `steps_per_epoch` batches and leaves out the others, such as a last one that is not
        full. In intervals of steps it calls this once for each pass over the data, and a trial may stop and
        resume within a pass: it then reads and drops the batches before its position, or restores the state
        of what this returns if that has `state_dict` and `load_state_dict`, as torchdata's
        `StatefulDataLoader` does.

        Args:
            batch_size: examples in a batch, over all processes of the trial.
            epoch: the epoch, counted from 1. A stream starts at the position that follows from it, so that a
                trial can resume after any epoch.
        """

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """Return the number of batches in an epoch, a pass over the data; by default, those that are full.

        None is for a stream without an end whose trials are trained in intervals of steps, and the default
        for a card without a number of training examples.
        """
        examples = self.card.examples.get("train")
        return None if examples is None else examples // batch_size

    @abstractmethod
    def training_step(self, model: Any, batch: Any) -> Tensor | Mapping[str, Tensor]:
        """Return the loss of a batch, a scalar tensor, or a mapping with it under `loss`.

        In a trial of several processes the batch is this process's share, and gradients are averaged over the
        processes: for the result of one process the loss must be a mean over examples.

        Args:
            model: what `build_model` returned, on its device, in training mode.
            batch: one of `train_batches`, on the model's device.

        With an argument `label_smoothing: float = 0.0` a study may set `training.label_smoothing`, which is
        then given.
        """

    @abstractmethod
    def evaluate(self, model: Any, split: SplitName, *, device: torch.device) -> Mapping[str, MetricValue]:
        """Return metrics over a whole split: all that are on the card, and `loss` if there is one.

        It is called without gradients, and in a trial of several processes only in the first one. `to_device`
        moves a batch. A value is a number, a tensor with one element, or an object with `compute()`, such as
        a metric of torchmetrics that was updated with each batch; its `reset()` is called afterwards, if it
        has one.

        Args:
            model: what `build_model` returned, on its device, in evaluation mode.
            split: `validation` or `test`.
            device: the model's device.
        """


def own_generator(*, rank: int = 0, world_size: int = 1) -> torch.Generator:
    """Return a generator on the CPU, seeded from torch's global one, for the draws of a pass's batches.

    What the model and the optimizer draw between two batches then changes no batch.

    Args:
        rank: the process of a trial that gets it; each process gets one with other draws.
        world_size: how many processes train the trial.
    """
    seeds = torch.randint(2**62, (world_size,))
    return torch.Generator().manual_seed(int(seeds[rank]))


def diverged_if_nan(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics, and if one is NaN a loss of NaN, for a workload that measures no loss.

    A trial whose loss is NaN has diverged; a metric that is NaN alone counts as a fault of the workload.
    """
    return {**metrics, **({"loss": math.nan} if any(map(math.isnan, metrics.values())) else {})}


def to_device(batch: B, device: torch.device) -> B:
    """Return a batch with every tensor in it on a device.

    In an evaluation it is also a sign of life, as a step is in training.

    Args:
        batch: a tensor, or a dict, list or tuple (named ones too) of batches; other values stay as they are.
        device: where the tensors go. Pinned memory is copied without waiting.
    """
    note_again()
    return cast("B", moved(batch, device))


def moved(batch: Any, device: torch.device) -> Any:
    """Return what `to_device` does, without a sign of life."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        items = cast("Mapping[Any, Any]", batch).items()
        return {key: moved(value, device) for key, value in items}
    if isinstance(batch, list | tuple):
        parts = [moved(part, device) for part in cast("Sequence[Any]", batch)]
        if isinstance(batch, list):
            return parts
        kind = cast("type[Any]", type(cast("Any", batch)))
        # A named tuple takes its fields as arguments.
        return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)
    return batch
