"""Probes of the quantities in AdamP's claim, measured at a few steps of an epoch without blocking the device.

Only weights of two or more dimensions are probed, as in AdamP and SGDP. All values stay on the device until
the caller reads them with everything else at the end of the epoch. The same numbers give the means over all
weights, and those of each weight, its layer.
"""

__all__ = [
    "MAX_PROBED_STEPS",
    "STEPS_PER_PROBE",
    "Probe",
    "ProbedLayers",
    "Projection",
    "layer_norms",
    "measured_layers",
    "names_of",
    "probed_steps",
    "weight_norm",
    "weights_of",
]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamp._projection import decide
from adamp._stepping import ProjectedOptimizer
from studies.layers import LayerMeasurement, MeasuredLayers

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


_DIGITS: Final = 5
"""Significant digits of a layer's numbers: each epoch has several of each layer."""


@dataclass(frozen=True, kw_only=True)
class ProbedLayers:
    """Means over an epoch's probed steps of each weight, NaN where nothing was observed.

    Attributes:
        effective_step: norm(w'/|w'| - w/|w|).
        angle: between the update w' - w and the weight w, in degrees.
        by_channel: share of steps that were projected channel by channel; empty for an optimizer that never
            projects.
        as_layer: share of steps that were projected as one whole layer; empty likewise.
    """

    effective_step: Sequence[float]
    angle: Sequence[float]
    by_channel: Sequence[float] = ()
    as_layer: Sequence[float] = ()


def measured_layers(
    names: Sequence[str],
    *,
    epoch: int,
    norms: Sequence[float],
    means: ProbedLayers,
    initial_norms: Sequence[float] = (),
) -> MeasuredLayers:
    """Return what the layers measured in an epoch, to five significant digits.

    Args:
        names: of the weights.
        epoch: counted from 1.
        norms: of the weights after the epoch.
        means: over its probed steps.
        initial_norms: of the weights before the first step; empty if they are not known.
    """
    return MeasuredLayers(
        names=tuple(names),
        initial_norms=_rounded(initial_norms),
        measurement=LayerMeasurement(
            epoch=epoch,
            weight_norm=_rounded(norms),
            effective_step=_rounded(means.effective_step),
            angle=_rounded(means.angle),
            projected_by_channel=_rounded(means.by_channel),
            projected_as_layer=_rounded(means.as_layer),
        ),
    )


def _rounded(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{each:.{_DIGITS}g}") for each in numbers)


def probed_steps(steps: int) -> frozenset[int]:
    """Return the steps of an epoch to probe, from 0: evenly spaced, the first included."""
    probes = min(MAX_PROBED_STEPS, max(1, steps // STEPS_PER_PROBE))
    return frozenset(index * steps // probes for index in range(probes))


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters of two or more dimensions, in the model's order."""
    return [parameter for _, parameter in _named_weights(model)]


def names_of(model: nn.Module) -> list[str]:
    """Return the names of `weights_of` the model."""
    return [name for name, _ in _named_weights(model)]


def _named_weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim >= 2
    ]


def layer_norms(weights: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of each weight, [weights]."""
    return torch.stack([_norm(weight.detach()) for weight in weights]) if weights else torch.zeros(0)


def weight_norm(weights: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of all weights together, a scalar tensor; 0 if there are none."""
    return _norm(layer_norms(weights))


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
        # Of the weights with a gradient: its place, the weight, a copy of it as it was, and the gradient.
        self._begun: list[tuple[int, nn.Parameter, Tensor, Tensor]] = []
        # Of each probed step since the last `pending`, and before it: the places of its weights.
        self._places: list[int] = []
        self._pending_places: list[int] = []
        # Of each probed step, on the weights' device: the numbers of `_turned`, and those of a comparison.
        self._turns: list[Tensor] = []
        self._comparisons: list[Tensor] = []

    @torch.no_grad()
    def before(self) -> None:
        """Record each weight, its angle to the gradient and whether its update will be projected.

        The weights' gradients must be set.
        """
        self._begun = [
            (place, weight, weight.detach().clone(), gradient)
            for place, weight in enumerate(self._weights)
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
            known = self._optimizer.comparisons([weight for _, weight, _, _ in self._begun])
            self._comparisons.append(
                self._compared() if known is None else torch.tensor(known, dtype=torch.float64).flatten()
            )
        numbers: list[Tensor] = []
        for place, weight, copy, _ in self._begun:
            self._places.append(place)
            before, flat = _flat(copy), _flat(weight)
            numbers += _norm(flat), torch.dot(before, flat)
            change = torch.sub(flat, before, out=before)
            numbers += torch.dot(flat, change), torch.dot(change, change)
        self._turns.append(torch.stack(numbers))
        self._begun = []

    def pending(self) -> Tensor:
        """Return the numbers recorded since the last call as one row, on their device.

        It is for `means` and `layer_means`, before the next call.
        """
        self._pending_places, self._places = self._places, []
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
        width, pairs, compared = self._split(numbers)
        if not pairs:
            return [math.nan] * 3
        turns = 0.0
        dots, norms, gradient_norms = (compared[n::width] for n in range(3))
        for n, norm in enumerate(norms):
            turns += _turned(norm, *numbers[4 * n : 4 * n + 4])
        cosines = map(_cosine, dots, norms, gradient_norms)
        projected = math.nan if self._projection is None else sum(view > 0 for view in compared[3::width])
        return [turns / pairs, sum(map(abs, cosines)) / pairs, projected / pairs]

    def layer_means(self, numbers: Sequence[float]) -> ProbedLayers:
        """Return the means of the numbers that `pending` has just returned, over the probed steps."""
        width, _, compared = self._split(numbers)
        found: list[list[tuple[float, ...]]] = [[] for _ in self._weights]
        for n, place in enumerate(self._pending_places):
            turn, norm = numbers[4 * n : 4 * n + 4], compared[width * n + 1]
            view = math.nan if self._projection is None else compared[width * n + 3]
            found[place].append(
                (_turned(norm, *turn), _angle(norm, *turn[2:]), float(view == 1), float(view == 2))
            )
        none = (math.nan,) * 4
        means = [
            tuple(sum(values) / len(steps) for values in zip(*steps, strict=True)) if steps else none
            for steps in found
        ]
        effective_step, angle, by_channel, as_layer = zip(*means, strict=True) if means else ((),) * 4
        shares = {} if self._projection is None else {"by_channel": by_channel, "as_layer": as_layer}
        return ProbedLayers(effective_step=effective_step, angle=angle, **shares)

    def _split(self, numbers: Sequence[float]) -> tuple[int, int, Sequence[float]]:
        """Return how many numbers a comparison has, how many there are, and all of them."""
        width = 3 if self._projection is None else 4
        pairs = len(numbers) // (4 + width)
        return width, pairs, numbers[4 * pairs :]

    def read(self) -> list[float]:
        """Return the means since the last call; this waits for the weights' device."""
        # Torch cannot know the depth of the list.
        numbers = cast("list[float]", self.pending().tolist())  # pyright: ignore[reportUnknownMemberType]
        return self.means(numbers)

    def _compared(self) -> Tensor:
        """Return the dot product, both norms and, of an optimizer that projects, the view; one row."""
        rows: list[Tensor] = []
        # `after` compares the weights as they were.
        for _, _, copy, gradient in self._begun:
            flat, steepest = _flat(copy), _flat(gradient)
            row = [torch.dot(flat, steepest), _norm(flat), _norm(steepest)]
            if self._projection is not None:
                decision = decide(copy, gradient, delta=self._projection.delta, eps=self._projection.eps)
                row.append(torch.where(decision.layer, 2.0, decision.channel.to(flat.dtype)))
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


def _angle(before: float, dot: float, square: float) -> float:
    """Return the angle between w and d in degrees, if w has become w' = w + d; NaN if either is zero.

    Args:
        before: |w|.
        dot: <w', d>.
        square: |d|^2.
    """
    if before == 0 or square == 0:
        return math.nan
    cosine = (dot - square) / max(before, _TINY) / max(math.sqrt(square), _TINY)
    return math.nan if math.isnan(cosine) else math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


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
