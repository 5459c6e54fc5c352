"""A workload with epochs of a few steps, for checks that train."""

__all__ = ["shortened", "steps_of_epoch"]

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from workers.trial_files import TrialFolder
from workers.workloads import (
    Data,
    LoopWorkload,
    MetricValue,
    ModelWorkload,
    SplitName,
    TensorWorkload,
)


def steps_of_epoch(workload: ModelWorkload, data: Data | None, *, batch_size: int) -> int:
    """Return the number of steps of a whole epoch; of an endless stream, those of the card's examples."""
    if isinstance(workload, LoopWorkload):
        steps = workload.steps_per_epoch(batch_size)
        return max(1, workload.card.examples["train"] // batch_size) if steps is None else steps
    assert data is not None, "a workload of tensors has data"
    return len(data.train) // batch_size


def shortened(
    workload: ModelWorkload, data: Data | None, *, steps: int, batch_size: int
) -> tuple[ModelWorkload, Data | None]:
    """Return a workload and its data with epochs of this many steps, and small other splits of tensors."""
    if isinstance(workload, LoopWorkload):
        return _ShortLoop(workload, steps), None
    assert isinstance(workload, TensorWorkload)
    assert data is not None, "a workload of tensors has data"
    small = Data(
        train=data.train.head(steps * batch_size),
        validation=data.validation.head(batch_size),
        test=data.test.head(batch_size),
    )
    return workload, small


class _ShortLoop(LoopWorkload):
    """Another workload with fewer steps in an epoch."""

    def __init__(self, inner: LoopWorkload, steps: int) -> None:
        self.card, self._inner, self._steps = inner.card, inner, steps

    def in_folder(self, folder: TrialFolder) -> Self:
        """Return a copy whose inner workload has the folder."""
        return type(self)(self._inner.in_folder(folder), self._steps)

    def build_model(self) -> nn.Module:
        """Return the inner workload's model."""
        return self._inner.build_model()

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the smaller number of steps."""
        return min(self._steps, steps_of_epoch(self._inner, None, batch_size=batch_size))

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        """Return the inner workload's batches."""
        return self._inner.train_batches(batch_size=batch_size, epoch=epoch)

    def training_step(self, model: nn.Module, batch: Any) -> Tensor | Mapping[str, Tensor]:
        """Return the inner workload's loss."""
        return self._inner.training_step(model, batch)

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, MetricValue]:
        """Return the inner workload's metrics."""
        return self._inner.evaluate(model, split, device=device)
