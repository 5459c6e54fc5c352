"""Make golden optimizer trajectories with the reference implementation (PyPI `adamp==0.3.0`), in an
environment of its own.
"""

import json
from pathlib import Path

import numpy as np
import torch

import adamp

ADAMP = [
    {"lr": 1e-2},
    {"lr": 1e-2, "weight_decay": 1e-1},
    {"lr": 1e-2, "weight_decay": 1e-1, "nesterov": True},
    {"lr": 5e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 1e-2, "delta": 0.5, "wd_ratio": 0.3},
    {"lr": 1e-2, "weight_decay": 1e-1, "delta": 0.0},
]
SGDP = [
    {"lr": 1e-1},
    {"lr": 1e-1, "momentum": 0.9, "nesterov": True},
    {"lr": 1e-1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    {
        "lr": 5e-2,
        "momentum": 0.8,
        "dampening": 0.1,
        "nesterov": True,
        "weight_decay": 1e-3,
        "delta": 0.5,
        "wd_ratio": 0.3,
    },
]
HEAVY_BALL = [{"lr": 1e-1, "momentum": 0.9}, {"lr": 1e-1, "momentum": 0.9, "weight_decay": 1e-3}]
SHAPES = [(4,), (3, 5), (4, 3, 3, 3), (1, 7)]
STEPS = 12


def tangent(grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return grad without its component along each channel of weight."""
    w, g = weight.reshape(weight.shape[0], -1), grad.reshape(weight.shape[0], -1)
    return (g - w * ((g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True))).reshape(weight.shape)


def trajectory(
    name: str, kwargs: dict, shape: tuple[int, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the start [*shape], the gradients fed and the weights after each step, both [STEPS, *shape]."""
    noise = torch.Generator().manual_seed(seed)
    start = torch.randn(shape, generator=noise, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    optimizer = getattr(adamp, name)([weight], **kwargs)
    grads, weights = [], []
    for step in range(STEPS):
        grad = torch.randn(shape, generator=noise, dtype=torch.float64)
        if len(shape) > 1 and step % 3 != 2:
            grad = tangent(grad, weight.detach())
        weight.grad = grad.clone()
        optimizer.step()
        grads.append(grad.numpy())
        weights.append(weight.detach().clone().numpy())
    return start.numpy(), np.stack(grads), np.stack(weights)


def save(path: Path, cases: list[tuple[str, dict]], seed: int) -> None:
    arrays, index = {}, []
    for n, (name, kwargs) in enumerate(cases):
        for s, shape in enumerate(SHAPES):
            key = f"c{n:02d}_s{s}"
            arrays[f"{key}_w0"], arrays[f"{key}_grads"], arrays[f"{key}_w"] = trajectory(
                name, kwargs, shape, seed + 1000 * n + s
            )
            index.append({"key": key, "optimizer": name, "kwargs": kwargs, "shape": list(shape)})
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), dtype=np.uint8)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(__file__).parent
    save(here / "reference-0.3.0.npz", [("AdamP", k) for k in ADAMP] + [("SGDP", k) for k in SGDP], seed=7)
    save(here / "reference-0.3.0-sgdp-heavy-ball.npz", [("SGDP", k) for k in HEAVY_BALL], seed=99)
