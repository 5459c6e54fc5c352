"""What a reader should know before trusting a comparison."""

__all__ = ["cautions"]

from collections.abc import Sequence

from service.dashboard.captions import tried
from service.dashboard.figures.chart import label
from service.dashboard.numbers import count, difference, plural, scalar
from studies.space import Range
from studies.statistics.sensitivity import edge_nearby
from studies.views import ArmView, StudyView


def cautions(study: StudyView, arms: Sequence[ArmView]) -> tuple[str, ...]:
    """Return what a reader should know before trusting the comparison: divergence, faults, edges, arms that contain a better one."""
    said: list[str] = []
    # Those that wait at a rung have not diverged.
    diverged = [f"{label(arm)} {count(n)} of {plural(tried(arm) + arm.progress.waiting, 'trial')}" for arm in arms if (n := arm.progress.diverged)]
    if diverged:
        said.append(f"Diverged: {', '.join(diverged)}.")
    failed = [f"{label(arm)} {count(n)}" for arm in arms if (n := arm.progress.failed)]
    if failed:
        said.append(f"Lost to faults of machine or workload, which say nothing of the optimizer: {', '.join(failed)}.")
    for arm in arms:
        said += _edges(arm)
    said += _contained(study, arms)
    return tuple(said)


def _edges(arm: ArmView) -> list[str]:
    """Return a warning where the best lr is as good as at the edge of what was searched; other hyperparameters' charts tell theirs."""
    dimension, value = arm.space.get("lr"), None if arm.best is None else arm.best.parameters.get("lr")
    if not isinstance(dimension, Range) or value is None or isinstance(value, bool | str):
        return []
    space = f"its range ({scalar(dimension.low)} to {scalar(dimension.high)})"
    if not dimension.contains(value):
        return [f"{label(arm)}: its default lr, {scalar(value)}, did better than all that was tried in {space}."]
    edge = edge_nearby(float(value), low=dimension.low, high=dimension.high, log=dimension.log)
    return [] if edge is None else [f"{label(arm)}: the best lr, {scalar(value)}, lies at the {edge} edge of {space}; a wider one might do better."]


def _contained(study: StudyView, arms: Sequence[ArmView]) -> list[str]:
    """Return a sentence for each arm that is behind one that it can imitate."""
    card = study.workload_card
    by_optimizer = {arm.optimizer.name: arm for arm in reversed(arms)}
    said: list[str] = []
    for arm in arms:
        for part in arm.optimizer.contains:
            other = by_optimizer.get(part.optimizer)
            if other is None or other is arm or part.requires or arm.best is None or other.best is None:
                continue
            behind = (other.best.value - arm.best.value) * (1 if card.direction == "maximize" else -1)
            if behind > 0:
                at = ", ".join(f"{name} = {scalar(value)}" for name, value in part.at.items())
                why = "noise, too few trials, or too narrow a space"
                said.append(f"{label(arm)} is {label(other)} at {at}, yet it is {difference(behind, 0, card.unit)} behind: {why}.")
    return said
