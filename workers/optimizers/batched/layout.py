"""The layout of a model's trained parameters in the rows of a [K, P] tensor.

With all parameters in one tensor, an optimizer's step takes a handful of operations.
"""

__all__ = ["Layout", "Slot"]

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The columns of one parameter.

    Attributes:
        name: its name in the model.
        shape: the parameter's shape, without the axis of members.
        start: its first column.
        stop: the column after its last.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Layout:
    """The columns of a [K, P] tensor: parameters of two or more dimensions first, then the others.

    Both groups are in the model's order.

    Args:
        model: the model whose trained parameters are laid out; tied parameters are laid out once.
        decay_1d: False keeps weight decay off parameters of fewer than two dimensions.

    Attributes:
        slots: all parameters.
        matrices: parameters of two or more dimensions and at least one element.
        size: P.
        decayed: the columns [0, decayed) are subject to weight decay.
    """

    def __init__(self, model: nn.Module, *, decay_1d: bool) -> None:
        trained = [
            (name, tuple(parameter.shape))
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        slots: list[Slot] = []
        end = 0
        for name, shape in [
            *((name, shape) for name, shape in trained if len(shape) >= 2),
            *((name, shape) for name, shape in trained if len(shape) < 2),
        ]:
            slots.append(Slot(name=name, shape=shape, start=end, stop=end + math.prod(shape)))
            end = slots[-1].stop
        self.slots = tuple(slots)
        self.matrices = tuple(slot for slot in slots if len(slot.shape) >= 2 and slot.stop > slot.start)
        self.size = end
        self.decayed = (
            end if decay_1d else max((slot.stop for slot in slots if len(slot.shape) >= 2), default=0)
        )
        self._widths = [slot.stop - slot.start for slot in slots]

    def pieces(self, flat: Tensor) -> dict[str, Tensor]:
        """Return each parameter's part of a tensor [K, P] as a differentiable view [K, *shape]."""
        parts = torch.split(flat, self._widths, dim=1)
        return {
            slot.name: part.view(len(flat), *slot.shape) for slot, part in zip(self.slots, parts, strict=True)
        }

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return one member's tensors, each of its parameter's shape, as a row [P].

        Raises:
            ValueError: a tensor's shape differs from its parameter's.
        """
        for slot in self.slots:
            if tuple(tensors[slot.name].shape) != slot.shape:
                raise ValueError(
                    f"expected {slot.name} of shape {list(slot.shape)}, got {list(tensors[slot.name].shape)}"
                )
        return torch.cat([tensors[slot.name].detach().reshape(-1) for slot in self.slots])

    @staticmethod
    def rows_of(flat: Tensor, slot: Slot) -> Tensor:
        """Return a parameter's part of a tensor [K, P] as a view [K, out, n], one row per output channel."""
        return flat[:, slot.start : slot.stop].view(len(flat), slot.shape[0], -1)
