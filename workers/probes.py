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
from torch.optim import Optimizer

from adamp._projection import decide
from adamp._stepping import ProjectedOptimizer

# Torch has no stub of it.
_norm = cast("Callable[[Tensor], Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]

# The smallest norm that a vector is divided by.
_TINY = torch.finfo(torch.float32).tiny

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
    """Observes weights across single optimizer steps; call `before` and `after` around each probed step.

    AdamP and SGDP compare each weight with its gradient in their own step. On a CPU the probe takes their
    sums and their decisions, instead of computing them again.

    Args:
        weights: what to observe.
        projection: the settings of an optimizer that projects; None for any other.
        optimizer: takes the steps; None if it is not known.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        *,
        projection: Projection | None,
        optimizer: Optimizer | None = None,
    ) -> None:
        self._weights = weights
        self._projection = projection
        self._optimizer = (
            optimizer
            if isinstance(optimizer, ProjectedOptimizer)
            and projection is not None
            and all(type(weight) is nn.Parameter and weight.is_cpu for weight in weights)
            else None
        )
        # Of the weights with a gradient: the weight, a copy of it as it was, and the gradient.
        self._begun: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        # Of each probed step, on the weights' device: the numbers of `_turned`, and those of a comparison.
        self._turns: list[Tensor] = []
        self._comparisons: list[Tensor] = []

    @torch.no_grad()
    def before(self) -> None:
        """Record each weight, its angle to the gradient and whether its update will be projected.

        The weights' gradients must be set.
        """
        self._begun = [
            (weight, weight.detach().clone(), gradient)
            for weight in self._weights
            if (gradient := weight.grad) is not None
        ]
        # Other optimizers may overwrite the gradients.
        if self._begun and self._optimizer is None:
            self._comparisons.append(self._compared())

    @torch.no_grad()
    def after(self) -> None:
        """Record how far each weight's direction has moved since `before`."""
        if not self._begun:
            return
        if self._optimizer is not None:
            known = self._optimizer.comparisons([weight for weight, _, _ in self._begun])
            self._comparisons.append(
                self._compared() if known is None else torch.tensor(known, dtype=torch.float64).flatten()
            )
        numbers: list[Tensor] = []
        for weight, copy, _ in self._begun:
            before, flat = _flat(copy), _flat(weight)
            numbers += _norm(flat), torch.dot(before, flat)
            change = torch.sub(flat, before, out=before)
            numbers += torch.dot(flat, change), torch.dot(change, change)
        self._turns.append(torch.stack(numbers))
        self._begun = []

    def pending(self) -> Tensor:
        """Return the numbers recorded since the last call as one row for `means`, on their device."""
        if not self._turns:
            return torch.zeros(0)
        numbers = torch.cat([*self._turns, *self._comparisons])
        self._turns, self._comparisons = [], []
        return numbers

    def means(self, numbers: Sequence[float]) -> list[float]:
        """Return the means of `pending`'s numbers over all pairs of a probed step and a weight.

        Returns:
            The effective step, norm(w'/|w'| - w/|w|); the absolute cosine between gradient and weight as
            whole tensors; and the fraction of pairs that were projected. A value is NaN if there was no pair,
            or no projection to observe.
        """
        width = 3 if self._projection is None else 4
        pairs = len(numbers) // (4 + width)
        if not pairs:
            return [math.nan] * 3
        turns, compared = 0.0, numbers[4 * pairs :]
        dots, norms, gradient_norms = (compared[n::width] for n in range(3))
        for n, norm in enumerate(norms):
            turns += _turned(norm, *numbers[4 * n : 4 * n + 4])
        cosines = map(_cosine, dots, norms, gradient_norms)
        projected = math.nan if self._projection is None else sum(compared[3::width])
        return [turns / pairs, sum(map(abs, cosines)) / pairs, projected / pairs]

    def read(self) -> list[float]:
        """Return the means since the last call; this waits for the weights' device."""
        # Torch cannot know the depth of the list.
        numbers = cast("list[float]", self.pending().tolist())  # pyright: ignore[reportUnknownMemberType]
        return self.means(numbers)

    def _compared(self) -> Tensor:
        """Return the dot product, both norms and, of an optimizer that projects, the decision; one row."""
        rows: list[Tensor] = []
        # `after` compares the weights as they were.
        for _, copy, gradient in self._begun:
            flat, steepest = _flat(copy), _flat(gradient)
            row = [torch.dot(flat, steepest), _norm(flat), _norm(steepest)]
            if self._projection is not None:
                decision = decide(copy, gradient, delta=self._projection.delta, eps=self._projection.eps)
                row.append(decision.projected.to(flat.dtype))
            rows += row
        return torch.stack(rows)


def _flat(tensor: Tensor) -> Tensor:
    """Return a tensor's numbers as one row, without a copy where it is contiguous and not of 16 bits."""
    row = tensor.detach().flatten()
    return row if row.dtype in (torch.float32, torch.float64) else row.float()


def _cosine(dot: float, norm: float, other_norm: float) -> float:
    """Return the cosine of two vectors from their dot product and norms; 0 if one is zero, NaN stays NaN."""
    # One after the other: the product of two norms may leave the range.
    return dot / max(norm, _TINY) / max(other_norm, _TINY)


def _turned(before: float, after: float, overlap: float, dot: float, square: float) -> float:
    """Return norm(w'/|w'| - w/|w|) of a vector w that has become w' = w + d; a zero vector has no direction.

    Args:
        before: |w|.
        after: |w'|.
        overlap: <w, w'>.
        dot: <w', d>.
        square: |d|^2.
    """
    if before == 0 or after == 0:
        return float(before != after)
    length, new_length = max(before, _TINY), max(after, _TINY)
    if square < before * before / 4:
        # |w'| - |w| without a difference of numbers that are almost equal.
        stretch = (2 * dot - square) / (before + after)
        turned = (square - stretch * stretch) / length / new_length
    else:
        turned = 2 - 2 * (overlap / length / new_length)
    # In this order a NaN stays.
    return math.sqrt(max(turned, 0.0))
