"""The budget of a study: how many trials each arm may start, and how long each is trained."""

__all__ = ["MAX_TRIALS", "Budget"]

from typing import Final

from pydantic import Field, ValidationInfo, field_validator

from studies.frozen_model import FrozenModel

MAX_TRIALS: Final = 100_000
"""Most trials of one arm, over all replicates or seeds."""
# Of one trial: each has a row of measurements.
_MAX_EPOCHS = 100_000


class Budget(FrozenModel):
    """How much work each arm of a study may spend."""

    trials_per_arm: int = Field(
        gt=0,
        le=MAX_TRIALS,
        strict=True,
        description="Trials that each arm may start in one replicate, including its defaults.",
        examples=[12],
    )
    epochs: int | None = Field(
        default=None,
        gt=0,
        le=_MAX_EPOCHS,
        strict=True,
        description="Epochs of each trial; by default the workload's.",
        examples=[8],
    )
    steps: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        strict=True,
        description="Steps of each trial, instead of epochs; needs `evaluate_every`.",
        examples=[2000],
    )
    evaluate_every: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        strict=True,
        validate_default=True,
        description=(
            "Steps from one evaluation to the next, which divide `steps`. Such an interval replaces the "
            "epoch: rungs, checkpoints and curves count intervals."
        ),
        examples=[200],
    )
    replicates: int = Field(
        default=1,
        ge=1,
        le=1000,
        strict=True,
        description=(
            "Independent repetitions of each arm's search, each with its own `trials_per_arm` trials and its "
            "own seed."
        ),
    )

    @property
    def intervals(self) -> int | None:
        """How often a trial with a budget of steps is evaluated; None with a budget of epochs."""
        return (
            None if self.steps is None or self.evaluate_every is None else self.steps // self.evaluate_every
        )

    @field_validator("steps")
    @classmethod
    def _replace_the_epochs(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if steps is not None and info.data.get("epochs") is not None:
            raise ValueError("expected a budget of epochs or of steps, got both; remove one of them")
        return steps

    @field_validator("evaluate_every")
    @classmethod
    def _divides_the_steps(cls, evaluate_every: int | None, info: ValidationInfo) -> int | None:
        if "steps" not in info.data:
            return evaluate_every
        steps: int | None = info.data["steps"]
        if steps is None and evaluate_every is None:
            return None
        if steps is None or evaluate_every is None:
            missing = "steps" if steps is None else "evaluate_every"
            raise ValueError(
                f"expected steps and evaluate_every together, got no {missing}; write e.g. "
                "{steps: 2000, evaluate_every: 200}"
            )
        if steps % evaluate_every:
            raise ValueError(
                f"expected a number that divides the {steps} steps of a trial, got {evaluate_every}; change "
                "steps or evaluate_every"
            )
        if steps // evaluate_every > _MAX_EPOCHS:
            raise ValueError(
                f"expected at most {_MAX_EPOCHS} evaluations of a trial, got {steps} / {evaluate_every} = "
                f"{steps // evaluate_every}; raise evaluate_every"
            )
        return evaluate_every

    @field_validator("replicates")
    @classmethod
    def _not_too_many(cls, replicates: int, info: ValidationInfo) -> int:
        trials = info.data.get("trials_per_arm", 0)
        if trials * replicates > MAX_TRIALS:
            raise ValueError(
                f"expected at most {MAX_TRIALS} trials per arm over all replicates, got {trials} x "
                f"{replicates} = {trials * replicates}; lower trials_per_arm or replicates"
            )
        return replicates
