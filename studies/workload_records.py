"""What machines found out about a workload: its checks, and how many of its trials to train together."""

__all__ = ["MOST_CHECKS", "WorkloadCheck", "WorkloadRecord"]

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from studies.frozen_model import FrozenModel
from studies.trials import CheckResult
from studies.views import StackWidthView

MOST_CHECKS: Final = 100
"""The most checks that a record lists."""


class WorkloadCheck(FrozenModel):
    """The check of one version of a workload before the first trial of a study; it found no errors."""

    package: str = Field(description="Name, version and digest of the package that adds the workload.")
    batch_size: int = Field(description="Examples in a batch.")
    device: Literal["cpu", "gpu"] = Field(description="What the check trained on.")
    optimizer: str = Field(description="What the check trained with.")
    budget: Literal["epochs", "steps"] = Field(description="What a script was trained for.")
    checked_at: datetime = Field(description="When it was checked.")
    results: tuple[CheckResult, ...] = Field(description="What was found.")


class WorkloadRecord(FrozenModel):
    """What machines found out about a workload."""

    checks: tuple[WorkloadCheck, ...] = Field(
        description=(
            f"The newest {MOST_CHECKS} checks of its versions, the newest first. "
            "Built-in workloads are not checked before a study."
        )
    )
    stack_widths: tuple[StackWidthView, ...] = Field(
        description=(
            "How many trials to train together with each optimizer, the newest first. A width above 1 has "
            "passed the equivalence check."
        )
    )
