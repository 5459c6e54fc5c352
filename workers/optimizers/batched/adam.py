"""Batched Adam, AdamW, AdamP, QHAdam and QHAdamW, which are one step with different coefficients.

    m += mean1 (g - m);  v += mean2 (g^2 - v)
    u = (m + own1 (g - m)) / (sqrt(v + own2 (g^2 - v)) / root2 + eps)
    w -= step u

Adam's own1 and own2 are 0; AdamP's Nesterov direction has own1 = 1 - beta1; QHAdam has own = 1 - nu, and its
running means are debiased as they are updated.
"""

__all__ = ["StackedAdam", "StackedAdamP", "StackedAdamW", "StackedQHAdam", "StackedQHAdamW"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.optimizer import Coefficients, StackedOptimizer


class StackedAdam(StackedOptimizer):
    """torch.optim.Adam, whose weight decay is an L2 penalty."""

    own_class = "torch.optim.adam.Adam"
    moments = ("exp_avg", "exp_avg_sq")
    is_decoupled = False

    def __init__(self, hyperparameters: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__(hyperparameters, layout)
        own = self._own()
        self._mixes = tuple(name in own and bool((own[name] != 0).any()) for name in ("own1", "own2"))

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of the steps; the step size and the scale of the root correct the bias."""
        h = self._h
        t = torch.arange(done + 1, done + 1 + len(lr), dtype=torch.float64).unsqueeze(1)
        return {
            "mean1": 1 - h["beta1"],
            "mean2": 1 - h["beta2"],
            "root2": (1 - h["beta2"] ** t).sqrt(),
            "step": lr / (1 - h["beta1"] ** t),
            "decay": lr * h["weight_decay"],
            "weight_decay": h["weight_decay"],
            "eps": h["eps"],
            **self._own(),
        }

    def step(self, weights: Tensor, grads: Tensor, moments: Mapping[str, Tensor], c: Coefficients) -> None:
        """Take one step."""
        mean, mean_square = moments["exp_avg"], moments["exp_avg_sq"]
        grads = self.with_l2(weights, grads, c)
        squares = grads * grads
        mean.lerp_(grads, c["mean1"])
        mean_square.lerp_(squares, c["mean2"])
        mixes1, mixes2 = self._mixes
        root = (mean_square.lerp(squares, c["own2"]) if mixes2 else mean_square).sqrt()
        update = (mean.lerp(grads, c["own1"]) if mixes1 else mean) / root.div_(c["root2"]).add_(c["eps"])
        self.move(weights, update, grads, c)

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return torch's entry, including the number of steps."""
        del member
        return {"step": torch.tensor(float(done)), **moments}

    def _own(self) -> dict[str, Tensor]:
        """Return own1 and own2, [K] each: the share of the current gradient that is mixed into each mean."""
        return {}


class StackedAdamW(StackedAdam):
    """torch.optim.AdamW."""

    own_class = "torch.optim.adamw.AdamW"
    is_decoupled = True


class StackedAdamP(StackedAdamW):
    """adamp.AdamP."""

    own_class = "adamp._adamp.AdamP"
    can_project = True

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return Adam's numbers and the projection's."""
        return {
            **super().coefficients(lr, done=done),
            "delta": self._h["delta"],
            "wd_ratio": self._h["wd_ratio"],
        }

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return AdamP's entry, whose number of steps is an int."""
        del member
        return {"step": done, **moments}

    def _own(self) -> dict[str, Tensor]:
        return {"own1": self._h["nesterov"] * (1 - self._h["beta1"])}


class StackedQHAdam(StackedAdam):
    """pytorch_optimizer.QHAdam, whose weight decay is an L2 penalty.

    Like that class it accumulates the weights of its means, w = beta w + 1 from 0, in float32 for any dtype
    of the model.
    """

    own_class = "pytorch_optimizer.optimizer.qhadam.QHAdam"

    def __init__(self, hyperparameters: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__(hyperparameters, layout)
        self._betas = torch.stack([hyperparameters["beta1"], hyperparameters["beta2"]]).float()  # [2, K]
        self._counted = 0
        self._counts = torch.zeros_like(self._betas)

    def coefficients(self, lr: Tensor, *, done: int) -> dict[str, Tensor]:
        """Return the numbers of the steps; there is no bias left to correct."""
        h = self._h
        means = torch.stack(
            [self._count(done + 1 + index).reciprocal() for index in range(len(lr))]
        ).double()  # [steps, 2, K]
        return {
            "mean1": means[:, 0],
            "mean2": means[:, 1],
            "root2": torch.ones_like(h["eps"]),
            "step": lr,
            "decay": lr * h["weight_decay"],
            "weight_decay": h["weight_decay"],
            "eps": h["eps"],
            **self._own(),
        }

    def saved(self, moments: Mapping[str, Tensor], *, member: int, done: int) -> dict[str, Any]:
        """Return pytorch_optimizer's entry, including the weights of its means."""
        count1, count2 = self._count(done)[:, member, None].unbind()
        return {"beta1_weight": count1.clone(), "beta2_weight": count2.clone(), **moments}

    def saved_group(self, *, done: int) -> dict[str, Any]:
        """Return the group's number of steps."""
        return {"step": done}

    def _own(self) -> dict[str, Tensor]:
        return {"own1": 1 - self._h["nu1"], "own2": 1 - self._h["nu2"]}

    def _count(self, done: int) -> Tensor:
        """Return the weights of the means after `done` steps, float32 [2, K], reusing the last call's."""
        if done < self._counted:
            self._counted, self._counts = 0, torch.zeros_like(self._betas)
        while self._counted < done:
            self._counts = self._counts * self._betas + 1
            self._counted += 1
        return self._counts


class StackedQHAdamW(StackedQHAdam):
    """pytorch_optimizer.QHAdam with decoupled weight decay."""

    is_decoupled = True
