"""AdamP's projection for K members at once: `adamp._projection` with an axis of members and no branches.

Letters: w weight, g raw mini-batch gradient, u update, all [K, out, n]. A row is one output channel; the
layer is all rows of a member.
"""

__all__ = ["decide", "project"]

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

# Torch has no stub of it.
_norm = cast("Callable[..., Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]


def decide(weight: Tensor, grad: Tensor, *, delta: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether each member's update passes the test by channel, and as a layer, [K] bool each.

    It would be projected by channel if it passes that test, and otherwise as a layer.

    Args:
        weight: [K, out, n] before decay and step.
        grad: [K, out, n] the raw gradient.
        delta: [K] thresholds of the cosine test.
        eps: [K] floors of the norms.
    """
    channel, layer, _, _ = _compare(weight, grad, delta.unsqueeze(1), eps.unsqueeze(1))
    return channel.squeeze(1), layer.squeeze(1)


def project(update: Tensor, weight: Tensor, grad: Tensor, *, delta: Tensor, eps: Tensor) -> Tensor:
    """Project each update that passes the test, and return which ones did, [K, 1] bool.

    The projection removes the component along the weight.

    Args:
        update: [K, out, n]; changed in place.
        weight: [K, out, n] before decay and step.
        grad: [K, out, n] the raw gradient.
        delta: [K, 1] thresholds of the cosine test.
        eps: [K, 1] floors of the norms, and added to norm(w).
    """
    channel, layer, row_norms, layer_norm = _compare(weight, grad, delta, eps)
    row_dots = (weight * update).sum(2)
    norm = torch.where(channel, row_norms, layer_norm) + eps
    dot = torch.where(channel, row_dots, row_dots.sum(1, keepdim=True))
    projected = channel | layer
    # Two divisions, because the squared norm may leave float32's range; the outer where keeps a NaN dot out
    # of rows that are not projected.
    share = torch.where(projected, dot / norm / norm, 0.0)
    update.addcmul_(weight, share.unsqueeze(2), value=-1.0)
    return projected


def _compare(
    weight: Tensor, grad: Tensor, delta: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the tests by channel and as a layer, and the norms of the weight's rows and of the layer.

    The shapes are [K, 1] bool, [K, 1] bool, [K, out] and [K, 1].
    """
    row_norms, grad_norms = _norm(weight, dim=2), _norm(grad, dim=2)
    row_dots = (weight * grad).sum(2)
    layer_norm, layer_grad_norm = (
        _norm(row_norms, dim=1, keepdim=True),
        _norm(grad_norms, dim=1, keepdim=True),
    )
    row_cosines = row_dots / row_norms.clamp_min(eps) / grad_norms.clamp_min(eps)
    layer_cosine = row_dots.sum(1, keepdim=True) / layer_norm.clamp_min(eps) / layer_grad_norm.clamp_min(eps)
    # amax is NaN if any row is NaN, and then the comparison is false.
    channel = row_cosines.abs().amax(1, keepdim=True) < delta / math.sqrt(weight.size(2))
    layer = layer_cosine.abs() < delta / math.sqrt(weight.size(1) * weight.size(2))
    return channel, layer, row_norms, layer_norm
