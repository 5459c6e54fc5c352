"""The base of optimizers written here that step one weight tensor at a time."""

__all__ = ["WeightwiseOptimizer"]

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class WeightwiseOptimizer(Optimizer, ABC):
    """Steps each weight tensor that has a gradient, as `step_weight` says."""

    @torch.no_grad()
    # Torch overloads step by closure.
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step, and return the closure's loss, or None without a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.step_weight(weight, weight.grad, self.state[weight], group)
        return loss

    @abstractmethod
    def step_weight(self, weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Step one weight tensor.

        Args:
            weight: the weight, which is changed.
            grad: its gradient.
            state: its state, which is changed; empty at its first step.
            group: the settings of its group.
        """
