"""The step of AdamP and SGDP on a CPU: one call of a compiled kernel for all tensors of a group.

Several threads share a long step. `adamp._numba_kernels` explains how a step works, and why a wrong guess
does not change a single bit.
"""

__all__ = ["adamp_step", "sgdp_step"]

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamp import _numba_kernels as kernels
from adamp._numba_loops import ADAM, SGD
from adamp._numba_plan import NumbaPlan
from adamp._settings import AdamPSettings, SGDPSettings
from adamp._threads import share, usable

_SHARED = 1 << 18  # elements; below this, starting threads costs more than they save
_PARTS = 8  # per thread, so that a delayed thread delays the others little


def adamp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[int],
    settings: AdamPSettings,
    *,
    plan: NumbaPlan,
    grad_scale: float = 1.0,
) -> None:
    """Take one step of AdamP on all tensors of a group, in place.

    Args:
        weights: [n] tensors of any shapes, all float32 or all float64, that pass `have_equal_strides`.
        grads: [n] gradients of the same dtype, in any layout. Not changed.
        exp_avgs: [n] first moments, laid out as the weights.
        exp_avg_sqs: [n] second moments, laid out as the weights.
        steps: [n] steps taken, including this one.
        settings: the group's hyperparameters.
        plan: the plan of these weights in their current layout, built with `projects` if delta is above 0.
        grad_scale: divisor of the gradients.
    """
    _, beta1, beta2, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    lr = float(settings.lr)
    corrections = {step: (lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)) for step in set(steps)}
    plan.scalars[:, :2] = (
        corrections[steps[0]] if len(corrections) == 1 else [corrections[step] for step in steps]
    )
    sign = (-1.0 if maximize else 1.0) / grad_scale
    numbers = (
        sign,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        nesterov,
        lr * weight_decay,
        wd_ratio,
        delta,
        eps,
    )
    _run(plan, ADAM, (weights, grads, exp_avgs, exp_avg_sqs), numbers)


def sgdp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    settings: SGDPSettings,
    *,
    plan: NumbaPlan,
    grad_scale: float = 1.0,
) -> None:
    """Take one step of SGDP on all tensors of a group, in place.

    Args:
        weights: [n] tensors of any shapes, all float32 or all float64, that pass `have_equal_strides`.
        grads: [n] gradients of the same dtype, in any layout. Not changed.
        buffers: [n] momentum buffers, laid out as the weights.
        settings: the group's hyperparameters.
        plan: the plan of these weights in their current layout, built with `projects` if delta is above 0.
        grad_scale: divisor of the gradients.
    """
    _, momentum, dampening, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    lr = float(settings.lr)
    plan.scalars[:, 0] = lr
    sign = (-1.0 if maximize else 1.0) / grad_scale
    numbers = (
        sign,
        momentum,
        1 - dampening,
        0.0,
        0.0,
        0.0,
        nesterov,
        lr * weight_decay / (1 - momentum),
        wd_ratio,
        delta,
        eps,
    )
    _run(plan, SGD, (weights, grads, buffers), numbers)


def _run(plan: NumbaPlan, kind: int, lists: tuple[Sequence[Tensor], ...], numbers: tuple[float, ...]) -> None:
    weights, grads, *moments = lists
    if [*map(Tensor.stride, grads)] != plan.strides or any(map(Tensor.is_neg, grads)):
        # Kept by name until the kernel is done with their memory.
        grads = [
            grad
            if grad.stride() == weight.stride() and not grad.is_neg()
            else torch.empty_like(weight).copy_(grad)
            for weight, grad in zip(weights, grads, strict=True)
        ]
    for column, tensors in enumerate((weights, grads, *moments)):
        plan.table[:, column] = [*map(Tensor.data_ptr, tensors)]
    # Autograd does not see what the kernel writes; the new version makes a backward pass through a changed
    # weight fail instead of using wrong values.
    torch.autograd.graph.increment_version(weights)
    step = kernels.compiled_step()
    threads = min(usable(), len(plan.items)) if plan.elements >= _SHARED else 1
    given = np.array(numbers, np.float64)

    def run(phase: int, first: int, last: int, scratch: Any) -> None:
        parts = (plan.items, plan.table, plan.scalars, given, *plan.memory, scratch)
        try:
            step(phase, kind, first, last, *parts)
        except OSError:
            # It has been compiled, but not written to numba's cache: the disk is full, for example.
            step(phase, kind, first, last, *parts)

    scratch = plan.scratch(threads)
    if threads == 1:
        run(kernels.WHOLE, 0, len(weights), scratch[0])
        return
    whole, split, tensors = plan.parts(threads * _PARTS)
    sweeps = [(kernels.SWEEP, first, last) for first, last in split]
    wholes = [(kernels.WHOLE, first, last) for first, last in whole]
    share(run, [*sweeps, *wholes], scratch[:threads])
    for tensor in tensors:
        run(kernels.DECIDE, tensor, tensor + 1, scratch[0])
    if plan.memory[3][1][tensors].any():
        share(run, [(kernels.FINISH, first, last) for first, last in split], scratch[:threads])
