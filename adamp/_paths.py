"""The choice of the code path for a step.

`foreach` and `fused` mean the same as in torch's optimizers; None chooses the fastest path available.

plain     any device and layout, tensor by tensor; traced by torch.compile
foreach   torch's foreach operations
numba     float32 and float64 on a CPU, if numba is installed
triton    float64, float32, bfloat16 and float16 on a CUDA device, if triton is installed
"""

__all__ = ["Path", "check_flags", "choose"]

import functools
import importlib
from collections.abc import Mapping
from typing import Any, Literal

import torch

# torch.optim uses the same list.
from torch.utils._foreach_utils import _get_foreach_kernels_supported_devices  # pyright: ignore[reportPrivateUsage]

Path = Literal["plain", "foreach", "numba", "triton"]

_KERNELS: dict[str, tuple[Path, str]] = {"cpu": ("numba", "numba"), "cuda": ("triton", "triton")}


def check_flags(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raise an error for flags that contradict each other or are not supported.

    Raises:
        RuntimeError: `differentiable`, or both `fused` and `foreach`, as in torch.
        ValueError: `foreach` or `fused` is neither a bool nor None.
    """
    for name in ("foreach", "fused"):
        if not (group[name] is None or isinstance(group[name], bool)):
            raise ValueError(f"{optimizer} expects {name} to be True, False or None, got {group[name]!r}")
    if group["differentiable"]:
        raise RuntimeError(
            f"{optimizer} expects differentiable=False, got True: its choice to project has no gradient; "
            "unroll torch.optim.Adam or SGD instead"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError(
            f"{optimizer} expects at most one of `fused` and `foreach` to be True, got both; leave one "
            "out, or both for the fastest that fits"
        )


def choose(optimizer: str, group: Mapping[str, Any], device: torch.device) -> Path:
    """Return the path for a group's tensors on one device.

    If one flag is set, an unset one counts as False, as in torch. While torch.compile traces, the path is
    plain, because the compiler does the fusing.

    Raises:
        RuntimeError: `fused` is True and the device has no kernel, or the kernel's package is not
            installed.
    """
    foreach, fused = group["foreach"], group["fused"]
    if torch.compiler.is_compiling():
        return "plain"
    if foreach is None and fused is None:
        path, module = _KERNELS.get(device.type, ("plain", ""))
        # On a CPU `capturable` is meant for torch.compile, so an eager step takes the path that will be
        # compiled.
        if module and _failure(module) is None and not (device.type == "cpu" and group.get("capturable")):
            return path
        return "foreach" if device.type != "cpu" and device.type in _foreach_devices() else "plain"
    if foreach:
        return "foreach"
    if not fused:
        return "plain"
    if device.type not in _KERNELS:
        raise RuntimeError(
            f"{optimizer} expects parameters on {' or '.join(_KERNELS)} with "
            f"fused=True, got {device}; leave fused out"
        )
    path, module = _KERNELS[device.type]
    failure = _failure(module)
    if failure is not None:
        raise RuntimeError(
            f"{optimizer} expects {module} to be installed with fused=True on {device.type}, got "
            f"{failure!r}; pip install {module}, or leave fused out for the fastest path without it"
        )
    return path


@functools.cache
def _failure(module: str) -> str | None:
    """Return why a module cannot be imported, or None if it can.

    Only an import shows it: an installed numba fails to load with a numpy that is too new for it.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error)
    return None


@functools.cache
def _foreach_devices() -> tuple[str, ...]:
    return tuple(_get_foreach_kernels_supported_devices())
