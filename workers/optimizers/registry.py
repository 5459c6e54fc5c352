"""What an entry of the catalogue is, and how one becomes a torch optimizer for a model.

Which entries there are stands in `__init__`.
"""

__all__ = [
    "Build",
    "OptimizerEntry",
    "ParameterGroup",
    "build_optimizer",
    "check",
    "parameter_groups",
    "upstream",
]

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from studies.catalog import OptimizerCard
from studies.recipe import arguments
from studies.space import Parameters
from workers.optimizers.batched.optimizer import StackedOptimizer

ParameterGroup = dict[str, Any]
"""A torch parameter group: `params`, and what differs from the optimizer's defaults in it."""

Build = Callable[[list[ParameterGroup], Parameters], Optimizer]
"""Makes the optimizer of some parameter groups from a checked, whole configuration."""


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer that studies may name.

    Attributes:
        card: what it says of itself.
        build: makes it.
        set_apart: picks parameters of a model that must come in a group of their own, marked
            `set_apart=True`; None where all are alike.
        stacked: its batched form, which trains many members as one stack; None where there is none, and
            members are trained one by one.
    """

    card: OptimizerCard
    build: Build
    set_apart: Callable[[nn.Module], Collection[nn.Parameter]] | None = None
    stacked: type[StackedOptimizer] | None = None


def upstream(
    card: OptimizerCard, module: str, *, stacked: type[StackedOptimizer] | None = None
) -> OptimizerEntry:
    """Return an entry whose class is `card.constructor` of an installed module.

    It is imported when the first one is built.

    The import waits because pytorch_optimizer takes close to a second to import, and most workers never need
    it.
    """

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        return getattr(importlib.import_module(module), card.constructor)(
            groups, **arguments(card, parameters)
        )

    return OptimizerEntry(card, build, stacked=stacked)


def check(card: OptimizerCard, parameters: Parameters) -> None:
    """Return when parameters are a whole and legal configuration of the card.

    Raises:
        ValueError: for a name the card does not have, one that is missing, an illegal value, or a constraint
            that is not met.
    """
    known = ", ".join(card.defaults)
    unknown = [name for name in parameters if card.hyperparameter(name) is None]
    if unknown:
        raise ValueError(f"{card.name} has no hyperparameter {unknown[0]!r}; it has {known}")
    missing = [name for name in card.defaults if name not in parameters]
    if missing:
        raise ValueError(
            f"{card.name} needs a value for {', '.join(missing)}; a configuration gives all of {known}"
        )
    for hyperparameter in card.hyperparameters:
        fault = hyperparameter.fault(parameters[hyperparameter.name])
        if fault is not None:
            raise ValueError(f"{card.name}: {fault}; its default is {hyperparameter.default!r}")
    for constraint in card.constraints:
        if not constraint.holds(parameters):
            given = ", ".join(
                f"{name}={parameters[name]}" for name in (*constraint.product, constraint.below_one_minus)
            )
            raise ValueError(f"{card.name} needs {constraint}, got {given}: {constraint.reason}")


def parameter_groups(
    model: nn.Module, *, spare_1d: bool, set_apart: Collection[nn.Parameter] = ()
) -> list[ParameterGroup]:
    """Return the model's trainable parameters as groups, none of them empty, each in the model's order.

    Args:
        model: what is trained.
        spare_1d: parameters of fewer than two dimensions (biases, norms) get a group with `weight_decay=0`.
        set_apart: parameters that get a group marked `set_apart=True`.

    Raises:
        ValueError: when the model has nothing to train.
    """
    apart = {id(p) for p in set_apart}
    groups: dict[tuple[bool, bool], ParameterGroup] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_apart, is_spared = id(parameter) in apart, spare_1d and parameter.ndim < 2
            marks = {"set_apart": True} if is_apart else {}
            decay = {"weight_decay": 0.0} if is_spared else {}
            groups.setdefault((is_apart, is_spared), {"params": [], **marks, **decay})["params"].append(
                parameter
            )
    if not groups:
        raise ValueError(
            f"expected a model with trainable parameters, got {type(model).__name__} "
            "with none; set requires_grad on some"
        )
    return list(groups.values())


def build_optimizer(
    entry: OptimizerEntry, model: nn.Module, parameters: Parameters, *, decay_1d: bool
) -> Optimizer:
    """Return the optimizer of a model's trainable parameters.

    Each group has its `initial_lr` for schedules to multiply.

    Whoever trains calls `.train()` before training steps and `.eval()` before evaluation on any optimizer
    that has these methods: schedule-free ones evaluate at averaged weights. Several of pytorch_optimizer's
    overwrite `.grad` in `step`: read gradients before it.

    Args:
        entry: the optimizer.
        model: what is trained; groups go by the dimensions of its parameters.
        parameters: a whole configuration: every hyperparameter of the card.
        decay_1d: False gives parameters of fewer than two dimensions (biases, norms) weight decay 0.

    Raises:
        ValueError: when the configuration is not whole and legal, or the model has nothing to train.
    """
    check(entry.card, parameters)
    has_decay = entry.card.hyperparameter("weight_decay") is not None
    apart = entry.set_apart(model) if entry.set_apart is not None else ()
    groups = parameter_groups(model, spare_1d=has_decay and not decay_1d, set_apart=apart)
    optimizer = entry.build(groups, parameters)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer
