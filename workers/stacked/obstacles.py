"""What keeps a model or an optimizer from being stacked: the user's code that a stack would not run as alone.

A stack runs a copy of one member's model on the tensors of all members, and a batched optimizer instead of
the members' own. A hook or an overridden method would run once for all of them, on tensors that are not the
members', or not at all.
"""

__all__ = ["model_obstacle", "optimizer_obstacle"]

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import MethodType
from typing import cast

from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

_MODULE_HOOKS = {
    "_forward_pre_hooks": "forward pre-hook",
    "_forward_hooks": "forward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_backward_hooks": "backward hook",
    "_state_dict_pre_hooks": "state_dict pre-hook",
    "_state_dict_hooks": "state_dict hook",
    "_load_state_dict_pre_hooks": "load_state_dict pre-hook",
    "_load_state_dict_post_hooks": "load_state_dict hook",
}
_GLOBAL_MODULE_HOOKS = {
    "_global_forward_pre_hooks": "forward pre-hook",
    "_global_forward_hooks": "forward hook",
    "_global_backward_pre_hooks": "backward pre-hook",
    "_global_backward_hooks": "backward hook",
}
_TENSOR_HOOKS = {"_backward_hooks": "gradient hook", "_post_accumulate_grad_hooks": "gradient hook"}
_OPTIMIZER_HOOKS = {
    "_optimizer_step_pre_hooks": "step pre-hook",
    "_optimizer_step_post_hooks": "step hook",
    "_optimizer_state_dict_pre_hooks": "state_dict pre-hook",
    "_optimizer_state_dict_post_hooks": "state_dict hook",
    "_optimizer_load_state_dict_pre_hooks": "load_state_dict pre-hook",
    "_optimizer_load_state_dict_post_hooks": "load_state_dict hook",
}
_GLOBAL_OPTIMIZER_HOOKS = {
    "_global_optimizer_pre_hooks": "step pre-hook",
    "_global_optimizer_post_hooks": "step hook",
}
_MODULE_METHODS = (
    "train",
    "eval",
    "__call__",
    "parameters",
    "named_parameters",
    "named_buffers",
    "state_dict",
    "load_state_dict",
    "_save_to_state_dict",
    "_load_from_state_dict",
    "get_extra_state",
    "set_extra_state",
)
_OPTIMIZER_METHODS = ("train", "eval")
_PATCHED = ("step", "zero_grad", "state_dict", "load_state_dict")


def model_obstacle(model: nn.Module) -> str | None:
    """Return why a stack would not run this model as it runs alone, as a clause; None if nothing is found.

    It looks for hooks of modules and parameters, overridden methods, and subclasses of tensors. Hooks of
    torch itself are left to the equivalence check.
    """
    for kind, hook in _hooks(_globals_of(nn.Module), _GLOBAL_MODULE_HOOKS):
        return f"torch has a global module {kind} ({hook}), which a stack cannot call for each trial"
    # torch leaves it partly untyped.
    for name, module in cast("Iterable[tuple[str, nn.Module]]", model.named_modules()):
        place = f"module {name!r}" if name else "the model"
        for kind, hook in _hooks(vars(module), _MODULE_HOOKS):
            return f"{place} has a {kind} ({hook}), which a stack cannot call for each trial"
        method = next((method for method in _MODULE_METHODS if _is_overridden(module, method)), None)
        if method is not None:
            return f"{type(module).__name__} overrides {method}(), which a stack cannot call for each trial"
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        attributes = {attribute: getattr(tensor, attribute, None) for attribute in _TENSOR_HOOKS}
        for kind, hook in _hooks(attributes, _TENSOR_HOOKS):
            return f"parameter {name!r} has a {kind} ({hook}), which a stack cannot call for each trial"
        if type(tensor) not in (Parameter, Tensor):
            return f"{name!r} is a {type(tensor).__name__}, and a stack holds plain tensors"
    return None


def optimizer_obstacle(optimizer: Optimizer, *, own_class: str | None, lr: float) -> str | None:
    """Return why a batched optimizer would not step like this one, as a clause; None if nothing is found.

    Args:
        optimizer: a member's own optimizer.
        own_class: qualified name of the class that the batched optimizer stands for; None for any.
        lr: the learning rate that the study sets.
    """
    for kind, hook in _hooks(_globals_of(Optimizer), _GLOBAL_OPTIMIZER_HOOKS):
        return f"torch has a global optimizer {kind} ({hook}), which a stack cannot call for each trial"
    for kind, hook in _hooks(vars(optimizer), _OPTIMIZER_HOOKS):
        return f"the optimizer has a {kind} ({hook}), which a stack cannot call for each trial"
    for method in _OPTIMIZER_METHODS:
        if callable(getattr(optimizer, method, None)):
            return f"{type(optimizer).__name__} has {method}(), which a stack cannot call for each trial"
    for method in _PATCHED:
        if method in vars(optimizer):
            return f"{method}() of the optimizer has been replaced, which a stack cannot call for each trial"
    kind = type(optimizer)
    if own_class not in (None, f"{kind.__module__}.{kind.__qualname__}"):
        return f"the batched form steps like {own_class}, and the optimizer is a {kind.__qualname__}"
    if any(float(group["lr"]) != lr for group in optimizer.param_groups):
        return "some parameter groups have a learning rate of their own, and a stack has one for each trial"
    return None


def _hooks(holder: Mapping[str, object], kinds: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of each hook that is not torch's own."""
    for attribute, kind in kinds.items():
        for hook in cast("Mapping[int, object]", holder.get(attribute) or {}).values():
            function = _unwrapped(hook)
            named = function if hasattr(function, "__qualname__") else type(function)
            if str(getattr(named, "__module__", "")).partition(".")[0] != "torch":
                yield kind, getattr(named, "__qualname__", "")


def _globals_of(kind: type) -> dict[str, object]:
    """Return the variables of the module that defines a class, where torch keeps its global hooks."""
    return vars(sys.modules[kind.__module__])


def _unwrapped(hook: object) -> object:
    """Return the function in a bound method, a partial, or torch's wrapper of a load_state_dict hook."""
    while True:
        if isinstance(hook, functools.partial):
            hook = cast("functools.partial[object]", hook).func
        elif isinstance(hook, MethodType):
            hook = hook.__func__
        elif type(hook).__name__ == "_WrappedHook":
            hook = cast("object", vars(hook)["hook"])
        else:
            return hook


def _is_overridden(module: nn.Module, method: str) -> bool:
    if method in vars(module):
        return True
    owner = next((kind for kind in type(module).__mro__ if method in vars(kind)), nn.Module)
    return owner.__module__.partition(".")[0] != "torch"
