"""The step of AdamP and SGDP on a CUDA device: a few Triton launches per group, never waiting for the device.

There are five kernels. The first and third are launched once for each tile shape that the rows need:

    sum       reads w, g          <w, g>, <w, w>, <g, g> of each row
    decide    reads the sums      finds channel, layer or none, counts the step, corrects the bias: one
              program per tensor
    update    reads w, g, m, v    writes m, v, and w except for tensors projected as a layer and projected
              rows that were cut
    settle    reads <w, u>        finds the coefficients for tensors that `update` left; skips the others
    apply     reads w, m, v       writes w of the tensors that `update` left; skips the others

In float32 that is 36 bytes of traffic per element for AdamP with the test (8 for the sums, 28 as in a fused
AdamW), 28 without it (delta=0, one dimension), and 48 for a tensor that `update` left to `apply`. There are
no atomics and each sum has a fixed order, so equal inputs give equal bits.

The kernels take pointers from tables on the device. Tables of weights and states are built once; the
gradients' pointers and the hyperparameters are sent together, in one asynchronous copy, when one of them has
changed.
"""

__all__ = ["TritonPlans", "adamp_step", "have_equal_rows", "sgdp_step"]

import importlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamp._settings import AdamPSettings, SGDPSettings
from adamp._triton_plan import CHUNK, TritonPlan

_MAX_PLANS = 32
_BLOCK = 2048  # elements in a tile of `apply`
_ROWS = 2048  # rows that `decide` and `settle` read together


class Hyperparameters(NamedTuple):
    """The hyperparameters that the kernels read, in their order on the device, float64.

    The first moment becomes keep m + take g, the Nesterov direction is keep m + look g, the second moment
    keep_second v + take_second g^2.
    """

    lr: float
    keep: float
    take: float
    look: float
    keep_second: float
    take_second: float
    log_beta1: float
    log_beta2: float
    eps: float
    decay: float
    delta: float
    wd_ratio: float


class TritonPlans:
    """The plans that the Triton path keeps for one optimizer on its device between steps.

    Copies and pickles of it are empty. Each list of tensors gets a plan. Plans used by a CUDA graph are never
    dropped, because the graph holds their addresses; if there are too many others, the oldest is dropped.
    """

    def __init__(self) -> None:
        """Start without plans."""
        self._plans: dict[tuple[Any, ...], TritonPlan] = {}

    def __reduce__(self) -> tuple[type["TritonPlans"], tuple[()]]:
        """Make copies start empty, because their tensors have other addresses."""
        return TritonPlans, ()

    def plan(
        self,
        weights: Sequence[Tensor],
        grads: Sequence[Tensor],
        firsts: Sequence[Tensor],
        seconds: Sequence[Tensor],
        steps: Sequence[Tensor],
    ) -> TritonPlan:
        """Return the plan of these tensors, which all have the same dtypes; build it if necessary.

        Raises:
            RuntimeError: a CUDA graph is being captured and these tensors have not been stepped before.
        """
        dtypes = (weights[0].dtype, grads[0].dtype, firsts[0].dtype)
        places = tuple(
            tensor.data_ptr() for tensors in (weights, firsts, seconds, steps) for tensor in tensors
        )
        key = (dtypes, weights[0].device, places, tuple(weight.shape for weight in weights))
        plan = self._plans.get(key)
        if plan is None:
            if weights[0].is_cuda and torch.cuda.is_current_stream_capturing():
                raise RuntimeError(
                    "a CUDA graph expects one step of the optimizer before its capture, got a "
                    "capture with parameters never stepped together; warm up with the same "
                    "parameters, as torch.cuda.graph asks"
                )
            idle = [other for other, old in self._plans.items() if not old.captured]
            if len(idle) >= _MAX_PLANS:
                del self._plans[idle[0]]
            vector = 16 // min(dtype.itemsize for dtype in dtypes)
            wide = torch.float64 if torch.float64 in dtypes else torch.float32
            plan = self._plans[key] = TritonPlan(weights, firsts, seconds, steps, vector=vector, wide=wide)
        return plan


def adamp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    settings: AdamPSettings,
    *,
    plans: TritonPlans,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """Take one step of AdamP on all tensors of a group, in place.

    The arithmetic is in float32, or float64 for float64 tensors.

    Args:
        weights: [n] tensors of any shapes on one device, float64, float32, bfloat16 or float16; see
            `have_equal_rows` for their layout.
        grads: [n] gradients, laid out as the weights; may have another dtype. Not changed.
        exp_avgs: [n] first moments, laid out as the weights; in the weight's dtype or float32.
        exp_avg_sqs: [n] second moments, like the first.
        steps: [n] separate float32 [] tensors on the device: the steps taken so far; incremented.
        settings: the group's hyperparameters.
        plans: the optimizer's plans.
        grad_scale: [] or [1] float32 on the device, divisor of the gradients.
        found_inf: [] or [1] float32 on the device; unless it is 0, nothing changes, not even the steps.

    Raises:
        RuntimeError: a CUDA graph is being captured and these tensors have not been stepped before.
    """
    lr, beta1, beta2, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    hyperparameters = Hyperparameters(
        lr=0.0 if isinstance(lr, Tensor) else lr,
        keep=beta1,
        take=1 - beta1,
        look=1 - beta1,
        keep_second=beta2,
        take_second=1 - beta2,
        log_beta1=math.log(beta1) if beta1 else -math.inf,
        log_beta2=math.log(beta2) if beta2 else -math.inf,
        eps=eps,
        decay=weight_decay,
        delta=delta,
        wd_ratio=wd_ratio,
    )
    lists = (weights, grads, exp_avgs, exp_avg_sqs, steps)
    _step(
        plans,
        lists,
        hyperparameters,
        lr=lr,
        nesterov=nesterov,
        maximize=maximize,
        grad_scale=grad_scale,
        found_inf=found_inf,
    )


def sgdp_step(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    settings: SGDPSettings,
    *,
    plans: TritonPlans,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """Take one step of SGDP on all tensors of a group, in place; see `adamp_step` for arguments and errors.

    Args:
        weights: [n] tensors.
        grads: [n] gradients.
        buffers: [n] momentum buffers.
        settings: the group's hyperparameters.
        plans: the optimizer's plans.
        grad_scale: as in `adamp_step`.
        found_inf: as in `adamp_step`.
    """
    lr, momentum, dampening, eps, weight_decay, delta, wd_ratio, nesterov, maximize = settings
    hyperparameters = Hyperparameters(
        lr=0.0 if isinstance(lr, Tensor) else lr,
        keep=momentum,
        take=1 - dampening,
        look=1.0,
        keep_second=0.0,
        take_second=0.0,
        log_beta1=0.0,
        log_beta2=0.0,
        eps=eps,
        decay=weight_decay / (1 - momentum),
        delta=delta,
        wd_ratio=wd_ratio,
    )
    lists = (weights, grads, buffers, buffers, ())
    _step(
        plans,
        lists,
        hyperparameters,
        lr=lr,
        nesterov=nesterov,
        maximize=maximize,
        grad_scale=grad_scale,
        found_inf=found_inf,
    )


def have_equal_rows(weight: Tensor, *others: Tensor) -> bool:
    """Return whether the tensors fill their memory without gaps, row after row, all in the same layout.

    Contiguous and channels_last tensors do. The kernels do not check this; with another layout they would
    treat the wrong elements as a row.
    """
    if weight.is_contiguous():
        return all(other.is_contiguous() and other.shape == weight.shape for other in others)
    strides, expected = _strides(weight), 1
    for stride, size in sorted(strides):
        if stride != expected:
            return False
        expected *= size
    if weight.dim() > 1 and weight.size(0) > 1 and weight.stride(0) * weight.size(0) != weight.numel():
        return False
    return all(other.shape == weight.shape and _strides(other) == strides for other in others)


def _strides(tensor: Tensor) -> list[tuple[int, int]]:
    """Return (stride, size) of each dimension larger than 1; the stride of the others has no meaning."""
    return [(stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


_Lists = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]


def _step(plans: TritonPlans, lists: _Lists, hyperparameters: Hyperparameters, **options: Any) -> None:
    """Step the tensors of each combination of dtypes separately, since a kernel takes only one."""
    weights, grads, firsts, _, _ = lists
    if not weights:
        return
    dtypes = [
        (weight.dtype, grad.dtype, first.dtype)
        for weight, grad, first in zip(weights, grads, firsts, strict=True)
    ]
    with torch.cuda.device_of(weights[0]):
        for kind in dict.fromkeys(dtypes):
            chosen = [index for index, other in enumerate(dtypes) if other == kind]
            same = (
                lists
                if len(chosen) == len(weights)
                else tuple([some[index] for index in chosen] if some else [] for some in lists)
            )
            _launch(plans.plan(*same), same[1], kind, hyperparameters, is_adam=bool(lists[4]), **options)
    # Autograd does not see what a kernel writes: without this, a graph from before the step could be
    # differentiated with the weights after it.
    torch.autograd.graph.increment_version(weights)


def _launch(
    plan: TritonPlan,
    grads: Sequence[Tensor],
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype],
    hyperparameters: Hyperparameters,
    *,
    is_adam: bool,
    lr: float | Tensor,
    nesterov: bool,
    maximize: bool,
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    # Import Triton at the first step that needs it, so that the package also imports without Triton.
    kernels: Any = importlib.import_module("adamp._triton_kernels")
    tl: Any = importlib.import_module("triton.language")
    names = {
        torch.float64: tl.float64,
        torch.float32: tl.float32,
        torch.bfloat16: tl.bfloat16,
        torch.float16: tl.float16,
    }
    W, G, M = (names[dtype] for dtype in dtypes)
    ACC = names[plan.sums.dtype]
    addresses = tuple(grad.data_ptr() for grad in grads)
    hyper, places = plan.send(hyperparameters, addresses)
    may_widen = not any(address % 16 for address in addresses)
    rate = lr if isinstance(lr, Tensor) else None
    projects = hyperparameters.delta > 0 and plan.slots > 0
    sums = (plan.sums, plan.slots)
    amp = (grad_scale, found_inf)
    direction = {"ADAM": is_adam, "NESTEROV": nesterov, "MAXIMIZE": maximize}
    if projects:
        for shape in plan.launches:
            if shape.projected:
                kernels.sum_rows[(shape.projected,)](
                    plan.table, places, plan.items, shape.first, *sums, *amp,
                    W=W, G=G, ACC=ACC, ROWS=shape.rows, COLUMNS=shape.columns,
                    VECTOR=shape.vector if may_widen else 1,
                    num_warps=shape.warps, enable_fp_fusion=True,
                )  # fmt: skip
    kernels.decide[(plan.tensors,)](
        plan.table, hyper, rate, found_inf, *sums, plan.views, plan.scalars,
        ADAM=is_adam, PROJECTS=projects, ACC=ACC, BLOCK=_ROWS, num_warps=16, enable_fp_fusion=True,
    )  # fmt: skip
    for shape in reversed(plan.launches):
        kernels.update[(shape.items,)](
            plan.table, places, hyper, plan.items, shape.first, *sums, plan.views, plan.scalars, *amp,
            W=W, G=G, M=M, ACC=ACC, PROJECTS=projects, ROWS=shape.rows, COLUMNS=shape.columns,
            VECTOR=shape.vector if may_widen else 1, **direction,
            num_warps=shape.warps, enable_fp_fusion=True,
        )  # fmt: skip
    if projects:
        kernels.settle[(plan.tensors,)](
            plan.table,
            hyper,
            found_inf,
            *sums,
            plan.views,
            plan.scalars,
            ACC=ACC,
            BLOCK=_ROWS,
            num_warps=16,
            enable_fp_fusion=True,
        )
        kernels.apply[(len(plan.chunks),)](
            plan.table, places, hyper, plan.chunks, plan.sums, plan.views, plan.scalars, *amp,
            W=W, G=G, M=M, ACC=ACC, CHUNK=CHUNK, BLOCK=_BLOCK, **direction,
            num_warps=8, enable_fp_fusion=True,
        )  # fmt: skip
