"""Batched SGD (plain, heavy-ball or Nesterov) and SGDP, which are one step with different coefficients.

b = keep b + take g
u = weigh b + own g
w -= step u
"""

__all__ = ["StackedSGD", "StackedSGDP"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.optimizer import Coefficients, StackedOptimizer


class StackedSGD(StackedOptimizer):
    """torch.optim.SGD, with weight decay as an L2 penalty and an undampened first gradient."""

    own_class = "torch.optim.sgd.SGD"
    moments = ("momentum_buffer",)
    is_decoupled = False

    def __init__(self, hyperparameters: Mapping[str, Tensor], layout: Layout) -> None:
        none = torch.zeros_like(hyperparameters["lr"])
        super().__init__({"nesterov": none, "dampening": none, **hyperparameters}, layout)
        self._mixes = bool(self._h["nesterov"].any())

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of the steps."""
        h = self._h
        nesterov = h["nesterov"] != 0
        return {
            "keep": h["momentum"],
            "take": self._take(steps=len(lr), done=done),
            "weigh": torch.where(nesterov, h["momentum"], 1.0),
            "own": h["nesterov"],
            "step": lr,
            "weight_decay": h["weight_decay"],
        }

    def step(self, weights: Tensor, grads: Tensor, moments: Mapping[str, Tensor], c: Coefficients) -> None:
        """Take one step."""
        [buffer] = (moments[name] for name in self.moments)
        grads = self.with_l2(weights, grads, c)
        buffer.mul_(c["keep"]).addcmul_(grads, c["take"])
        update = (buffer * c["weigh"]).addcmul_(grads, c["own"]) if self._mixes else self._update_of(buffer)
        self.move(weights, update, grads, c)

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return torch's entry, which has no buffer if there is no momentum."""
        del done
        return dict(moments) if self._h["momentum"][member] != 0 else {}

    def _update_of(self, buffer: Tensor) -> Tensor:
        return buffer

    def _take(self, *, steps: int, done: int) -> Tensor:
        # Without momentum torch keeps no buffer, and nothing is dampened.
        take = torch.where(self._h["momentum"] == 0, 1.0, 1 - self._h["dampening"]).repeat(steps, 1)
        if done == 0:
            take[0] = 1.0
        return take


class StackedSGDP(StackedSGD):
    """adamp.SGDP."""

    own_class = "adamp._sgdp.SGDP"
    moments = ("momentum",)
    is_decoupled = True
    can_project = True

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of SGD, of decay and of projection."""
        h = self._h
        decay = lr * h["weight_decay"] / (1 - h["momentum"])
        return {
            **super().coefficients(lr, done=done),
            "decay": decay,
            "delta": h["delta"],
            "wd_ratio": h["wd_ratio"],
            "eps": h["eps"],
        }

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return SGDP's entry, which always has a buffer."""
        del member, done
        return dict(moments)

    def _update_of(self, buffer: Tensor) -> Tensor:
        # A copy, because the update is projected in place and the buffer must not change.
        return buffer.clone()

    def _take(self, *, steps: int, done: int) -> Tensor:
        del steps, done
        return 1 - self._h["dampening"]
