"""Probes of the quantities in AdamP's claim, measured at a few steps of an epoch without blocking the device.

Only weights of two or more dimensions are probed, as in AdamP and SGDP. All values stay on the device until
the caller reads them with everything else at the end of the epoch.
"""

__all__ = ["MAX_PROBED_STEPS", "Probe", "Projection", "probed_steps", "weight_norm", "weights_of"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from adamp._projection import decide

# Torch has no stub of it.
_norm = cast("Callable[[Tensor], Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]

MAX_PROBED_STEPS = 4
"""Largest number of steps probed in an epoch: enough for a mean, few enough to cost little."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The settings by which an optimizer decides whether to project.

    Attributes:
        delta: AdamP's and SGDP's threshold.
        eps: lower bound of the norms that the cosine is divided by.
    """

    delta: float
    eps: float


def probed_steps(steps: int) -> frozenset[int]:
    """Return the steps of an epoch to probe, from 0: at most four, evenly spaced, the first included."""
    probes = min(MAX_PROBED_STEPS, steps)
    return frozenset(index * steps // probes for index in range(probes))


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters of two or more dimensions, in the model's order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim >= 2]


def weight_norm(weights: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of all weights together, a scalar tensor; 0 if there are none."""
    if not weights:
        return torch.zeros(())
    return _norm(torch.stack([_norm(weight.detach()) for weight in weights]))


class Probe:
    """Observes weights across single optimizer steps; call `before` and `after` around each probed step."""

    def __init__(self, weights: Sequence[nn.Parameter], *, projection: Projection | None) -> None:
        self._weights = weights
        self._device = weights[0].device if weights else torch.device("cpu")
        self._projection = projection
        self._directions: list[tuple[nn.Parameter, Tensor]] = []
        self._effective_steps: list[Tensor] = []
        self._cosines: list[Tensor] = []
        self._decisions: list[Tensor] = []

    @torch.no_grad()
    def before(self) -> None:
        """Record each weight's direction, its angle to the gradient and whether its update will be projected.

        The weights' gradients must be set.
        """
        self._directions = []
        for weight in self._weights:
            gradient = weight.grad
            if gradient is None:
                continue
            direction = _direction(weight)
            self._directions.append((weight, direction))
            self._cosines.append((direction * _direction(gradient)).sum().abs())
            if self._projection is not None:
                self._decisions.append(
                    decide(weight, gradient, delta=self._projection.delta, eps=self._projection.eps).projected
                )

    @torch.no_grad()
    def after(self) -> None:
        """Record how far each weight's direction has moved since `before`."""
        for weight, direction in self._directions:
            self._effective_steps.append(_norm(_direction(weight) - direction))

    def read(self) -> Tensor:
        """Return the means since the last call over all pairs of a probed step and a weight, and start again.

        Returns:
            Tensor [3] on the weights' device: the effective step, norm(w'/|w'| - w/|w|); the absolute cosine
            between gradient and weight as whole tensors; and the fraction of pairs that were projected. A
            value is NaN if there was no pair, or no projection to observe.
        """
        values = torch.stack(
            [self._mean(pairs) for pairs in (self._effective_steps, self._cosines, self._decisions)]
        )
        self._effective_steps, self._cosines, self._decisions = [], [], []
        return values

    def _mean(self, pairs: list[Tensor]) -> Tensor:
        return (
            torch.stack(pairs).to(torch.float32).mean()
            if pairs
            else torch.full((), math.nan, device=self._device)
        )


def _direction(tensor: Tensor) -> Tensor:
    # A zero tensor has no direction and stays zero; NaN stays NaN.
    return tensor / _norm(tensor).clamp_min(torch.finfo(tensor.dtype).tiny)
