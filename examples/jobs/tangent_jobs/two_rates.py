"""An optimizer in the manner of Muon with two learning rates: for matrices, and for biases and norms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tangent import Bounds, Hyperparameter, OptimizerCard, OptimizerEntry, Range


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the singular vectors of another, and singular values near 1 (Newton-Schulz)."""
    found = matrix / (matrix.norm() + 1e-7)
    for _ in range(6):
        found = 1.5 * found - 0.5 * found @ found.T @ found
    return found


class TwoRates(torch.optim.Optimizer):
    """Step by an orthogonal matrix along a matrix's momentum, and by the sign of any other momentum."""

    def __init__(self, params: Any, lr: float = 1e-3, matrix_lr: float = 1e-2) -> None:
        weights = [weight for group in params for weight in group["params"]]
        matrices, others = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim <= 1]
        super().__init__([{"params": others, "lr": lr}, {"params": matrices, "lr": matrix_lr}], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                is_matrix = weight.ndim > 1
                along = orthogonal(momentum.flatten(1)).view_as(weight) if is_matrix else momentum.sign()
                weight.sub_(along, alpha=group["lr"])


def rate(name: str, default: float) -> Hyperparameter:
    around, positive = Range(low=default / 30, high=default * 30, log=True), Bounds(low=0, low_open=True)
    return Hyperparameter(name=name, default=default, search=around, tuned=True, bounds=positive)


CARD = OptimizerCard(
    name="job-two-rates",
    title="Two rates",
    description="Orthogonal steps for matrices, sign steps for biases and norms.",
    reference="Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024",
    import_line="from tangent_jobs.two_rates import TwoRates",
    constructor="TwoRates",
    hyperparameters=(rate("lr", 1e-3), rate("matrix_lr", 1e-2)),
)
TWO_RATES = OptimizerEntry(
    CARD, lambda groups, parameters: TwoRates(groups, float(parameters["lr"]), float(parameters["matrix_lr"]))
)
