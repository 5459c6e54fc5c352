"""The probes of `workers.probes` for K members at once: the same numbers, with an axis of members."""

__all__ = ["StackedProbe", "weight_norms"]

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.projection import decide

# Torch has no stub of it.
_norm = cast("Callable[..., Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]


def weight_norms(weights: Tensor, layout: Layout) -> Tensor:
    """Return the L2 norm of each member's weights of two or more dimensions, [K]; 0 if there are none."""
    if not layout.matrices:
        return weights.new_zeros(len(weights))
    return _norm(weights[:, : layout.matrices[-1].stop], dim=1)


class StackedProbe:
    """A probe of K members' weights across single optimizer steps.

    Call `before` and `after` around each probed step.

    Args:
        layout: the columns of each parameter in a row.
        projection: `delta` and `eps` of an optimizer that projects, each [K]; None for other optimizers.
    """

    def __init__(self, layout: Layout, *, projection: Mapping[str, Tensor] | None) -> None:
        self._layout = layout
        self._projection = projection
        self._directions: list[Tensor] = []
        self._effective_steps: list[Tensor] = []
        self._cosines: list[Tensor] = []
        self._decisions: list[Tensor] = []

    @torch.no_grad()
    def before(self, weights: Tensor, grads: Tensor) -> None:
        """Record each weight's direction, its angle to the gradient and whether its update will be projected.

        Args:
            weights: [K, P].
            grads: [K, P].
        """
        self._directions = []
        for slot in self._layout.matrices:
            weight, grad = (self._layout.rows_of(flat, slot) for flat in (weights, grads))
            direction = _direction(weight)
            self._directions.append(direction)
            self._cosines.append((direction * _direction(grad)).sum(1).abs())
            if self._projection is not None:
                self._decisions.append(
                    decide(weight, grad, delta=self._projection["delta"], eps=self._projection["eps"])
                )

    @torch.no_grad()
    def after(self, weights: Tensor) -> None:
        """Record how far each weight's direction has moved since `before`."""
        for slot, direction in zip(self._layout.matrices, self._directions, strict=True):
            self._effective_steps.append(
                _norm(_direction(self._layout.rows_of(weights, slot)) - direction, dim=1)
            )

    def read(self, like: Tensor) -> Tensor:
        """Return each member's means like `workers.probes.Probe.read`, [3, K], and reset them.

        Args:
            like: [K, P], on the device of the result.
        """
        values = torch.stack(
            [_mean(pairs, like) for pairs in (self._effective_steps, self._cosines, self._decisions)]
        )
        self._effective_steps, self._cosines, self._decisions = [], [], []
        return values


def _mean(pairs: list[Tensor], like: Tensor) -> Tensor:
    return (
        torch.stack(pairs).to(torch.float32).mean(dim=0)
        if pairs
        else torch.full((len(like),), math.nan, device=like.device)
    )


def _direction(tensor: Tensor) -> Tensor:
    """Return each member's tensor [K, ...] as a unit vector [K, n]; zero stays zero, NaN stays NaN."""
    rows = tensor.flatten(1)
    return rows / _norm(rows, dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
