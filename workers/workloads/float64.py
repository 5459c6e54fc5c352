"""A workload in double precision, where rounding cannot hide a difference between two ways of training."""

__all__ = ["Float64", "in_float64"]

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from workers.workloads.tensor_workload import Data, Split, TensorWorkload


class Float64(TensorWorkload):
    """Another workload with its model in float64; data goes through `in_float64`."""

    def __init__(self, inner: TensorWorkload) -> None:
        self.card, self._inner = inner.card, inner

    def load_data(self, device: torch.device) -> Data:
        """Return the inner workload's data, with floats as float64."""
        return _doubled(self._inner.load_data(device))

    def build_model(self) -> nn.Module:
        """Return the inner workload's model as float64, from the same initial values."""
        return self._inner.build_model().double()

    def loss(self, outputs: Tensor, targets: Tensor, **options: float) -> Tensor:
        """Return the inner workload's loss."""
        return self._inner.loss(outputs, targets, **options)

    def loss_weight(self, targets: Tensor) -> Tensor | float:
        """Return the inner workload's loss weight."""
        return self._inner.loss_weight(targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the inner workload's metric."""
        return self._inner.metric_sum(outputs, targets)

    def further_metric_sums(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return the inner workload's further metrics."""
        return self._inner.further_metric_sums(outputs, targets)


def in_float64(workload: TensorWorkload, data: Data) -> tuple[TensorWorkload, Data]:
    """Return a workload and its data in double precision; integers keep their dtype."""
    return Float64(workload), _doubled(data)


def _doubled(data: Data) -> Data:
    def double(split: Split) -> Split:
        return Split(inputs=_double(split.inputs), targets=_double(split.targets))

    return Data(train=double(data.train), validation=double(data.validation), test=double(data.test))


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
