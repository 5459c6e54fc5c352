"""The metrics of a workload, and values of them that others have published."""

__all__ = ["CHANCE_FIELD", "MetricCard", "PublishedResult", "average_of"]

from typing import Any

from pydantic import Field

from studies.direction import Direction
from studies.frozen_model import FrozenModel

CHANCE_FIELD: Any = Field(
    default=None,
    allow_inf_nan=False,
    description=(
        "The test value of guessing, e.g. 0.1 for the accuracy on ten classes of equal size: what a diverged "
        "trial counts with where arms are compared by tuning budget; none if not known."
    ),
)


class MetricCard(FrozenModel):
    """One of the metrics that a workload measures beside its own."""

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Its name in studies and in what the workload returns, e.g. top-5 accuracy.",
    )
    description: str = Field(default="", description="What it measures, in one sentence.")
    unit: str = Field(default="none", description="Its unit, e.g. 'fraction'; 'none' for pure numbers.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    target: float | None = Field(
        default=None, description="A validation value that a well-tuned run reaches; none if not known."
    )
    chance: float | None = CHANCE_FIELD


class PublishedResult(FrozenModel):
    """A test value that a publication reports for a workload."""

    optimizer: str = Field(description="Name of the optimizer in the catalogue.")
    value: float = Field(allow_inf_nan=False, description="The value, in the metric's unit.")
    metric: str | None = Field(default=None, description="Which metric it is of; none means the card's own.")
    setting: str = Field(
        default="", description="What it was measured with beside the optimizer, where that matters."
    )
    source: str = Field(description="Where it was published: the publication and the table.")


def average_of(metric: str) -> str:
    """Return the name of a metric as it is measured with a moving average of the weights."""
    return f"{metric} (EMA)"
