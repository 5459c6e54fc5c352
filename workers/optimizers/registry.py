"""Entries of the optimizer catalogue, and the construction of a torch optimizer from an entry and a model."""

__all__ = [
    "Build",
    "OptimizerEntry",
    "ParameterGroup",
    "build_optimizer",
    "check",
    "parameter_groups",
    "upstream",
    "with_accepted_arguments",
]

import ast
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.optim import Optimizer

from studies.catalog import OptimizerCard
from studies.recipe import Argument, arguments, group_arguments
from studies.searchable import GROUPS, configurations_of_groups, is_optimizers_own
from studies.space import Parameters
from workers.optimizers.batched.optimizer import StackedOptimizer

ParameterGroup = dict[str, Any]
"""A torch parameter group: `params`, and the settings that differ from the optimizer's defaults."""

Build = Callable[[list[ParameterGroup], Parameters], Optimizer]
"""Returns the optimizer for some parameter groups and a complete, checked configuration."""


@dataclass(frozen=True)
class OptimizerEntry:
    """One optimizer of the catalogue.

    Attributes:
        card: its description.
        build: builds the optimizer.
        set_apart: returns the parameters of a model that need a group of their own, marked
            `set_apart=True`; None if all parameters are treated alike.
        stacked: its batched form, which trains many members as one stack; None if it has none and members
            are trained one by one.
    """

    card: OptimizerCard
    build: Build
    set_apart: Callable[[nn.Module], Collection[nn.Parameter]] | None = None
    stacked: type[StackedOptimizer] | None = None


def upstream(
    card: OptimizerCard,
    module: str,
    *,
    stacked: type[StackedOptimizer] | None = None,
    shared: Collection[str] = (),
    fixed: Mapping[str, Any] = MappingProxyType({}),
) -> OptimizerEntry:
    """Return an entry whose class is `card.constructor` of an installed module.

    The module is imported when the first optimizer is built: pytorch_optimizer takes nearly a second to
    import, and most workers never need it.

    Args:
        card: the optimizer. Each parameter group can have all its numbers for itself.
        module: where the constructor is.
        stacked: its batched form.
        shared: numbers that the class reads once for all groups.
        fixed: arguments, such as functions, that only the card's call has, as code.
    """
    numbers = [h.name for h in card.hyperparameters if not isinstance(h.default, bool | str)]
    card = card.model_copy(update={"per_group": tuple(name for name in numbers if name not in shared)})

    def build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
        return getattr(importlib.import_module(module), card.constructor)(
            groups, **arguments(card, parameters), **fixed
        )

    return OptimizerEntry(card, build, stacked=stacked)


def with_accepted_arguments(entry: OptimizerEntry) -> OptimizerEntry:
    """Return an entry whose card lists the arguments of its constructor, so that its Python code runs.

    A hyperparameter may be meant for `build` alone. The card stays as it is if the author wrote the call, if
    the constructor takes any keyword, or if it cannot be inspected.
    """
    card = entry.card
    if card.call or card.accepts is not None:
        return entry
    try:
        found = inspect.signature(_imported(card)).parameters.values()
    # Importing a user's module may raise anything.
    except Exception:  # noqa: BLE001
        return entry
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
        return entry
    accepts = tuple(parameter.name for parameter in found)
    return replace(entry, card=card.model_copy(update={"accepts": accepts}))


def _imported(card: OptimizerCard) -> Callable[..., Any]:
    """Return the constructor of a card whose import line is `from MODULE import NAME`."""
    [line] = ast.parse(card.import_line).body
    if not isinstance(line, ast.ImportFrom) or line.module is None:
        raise ValueError(f"expected `from MODULE import {card.constructor}`, got {card.import_line!r}")
    [name] = [each.name for each in line.names if (each.asname or each.name) == card.constructor]
    return getattr(importlib.import_module(line.module), name)


def check(card: OptimizerCard, parameters: Parameters) -> None:
    """Raise ValueError unless parameters are a complete and legal configuration of the card.

    Raises:
        ValueError: a name is unknown or missing, a value is illegal, or a constraint is violated.
    """
    known = ", ".join(card.names)
    unknown = [name for name in parameters if card.hyperparameter(name) is None]
    if unknown:
        raise ValueError(f"{card.name} has no hyperparameter {unknown[0]!r}; it has {known}")
    missing = [name for name in card.defaults if name not in parameters]
    if missing:
        raise ValueError(
            f"{card.name} needs a value for {', '.join(missing)}; a configuration must set all of "
            f"{', '.join(card.defaults)}"
        )
    parameters = card.completed(parameters)
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
    model: nn.Module,
    *,
    spare_1d: bool,
    set_apart: Collection[nn.Parameter] = (),
    named: Mapping[str, Collection[nn.Parameter]] = MappingProxyType({}),
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[ParameterGroup]:
    """Return the model's trainable parameters as non-empty groups, each in the model's order.

    Args:
        model: the model to train.
        spare_1d: whether parameters of fewer than two dimensions (biases, norms) get groups with
            `weight_decay=0`.
        set_apart: parameters that get groups marked `set_apart=True`.
        named: parameters of groups with settings of their own, by the group's name.
        settings: the settings of these groups.

    Raises:
        ValueError: the model has no trainable parameters.
    """
    apart = {id(p) for p in set_apart}
    name_of = {id(p): name for name, members in named.items() if name in settings for p in members}
    groups: dict[tuple[str, bool, bool], ParameterGroup] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_apart, is_spared = id(parameter) in apart, spare_1d and parameter.ndim < 2
            marks = {"set_apart": True} if is_apart else {}
            decay = {"weight_decay": 0.0} if is_spared else {}
            name = name_of.get(id(parameter), "")
            own: ParameterGroup = {"params": [], **marks, **settings.get(name, {}), **decay}
            groups.setdefault((name, is_apart, is_spared), own)["params"].append(parameter)
    if not groups:
        raise ValueError(
            f"expected a model with trainable parameters, got a {type(model).__name__} without any; set "
            "requires_grad on some"
        )
    return list(groups.values())


def build_optimizer(
    entry: OptimizerEntry,
    model: nn.Module,
    parameters: Parameters,
    *,
    decay_1d: bool,
    groups: Mapping[str, Collection[nn.Parameter]] = MappingProxyType({}),
) -> Optimizer:
    """Return the optimizer for a model's trainable parameters.

    Each group has an `initial_lr`, which schedules multiply. The caller must call `.train()` before training
    and `.eval()` before evaluation on an optimizer that has these methods, because schedule-free optimizers
    evaluate at averaged weights. Several optimizers of pytorch_optimizer overwrite `.grad` in `step`, so
    callers must read gradients before it.

    Args:
        entry: the optimizer.
        model: the model to train; its parameters are grouped by their number of dimensions.
        parameters: a complete configuration, with every hyperparameter of the card. Of dotted names, only
            those of groups (`groups.embedding.lr`) have an effect here.
        decay_1d: False gives parameters of fewer than two dimensions (biases, norms) weight decay 0, in every
            group.
        groups: the parameters of each group that the configuration names.

    Raises:
        ValueError: the configuration is not complete and legal, it names a group that is not given or a
            hyperparameter that the optimizer does not have for a group, or the model has no trainable
            parameters.
    """
    settings = _arguments_of_groups(entry.card, parameters, groups)
    parameters = {name: value for name, value in parameters.items() if is_optimizers_own(name)}
    check(entry.card, parameters)
    parameters = entry.card.completed(parameters)
    has_decay = entry.card.hyperparameter("weight_decay") is not None
    apart = entry.set_apart(model) if entry.set_apart is not None else ()
    made = parameter_groups(
        model, spare_1d=has_decay and not decay_1d, set_apart=apart, named=groups, settings=settings
    )
    optimizer = entry.build(made, parameters)
    for name in {name for own in settings.values() for name in own}:
        if name not in optimizer.defaults:
            raise ValueError(f"{entry.card.name} has one {name} for all parameters; remove groups.*.{name}")
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer


def _arguments_of_groups(
    card: OptimizerCard, parameters: Parameters, groups: Mapping[str, Collection[nn.Parameter]]
) -> dict[str, dict[str, Argument]]:
    """Return the arguments that a configuration sets for each group, by group."""
    for name in parameters:
        if not name.startswith(GROUPS):
            continue
        group, _, setting = name.removeprefix(GROUPS).partition(".")
        if group not in groups or setting not in card.per_group or setting not in card.names:
            raise ValueError(
                f"expected {GROUPS}GROUP.NAME with a group of the model, {', '.join(groups) or 'none'}, and "
                f"a number that {card.name} has for each group, "
                f"{', '.join(name for name in card.names if name in card.per_group)}, got {name!r}"
            )
    for each in configurations_of_groups(parameters).values():
        check(card, each)
    return group_arguments(card, parameters)
