"""An arm as the study's plan has it, from the view of a stored arm."""

__all__ = ["planned_arm"]

from studies.resolve import ResolvedArm
from studies.views import ArmView


def planned_arm(arm: ArmView, *, replicates: int) -> ResolvedArm:
    """Return an arm of the plan, with the number of trials of one replicate."""
    return ResolvedArm(
        name=arm.name,
        card=arm.optimizer,
        further_hyperparameters=arm.further_hyperparameters,
        overrides=arm.overrides,
        space=arm.space,
        defaults=arm.defaults,
        trials=arm.progress.trials // replicates,
    )
