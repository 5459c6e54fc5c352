"""What a study searches beside its optimizers' hyperparameters, and by which metrics it judges, in words."""

__all__ = ["describe_objective", "describe_overrides", "describe_shared_space"]

from collections.abc import Sequence

from studies.formatting import scalar
from studies.space import Choices, Fixed, Range
from studies.space_entries import Pair, SpaceEntry, Tune
from studies.views import ArmView, StudyView


def describe_shared_space(study: StudyView) -> str:
    """Return what every arm of a study searches beside its optimizer's hyperparameters; empty if nothing."""
    return "; ".join(f"{name} {_entry(entry)}" for name, entry in study.spec.space.items())


def describe_objective(study: StudyView) -> str:
    """Return what a study searches by and compares by, e.g. `validation accuracy at the last epoch`."""
    objective = study.spec.objective
    further = f"; arms are compared by {', '.join(objective.compare)} too" if objective.compare else ""
    return f"validation {study.workload_card.metric} at the {objective.at} epoch{further}"


def describe_overrides(arms: Sequence[ArmView]) -> list[tuple[str, str]]:
    """Return each arm that differs from the others in more than its optimizer, and in what."""
    return [
        (arm.label, ", ".join(f"{name} {_entry(arm.space[name])}" for name in arm.overrides))
        for arm in arms
        if arm.overrides
    ]


def _entry(entry: SpaceEntry) -> str:
    match entry:
        case Fixed():
            return f"= {scalar(entry.value)}"
        case Range():
            scale = " (log scale)" if entry.log else ""
            return f"from {scalar(entry.low)} to {scalar(entry.high)}{scale}"
        case Choices():
            return f"in {{{', '.join(map(scalar, entry.choices))}}}"
        case Tune():
            return "over the range on its card"
        case Pair():
            return f"= {', '.join(map(scalar, entry.values))}"
