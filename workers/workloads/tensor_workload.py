"""A workload whose data are tensors: a model, a loss and a metric, which can be stacked."""

__all__ = ["Data", "Split", "TensorWorkload", "load_data"]

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.workload_errors import CannotTrain
from workers.workloads.configuration import Configurable


@dataclass(frozen=True, kw_only=True)
class Split:
    """Examples of one split, on one device.

    Attributes:
        inputs: the model's inputs, [N, ...].
        targets: the values that the loss compares the model's outputs with, [N, ...].
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(
                f"expected one target per input, got {len(self.inputs)} inputs and "
                f"{len(self.targets)} targets"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def head(self, examples: int) -> "Split":
        """Return the first examples."""
        return Split(inputs=self.inputs[:examples], targets=self.targets[:examples])

    def to(self, device: torch.device) -> "Split":
        """Return the same examples on another device."""
        return Split(inputs=self.inputs.to(device), targets=self.targets.to(device))


@dataclass(frozen=True, kw_only=True)
class Data:
    """A workload's three splits.

    Attributes:
        train: for training.
        validation: for tuning and selection.
        test: for reporting; never used for a decision.
    """

    train: Split
    validation: Split
    test: Split

    def to(self, device: torch.device) -> "Data":
        """Return the same splits on another device."""
        return Data(
            train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )


class TensorWorkload(Configurable, ABC):
    """A dataset, a model, a loss and a metric.

    The model and the loss run for one configuration at a time, or for a stack of configurations by
    `torch.func.functional_call` under `vmap`. To be stacked they must not branch on a tensor's value, call
    `.item()` or keep counters in Python, and modules and parameters must have no hooks. BatchNorm needs a
    `momentum`, every parameter needs a gradient, and random numbers (dropout) must come from torch's global
    generator. Before the first pack, two configurations are trained for two steps, stacked and one by one; if
    the results differ, or the code does what a stack cannot, the workload is trained one trial at a time.

    Attributes:
        shares_data: whether the workers of a node may share the data. The first one calls `load_data` with
            the CPU, and all map its tensors from files in the node's folder: they are in memory once.
            Changing a tensor changes this worker's copy only.
    """

    shares_data: bool = False

    @abstractmethod
    def load_data(self, device: torch.device) -> Data:
        """Return the splits on a device, with the same contents on every call."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model on the CPU, initialised from the global generators, which the caller seeds.

        They are those of torch, numpy and `random`.

        Its forward pass takes inputs [B, ...] and returns one tensor of outputs [B, ...].
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss over a batch, a scalar tensor.

        With an argument `label_smoothing: float = 0.0` a study may set `training.label_smoothing`. The
        argument is then given in training; the validation loss is computed without it.
        """

    def loss_weight(self, targets: Tensor) -> Tensor | float:
        """Return the number of terms that `loss` averages over, by default the number of examples.

        The loss of a split is the mean of its batches' losses, weighted by this number. Override it if the
        loss averages over terms whose number varies between examples, such as non-padding tokens:
        `return (targets != ignore_index).sum()`.
        """
        return len(targets)

    @abstractmethod
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the metric summed over the examples of a batch, a scalar tensor.

        Outputs in half precision come as float32. Count with `.sum()` of bools, which is an int64: a count in
        bfloat16 is wrong above 256.

        The card's metric is the sum over a split divided by its number of examples.
        """

    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return the card's `metrics` by name, each summed over the examples of a batch like `metric_sum`.

        It is called only if the card has any.
        """
        del outputs, targets
        return {}


def load_data(workload: TensorWorkload, *, device: torch.device) -> Data:
    """Return a workload's data on a device.

    Raises:
        CannotTrain: the workload returned something else.
    """
    data: Any = workload.load_data(device)
    name = workload.card.name
    if not isinstance(data, Data):
        raise CannotTrain(
            f"expected load_data of workload {name!r} to return a Data, got {type(data).__name__}",
            function=workload.load_data,
        )
    for split in ("train", "validation", "test"):
        if not len(getattr(data, split)):
            raise CannotTrain(
                f"expected load_data of workload {name!r} to return examples in every split, got none in the "
                f"{split} split",
                function=workload.load_data,
            )
        for part in ("inputs", "targets"):
            found = getattr(getattr(data, split), part).device
            if found != device:
                raise CannotTrain(
                    f"expected load_data of workload {name!r} to return tensors on {device}, got the {part} "
                    f"of the {split} split on {found}; end it with `return data.to(device)`",
                    function=workload.load_data,
                )
    return data
