"""What a study with paired trials could have detected, as immutable views."""

__all__ = ["PairGap", "StudyPower"]

from pydantic import Field

from studies.direction import Direction
from studies.frozen_model import FrozenModel


class PairGap(FrozenModel):
    """The gap between two optimizers that a study could have detected, and what half of it would take."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    n: int = Field(description="Pairs of trials in which both arms have a result.")
    detectable: float | None = Field(
        description=(
            "The smallest true gap at the primary budget that the verdict calls in 80 % of such studies, in "
            "the metric's unit; null if the difference of these two arms does not vary, or with too few "
            "pairs."
        )
    )
    pairs_for_half: int | None = Field(
        description="Pairs of trials with which half of this gap is called in 80 %; null if unknown."
    )
    trials_for_half: int | None = Field(description="Trials of the two arms together in these pairs.")
    seconds_for_half: float | None = Field(
        description="Training seconds of these trials, at the mean of this study's paired trials."
    )


class StudyPower(FrozenModel):
    """What a finished study could have detected by its paired trials."""

    study_id: str = Field(description="Id of the study.")
    metric: str = Field(description="What values measure, on the test split.")
    unit: str = Field(description="Their unit.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    primary: int | None = Field(
        description="The budget at which the arms are judged, in trials; null with too few pairs."
    )
    arms: int = Field(description="Number of arms.")
    why_none: str | None = Field(description="Why there are no figures, in a sentence; null if there are.")
    detectable: float | None = Field(
        description="The largest of the pairs' gaps: one this large between any two arms is called."
    )
    pairs_for_half: int | None = Field(
        description="Pairs of trials with which half of it is called in 80 % for any two arms."
    )
    trials_for_half: int | None = Field(description="Trials of all arms together in these pairs.")
    seconds_for_half: float | None = Field(
        description="Training seconds of these trials, at the mean of this study's paired trials."
    )
    pairs: tuple[PairGap, ...] = Field(
        description="Every pair of arms, in the study's order; empty without figures."
    )
    sentence: str = Field(description="The figures in a sentence or two, or why there are none.")
