"""Cautious AdamW: AdamW that leaves out the weights whose step points against their gradient."""

__all__ = ["ENTRIES", "CautiousAdamW"]

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from studies.catalog import OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream
from workers.optimizers.weightwise import WeightwiseOptimizer

_CAUTIOUS_ADAMW = OptimizerCard(
    name="cautious-adamw",
    title="Cautious AdamW",
    description=(
        "AdamW that moves only the weights whose momentum and gradient have the same sign, and makes up for "
        "the others with longer steps in the same weight tensor."
    ),
    reference=(
        "Liang et al., Cautious Optimizers: Improving Training with One Line of Code, 2024, "
        "arXiv:2411.16085; kyleliang919/C-Optim"
    ),
    import_line="from workers.optimizers.cautious import CautiousAdamW",
    constructor="CautiousAdamW",
    hyperparameters=(h.adam_lr(1e-3), h.beta1(), h.beta2(), h.eps(), h.decoupled_decay(1e-2)),
    pairs={"betas": ("beta1", "beta2")},
    findings=(
        (
            "pytorch_optimizer 4.1 has no cautious AdamW; this is ours. It scales the moved weights by "
            "d / (n + 1), n of d weights moved, as the paper and the library's other cautious variants do; "
            "the authors' newer code divides by the share of moved weights, at least 1e-3."
        ),
    ),
)


class CautiousAdamW(WeightwiseOptimizer):
    """AdamW with the cautious mask of Liang et al. (2024, arXiv:2411.16085, Algorithm 2).

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: added to the square root of the second moment.
        weight_decay: decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def step_weight(self, weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Step one weight tensor by AdamW with the cautious mask."""
        beta1, beta2 = group["betas"]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        mean = state["exp_avg"].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        scale = (square / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        mask = (mean * grad > 0).to(weight.dtype)
        mask.mul_(mask.numel() / (mask.sum() + 1))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.addcdiv_(mean * mask, scale, value=-group["lr"] / (1 - beta1 ** state["step"]))


ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_CAUTIOUS_ADAMW, "workers.optimizers.cautious"),)
