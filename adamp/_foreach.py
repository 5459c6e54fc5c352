"""The step of AdamP and SGDP in torch's foreach operations, for accelerators without a kernel of our own.

There, launches cost more than memory traffic. Elementwise work runs on all tensors at once; sums over rows,
for which torch has no foreach operation, run one tensor at a time.
"""

__all__ = ["adamp_step", "sgdp_step"]

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from adamp._projection import project_and_decay
from adamp._settings import AdamPSettings, SGDPSettings

_NAMES = ("add_", "addcmul_", "div", "div_", "lerp", "lerp_", "mul", "mul_", "neg", "sqrt", "sub_")
_add_, _addcmul_, _div, _div_, _lerp, _lerp_, _mul, _mul_, _neg, _sqrt, _sub_ = (
    cast("Callable[..., Any]", getattr(torch, f"_foreach_{name}")) for name in _NAMES
)


def adamp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[int | Tensor],
    settings: AdamPSettings,
) -> None:
    """Take one step of AdamP on all tensors, in place.

    Args:
        weights: [n] tensors of any shapes on one device.
        grads: [n] gradients. Not changed.
        exp_avgs: [n] first moments of the weights' dtypes.
        exp_avg_sqs: [n] second moments of the weights' dtypes.
        steps: [n] steps taken, including this one.
        settings: the group's hyperparameters.
    """
    lr, beta1, beta2, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    downhill = _neg(grads) if maximize else grads
    _lerp_(exp_avgs, downhill, 1 - beta1)
    _mul_(exp_avg_sqs, beta2)
    _addcmul_(exp_avg_sqs, downhill, downhill, 1 - beta2)
    denominators = _sqrt(exp_avg_sqs)
    sizes: list[float | Tensor]
    if isinstance(steps[0], Tensor):
        counts = [
            cast("Tensor", step).to(torch.float64) if w.dtype == torch.float64 else cast("Tensor", step)
            for w, step in zip(weights, steps, strict=True)
        ]
        _div_(denominators, [(1 - beta2**count).sqrt() for count in counts])
        sizes = [lr / (1 - beta1**count) for count in counts]
    else:
        numbers = [cast("int", step) for step in steps]
        _div_(denominators, [math.sqrt(1 - beta2**step) for step in numbers])
        sizes = [lr / (1 - beta1**step) for step in numbers]
    _add_(denominators, eps)
    directions = _lerp(exp_avgs, downhill, 1 - beta1) if nesterov else exp_avgs
    updates = _div(directions, denominators)
    for weight, grad, update in zip(weights, downhill, updates, strict=True):
        project_and_decay(
            update, weight, grad, delta=delta, wd_ratio=wd_ratio, eps=eps, decay=lr * weight_decay
        )
    _mul_(updates, sizes)
    _sub_(weights, updates)


def sgdp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    settings: SGDPSettings,
) -> None:
    """Take one step of SGDP on all tensors, in place.

    Args:
        weights: [n] tensors of any shapes on one device.
        grads: [n] gradients. Not changed.
        buffers: [n] momentum buffers of the weights' dtypes.
        settings: the group's hyperparameters.
    """
    lr, momentum, dampening, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    downhill = _neg(grads) if maximize else grads
    _mul_(buffers, momentum)
    _add_(buffers, downhill, alpha=1 - dampening)
    # New tensors, because updates are projected in place and buffers must not change.
    updates = _mul(buffers, momentum if nesterov else 1.0)
    if nesterov:
        _add_(updates, downhill)
    for weight, grad, update in zip(weights, downhill, updates, strict=True):
        project_and_decay(
            update,
            weight,
            grad,
            delta=delta,
            wd_ratio=wd_ratio,
            eps=eps,
            decay=lr * weight_decay / (1 - momentum),
        )
    _mul_(updates, lr)
    _sub_(weights, updates)
