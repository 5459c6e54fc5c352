"""What a batched optimizer is.

One step for K members, each with hyperparameters of its own, on tensors [K, P].
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
"""Numbers of one step by name, each [K, 1] in the weights' dtype and on their device."""


def hyperparameters_of(card: OptimizerCard, members: Sequence[Parameters]) -> dict[str, Tensor]:
    """Return every hyperparameter of the card, and the variant's switches, as float64 tensors [K].

    The switches are those that make its variant; a switch is 0 or 1.
    """
    switches = {
        name: value for name, value in card.arguments.items() if isinstance(value, bool | int | float)
    }
    return {
        name: torch.tensor(
            [float(parameters.get(name, switches.get(name, 0.0))) for parameters in members],
            dtype=torch.float64,
        )
        for name in [*card.defaults, *switches]
    }


class StackedOptimizer(ABC):
    """The batched form of one optimizer: what its own class computes, for K members at once and to rounding.

    Weights and moments are the caller's, and no branch of a step depends on a tensor's value, so that it can
    be compiled; what depends on the hyperparameters is decided in `coefficients`, ahead of an epoch. All
    members have taken the same number of steps.

    Args:
        hyperparameters: each a float64 tensor [K] on the CPU.
        layout: how the parameters lie in a row.

    Attributes:
        moments: names of the state that is as large as the weights, as the optimizer's own class calls them;
            they start at 0.
        is_decoupled: whether weight decay shrinks the weights, rather than being added to the gradient.
        can_project: whether updates lose their component along scale-invariant weights (AdamP, SGDP).
    """

    moments: ClassVar[tuple[str, ...]]
    is_decoupled: ClassVar[bool] = True
    can_project: ClassVar[bool] = False

    def __init__(self, hyperparameters: Mapping[str, Tensor], layout: Layout) -> None:
        self._h = hyperparameters
        self._layout = layout
        decay = hyperparameters.get("weight_decay")
        self._decays = decay is not None and bool((decay > 0).any())

    @abstractmethod
    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of the coming steps by name.

        Each is float64 [steps, K], or [K] where it is the same at every step.

        Args:
            lr: learning rates after the schedule, float64 [steps, K].
            done: steps that all members have taken before.
        """

    @abstractmethod
    def step(self, weights: Tensor, grads: Tensor, moments: Mapping[str, Tensor], c: Coefficients) -> None:
        """Move weights and moments [K, P] in place by one step along gradients [K, P].

        It may overwrite the gradients.
        """

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return one parameter's entry in the state dictionary of the optimizer's own class.

        It is made of its part of the moments.
        """
        del member, done
        return dict(moments)

    def saved_group(self, *, done: int) -> dict[str, Any]:
        """Return what the optimizer's own class keeps in a parameter group besides its hyperparameters."""
        del done
        return {}

    def with_l2(self, weights: Tensor, grads: Tensor, c: Coefficients) -> Tensor:
        """Return the gradients [K, P] with those of the L2 penalty added in place.

        They are added where decay is not decoupled; takes `weight_decay` of c.
        """
        if self.is_decoupled or not self._decays:
            return grads
        decayed = self._layout.decayed
        grads[:, :decayed].addcmul_(weights[:, :decayed], c["weight_decay"])
        return grads

    def move(self, weights: Tensor, update: Tensor, grads: Tensor, c: Coefficients) -> None:
        """Project the update, decay the weights, and step by -`step` times the update.

        It is projected where the optimizer does so, they decay where it decouples decay.

        Args:
            weights: [K, P]; changed in place.
            update: [K, P]; changed in place where the optimizer projects.
            grads: [K, P] the raw gradients.
            c: `step`; `decay` where weights decay, decoupled; `delta`, `wd_ratio` and `eps` where updates are
                projected.
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
