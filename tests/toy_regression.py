"""A small regression problem for optimizer tests.

Its float64 model has every kind of parameter that optimizers treat differently.
"""

__all__ = ["build_model", "gradients_of", "loss_of", "stepped", "train"]

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def build_model() -> nn.Module:
    """Return the model, with the same weights on every call.

    It has a scale-invariant convolution, its norm, a hidden matrix, an output matrix and biases.
    """
    generator = torch.Generator().manual_seed(0)
    # No bias before the norm: its gradient would be rounding noise, which Adam's kind blows up to steps of
    # full size.
    layers = (
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.Tanh(),
        nn.Linear(6, 1),
    )
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(generator=generator).mul_(parameter[0].numel() ** -0.5)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def loss_of(model: nn.Module, *, rows: slice = slice(None)) -> Tensor:
    """Return the mean squared error on these rows of the 32 images of 4x4 pixels, in the model's dtype."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(32, 1, 4, 4, generator=generator, dtype=torch.float64).to(
        next(model.parameters()).dtype
    )[rows]
    targets = images[:, 0, 1:3, 1:3].sum(dim=(1, 2)).unsqueeze(1)
    return (model(images) - targets).square().mean()


def gradients_of(model: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter, which can be differentiated again."""
    return list(torch.autograd.grad(loss(), list(model.parameters()), create_graph=True))


def stepped(optimizer: Optimizer, loss: Callable[[], Tensor]) -> None:
    """Take one step with the gradients of a loss, in the way that the optimizer needs."""
    needs = getattr(optimizer, "needs", "gradients")

    def closure() -> float:
        value = loss()
        if needs == "curvature":
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            for weight, grad in zip(
                weights, torch.autograd.grad(value, weights, create_graph=True), strict=True
            ):
                weight.grad = grad
        else:
            value.backward()
        return value.item()

    optimizer.zero_grad()
    closure()
    if needs == "closure":
        optimizer.step(closure)
    else:
        optimizer.step()
    if needs == "curvature":
        # A gradient with a graph and its weight keep each other alive.
        optimizer.zero_grad()


def train(model: nn.Module, optimizer: Optimizer | Sequence[Optimizer], *, steps: int) -> Tensor:
    """Return all parameters after each step on 8 images, [steps, parameters].

    Several optimizers take turns within each step. What optimizers draw is the same in every call.
    """
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 # what PSGD-Kron draws from
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    trajectory: list[Tensor] = []
    for step in range(steps):
        rows = slice(8 * (step % 4), 8 * (step % 4) + 8)
        if len(optimizers) == 1:
            stepped(optimizers[0], lambda rows=rows: loss_of(model, rows=rows))
        else:
            for each in optimizers:
                each.zero_grad()
            loss_of(model, rows=rows).backward()
            for each in optimizers:
                each.step()
        trajectory.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return torch.stack(trajectory)
