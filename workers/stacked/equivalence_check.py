"""The canary: two members, two steps, stacked and alone.

Only where both say the same is a workload trained as a stack.
"""

__all__ = ["refusal"]

import math
from dataclasses import astuple, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from studies.space import Parameters
from workers.memory import is_out_of_memory
from workers.optimizers import OptimizerEntry
from workers.optimizers.registry import ParameterGroup, check
from workers.pack_protocol import Pack
from workers.results import EpochResult
from workers.solo import Solo
from workers.stacked.plan import NotStackable, StackPlan
from workers.stacked.rows import Rows
from workers.stacked.stack import Stack
from workers.workloads import Data, Workload
from workers.workloads.float64 import in_float64

_STEPS = 2
_TOLERANCE = 1e-6
"""Of two runs in float64, where rounding is ten orders of magnitude smaller; a wrong number is far larger."""
_NARROW_TOLERANCE = 1e-2
"""Of two runs in the model's own dtype.

Adam's kind blows rounding noise in a gradient of zero up to whole steps.
"""
_SMALL = 1e-6
"""Of numbers below it the difference counts, not its share: a cosine of 1e-17 is as good as one of 1e-16."""
_LIVELY: Parameters = {"weight_decay": 0.01, "momentum": 0.9}

_Seen = tuple[EpochResult, dict[str, Any]]


def refusal(
    pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
) -> str | None:
    """Return why members of this pack cannot be trained as a stack, or None where they can.

    It is a sentence for people.

    The members of the trial run share a seed where those of the pack do. It runs in float64, where rounding
    hides nothing, or in the model's own precision where the model insists on it.
    """
    if entry.stacked is None:
        return f"Members are trained one by one: {entry.card.title} has no batched form."
    pack = _pair(pack, entry)
    small = _small(data, pack.batch_size)
    # Its own precision is looked at here, which the trial run below does not see.
    plan = _attempted(lambda: StackPlan(pack, workload=workload, entry=entry, data=small, device=device))
    if isinstance(plan, NotStackable):
        return f"Members are trained one by one: {plan}."
    alone: list[_Seen] | Exception = []
    for tolerance, (workload_, data_) in (
        (_TOLERANCE, in_float64(workload, small)),
        (_NARROW_TOLERANCE, (workload, small)),
    ):
        # Called at once.
        alone = _attempted(lambda: _alone(pack, workload_, entry, data_, device))  # noqa: B023
        if isinstance(alone, Exception):
            continue
        # Called at once.
        together = _attempted(lambda: _together(pack, workload_, entry, data_, device))  # noqa: B023
        why = (
            _explained(together)
            if isinstance(together, Exception)
            else _difference(alone, together, tolerance)
        )
        return f"Members are trained one by one: {why}." if why is not None else None
    return f"Members are trained one by one: two steps of a member alone ended in {type(alone).__name__}."


def _pair(pack: Pack, entry: OptimizerEntry) -> Pack:
    """Return a pack of two members at about the optimizer's defaults, with the settings of this one."""
    parameters = {
        **entry.card.defaults,
        **{name: value for name, value in _LIVELY.items() if name in entry.card.defaults},
    }
    try:
        check(entry.card, parameters)
    except ValueError:
        parameters = entry.card.defaults
    first, *others = pack.members
    seeds = (first.seed, next((other.seed for other in others if other.seed != first.seed), first.seed))
    members = tuple(
        first.model_copy(
            update={
                "trial_id": str(index),
                "seed": seed,
                "checkpoint": None,
                "parameters": {**parameters, "lr": lr},
            }
        )
        for index, (seed, lr) in enumerate(
            zip(seeds, (parameters["lr"], float(parameters["lr"]) / 2), strict=True)
        )
    )
    return pack.model_copy(update={"members": members, "from_epoch": 0, "to_epoch": 1, "epochs": 1})


def _small(data: Data, batch_size: int) -> Data:
    return Data(
        train=data.train.head(_STEPS * batch_size),
        validation=data.validation.head(batch_size),
        test=data.test.head(batch_size),
    )


def _alone(
    pack: Pack, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
) -> list[_Seen]:

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        optimizer = entry.build(groups, parameters)
        for group in optimizer.param_groups:
            if "fused" in group:
                # To compile the fused step in float64, for two steps, would take seconds.
                group["fused"] = False
        return optimizer

    plain = replace(entry, build=build)
    solos = [
        Solo(member, pack=pack, workload=workload, entry=plain, data=data, device=device)
        for member in pack.members
    ]
    return [(solo.train_epoch(1), solo.checkpoint()["model"]) for solo in solos]


def _together(
    pack: Pack, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
) -> list[_Seen]:
    plan = StackPlan(pack, workload=workload, entry=entry, data=data, device=device)
    stack = Stack(pack.members, plan=plan, rows=Rows.begun(pack.members, plan), done=0)
    return [(result, stack.checkpoint(row)["model"]) for row, result in enumerate(stack.train_epoch(1))]


def _attempted(trial: Any) -> Any:
    try:
        return trial()
    except Exception as error:  # noqa: BLE001 # whatever a workload or vmap raises means: not this way
        return error


def _difference(alone: list[_Seen], together: list[_Seen], tolerance: float) -> str | None:
    worst = max(_distance(one, other) for one, other in zip(alone, together, strict=True))
    if worst <= tolerance:
        return None
    return (
        f"after {_STEPS} steps a stack of two had other numbers than each alone (relative difference "
        f"{worst:.2g}); the model or the loss keeps something outside its parameters and buffers, leaves "
        "parameters unused, or mixes examples with Python"
    )


def _distance(one: _Seen, other: _Seen) -> float:
    """Return the largest relative difference between two members' measurements and tensors.

    Infinite where only one is finite.
    """
    (result, model), (result_, model_) = one, other
    measured = zip(_measured(result), _measured(result_), strict=True)
    pairs = [(torch.tensor(mine), torch.tensor(theirs)) for mine, theirs in measured] + [
        (tensor, model_[name]) for name, tensor in model.items()
    ]
    return max(_relative(mine.double(), theirs.double()) for mine, theirs in pairs)


def _measured(result: EpochResult) -> list[float]:
    return [value for value in astuple(replace(result, elapsed_s=0.0)) if isinstance(value, float)]


def _relative(mine: Tensor, theirs: Tensor) -> float:
    if mine.numel() == 0 or torch.equal(mine.nan_to_num(), theirs.nan_to_num()):
        return 0.0
    distance = ((mine - theirs).abs().max() / mine.abs().max().clamp_min(_SMALL)).item()
    return distance if math.isfinite(distance) else math.inf


def _explained(error: Exception) -> str:
    """Return what about a workload torch.func cannot take, in words where its message is known."""
    text = str(error)
    if isinstance(error, NotStackable):
        return text
    if is_out_of_memory(error):
        return "memory ran out with a stack of two"
    if "randomness" in text:
        return (
            "the model draws random numbers (dropout), and members with different "
            "seeds cannot draw theirs in one stack"
        )
    if ".item()" in text or "data-dependent" in text or "dynamic shape" in text:
        return (
            "the model or the loss looks at a tensor's value (a Python if, .item(), a mask of "
            "booleans), which differs between members"
        )
    if "in-place" in text or "inplace" in text:
        return "the model or the loss writes in place into a tensor that all members share"
    return (
        f"torch.func.vmap cannot take the model or the loss ({type(error).__name__}: "
        f"{' '.join(text.split())[:200]})"
    )
