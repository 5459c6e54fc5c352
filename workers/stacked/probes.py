"""The probes of `workers.probes` for K members at once: the same numbers, with an axis of members."""

__all__ = ["StackedProbe", "layer_norms", "weight_norms"]

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


def layer_norms(weights: Tensor, layout: Layout) -> Tensor:
    """Return the L2 norm of each weight of two or more dimensions, [weights, K]."""
    return torch.stack([_norm(weights[:, slot.start : slot.stop], dim=1) for slot in layout.matrices])


class StackedProbe:
    """A probe of K members' weights across single optimizer steps.

    Call `before` and `after` around each probed step.

    Args:
        layout: the columns of each parameter in a row.
        projection: `delta` and `eps` of an optimizer that projects, each [K]; None for other optimizers.
        has_layers: whether it also observes the angles of updates, so that `layers` can be called.
    """

    def __init__(
        self, layout: Layout, *, projection: Mapping[str, Tensor] | None, has_layers: bool = False
    ) -> None:
        self._layout = layout
        self._projection = projection
        self._has_layers = has_layers
        # The weights as they were, [K, P]; None unless layers are observed.
        self._before: Tensor | None = None
        self._directions: list[Tensor] = []
        self._effective_steps: list[Tensor] = []
        self._cosines: list[Tensor] = []
        # Of each step and weight: whether the test passed by channel, and as a layer.
        self._by_channel: list[Tensor] = []
        self._as_layer: list[Tensor] = []
        self._angles: list[Tensor] = []

    @torch.no_grad()
    def before(self, weights: Tensor, grads: Tensor) -> None:
        """Record each weight's direction, its angle to the gradient and whether its update will be projected.

        Args:
            weights: [K, P].
            grads: [K, P].
        """
        self._directions = []
        self._before = weights.clone() if self._has_layers else None
        for slot in self._layout.matrices:
            weight, grad = (self._layout.rows_of(flat, slot) for flat in (weights, grads))
            direction = _direction(weight)
            self._directions.append(direction)
            self._cosines.append((direction * _direction(grad)).sum(1).abs())
            if self._projection is not None:
                by_channel, as_layer = decide(
                    weight, grad, delta=self._projection["delta"], eps=self._projection["eps"]
                )
                self._by_channel.append(by_channel)
                self._as_layer.append(as_layer)

    @torch.no_grad()
    def after(self, weights: Tensor) -> None:
        """Record how far each weight's direction has moved since `before`."""
        for slot, direction in zip(self._layout.matrices, self._directions, strict=True):
            self._effective_steps.append(
                _norm(_direction(self._layout.rows_of(weights, slot)) - direction, dim=1)
            )
        if self._before is None:
            return
        update = weights - self._before
        for slot in self._layout.matrices:
            moved, before = update[:, slot.start : slot.stop], self._before[:, slot.start : slot.stop]
            # NaN if the weight is zero or did not move.
            cosine = (moved * before).sum(1) / _norm(moved, dim=1) / _norm(before, dim=1)
            self._angles.append(torch.rad2deg(torch.acos(cosine.clamp(-1.0, 1.0))))
        self._before = None

    def read(self, like: Tensor) -> Tensor:
        """Return each member's means like `workers.probes.Probe.read`, [3, K], and reset them.

        With `has_layers` there follow the effective steps, the angles and, for an optimizer that projects,
        the shares of `workers.probes.ProbedLayers`, each [weights, K].

        Args:
            like: [K, P], on the device of the result.
        """
        projected: list[Tensor] = []
        if self._by_channel:
            by_channel, as_layer = torch.stack(self._by_channel), torch.stack(self._as_layer)
            projected = [by_channel, as_layer & ~by_channel]
            means = [_mean(pairs, like) for pairs in (self._effective_steps, self._cosines)]
            means.append((by_channel | as_layer).to(torch.float32).mean(dim=0))
        else:
            means = [_mean(pairs, like) for pairs in (self._effective_steps, self._cosines, [])]
        values = [torch.stack(means)]
        if self._has_layers and self._effective_steps:
            layers = len(self._layout.matrices)
            by_step = [torch.stack(self._effective_steps), torch.stack(self._angles), *projected]
            values += [each.view(-1, layers, len(like)).to(torch.float32).mean(dim=0) for each in by_step]
        self._effective_steps, self._cosines, self._angles = [], [], []
        self._by_channel, self._as_layer = [], []
        return torch.cat(values)


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
