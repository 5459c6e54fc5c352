"""How a model's trainable parameters lie in one row of a [K, P] tensor.

So an optimizer's step is a handful of operations for all of them.
"""

__all__ = ["Layout", "Slot"]

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where one parameter lies.

    Attributes:
        name: its name in the model.
        shape: its own, without the members' axis.
        start: its first column.
        stop: the column after its last.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Layout:
    """The columns of a [K, P] tensor.

    First the parameters of two or more dimensions, then the others, each in the model's order.

    Args:
        model: whose trainable parameters are laid out; one that goes by several names is laid out once.
        decay_1d: False keeps weight decay off parameters of fewer than two dimensions.

    Attributes:
        slots: every parameter.
        matrices: those of two or more dimensions and at least one element.
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
            *(one for one in trained if len(one[1]) >= 2),
            *(one for one in trained if len(one[1]) < 2),
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
        """Return each parameter's part of a tensor [K, P] as a view [K, *shape].

        Gradients flow back into the whole in one piece.
        """
        parts = torch.split(flat, self._widths, dim=1)
        return {
            slot.name: part.view(len(flat), *slot.shape) for slot, part in zip(self.slots, parts, strict=True)
        }

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return one member's tensors, each of its parameter's shape, as a row [P].

        Raises:
            ValueError: a tensor has another shape than its parameter.
        """
        for slot in self.slots:
            if tuple(tensors[slot.name].shape) != slot.shape:
                raise ValueError(
                    f"{slot.name} has shape {list(slot.shape)}, got {list(tensors[slot.name].shape)}"
                )
        return torch.cat([tensors[slot.name].detach().reshape(-1) for slot in self.slots])

    @staticmethod
    def rows_of(flat: Tensor, slot: Slot) -> Tensor:
        """Return a parameter's part of a tensor [K, P] as a view [K, out, n].

        The output channels, each as a row.
        """
        return flat[:, slot.start : slot.stop].view(len(flat), slot.shape[0], -1)
