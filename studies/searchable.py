"""What a study can set and search beside an optimizer's own hyperparameters: `training.NAME`.

Names with a dot hold for every arm if the study's `space` has them, and for one arm if the arm's has. A
configuration has only those names that its study sets or searches in a space; settings under `training` are
fixed for all trials.
"""

__all__ = ["conditions_of", "is_optimizers_own", "searchable", "why_without_effect"]

from collections.abc import Iterable, Mapping

from studies.catalog import Hyperparameter, OptimizerCard, WorkloadCard
from studies.space import Condition, Scalar
from studies.training_settings import PREFIX, TRAINING_HYPERPARAMETERS, training_hyperparameters

_SCHEDULE = f"{PREFIX}schedule"
_WARMUP = f"{PREFIX}warmup_fraction"
_DECAY_1D = f"{PREFIX}decay_1d"


def is_optimizers_own(name: str) -> bool:
    """Return whether a name in a configuration is a hyperparameter of the optimizer."""
    return "." not in name


def conditions_of(hyperparameters: Iterable[Hyperparameter]) -> dict[str, Condition]:
    """Return the condition of each hyperparameter that has one."""
    return {h.name: h.active_when for h in hyperparameters if h.active_when is not None}


def searchable(
    workload: WorkloadCard | None, training: Mapping[str, Scalar | None]
) -> dict[str, Hyperparameter]:
    """Return the hyperparameters with dotted names that a study of a workload can set or search, by name.

    Args:
        workload: the workload; None if the study's is unknown.
        training: the study's fixed settings, which are the defaults; None stands for the workload's.
    """
    settings = TRAINING_HYPERPARAMETERS if workload is None else training_hyperparameters(workload)
    found: dict[str, Hyperparameter] = {}
    for hyperparameter in settings:
        default = training.get(hyperparameter.name.removeprefix(PREFIX))
        changed = {} if default is None else {"default": default}
        found[hyperparameter.name] = hyperparameter.model_copy(update=changed)
    return found


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
