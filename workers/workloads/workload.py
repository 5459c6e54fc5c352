"""What a workload is to the trainer: data, a model, a loss and a metric."""

__all__ = ["Data", "DataCache", "Split", "Workload"]

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from studies.catalog import WorkloadCard


@dataclass(frozen=True, kw_only=True)
class Split:
    """Examples of one split, on one device.

    Attributes:
        inputs: what the model is given, [N, ...].
        targets: what the loss compares its outputs with, [N, ...].
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"a split needs a target for each input, got {len(self.inputs)} inputs "
                f"and {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def to(self, device: torch.device) -> "Split":
        """Return the same examples on another device."""
        return Split(inputs=self.inputs.to(device), targets=self.targets.to(device))


@dataclass(frozen=True, kw_only=True)
class Data:
    """A workload's three splits: train on the first, choose by the second, report on the third."""

    train: Split
    validation: Split
    test: Split

    def to(self, device: torch.device) -> "Data":
        """Return the same splits on another device."""
        return Data(
            train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


class Workload(ABC):
    """A dataset, a model, a loss and a metric.

    The trainer runs model and loss on one configuration, or on a stack of them by
    `torch.func.functional_call` under `vmap`. So neither may branch on a tensor's value, call `.item()` or
    keep counters in Python; BatchNorm needs a `momentum`, every parameter a gradient, and what is drawn at
    random (dropout) comes from torch's global generator. A workload that does otherwise is found out by two
    steps of two configurations, stacked and alone, and trained one by one.
    """

    card: WorkloadCard

    @abstractmethod
    def load_data(self, device: torch.device) -> Data:
        """Return the splits on a device, the same ones each time it is called."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model on the CPU, initialised from torch's global generator.

        The caller has seeded that generator.

        Its forward pass takes inputs [B, ...] and returns one tensor of outputs [B, ...].
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss over a batch, a scalar tensor."""

    @abstractmethod
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the metric's sum over the examples of a batch, a scalar tensor.

        Divided by their number it is the card's metric.
        """


class DataCache:
    """Each workload's data, loaded once for a device; a worker keeps one as long as it lives."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, torch.device], Data] = {}

    def load(self, workload: Workload, *, device: torch.device) -> Data:
        """Return the workload's data on the device."""
        key = (workload.card.name, device)
        if key not in self._loaded:
            self._loaded[key] = workload.load_data(device)
        return self._loaded[key]
