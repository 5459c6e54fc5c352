"""A workload's own hyperparameters, with their values in one trial, and its parameter groups."""

__all__ = ["Configurable", "configuration_of", "configured", "grouped_parameters", "with_kinds"]

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from torch import nn

from studies.catalog import WorkloadCard
from studies.searchable import KINDS, WORKLOAD, configurations_of_groups
from studies.space import Parameters
from workers.workload_errors import CannotTrain

W = TypeVar("W", bound="Configurable")
_CONFIGURATION = "_configuration"


class Configurable:
    """A workload with hyperparameters and parameter groups of its own, both named on its card."""

    card: WorkloadCard

    @property
    def config(self) -> Mapping[str, Any]:
        """The values of the card's hyperparameters by name: a trial's own, else the defaults.

        Each configuration has its own shallow copy of the workload. `load_data` may not depend on it.
        """
        # Reading must not change the workload: a stack shares it.
        own: Mapping[str, Any] | None = vars(self).get(_CONFIGURATION)
        return {h.name: h.default for h in self.card.hyperparameters} if own is None else own

    def missing(self) -> str | None:
        """Return what this machine lacks to train the workload, and the command or folder that adds it.

        By default None: nothing. It is called whenever the catalogue is announced and before a trial, so it
        may import nothing heavy; `workers.workloads.requirements` looks for packages and files.
        """
        return None

    def parameter_groups(self, model: nn.Module) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the parameters of a model in each of the card's groups, such as `embedding`.

        Parameters in no group are trained with the arm's hyperparameters. A group may be empty.
        """
        del model
        return {}


def configuration_of(card: WorkloadCard, parameters: Parameters) -> dict[str, Any]:
    """Return the values of a workload's hyperparameters in a trial's configuration, by name."""
    return {h.name: h.typed(parameters.get(WORKLOAD + h.name, h.default)) for h in card.hyperparameters}


def configured(workload: W, parameters: Parameters) -> W:
    """Return a shallow copy of a workload with the values of a configuration, or itself without any."""
    if not workload.card.hyperparameters:
        return workload
    own = copy.copy(workload)
    vars(own)[_CONFIGURATION] = configuration_of(workload.card, parameters)
    return own


def grouped_parameters(
    workload: Configurable, model: nn.Module, parameters: Parameters
) -> dict[str, list[nn.Parameter]]:
    """Return a model's parameters by group; empty if the configuration names no group.

    The groups are the workload's own, and those of `with_kinds`.

    Raises:
        CannotTrain: the groups are not those on the card, overlap, or hold what the model does not train; or
            the model has no parameters of a kind.
    """
    named = set(configurations_of_groups(parameters))
    function, card = workload.parameter_groups, workload.card
    if not named & set(card.groups):
        return with_kinds({}, model, parameters)
    given: Any = function(model)
    found = (
        {str(name): list(group) for name, group in cast("Mapping[Any, Iterable[Any]]", given).items()}
        if isinstance(given, Mapping)
        else {}
    )
    if set(found) != set(card.groups):
        raise CannotTrain(
            f"expected parameter_groups of workload {card.name!r} to return a mapping with the groups of its "
            f"card, {', '.join(card.groups)}, got {', '.join(found) or type(cast('object', given)).__name__}",
            function=function,
        )
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    group_of: dict[int, str] = {}
    for group, members in found.items():
        for parameter in members:
            if id(parameter) not in names:
                raise CannotTrain(
                    f"expected group {group!r} of workload {card.name!r} to hold trained parameters of the "
                    f"model it is given, got {_describe(parameter)}",
                    function=function,
                )
            other = group_of.setdefault(id(parameter), group)
            if other != group:
                raise CannotTrain(
                    f"expected each parameter of workload {card.name!r} in one group, got "
                    f"{names[id(parameter)]!r} in {other!r} and {group!r}",
                    function=function,
                )
    return with_kinds(found, model, parameters)


def with_kinds(
    groups: Mapping[str, Iterable[nn.Parameter]], model: nn.Module, parameters: Parameters
) -> dict[str, list[nn.Parameter]]:
    """Return groups together with those that a configuration names by the kind of their parameters.

    Args:
        groups: the workload's own. A parameter in one that the configuration names stays in it.
        model: the model.
        parameters: a trial's configuration.

    Raises:
        CannotTrain: the model has no parameters of a kind that the configuration names.
    """
    named = set(configurations_of_groups(parameters))
    found = {name: list(members) for name, members in groups.items()}
    taken = {id(parameter) for name in named & set(found) for parameter in found[name]}
    for kind in KINDS:
        if kind in named and kind not in found:
            found[kind] = []
    # torch leaves it partly untyped.
    for module in cast("Iterable[nn.Module]", model.modules()):
        for name, parameter in module.named_parameters(recurse=False):
            kind = _kind_of(module, name)
            is_free = parameter.requires_grad and id(parameter) not in taken
            if kind in named and kind not in groups and is_free:
                found[kind].append(parameter)
    for kind in KINDS:
        if kind in named and not found[kind] and kind not in groups:
            raise CannotTrain(f"expected a model with {kind}, got one without; remove groups.{kind}.*")
    return found


def _kind_of(module: nn.Module, name: str) -> str | None:
    """Return the kind of one of a module's own parameters."""
    if "Norm" in type(module).__name__:
        return "norms"
    if "Embedding" in type(module).__name__:
        return "embeddings"
    return "biases" if "bias" in name else None


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + ("" if shape is None else f" of shape {list(shape)}")
