"""Make `reference-0.3.0-checkpoint.pt` with the reference implementation (PyPI `adamp==0.3.0`), in an
environment of its own.
"""

import copy
from pathlib import Path
from typing import Any

import torch

import adamp

SHAPES = [(4, 3, 2, 2), (5,)]
STEPS_BEFORE, STEPS_AFTER = 4, 6
CASES: dict[str, dict[str, Any]] = {
    "AdamP": {"lr": 1e-2, "weight_decay": 1e-1, "nesterov": True, "delta": 0.5},
    "SGDP": {"lr": 1e-1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True, "delta": 0.5},
}


def checkpoint(name: str, kwargs: dict[str, Any], noise: torch.Generator) -> dict[str, Any]:
    """Return weights and state after STEPS_BEFORE, the gradients of STEPS_AFTER more, and the weights these
    lead to; two groups, float64.
    """
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=noise, dtype=torch.float64)) for shape in SHAPES
    ]
    optimizer = getattr(adamp, name)(
        [{"params": weights[:1]}, {"params": weights[1:], "lr": kwargs["lr"] / 2}], **kwargs
    )

    def train(steps: int) -> list[torch.Tensor]:
        grads = [torch.randn((steps, *shape), generator=noise, dtype=torch.float64) for shape in SHAPES]
        for step in range(steps):
            for weight, grad in zip(weights, grads, strict=True):
                weight.grad = grad[step].clone()
            optimizer.step()
        return grads

    train(STEPS_BEFORE)
    before = {
        "weights": [weight.detach().clone() for weight in weights],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
    }
    grads = train(STEPS_AFTER)
    return {**before, "grads": grads, "final": [weight.detach().clone() for weight in weights]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(11)
    torch.save(
        {name: checkpoint(name, kwargs, generator) for name, kwargs in CASES.items()},
        Path(__file__).parent / "reference-0.3.0-checkpoint.pt",
    )
