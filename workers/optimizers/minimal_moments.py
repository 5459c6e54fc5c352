"""Adam-mini: AdamW with one second moment for each output neuron."""

__all__ = ["ENTRIES", "AdamMini"]

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from studies.catalog import OptimizerCard
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, upstream
from workers.optimizers.weightwise import WeightwiseOptimizer

_ADAM_MINI = OptimizerCard(
    name="adam-mini",
    title="Adam-mini",
    description=(
        "AdamW whose second moment is one number for each row of a matrix, each filter of a convolution and "
        "each token of an embedding; biases and norms keep one for each weight. Queries and keys have one "
        "for each row too, where the paper has one for each head."
    ),
    reference=(
        "Zhang et al., Adam-mini: Use Fewer Learning Rates To Gain More, ICLR 2025, arXiv:2406.16793; "
        "zyushun/Adam-mini 1.1.1"
    ),
    import_line="from workers.optimizers.minimal_moments import AdamMini",
    constructor="AdamMini",
    hyperparameters=(h.adam_lr(1e-3), h.beta1(), h.beta2(), h.eps(), h.decoupled_decay(0.0)),
    pairs={"betas": ("beta1", "beta2")},
    findings=(
        (
            "pytorch_optimizer 4.1 follows an early version of the paper: one second moment for a whole "
            "matrix, and Adam's for embeddings and the output layer. It takes a model instead of parameter "
            "groups, decays biases whatever a study says, and casts everything to float32. The authors' code "
            "finds its blocks by the names of a transformer's weights, and decays no norm or bias. So this "
            "one is ours."
        ),
    ),
)


class AdamMini(WeightwiseOptimizer):
    """AdamW with a second moment for each slice of a tensor along its first dimension.

    It is version 1.1.1 of the authors' code for the blocks that this code calls neurons or tokens; tensors of
    fewer than two dimensions are stepped by AdamW.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: added to the square root of the second moment.
        weight_decay: decoupled weight decay.

    Source: Zhang et al., ICLR 2025, arXiv:2406.16793, Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def step_weight(self, weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Step one weight tensor by AdamW with a second moment for each slice."""
        beta1, beta2 = group["betas"]
        square = grad.square()
        if weight.ndim > 1:
            square = square.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(square)
        state["step"] += 1
        mean = state["exp_avg"].lerp_(grad, 1 - beta1)
        moment = state["exp_avg_sq"].lerp_(square, 1 - beta2)
        scale = (moment / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1 ** state["step"]))


ENTRIES: tuple[OptimizerEntry, ...] = (upstream(_ADAM_MINI, "workers.optimizers.minimal_moments"),)
