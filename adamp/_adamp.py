"""AdamP: Adam with decoupled weight decay, whose step on a scale-invariant weight has no radial part."""

__all__ = ["AdamP"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamp._checks import are_numbers, check_lr, check_moments_dtype, check_number, check_projection
from adamp._paths import check_flags
from adamp._settings import AdamPSettings
from adamp._stepping import ProjectedOptimizer

_SHARED = AdamPSettings._fields[3:]


class AdamP(ProjectedOptimizer):
    """Adam that takes no step along a weight if the loss does not depend on the weight's length.

    One step on the weight w with gradient g, at step t from 1:

        m = beta1 m + (1 - beta1) g                              first moment, state `exp_avg`
        v = beta2 v + (1 - beta2) g^2                            second moment, state `exp_avg_sq`
        d = m                                                    or beta1 m + (1 - beta1) g with `nesterov`
        u = d / (sqrt(v) / sqrt(1 - beta2^t) + eps)              update
        u, f = P(u), wd_ratio  if |cos(g, w)| < delta / sqrt(n)  else u, 1
        w = (1 - lr weight_decay f) w - lr / (1 - beta1^t) u

    P removes the component along w; n is the number of elements compared. The test and P apply to each output
    channel (every row of w must pass) or, if a row fails, to the whole tensor. Tensors of fewer than two
    dimensions are never projected.

    Args:
        params: tensors [*], named tensors or dicts of one group each, as for any torch optimizer.
        lr: length of a step in each coordinate, in units of the weight; a number or a [] tensor. It may
            change between steps.
        betas: (beta1, beta2) in [0, 1), the share of each moment that is kept from one step to the next.
        eps: added to the denominator (units of g) and to norm(w) in P (units of w); floor of both norms in
            the cosine.
        weight_decay: share of the weight lost per step and unit of lr, decoupled as in AdamW.
        delta: threshold of the cosine test, no unit. A larger value projects more; at 0 this is AdamW.
        wd_ratio: factor on the weight decay of projected tensors; no effect if weight_decay is 0.
        nesterov: step along the moment with this gradient applied a second time.
        maximize: ascend; the same as descending on -g.
        foreach: True uses torch's operations on lists. See `fused`.
        capturable: keep `step` on the device, for CUDA graphs and torch.compile; `lr` may then be a tensor
            that changes between replays.
        differentiable: not supported; must be False.
        fused: True uses this package's kernels: numba on a CPU (float32, float64), triton on a CUDA device.
            If `fused` and `foreach` are both None, the fastest installed path is used. If one is False and
            the other is not True, the step runs tensor by tensor. So do tensors that a kernel does not
            support (16 bits on a CPU, gaps between elements, scattered rows), without an error. With True,
            GradScaler also leaves its work to the kernel.
        moments_dtype: dtype of both moments, also when they are loaded; None means the parameter's own. Use
            float32 for 16-bit parameters.

    Raises:
        ValueError: a hyperparameter is out of range, in the call or in a group.
        RuntimeError: flags conflict or need a package that is not installed; at a step, a gradient is
            sparse, or a parameter is a flattened part of others.
        TypeError: at a step, a gradient is complex.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([[0.6, 0.8]]))
        >>> optimizer = AdamP([weight], lr=0.1, weight_decay=1e-2)
        >>> loss = torch.nn.functional.cosine_similarity(weight, torch.tensor([[1.0, 0.0]])).neg().sum()
        >>> loss.backward()
        >>> optimizer.step()
        >>> bool(weight[0, 0] > 0.6)
        True

    Differences from the reference, PyPI `adamp` 0.3.0: this version never waits for the device (it computes
    both views and `torch.where` chooses); accepts channels_last, other strides, any mix of them, and empty
    tensors; computes the cosines and the projection of bfloat16 and float16 tensors in float32; has
    `maximize`; calls the closure with gradients enabled; and rejects bad values. In float64 the numbers agree
    to rounding. The reference clamps its norms as the installed torch does; here each norm is always clamped
    separately, as in torch 2.13. If a dot product <g, w> overflows, the tensor is not projected.

    Checkpoints of the reference load here and the other way round, and between all paths. `step` is an int
    per parameter, or a float32 [] tensor on the device if `capturable` or the triton kernels need one;
    loading converts it. Hyperparameters missing from a loaded group get this optimizer's defaults. The state
    of another optimizer is refused.

    A step that raises an error changes nothing. Steps work in any thread, in exit handlers, and in processes
    forked after torch has started its threads, where operations of torch itself may hang: see
    `torch.set_num_threads`.

    Of a parameter that is split over processes (a DTensor, as after torch's `fully_shard`), each process
    steps its own part, and the sums over rows and over the layer cross the processes: the result is the whole
    tensor's, to rounding. All processes must step the same parameters in the same order. A flattened part, as
    FullyShardedDataParallel keeps it, is refused unless delta is 0. DistributedDataParallel and
    ZeroRedundancyOptimizer keep parameters whole. A library that passes flattened parts as ordinary tensors
    goes unnoticed, and their rows are not projected.

    References:
        Heo et al., AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights, ICLR
        2021, arXiv:2006.08217, Algorithm 2. The paper writes the decay as (1 - wd) w: its wd is lr
        weight_decay here.
    """

    _moments = ("exp_avg", "exp_avg_sq")
    _counts_steps = True
    _entries: ClassVar = {name: (name,) for name in ("step", "exp_avg", "exp_avg_sq")}
    _step_function = "adamp_step"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        moments_dtype: torch.dtype | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
            "wd_ratio": wd_ratio,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "moments_dtype": moments_dtype,
        }
        self._check_group(defaults)
        super().__init__(params, defaults)

    def _settings(self, group: Mapping[str, Any]) -> AdamPSettings:
        return AdamPSettings(group["lr"], *group["betas"], *[group[name] for name in _SHARED])

    def _can_compute(self, settings: Any) -> bool:
        return are_numbers(settings) and 0 <= settings.beta1 < 1 and 0 <= settings.beta2 < 1

    def _check_group(self, group: Mapping[str, Any]) -> None:
        check_flags("AdamP", group)
        check_lr("AdamP", group)
        try:
            beta1, beta2 = group["betas"]
        except (TypeError, ValueError):
            raise ValueError(
                f"AdamP expects betas to be two numbers in [0, 1), got {group['betas']!r}"
            ) from None
        check_number("AdamP", "beta1", beta1, below=1)
        check_number("AdamP", "beta2", beta2, below=1)
        check_projection("AdamP", group)
        check_moments_dtype("AdamP", group)
