"""The step of AdamP and SGDP in plain PyTorch, tensor by tensor, for any layout and for torch.compile."""

__all__ = ["adamp_step", "sgdp_step"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from adamp._projection import project_and_decay
from adamp._settings import AdamPSettings, SGDPSettings
from adamp._sharded import ShardLayout, local_part, split_of


def adamp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[int | Tensor],
    settings: AdamPSettings,
) -> None:
    """Take one step of AdamP on each tensor, in place.

    Args:
        weights: [n] tensors of any shapes.
        grads: [n] gradients. Not changed.
        exp_avgs: [n] first moments; the arithmetic is done in their dtype or the weight's, whichever is
            wider.
        exp_avg_sqs: [n] second moments, of the same dtype.
        steps: [n] steps taken, including this one.
        settings: the group's hyperparameters.
    """
    lr, beta1, beta2, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    for *whole, step in zip(weights, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        (given, raw, first, second), split = _parts(whole)
        dtype = torch.promote_types(given.dtype, first.dtype)
        weight, grad, exp_avg, exp_avg_sq = given.to(dtype), raw.to(dtype), first.to(dtype), second.to(dtype)
        if maximize:
            grad = -grad
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if isinstance(step, Tensor):
            count = step.to(torch.float64) if weight.dtype == torch.float64 else step
            size, root = lr / (1 - beta1**count), (1 - beta2**count).sqrt()
        else:
            size, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        denominator = exp_avg_sq.sqrt().div_(root).add_(eps)
        direction = exp_avg.lerp(grad, 1 - beta1) if nesterov else exp_avg
        update = direction / denominator
        project_and_decay(
            update,
            weight,
            grad,
            delta=delta,
            wd_ratio=wd_ratio,
            eps=eps,
            decay=lr * weight_decay,
            split=split,
        )
        _take(weight, update, size)
        _put_back((given, weight), (first, exp_avg), (second, exp_avg_sq))


def sgdp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    settings: SGDPSettings,
) -> None:
    """Take one step of SGDP on each tensor, in place.

    Args:
        weights: [n] tensors of any shapes.
        grads: [n] gradients. Not changed.
        buffers: [n] momentum buffers; the arithmetic is done in their dtype or the weight's, whichever is
            wider.
        settings: the group's hyperparameters.
    """
    lr, momentum, dampening, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    for whole in zip(weights, grads, buffers, strict=True):
        (given, raw, kept), split = _parts(whole)
        dtype = torch.promote_types(given.dtype, kept.dtype)
        weight, grad, buffer = given.to(dtype), raw.to(dtype), kept.to(dtype)
        if maximize:
            grad = -grad
        buffer.mul_(momentum).add_(grad, alpha=1 - dampening)
        # A copy, because the update is projected in place and the buffer must not change.
        update = torch.add(grad, buffer, alpha=momentum) if nesterov else buffer.clone()
        project_and_decay(
            update,
            weight,
            grad,
            delta=delta,
            wd_ratio=wd_ratio,
            eps=eps,
            decay=lr * weight_decay / (1 - momentum),
            split=split,
        )
        _take(weight, update, lr)
        _put_back((given, weight), (kept, buffer))


def _parts(tensors: Sequence[Tensor]) -> tuple[list[Tensor], ShardLayout | None]:
    """Return this process's parts of a weight and the tensors beside it, and how they are split."""
    split = split_of(tensors[0])
    return (list(tensors) if split is None else [local_part(each, tensors[0]) for each in tensors]), split


def _put_back(*pairs: tuple[Tensor, Tensor]) -> None:
    """Copy each pair's second tensor, a wider copy of the first or the first itself, back to the first."""
    for tensor, wide in pairs:
        if wide is not tensor:
            tensor.copy_(wide)


def _take(weight: Tensor, update: Tensor, size: float | Tensor) -> None:
    """Subtract `size` times the update from the weight in place; the update may be overwritten."""
    if isinstance(size, Tensor):
        weight.sub_(update.mul_(size))
    else:
        weight.add_(update, alpha=-size)
