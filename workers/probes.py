"""Probes of the quantities in AdamP's claim, measured at a few steps of an epoch without blocking the device.

Only weights of two or more dimensions are probed, as in AdamP and SGDP. All values stay on the device until
the caller reads them with everything else at the end of the epoch.
"""

__all__ = [
    "MAX_PROBED_STEPS",
    "STEPS_PER_PROBE",
    "Probe",
    "Projection",
    "probed_steps",
    "weight_norm",
    "weights_of",
]

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
"""Largest number of steps probed in an epoch: enough for a mean."""

STEPS_PER_PROBE = 25
"""An epoch has at most one probed step in this many, so that probes cost little in short epochs too."""


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
    """Return the steps of an epoch to probe, from 0: evenly spaced, the first included."""
    probes = min(MAX_PROBED_STEPS, max(1, steps // STEPS_PER_PROBE))
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
        # Of the weights with a gradient: the weight, a copy of it as it was, and its norm then.
        self._before: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        # Numbers of each pair of a probed step and a weight, each row on the weights' device.
        self._turns: list[tuple[Tensor, ...]] = []
        self._angles: list[tuple[Tensor, ...]] = []
        self._decisions: list[Tensor] = []

    @torch.no_grad()
    def before(self) -> None:
        """Record each weight, its angle to the gradient and whether its update will be projected.

        The weights' gradients must be set.
        """
        self._before = []
        for weight in self._weights:
            gradient = weight.grad
            if gradient is None:
                continue
            flat, steepest = _flat(weight), _flat(gradient)
            norm = _norm(flat)
            self._before.append((weight, flat.clone(), norm))
            self._angles.append((torch.dot(flat, steepest), norm, _norm(steepest)))
            if self._projection is not None:
                self._decisions.append(
                    decide(weight, gradient, delta=self._projection.delta, eps=self._projection.eps).projected
                )

    @torch.no_grad()
    def after(self) -> None:
        """Record how far each weight's direction has moved since `before`."""
        for weight, before, norm in self._before:
            flat = _flat(weight)
            overlap = torch.dot(before, flat)
            change = torch.sub(flat, before, out=before)
            dots = torch.dot(flat, change), torch.dot(change, change)
            self._turns.append((norm, _norm(flat), overlap, *dots))
        self._before = []

    def read(self) -> Tensor:
        """Return the means since the last call over all pairs of a probed step and a weight, and start again.

        Returns:
            Tensor [3] on the weights' device: the effective step, norm(w'/|w'| - w/|w|); the absolute cosine
            between gradient and weight as whole tensors; and the fraction of pairs that were projected. A
            value is NaN if there was no pair, or no projection to observe.
        """
        nothing = torch.full((), math.nan, device=self._device)
        values = torch.stack(
            [
                _turned(*_columns(self._turns)).mean() if self._turns else nothing,
                _cosine(*_columns(self._angles)).abs().mean() if self._angles else nothing,
                torch.stack(self._decisions).to(torch.float32).mean() if self._decisions else nothing,
            ]
        )
        self._turns, self._angles, self._decisions = [], [], []
        return values


def _flat(tensor: Tensor) -> Tensor:
    """Return a tensor's numbers as one row, without a copy where it is contiguous and not of 16 bits."""
    row = tensor.detach().flatten()
    return row if row.dtype in (torch.float32, torch.float64) else row.float()


def _columns(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(column).to(torch.float32) for column in zip(*rows, strict=True)]


def _cosine(dot: Tensor, norm: Tensor, other_norm: Tensor) -> Tensor:
    """Return the cosine of two vectors from their dot product and norms; 0 if one is zero, NaN stays NaN."""
    tiny = torch.finfo(dot.dtype).tiny
    # One after the other: the product of two norms may leave the range of float32.
    return dot / norm.clamp_min(tiny) / other_norm.clamp_min(tiny)


def _turned(before: Tensor, after: Tensor, overlap: Tensor, dot: Tensor, square: Tensor) -> Tensor:
    """Return norm(w'/|w'| - w/|w|) of vectors w that have become w' = w + d; a zero vector has no direction.

    Args:
        before: |w|.
        after: |w'|.
        overlap: <w, w'>.
        dot: <w', d>.
        square: |d|^2.
    """
    tiny = torch.finfo(before.dtype).tiny
    length, new_length = before.clamp_min(tiny), after.clamp_min(tiny)
    # For a short step: |w'| - |w| without a difference of numbers that are almost equal.
    stretch = (2 * dot - square) / (before + after).clamp_min(tiny)
    small = (square - stretch.square()) / length / new_length
    large = 2 - 2 * (overlap / length / new_length)
    is_small = square < before.square() / 4
    turned = torch.where(is_small, small, large).clamp_min(0).sqrt()
    one_is_zero = (before == 0) | (after == 0)
    return torch.where(one_is_zero, (before != after).to(before.dtype), turned)
