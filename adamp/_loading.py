"""The check of a checkpoint before it is loaded: whether it is one of this optimizer."""

__all__ = ["check_entry", "check_state_dict"]

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor


def check_state_dict(
    optimizer: str,
    state_dict: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    names: Mapping[str, Sequence[str]],
) -> None:
    """Raise ValueError unless a state dictionary can be stepped with after loading it.

    If its groups do not match the optimizer's, torch's own error follows.

    Args:
        optimizer: name of the class.
        state_dict: what is to be loaded.
        groups: the optimizer's own parameter groups.
        names: the names of each entry of a parameter's state, here and in other optimizers of the same kind.
    """
    if not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError(
            f"{optimizer} expects the state_dict() of an optimizer, with `state` and `param_groups`, got one "
            f"with {_listed(state_dict)}"
        )
    saved: Sequence[Mapping[str, Any]] = state_dict["param_groups"]
    for group, own in zip(saved, groups, strict=False):
        # AdamP, SGDP and their reference have `delta`; NAdam, for example, has AdamP's entries and another.
        is_ours = "delta" in group
        for key, weight in zip(group["params"], own["params"], strict=False):
            entry = state_dict["state"].get(key)
            if entry:
                check_entry(optimizer, entry, weight, names, may_have_others=is_ours)


def check_entry(
    optimizer: str,
    entry: Mapping[str, Any],
    weight: Tensor,
    names: Mapping[str, Sequence[str]],
    *,
    may_have_others: bool = True,
) -> None:
    """Raise ValueError unless the state of one parameter has the entries that a step needs.

    Args:
        optimizer: name of the class.
        entry: the state.
        weight: the parameter.
        names: see `check_state_dict`.
        may_have_others: whether other entries are the user's own rather than those of another optimizer.
    """
    known = {name for alternatives in names.values() for name in alternatives}
    missing = [own for own, alternatives in names.items() if not entry.keys() & {*alternatives}]
    if missing or not (may_have_others or entry.keys() <= known):
        raise ValueError(
            f"{optimizer} expects a parameter's state to have {_listed(names)}, got {_listed(entry)}, the "
            "state of another optimizer; load it into one of the same class, or start without it"
        )
    for name in known & entry.keys():
        moment = entry[name]
        if name != "step" and isinstance(moment, Tensor) and moment.shape != weight.shape:
            raise ValueError(
                f"{optimizer} expects {name} of a parameter of shape {tuple(weight.shape)} to have the same "
                f"shape, got {tuple(moment.shape)}, the state of another model"
            )


def _listed(names: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, cast("Mapping[object, object]", names))) or "nothing"
