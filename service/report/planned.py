"""An arm of a study as its plan has it."""

__all__ = ["planned"]

from studies.resolve import ResolvedArm
from studies.views import ArmView


def planned(arm: ArmView, *, replicates: int) -> ResolvedArm:
    """Return an arm with the trials that each of so many replicates has."""
    return ResolvedArm(
        name=arm.name,
        card=arm.optimizer,
        space=arm.space,
        defaults=arm.defaults,
        trials=arm.progress.trials // replicates,
    )
