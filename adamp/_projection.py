"""The projection that AdamP and SGDP share: which tensors it applies to, and what it removes.

No Python branch reads a tensor's value.

Letters: w weight, g raw mini-batch gradient, u update, all [out, ...]; a row is one output channel, the layer
is all of them at once. The layer's sums are sums of the rows' sums, so each of w, g and u is read once for
both views.

Source: arXiv:2006.08217, Algorithms 1 and 2; the order of the views, their thresholds and eps follow
clovaai/AdamP 0.3.0, on torch 2.13.
"""

__all__ = ["Decision", "decide", "project", "project_and_decay"]

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from adamp._sharded import ShardLayout, decide_split, project_split, split_of

_NARROW = (torch.bfloat16, torch.float16)
# torch has no type stub for it.
_norm = cast("Callable[..., Tensor]", torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]


class Decision(NamedTuple):
    """Which view of one tensor is projected: the channels', the whole layer's, or (both false) none.

    Attributes:
        channel: [] bool, every row's update loses its component along that row's weight.
        layer: [] bool, the update loses its component along the whole weight; never true together with
            `channel`.
    """

    channel: Tensor
    layer: Tensor

    @property
    def projected(self) -> Tensor:
        """[] bool, true where either view is projected."""
        return self.channel | self.layer


@torch.no_grad()
def decide(weight: Tensor, grad: Tensor, *, delta: float, eps: float) -> Decision:
    """Return whether an optimizer would project this tensor's update, as bool tensors on the weight's device.

    Reading them waits for the device; this function does not.

    With n the length of a row, the channel view is projected if the max over rows of |cos(g, w)| is below
    delta / sqrt(n). Otherwise the layer view is tested by the same rule, with all elements as one row. cos
    divides by max(norm, eps), each norm clamped separately. Tensors of fewer than two dimensions, empty
    tensors, and tensors with a NaN in the gradient are never projected. A DTensor is compared as a whole: all
    processes of its mesh must call this, and get the same.

    Args:
        weight: [out, ...] before decay and step.
        grad: [out, ...] the raw gradient, not the momentum.
        delta: threshold, no unit; 0 never projects.
        eps: floor of each norm, in the units of the weight and of the gradient.

    Example:
        >>> import torch
        >>> decide(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), delta=0.1, eps=1e-8).projected
        tensor(True)
    """
    if weight.dim() < 2 or weight.numel() == 0:
        never = torch.zeros((), dtype=torch.bool, device=weight.device)
        return Decision(never, never)
    if split_of(weight) is not None:
        return Decision(*decide_split(weight, grad, delta=delta, eps=eps))
    channel, layer, _, _ = _compare(_widen(weight), _widen(grad), delta, eps)
    return Decision(channel, layer > channel)


def project(update: Tensor, weight: Tensor, grad: Tensor, *, delta: float, eps: float) -> Tensor:
    """Project `update` in place if it passes the test, and return whether it did, as a [] bool tensor.

    The projection removes the component along the weight: a row becomes u - w <w, u> / (norm(w) + eps)^2,
    with w and u the row or the whole layer, as `decide` finds.

    Args:
        update: [out, ...] with two dimensions or more and not empty; changed in place.
        weight: [out, ...] before decay and step.
        grad: [out, ...] the raw gradient.
        delta: threshold of `decide`.
        eps: floor of the norms in `decide`, and added to norm(w) here.
    """
    if update.dtype in _NARROW:
        # Sums rounded to 16 bits would shift a cosine by a large part of the threshold.
        wide = update.float()
        projected = project(wide, weight.float(), grad.float(), delta=delta, eps=eps)
        update.copy_(wide)
        return projected
    channel, layer, row_norms, layer_norm = _compare(weight, grad, delta, eps)
    row_dots = (weight * update).sum(_row_dims(weight), keepdim=True)
    norm = torch.where(channel, row_norms, layer_norm).add_(eps)
    dot = torch.where(channel, row_dots, row_dots.sum())
    projected = channel | layer
    # Two divisions, because the squared norm may leave float32's range; the outer where keeps a NaN dot out
    # of rows that are not projected.
    update.addcmul_(weight, torch.where(projected, dot.div_(norm).div_(norm), 0.0), value=-1.0)
    return projected


def project_and_decay(
    update: Tensor,
    weight: Tensor,
    grad: Tensor,
    *,
    delta: float,
    wd_ratio: float,
    eps: float,
    decay: float | Tensor,
    split: ShardLayout | None = None,
) -> None:
    """Project `update` and decay `weight`, both in place.

    w -= decay * f * w, where f is `wd_ratio` if the update was projected, else 1.

    Args:
        update: [*] any shape; changed in place if it is projected.
        weight: [*] before decay and step.
        grad: [*] the raw gradient.
        delta: threshold of `decide`.
        wd_ratio: factor on the decay of a projected tensor.
        eps: see `project`.
        decay: lr times weight_decay, the share of the weight that one step removes; a number, or a []
            tensor, whose value is not read on the host.
        split: how the whole tensor is split, if the tensors are a process's parts of it.
    """
    decays = isinstance(decay, Tensor) or decay > 0
    size = weight.numel() if split is None else split.shape.numel()
    if weight.dim() < 2 or delta == 0 or size == 0:
        if decays:
            weight.mul_(1 - decay)
        return
    if split is None:
        projected = project(update, weight, grad, delta=delta, eps=eps)
    else:
        projected = project_split(update, weight, grad, split=split, delta=delta, eps=eps)
    if isinstance(decay, Tensor):
        weight.sub_(weight * (torch.where(projected, wd_ratio, weight.new_ones(())) * decay))
    elif decays:
        # Subtract decay * factor * w instead of multiplying by 1 - decay * factor, which would round to 1 in
        # bfloat16.
        weight.addcmul_(weight, torch.where(projected, wd_ratio, weight.new_ones(())), value=-decay)


def _compare(weight: Tensor, grad: Tensor, delta: float, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return whether the channels and the layer pass the test, [] bool each, and norm(w) of both.

    The norms are [out, 1, ...] for the rows and [] for the layer.
    """
    dims = _row_dims(weight)
    row_norms, grad_norms = _norm(weight, dim=dims, keepdim=True), _norm(grad, dim=dims, keepdim=True)
    row_dots = (weight * grad).sum(dims, keepdim=True)
    layer_norm, layer_grad_norm, layer_dot = _norm(row_norms), _norm(grad_norms), row_dots.sum()
    # Divide by one norm after the other, as torch 2.13's cosine_similarity does: the product of the norms
    # could underflow or overflow although the cosine does not.
    row_cosines = row_dots.div_(row_norms.clamp_min(eps)).div_(grad_norms.clamp_min_(eps))
    layer_cosine = layer_dot.div_(layer_norm.clamp_min(eps)).div_(layer_grad_norm.clamp_min_(eps))
    # The infinity norm is max |cos| in one pass, and NaN if any row is NaN, so that the comparison is false.
    channel = _norm(row_cosines, math.inf) < delta / math.sqrt(weight.numel() // weight.size(0))
    layer = layer_cosine.abs_() < delta / math.sqrt(weight.numel())
    return channel, layer, row_norms, layer_norm


def _row_dims(weight: Tensor) -> tuple[int, ...]:
    return tuple(range(1, weight.dim()))


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _NARROW else tensor
