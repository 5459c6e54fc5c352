"""SGDP: SGD with momentum, whose step on a scale-invariant weight has no radial part."""

__all__ = ["SGDP"]

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT, required

from adamp._checks import are_numbers, check_lr, check_moments_dtype, check_number, check_projection
from adamp._paths import check_flags
from adamp._settings import SGDPSettings
from adamp._stepping import ProjectedOptimizer

_REQUIRED: Any = required
_NAMES = SGDPSettings._fields


class SGDP(ProjectedOptimizer):
    """SGD that takes no step along a weight if the loss does not depend on the weight's length.

    One step on the weight w with gradient g:

        b = momentum b + (1 - dampening) g                       buffer, state `momentum`, 0 at first
        u = b                                                    or g + momentum b with `nesterov`
        u, f = P(u), wd_ratio  if |cos(g, w)| < delta / sqrt(n)  else u, 1
        w = (1 - lr weight_decay f / (1 - momentum)) w - lr u

    P removes the component along w; n is the number of elements compared. The test and P apply to each output
    channel (every row of w must pass) or, if a row fails, to the whole tensor. Tensors of fewer than two
    dimensions are never projected.

    Args:
        params: tensors [*], named tensors or dicts of one group each, as for any torch optimizer.
        lr: step per gradient, in units of the weight per unit of g; a number or a [] tensor. Required, here
            or in every group; it may change between steps.
        momentum: share of the buffer kept from one step to the next, in [0, 1). At the default, 0, there is
            no momentum.
        dampening: share of each gradient, including the first, kept out of the buffer; in [0, 1].
        weight_decay: share of the weight lost per step and unit of lr / (1 - momentum), decoupled.
        nesterov: step along the buffer with this gradient applied a second time; with momentum 0 it only
            drops the dampening.
        eps: added to norm(w) in P (units of w); floor of both norms in the cosine.
        delta: threshold of the cosine test, no unit. A larger value projects more; at 0 this is SGD.
        wd_ratio: factor on the weight decay of projected tensors; no effect if weight_decay is 0.
        maximize: ascend; the same as descending on -g.
        foreach: True uses torch's operations on lists. See `fused`.
        differentiable: not supported; must be False.
        fused: as in `AdamP`: True uses this package's kernels; None for both flags uses the fastest installed
            path.
        moments_dtype: dtype of the buffer, also when it is loaded; None means the parameter's own. Use
            float32 for 16-bit parameters.

    Raises:
        ValueError: a hyperparameter is out of range, in the call or in a group; or lr weight_decay / (1 -
            momentum), times wd_ratio if that is above 1, reaches 1, because the decay would then flip the
            weight.
        RuntimeError: flags conflict or need a package that is not installed; at a step, a gradient is
            sparse, or a parameter is a flattened part of others.
        TypeError: at a step, a gradient is complex.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([[0.6, 0.8]]))
        >>> optimizer = SGDP([weight], lr=0.1, momentum=0.9, nesterov=True)
        >>> loss = torch.nn.functional.cosine_similarity(weight, torch.tensor([[1.0, 0.0]])).neg().sum()
        >>> loss.backward()
        >>> optimizer.step()
        >>> bool(weight[0, 0] > 0.6)
        True

    The rule differs from the reference, PyPI `adamp` 0.3.0, in one point. Without `nesterov` the reference
    uses the buffer itself as the update and so projects the buffer in place; the paper's Algorithm 1 projects
    only the step. Here the buffer is never projected, so that `nesterov` changes one thing and not two. With
    momentum above 0 and `nesterov=False` the two diverge one step after the first projection that removes
    something. Otherwise their numbers agree to rounding in float64.

    This version also never waits for the device (it computes both views and `torch.where` chooses); accepts
    channels_last, other strides, any mix of them, and empty tensors; computes the cosines and the projection
    of bfloat16 and float16 tensors in float32; has `maximize`; calls the closure with gradients enabled; and
    rejects bad values, including momentum 1, which divides by zero. The reference clamps its norms as the
    installed torch does; here each norm is always clamped separately, as in torch 2.13. If a dot product
    <g, w> overflows, the tensor is not projected.

    Differences from torch.optim.SGD at delta=0: the decay is decoupled, and the first gradient is dampened
    like the others.

    Checkpoints of the reference load here and the other way round. Hyperparameters missing from a loaded
    group get this optimizer's defaults. The state of another optimizer is refused.

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
        2021, arXiv:2006.08217, Algorithm 1.
    """

    _moments = ("momentum",)
    _counts_steps = False
    _entries: ClassVar = {"momentum": ("momentum", "momentum_buffer")}
    _step_function = "sgdp_step"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = _REQUIRED,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        moments_dtype: torch.dtype | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "eps": eps,
            "delta": delta,
            "wd_ratio": wd_ratio,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
            "moments_dtype": moments_dtype,
        }
        self._check_group(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded state.

        The state may come from the reference or from torch's SGD, which uses another name for the buffer.
        """
        super().__setstate__(state)
        for moments in self.state.values():
            buffer = moments.pop("momentum_buffer", None)
            if buffer is not None:
                moments["momentum"] = buffer

    def _settings(self, group: Mapping[str, Any]) -> SGDPSettings:
        return SGDPSettings(*[group[name] for name in _NAMES])

    def _can_compute(self, settings: Any) -> bool:
        return are_numbers(settings) and 0 <= settings.momentum < 1

    def _check_group(self, group: Mapping[str, Any]) -> None:
        check_flags("SGDP", group)
        check_moments_dtype("SGDP", group)
        check_number("SGDP", "momentum", group["momentum"], below=1)
        check_number("SGDP", "dampening", group["dampening"])
        if group["dampening"] > 1:
            raise ValueError(f"SGDP expects dampening to be a number in [0, 1], got {group['dampening']!r}")
        check_projection("SGDP", group)
        lr, momentum, weight_decay, wd_ratio = (
            group["lr"],
            group["momentum"],
            group["weight_decay"],
            group["wd_ratio"],
        )
        if lr is required:
            return
        check_lr("SGDP", group)
        if isinstance(lr, Tensor):
            if lr.device.type != "cpu":
                return
            lr = lr.item()
        decay = lr * weight_decay * max(1.0, wd_ratio) / (1 - momentum)
        if decay >= 1:
            raise ValueError(
                "SGDP expects lr * weight_decay / (1 - momentum), times wd_ratio if that is above 1, "
                f"to be below 1, because a step's decay would otherwise flip the weight; got {decay:g} from "
                f"lr={lr!r}, weight_decay={weight_decay!r}, momentum={momentum!r}, "
                f"wd_ratio={wd_ratio!r}; lower one of them"
            )
