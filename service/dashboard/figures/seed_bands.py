"""The mean of several runs of a configuration at every epoch, with the range over their seeds."""

__all__ = ["ArmRuns", "SeedPoint", "steps_of_epoch"]

import math
from collections.abc import Callable
from dataclasses import dataclass

from service.dashboard.figures.chart import ChartArm
from studies.space import Parameters
from studies.trials import Measurement
from studies.views import ArmView, StudyView


@dataclass(frozen=True)
class SeedPoint:
    """A quantity of several runs at one epoch.

    Attributes:
        epoch: the epoch, from 1.
        seconds: mean training time up to its end.
        mean: mean over the runs.
        low, high: lowest and highest value of a run.
    """

    epoch: int
    seconds: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmRuns:
    """The runs that stand for an arm in the charts of training.

    Attributes:
        arm: the arm.
        runs: measurements of its best configuration on every fresh seed, or of its best trial alone.
        steps: optimizer steps of an epoch; None if they are not known.
        is_confirmed: whether the runs are on fresh seeds; a best trial was chosen for its own result.
    """

    arm: ArmView | ChartArm
    runs: tuple[tuple[Measurement, ...], ...]
    steps: int | None
    is_confirmed: bool = False

    def points(self, of: Callable[[Measurement], float | None]) -> list[SeedPoint]:
        """Return the quantity at every epoch that every run has measured."""
        points: list[SeedPoint] = []
        for epochs in zip(*self.runs, strict=False):
            values = [value for m in epochs if (value := of(m)) is not None and math.isfinite(value)]
            if len(values) == len(epochs):
                points.append(
                    SeedPoint(
                        epoch=epochs[0].epoch,
                        seconds=sum(m.elapsed_s for m in epochs) / len(epochs),
                        mean=sum(values) / len(values),
                        low=min(values),
                        high=max(values),
                    )
                )
        return points


def steps_of_epoch(study: StudyView, parameters: Parameters) -> int | None:
    """Return the optimizer steps of an epoch with a configuration; None if they are not known."""
    if study.interval_steps is not None:
        return study.interval_steps
    examples = study.workload_card.examples.get("train")
    batch_size = parameters.get("training.batch_size", study.batch_size)
    if examples is None or isinstance(batch_size, str | bool):
        return None
    return math.ceil(examples / (batch_size * study.spec.training.accumulation_steps))
