"""The checks of AdamP and SGDP: ranges of hyperparameters when a group is added, and kinds of gradients."""

__all__ = [
    "are_numbers",
    "check_gradient",
    "check_lr",
    "check_moments_dtype",
    "check_number",
    "check_projection",
    "check_tensors",
]

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
_dtype = attrgetter("dtype")
_NUMBERS = {float, int, bool, Tensor}


def check_number(optimizer: str, name: str, value: object, *, below: float = float("inf")) -> None:
    """Raise ValueError unless `value` is a Python number in [0, below).

    NaN and infinity are refused. A tensor is refused too: reading it would make every step wait for the
    device.
    """
    bounds = "of at least 0" if below == float("inf") else f"in [0, {below:g})"
    if not isinstance(value, Real):
        advice = "; pass its .item()" if isinstance(value, Tensor) else ""
        raise ValueError(f"{optimizer} expects {name} to be a Python number {bounds}, got {value!r}{advice}")
    if not 0.0 <= float(value) < below:
        raise ValueError(f"{optimizer} expects {name} to be a finite number {bounds}, got {value!r}")


def are_numbers(values: Iterable[object]) -> bool:
    """Return whether all values are numbers or tensors; quick for the usual types."""
    return {*map(type, values)} <= _NUMBERS or all(isinstance(value, Real | Tensor) for value in values)


def check_lr(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raise ValueError unless `lr` is a number of at least 0, or a [] tensor.

    A tensor is rejected if the group's path would have to wait for the device to read it. Its value is
    checked only if it is on the host.
    """
    lr = group["lr"]
    if not isinstance(lr, Tensor):
        check_number(optimizer, "lr", lr)
        return
    if lr.dim() > 0 or not lr.is_floating_point():
        raise ValueError(
            f"{optimizer} expects a tensor lr to have no dimension and a floating dtype, got "
            f"{lr!r}; pass lr.float().squeeze()"
        )
    if group["foreach"] and not group.get("capturable", True):
        raise ValueError(
            f"{optimizer} expects lr to be a Python number with foreach=True and capturable=False, got "
            f"{lr!r}; pass its .item() or capturable=True"
        )
    if lr.device.type == "cpu":
        check_number(optimizer, "lr", lr.item())


def check_moments_dtype(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raise ValueError unless `moments_dtype` is None or a floating dtype."""
    dtype = group["moments_dtype"]
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
        raise ValueError(
            f"{optimizer} expects moments_dtype to be None (the parameter's own) or a "
            f"floating torch.dtype, got {dtype!r}"
        )


def check_projection(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raise ValueError unless the hyperparameters that both optimizers have are finite and not negative."""
    for name in ("eps", "weight_decay", "delta", "wd_ratio"):
        check_number(optimizer, name, group[name])


def check_gradient(optimizer: str, grad: Tensor) -> None:
    """Raise RuntimeError for a sparse gradient, TypeError for a complex one.

    The projection is not defined for either: it uses a row's length and its angle to the weight, which are
    meant for real, dense rows.
    """
    if grad.layout != torch.strided:
        raise RuntimeError(
            f"{optimizer} expects dense gradients, got one of layout {grad.layout} and shape "
            f"{tuple(grad.shape)}; build the embedding with sparse=False, or give that "
            "parameter to torch.optim.SparseAdam"
        )
    if grad.is_complex():
        raise TypeError(
            f"{optimizer} expects real gradients, got {grad.dtype} of shape {tuple(grad.shape)}; "
            "keep the parameter real (torch.view_as_real) and view it as complex in the model"
        )


def check_tensors(optimizer: str, weight: Tensor, grad: Tensor, moments: Sequence[Tensor]) -> None:
    """Raise an error unless a step can compute with a parameter, its gradient and its moments.

    Raises:
        RuntimeError: a shape or a device differs from the parameter's.
        TypeError: the dtype of the parameter or of a moment cannot be stepped.
    """
    shape, device = weight.shape, weight.device
    for tensor in (grad, *moments):
        if tensor.shape != shape or tensor.device != device:
            raise RuntimeError(
                f"{optimizer} expects the gradient and the moments of a parameter of shape {tuple(shape)} on "
                f"{device} to have its shape and device, got shape {tuple(tensor.shape)} on "
                f"{tensor.device}; compute the gradient again after moving or resizing a parameter, and "
                "give the parameter to a new optimizer"
            )
    dtypes = {weight.dtype, *map(_dtype, moments)}
    if not dtypes <= _DTYPES:
        raise TypeError(
            f"{optimizer} expects parameters and moments of dtype float64, float32, bfloat16 or float16, got "
            f"{', '.join(map(str, dtypes - _DTYPES))} for a parameter of shape {tuple(shape)}"
        )
