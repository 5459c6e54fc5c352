"""Optimizers of pytorch_optimizer with what they get wrong put right.

They are together, and apart from their cards, because each derives from a class of pytorch_optimizer, whose
import takes nearly a second: cards are read without it, and this module is imported when one is built.
"""

__all__ = ["SAM", "AdaHessian", "Kron", "Shampoo", "SophiaH"]

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.psgd import initialize_q_expressions
from torch import Tensor


class Shampoo(pytorch_optimizer.Shampoo):
    """Shampoo that computes the roots of its preconditioners in the first step as well."""

    def step(self, closure: Any = None) -> Any:
        """Step, and return the closure's loss, or None without a closure."""
        every = self.preconditioning_compute_steps
        if any(group.get("step", 0) == 0 for group in self.param_groups):
            self.preconditioning_compute_steps = 1
        try:
            return super().step(closure)
        finally:
            self.preconditioning_compute_steps = every


class Kron(pytorch_optimizer.Kron):
    """PSGD-Kron whose state can be loaded: the expressions of its products are not part of it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state without expressions, which follow from the shapes."""
        saved = super().state_dict()
        state = {
            key: {name: value for name, value in each.items() if name != "expressions"}
            for key, each in saved["state"].items()
        }
        return {**saved, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, with its factors in the type in which they were saved."""
        # Its type of the state is partly unknown.
        cast("Any", super()).load_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for weight, key in zip(group["params"], saved["params"], strict=True):
                if key not in state_dict["state"]:
                    continue
                own = cast("dict[str, Any]", self.state[weight])  # pyright: ignore[reportUnknownMemberType]
                own["Q"] = [
                    torch.empty_like(factor, device=weight.device).copy_(factor)
                    for factor in state_dict["state"][key]["Q"]
                ]
                own["expressions"] = initialize_q_expressions(
                    weight,
                    group["precondition_init_scale"],
                    group["max_size_triangular"],
                    group["min_ndim_triangular"],
                    group["memory_save_mode"],
                    dtype=group["precondition_dtype"],
                )[1]


class SAM(pytorch_optimizer.SAM):
    """SAM; its `step` needs a closure that adds the gradients of the same batches to none."""

    needs = "closure"


class SophiaH(pytorch_optimizer.SophiaH):
    """Sophia-H that counts a weight without second derivatives as one without curvature."""

    needs = "curvature"

    @property
    def wants_curvature(self) -> bool:
        """Whether the next step differentiates the gradients."""
        return self.param_groups[0].get("step", 0) % self.update_period == 0

    def compute_hutchinson_hessian(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, param_groups: Iterable[dict[str, Any]], state: Mapping[Any, dict[str, Any]], **_: Any
    ) -> None:
        """Set the estimate of each weight's diagonal to u * H u, u normal."""
        weights = _with_gradients(param_groups)
        drawn = [torch.randn_like(weight) for weight in weights]
        for weight, u, product in zip(weights, drawn, _products(weights, drawn), strict=True):
            state[weight]["hessian"] = u * product


class AdaHessian(pytorch_optimizer.AdaHessian):
    """AdaHessian with the spatial averaging of its paper.

    The absolute values of H z are averaged over the kernel of a filter, and over a row of a matrix.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the gradient's mean and of the squared estimates.
        weight_decay: decoupled weight decay.
        hessian_power: power of the estimates' root mean square.
        eps: added to it; the authors' default.
    """

    needs = "curvature"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        eps: float = 1e-4,
    ) -> None:
        # Its further arguments have no type.
        cast("Any", super()).__init__(
            params, lr=lr, betas=betas, weight_decay=weight_decay, hessian_power=hessian_power, eps=eps
        )

    def compute_hutchinson_hessian(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, param_groups: Iterable[dict[str, Any]], state: Mapping[Any, dict[str, Any]], **_: Any
    ) -> None:
        """Set the estimate of each weight's diagonal to the average of |H z|, z of signs."""
        weights = _with_gradients(param_groups)
        drawn = [torch.randint_like(weight, 0, 2) * 2 - 1 for weight in weights]
        for weight, product in zip(weights, _products(weights, drawn), strict=True):
            size = product.abs()
            over = tuple(range(1 if size.ndim == 2 else 2, size.ndim))
            state[weight]["hessian"] = size.mean(dim=over, keepdim=True).expand_as(size) if over else size


def _with_gradients(param_groups: Iterable[dict[str, Any]]) -> list[Tensor]:
    return [weight for group in param_groups for weight in group["params"] if weight.grad is not None]


def _products(weights: list[Tensor], drawn: list[Tensor]) -> list[Tensor]:
    """Return the product of the Hessian with a vector for each weight; 0 where it does not depend on it."""
    pairs = [
        (weight.grad, vector)
        for weight, vector in zip(weights, drawn, strict=True)
        if weight.grad is not None and weight.grad.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(weight) for weight in weights]
    grads, vectors = zip(*pairs, strict=True)
    # torch's type leaves out that a product may be None.
    found = cast(
        "tuple[Tensor | None, ...]",
        torch.autograd.grad(grads, weights, grad_outputs=vectors, allow_unused=True),
    )
    return [
        torch.zeros_like(weight) if product is None else product
        for weight, product in zip(weights, found, strict=True)
    ]
