"""What AdamP and SGDP share as torch optimizers: groups checked before they are added, old states taken over, the walk over the parameters."""

__all__ = ["ProjectedOptimizer"]

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adamp._checks import check_gradient


class ProjectedOptimizer(Optimizer):
    """An optimizer whose update of one parameter is its own, and everything around it this class's."""

    @abstractmethod
    def _check_group(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError for a hyperparameter that is out of range."""

    @abstractmethod
    def _update(self, weight: Tensor, grad: Tensor, group: Mapping[str, Any]) -> None:
        """Update one parameter in place.

        Args:
            weight: the parameter, of any shape.
            grad: its gradient, of the same shape, to be descended.
            group: its hyperparameters.
        """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own; what a group leaves out it takes from the defaults.

        Raises:
            ValueError: a hyperparameter is out of range, or required and missing; nothing is added then.
        """
        self._check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled or loaded state, also one of the reference: hyperparameters that it lacks get their defaults."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                if name != "differentiable":  # torch puts it among the defaults; it is no argument of ours
                    group.setdefault(name, default)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Return the closure's loss, or None without one, having updated every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients anew; called once, before the update.

        Raises:
            RuntimeError: a gradient is sparse.
            TypeError: a gradient is complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    check_gradient(type(self).__name__, weight.grad)
                    self._update(weight, -weight.grad if group["maximize"] else weight.grad, group)
        return loss
