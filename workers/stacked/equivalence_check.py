"""The equivalence check: train two members for two steps, stacked and alone, and compare the numbers.

A workload is trained as a stack only if both agree.
"""

__all__ = ["describe_one_by_one", "why_not_stackable"]

import copy
import math
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from studies.space import Parameters
from studies.training_settings import training_parameters
from workers.memory import is_out_of_memory
from workers.named_metrics import named_metrics
from workers.optimizers import OptimizerEntry
from workers.optimizers.registry import ParameterGroup, check
from workers.pack_protocol import Pack
from workers.results import EpochResult, batch_sums, split_means
from workers.seeding import generator_states, seeded
from workers.solo import Solo
from workers.stacked.constants import first_difference, held_by
from workers.stacked.plan import NotStackable, StackPlan
from workers.stacked.stack import Stack
from workers.tensor_states import on_cpu
from workers.workloads import Data, Split, TensorWorkload
from workers.workloads.float64 import in_float64

T = TypeVar("T")

_STEPS = 2
_TOLERANCE = 1e-6
"""Relative difference allowed in float64, where rounding is ten orders of magnitude smaller."""
_NARROW_TOLERANCE = 1e-2
"""Relative difference allowed in the model's own dtype.

Optimizers of Adam's kind turn rounding noise in a gradient of zero into whole steps.
"""
_EVALUATION_TOLERANCE = 1e-3
"""Relative difference allowed between evaluations in batches of different sizes.

A loss in half precision is rounded once for each batch.
"""
_SMALL = 1e-6
"""Numbers below this are compared by absolute difference: a cosine of 1e-17 is as good as one of 1e-16."""
_NONZERO: Parameters = {"weight_decay": 0.01, "momentum": 0.9}
"""Used in place of defaults of 0, so that decay and momentum take part in the comparison."""

_DRAWS = (
    "the model draws random numbers (dropout), which a stack cannot draw separately for trials with "
    "different seeds"
)


class _Trained(NamedTuple):
    result: EpochResult
    model: dict[str, Tensor]


class _KeepsState(Exception):
    """Training alone changed something that a stack's members would share; the message says what."""


def why_not_stackable(
    pack: Pack, *, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
) -> str | None:
    """Return the reason why members of this pack cannot be stacked, as a sentence, or None if they can.

    The check runs in float64, where rounding cannot hide a difference, or in the model's own precision if the
    model cannot run in float64. Its two members share a seed if those of the pack do.

    It runs the user's code: models are built, and trained unless an obstacle is found first. The attributes
    of a copy of the workload change, not those of the workload itself, and global generators are restored. It
    cannot take back other effects: on files, global variables, or objects that the workload refers to.
    """
    if entry.stacked is None:
        return describe_one_by_one(f"{entry.card.title} has no batched form")
    if pack.training.precision != "float32":
        return describe_one_by_one(f"precision {pack.training.precision} is not for stacks")
    workload = copy.copy(workload)
    pack = _pair(pack, entry)
    step_size = pack.training.batch_size * pack.training.accumulation_steps
    small = Data(
        train=data.train.head(_STEPS * step_size),
        validation=data.validation.head(pack.training.batch_size),
        test=data.test.head(pack.training.batch_size),
    )
    before = held_by(workload)
    # This checks the model's own dtypes, which the check in float64 cannot do.
    plan = _attempt(lambda: StackPlan(pack, workload=workload, entry=entry, data=small, device=device))
    if isinstance(plan, NotStackable):
        return describe_one_by_one(str(plan))
    alone: list[_Trained] | Exception = []
    for tolerance, (workload_, data_) in (
        (_TOLERANCE, in_float64(workload, small)),
        (_NARROW_TOLERANCE, (workload, small)),
    ):
        # The lambdas are called at once.
        alone = _attempt(lambda: _train_alone(pack, workload_, entry, data_, device, plan))  # noqa: B023
        if isinstance(alone, _KeepsState):
            return describe_one_by_one(str(alone))
        if isinstance(alone, Exception):
            continue
        stacked = _attempt(lambda: _train_stacked(pack, workload_, entry, data_, device))  # noqa: B023
        if isinstance(stacked, Exception):
            return describe_one_by_one(_describe_error(stacked))
        why = _describe_difference(alone, stacked, tolerance)
        changed = first_difference(before, held_by(workload))
        if why is None and changed is not None:
            why = f"the workload changes its attribute {changed!r}, which all members of a stack would share"
        return describe_one_by_one(why) if why is not None else None
    return describe_one_by_one(f"training one of them alone for {_STEPS} steps raised {type(alone).__name__}")


def describe_one_by_one(why: str) -> str:
    """Return the sentence that says why trials are not stacked."""
    return f"Trials are trained one by one: {why}."


def _pair(pack: Pack, entry: OptimizerEntry) -> Pack:
    """Return a pack of two members close to the optimizer's defaults, with this pack's settings.

    Of the settings that its members have for themselves, such as a limit of the gradients, one of the two has
    the largest values and the other one the smallest.
    """
    parameters = {
        **entry.card.defaults,
        **{name: value for name, value in _NONZERO.items() if name in entry.card.defaults},
    }
    try:
        check(entry.card, parameters)
    except ValueError:
        parameters = entry.card.defaults
    first, *others = pack.members
    seeds = (first.seed, next((other.seed for other in others if other.seed != first.seed), first.seed))
    lrs = (parameters["lr"], float(parameters["lr"]) / 2)
    own = [training_parameters(member.parameters) for member in pack.members]
    settings = [{name: choose(each[name] for each in own) for name in own[0]} for choose in (max, min)]
    members = tuple(
        first.model_copy(
            update={
                "trial_id": str(index),
                "seed": seed,
                "checkpoint": None,
                "parameters": {**parameters, "lr": lr, **mine},
            }
        )
        for index, (seed, lr, mine) in enumerate(zip(seeds, lrs, settings, strict=True))
    )
    return pack.model_copy(
        update={"members": members, "from_epoch": 0, "to_epoch": 1, "epochs": 1, "interval_steps": None}
    )


def _train_alone(
    pack: Pack,
    workload: TensorWorkload,
    entry: OptimizerEntry,
    data: Data,
    device: torch.device,
    plan: StackPlan | Exception,
) -> list[_Trained]:
    """Train each member alone.

    Raises:
        _KeepsState: training or evaluation depends on more than the rows of a stack.
    """

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        optimizer = entry.build(groups, parameters)
        for group in optimizer.param_groups:
            if "fused" in group:
                # Compiling the fused step for float64 takes seconds, too long for two steps.
                group["fused"] = False
        return optimizer

    plain = replace(entry, build=build)
    solos = [
        Solo(member, pack=pack, workload=workload, entry=plain, data=data, device=device)
        for member in pack.members
    ]
    trained: list[_Trained] = []
    for solo in solos:
        before = plan.constants_of(solo.model) if isinstance(plan, StackPlan) else {}
        trained.append(_Trained(solo.train_epoch(1), on_cpu(solo.checkpoint()["model"])))
        after = plan.constants_of(solo.model) if isinstance(plan, StackPlan) else {}
        changed = first_difference(before, after)
        if changed is not None:
            raise _KeepsState(
                f"{changed!r} of the model changes in training and is not a parameter or a buffer of its "
                "state, and members of a stack would share it"
            )
    _raise_if_evaluation_varies(solos[0], workload, data.validation, device)
    return trained


@torch.no_grad()
def _raise_if_evaluation_varies(
    solo: Solo, workload: TensorWorkload, split: Split, device: torch.device
) -> None:
    """Raise _KeepsState if the value of a split depends on its batches, whose size differs in a stack."""
    metrics = named_metrics(workload, None)

    def means(batch_size: int) -> Tensor:
        return split_means(
            split,
            batch_size=batch_size,
            sums=lambda inputs, targets: batch_sums(workload, solo.model(inputs), targets, metrics=metrics),
        )

    with seeded(0, device=device):
        before = generator_states(device)
        whole = means(len(split))
        if generator_states(device) != before:
            raise _KeepsState("the model draws random numbers in evaluation, where a stack has other batches")
        halves = means(math.ceil(len(split) / 2))
    if _relative(whole.double(), halves.double()) > _EVALUATION_TOLERANCE:
        raise _KeepsState("the result of an evaluation depends on its batches, and a stack has others")


def _train_stacked(
    pack: Pack, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
) -> list[_Trained]:
    stack = Stack.initial(StackPlan(pack, workload=workload, entry=entry, data=data, device=device))
    trained = [
        _Trained(result, stack.checkpoint(row)["model"]) for row, result in enumerate(stack.train_epoch(1))
    ]
    if stack.draws_together and not stack.is_paired:
        raise NotStackable(_DRAWS)
    return trained


def _attempt(run: Callable[[], T]) -> T | Exception:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 # whatever a workload or vmap raises: it cannot run this way
        return error


def _describe_difference(alone: list[_Trained], stacked: list[_Trained], tolerance: float) -> str | None:
    worst = max(_distance(one, other) for one, other in zip(alone, stacked, strict=True))
    if worst <= tolerance:
        return None
    return (
        f"after {_STEPS} steps a stack of 2 differs from each trained alone (relative difference "
        f"{worst:.2g}); the model or the loss keeps state outside its parameters and buffers, leaves "
        "parameters unused, or mixes examples in Python"
    )


def _distance(one: _Trained, other: _Trained) -> float:
    """Return the largest relative difference between two members' measurements and tensors.

    It is infinite if a number is finite in only one of them.
    """
    measured = zip(_measurements(one.result), _measurements(other.result), strict=True)
    pairs = [(torch.tensor(mine), torch.tensor(theirs)) for mine, theirs in measured] + [
        (tensor, other.model[name]) for name, tensor in one.model.items()
    ]
    return max(_relative(mine.double(), theirs.double()) for mine, theirs in pairs)


def _measurements(result: EpochResult) -> list[float]:
    values = [value for value in astuple(replace(result, elapsed_s=0.0)) if isinstance(value, float)]
    return [*values, *result.metrics.values()]


def _relative(mine: Tensor, theirs: Tensor) -> float:
    if mine.numel() == 0 or torch.equal(mine.nan_to_num(), theirs.nan_to_num()):
        return 0.0
    distance = ((mine - theirs).abs().max() / mine.abs().max().clamp_min(_SMALL)).item()
    return distance if math.isfinite(distance) else math.inf


def _describe_error(error: Exception) -> str:
    """Return a description of what torch.func could not handle, if its message is a known one."""
    text = str(error)
    if isinstance(error, NotStackable):
        return text
    if is_out_of_memory(error):
        return "a stack of 2 ran out of memory"
    if "randomness" in text:
        return _DRAWS
    if ".item()" in text or "data-dependent" in text or "dynamic shape" in text:
        return (
            "the model or the loss looks at a tensor's value (a Python if, .item(), a boolean mask), which "
            "differs between trials"
        )
    if "in-place" in text or "inplace" in text:
        return "the model or the loss writes in place into a tensor that all trials share"
    return (
        f"torch.func.vmap cannot run the model or the loss ({type(error).__name__}: "
        f"{' '.join(text.split())[:200]})"
    )
