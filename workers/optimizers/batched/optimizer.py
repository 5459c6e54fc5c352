"""The interface of a batched optimizer: one step for K members, each with its own hyperparameters.

All tensors are [K, P], one row per member.
"""

__all__ = ["Coefficients", "StackedOptimizer", "hyperparameters_of"]

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from studies.catalog import OptimizerCard
from studies.space import Parameters
from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.projection import project

Coefficients = Mapping[str, Tensor]
"""The numbers of one step by name, each [K, 1], in the weights' dtype and on their device."""


def hyperparameters_of(card: OptimizerCard, members: Sequence[Parameters]) -> dict[str, Tensor]:
    """Return each hyperparameter and each numeric argument of the card as a float64 tensor [K].

    Arguments are the fixed settings that make the card's variant of its constructor; a bool becomes 0 or 1.
    """
    completed = [card.completed(parameters) for parameters in members]
    switches = {
        name: value for name, value in card.arguments.items() if isinstance(value, bool | int | float)
    }
    return {
        name: torch.tensor(
            [float(parameters.get(name, switches.get(name, 0.0))) for parameters in completed],
            dtype=torch.float64,
        )
        for name in [*card.names, *switches]
    }


class StackedOptimizer(ABC):
    """The batched form of one optimizer: the same step as its own class, for K members at once, to rounding.

    The caller owns weights and moments. No branch of a step depends on a tensor's value: everything that
    depends on the hyperparameters is computed in `coefficients`, one epoch in advance. All members have taken
    the same number of steps.

    Args:
        hyperparameters: each a float64 tensor [K] on the CPU.
        layout: the columns of each parameter in a row.

    Attributes:
        moments: names of the state tensors that are as large as the weights, as in the optimizer's own class;
            they start at 0.
        own_class: qualified name of the optimizer class that it steps like, as in `torch.optim.adamw.AdamW`;
            members with an optimizer of another class, such as a subclass, are not stacked. None accepts any.
        is_decoupled: whether weight decay shrinks the weights directly rather than being added to the
            gradient.
        can_project: whether updates lose their component along scale-invariant weights (AdamP, SGDP).
    """

    moments: ClassVar[tuple[str, ...]]
    own_class: ClassVar[str | None] = None
    is_decoupled: ClassVar[bool] = True
    can_project: ClassVar[bool] = False

    def __init__(self, hyperparameters: Mapping[str, Tensor], layout: Layout) -> None:
        self._h = hyperparameters
        self._layout = layout
        decay = hyperparameters.get("weight_decay")
        self._decays = decay is not None and bool((decay > 0).any())

    @abstractmethod
    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of the next steps by name, each float64 [steps, K], or [K] if it is constant.

        Args:
            lr: learning rates after the schedule, float64 [steps, K].
            done: steps that the members have already taken.
        """

    @abstractmethod
    def step(self, weights: Tensor, grads: Tensor, moments: Mapping[str, Tensor], c: Coefficients) -> None:
        """Update weights and moments [K, P] in place by one step; gradients [K, P] may be overwritten."""

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return one parameter's entry in the state dictionary of the optimizer's own class.

        Args:
            moments: the parameter's part of the member's moments.
            member: index of the member.
            done: steps taken.
        """
        del member, done
        return dict(moments)

    def saved_group(self, *, done: int) -> dict[str, Any]:
        """Return the entries of the optimizer's own parameter groups that are not hyperparameters."""
        del done
        return {}

    def with_l2(self, weights: Tensor, grads: Tensor, c: Coefficients) -> Tensor:
        """Add the L2 penalty's gradients in place if decay is not decoupled, and return the gradients [K, P].

        It needs `weight_decay` in c.
        """
        if self.is_decoupled or not self._decays:
            return grads
        decayed = self._layout.decayed
        grads[:, :decayed].addcmul_(weights[:, :decayed], c["weight_decay"])
        return grads

    def move(self, weights: Tensor, update: Tensor, grads: Tensor, c: Coefficients) -> None:
        """Subtract `step` times the update from the weights, after projection and decoupled decay if any.

        Args:
            weights: [K, P]; changed in place.
            update: [K, P]; changed in place if the optimizer projects.
            grads: [K, P], the raw gradients.
            c: `step`; also `decay` if weight decay is decoupled, and `delta`, `wd_ratio` and `eps` if the
                optimizer projects.
        """
        if self.can_project:
            self._project_and_decay(weights, update, grads, c)
        elif self.is_decoupled and self._decays:
            weights[:, : self._layout.decayed].mul_(1 - c["decay"])
        weights.addcmul_(update, c["step"], value=-1.0)

    def _project_and_decay(self, weights: Tensor, update: Tensor, grads: Tensor, c: Coefficients) -> None:
        layout = self._layout
        for slot in layout.matrices:
            weight = layout.rows_of(weights, slot)
            projected = project(
                layout.rows_of(update, slot),
                weight,
                layout.rows_of(grads, slot),
                delta=c["delta"],
                eps=c["eps"],
            )
            if self._decays:
                weight.mul_((1 - torch.where(projected, c["wd_ratio"], 1.0) * c["decay"]).unsqueeze(2))
        matrices_end = layout.matrices[-1].stop if layout.matrices else 0
        if self._decays and layout.decayed > matrices_end:
            weights[:, matrices_end : layout.decayed].mul_(1 - c["decay"])
