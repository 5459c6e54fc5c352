"""What a study can set and search beside an optimizer's own hyperparameters.

These are the settings of the training (`training.NAME`), the hyperparameters of the workload
(`workload.NAME`), and those that a parameter group has for itself (`groups.GROUP.lr`).

Names with a dot hold for every arm if the study's `space` has them, and for one arm if the arm's has. A
configuration has only those names that its study sets or searches in a space; settings under `training` are
fixed for all trials.
"""

__all__ = [
    "GROUPS",
    "KINDS",
    "WORKLOAD",
    "broken_constraint",
    "conditions_of",
    "configurations_of_groups",
    "groups_of",
    "is_of_other_optimizers",
    "is_optimizers_own",
    "must_share",
    "searchable",
    "stack_kind",
    "why_without_effect",
]

from collections.abc import Iterable, Mapping
from typing import Final

from studies import training_settings
from studies.catalog import Constraint, Hyperparameter, OptimizerCard, WorkloadCard
from studies.space import Condition, Parameters, Scalar
from studies.training_settings import PREFIX, TRAINING_HYPERPARAMETERS, training_hyperparameters

WORKLOAD: Final = "workload."
"""How the name of a workload's hyperparameter begins in a configuration."""
GROUPS: Final = "groups."
"""How the name of a hyperparameter of one parameter group begins: `groups.GROUP.lr`."""
KINDS: Final = ("biases", "norms", "embeddings")
"""Groups that every model has by the kind of its parameters, beside those on the workload's card.

`norms` are the parameters of modules with `Norm` in the name of their class, `embeddings` those of modules
with `Embedding` in it, and `biases` those with `bias` in their own name that are in neither.
"""
_SCHEDULE = f"{PREFIX}schedule"
_WARMUP = f"{PREFIX}warmup_fraction"
_DECAY_1D = f"{PREFIX}decay_1d"


def is_optimizers_own(name: str) -> bool:
    """Return whether a name in a configuration is a hyperparameter of the optimizer."""
    return "." not in name


def must_share(parameters: Parameters) -> Parameters:
    """Return the values in a configuration that all trials of a pack must have in common.

    These are settings of the training that a stack has only one of, and all that may change the model.
    """
    workloads = {name: value for name, value in parameters.items() if name.startswith(WORKLOAD)}
    return {**training_settings.must_share(parameters), **workloads}


def stack_kind(parameters: Parameters) -> tuple[tuple[str, Scalar], ...]:
    """Return what makes a configuration stack in another way than the workload by itself; empty if nothing.

    These are the workload's own hyperparameters, and whether parameter groups have some of their own.
    """
    own = tuple(sorted((name, value) for name, value in parameters.items() if name.startswith(WORKLOAD)))
    has_groups = any(name.startswith(GROUPS) for name in parameters)
    return (*own, (GROUPS, True)) if has_groups else own


def conditions_of(hyperparameters: Iterable[Hyperparameter]) -> dict[str, Condition]:
    """Return the condition of each hyperparameter that has one."""
    return {h.name: h.active_when for h in hyperparameters if h.active_when is not None}


def searchable(
    workload: WorkloadCard | None, card: OptimizerCard, training: Mapping[str, Scalar | None]
) -> dict[str, Hyperparameter]:
    """Return the hyperparameters with dotted names that an arm can set or search, by name.

    Args:
        workload: the workload; None if the study's is unknown.
        card: the arm's optimizer.
        training: the study's fixed settings, which are the defaults; None stands for the workload's.
    """
    settings = TRAINING_HYPERPARAMETERS if workload is None else training_hyperparameters(workload)
    found: dict[str, Hyperparameter] = {}
    for hyperparameter in settings:
        default = training.get(hyperparameter.name.removeprefix(PREFIX))
        changed = {} if default is None else {"default": default}
        found[hyperparameter.name] = hyperparameter.model_copy(update=changed)
    if workload is None:
        return found
    own = [_prefixed(hyperparameter) for hyperparameter in workload.hyperparameters]
    in_groups = [
        _in_group(hyperparameter, group, card)
        for group in groups_of(workload)
        for hyperparameter in card.hyperparameters
        if hyperparameter.name in card.per_group
    ]
    return {**found, **{hyperparameter.name: hyperparameter for hyperparameter in (*own, *in_groups)}}


def _in_group(hyperparameter: Hyperparameter, group: str, card: OptimizerCard) -> Hyperparameter:
    """Return a hyperparameter of one group, which follows the arm's own."""
    condition = hyperparameter.active_when
    if condition is not None and condition.parameter in card.per_group:
        condition = condition.model_copy(update={"parameter": f"{GROUPS}{group}.{condition.parameter}"})
    return hyperparameter.model_copy(
        update={
            "name": f"{GROUPS}{group}.{hyperparameter.name}",
            "description": f"{hyperparameter.name} of the parameters in the group {group!r}.",
            "tuned": False,
            "active_when": condition,
            "follows": hyperparameter.name,
        }
    )


def groups_of(workload: WorkloadCard) -> tuple[str, ...]:
    """Return the names of the parameter groups that studies of a workload can name."""
    return tuple(dict.fromkeys((*workload.groups, *KINDS)))


def configurations_of_groups(parameters: Parameters) -> dict[str, Parameters]:
    """Return the optimizer's own configuration in each group that has values for itself, by the group.

    Args:
        parameters: a configuration of an arm, with `groups.GROUP.NAME`.
    """
    own = {name: value for name, value in parameters.items() if is_optimizers_own(name)}
    found: dict[str, Parameters] = {}
    for name, value in parameters.items():
        if name.startswith(GROUPS):
            group, _, setting = name.removeprefix(GROUPS).partition(".")
            found.setdefault(group, dict(own))[setting] = value
    return found


def broken_constraint(card: OptimizerCard, parameters: Parameters) -> Constraint | None:
    """Return a constraint of an optimizer that a configuration, or one of its groups, does not meet.

    Args:
        card: the optimizer.
        parameters: a configuration of an arm; None of its values may be missing that the arm has.
    """
    each = [parameters, *configurations_of_groups(parameters).values()]
    completed = [card.completed(one) for one in each]
    return next((c for c in card.constraints if not all(map(c.holds, completed))), None)


def _prefixed(hyperparameter: Hyperparameter) -> Hyperparameter:
    condition = hyperparameter.active_when
    if condition is not None:
        condition = condition.model_copy(update={"parameter": WORKLOAD + condition.parameter})
    return hyperparameter.model_copy(
        update={"name": WORKLOAD + hyperparameter.name, "active_when": condition}
    )


def is_of_other_optimizers(
    name: str, workload: WorkloadCard | None, optimizers: Iterable[OptimizerCard]
) -> bool:
    """Return whether a name is that of a group's hyperparameter which some of these optimizers have."""
    parts = name.split(".")
    return (
        workload is not None
        and len(parts) == 3
        and name.startswith(GROUPS)
        and parts[1] in groups_of(workload)
        and any(parts[2] in card.per_group and parts[2] in card.names for card in optimizers)
    )


def why_without_effect(hyperparameter: Hyperparameter, card: OptimizerCard) -> str | None:
    """Return why a hyperparameter with a dotted name cannot matter with an optimizer; None if it can."""
    condition = hyperparameter.active_when
    if card.schedule == "constant" and (
        hyperparameter.name in {_SCHEDULE, _WARMUP}
        or (condition is not None and condition.parameter == _SCHEDULE)
    ):
        return f"{card.name} has its own schedule and ignores the study's"
    if hyperparameter.name == _DECAY_1D and card.hyperparameter("weight_decay") is None:
        return f"{card.name} has no weight_decay"
    return None
