"""Optimizers of pytorch_optimizer with what they get wrong put right; importing it takes nearly a second."""

__all__ = ["Kron", "Shampoo"]

from typing import Any

import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.psgd import initialize_q_expressions


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
        super().load_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for weight, key in zip(group["params"], saved["params"], strict=True):
                if key not in state_dict["state"]:
                    continue
                own, factors = self.state[weight], state_dict["state"][key]["Q"]
                own["Q"] = [
                    torch.empty_like(factor, device=weight.device).copy_(factor) for factor in factors
                ]
                own["expressions"] = initialize_q_expressions(
                    weight,
                    group["precondition_init_scale"],
                    group["max_size_triangular"],
                    group["min_ndim_triangular"],
                    group["memory_save_mode"],
                    dtype=group["precondition_dtype"],
                )[1]
