"""The objective of a study: the metric and the epoch that count, and the metrics that are compared too."""

__all__ = ["Objective", "metric_problems"]

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from studies.catalog import WorkloadCard
from studies.errors import SpecProblem, shown
from studies.frozen_model import FrozenModel
from studies.suggestions import closest_name

_MetricName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Objective(FrozenModel):
    """The validation value that counts for a trial."""

    metric: _MetricName | None = Field(
        default=None,
        description=(
            "Name of the metric that trials are searched, pruned, confirmed and judged by; by default the "
            "workload's own."
        ),
        examples=["attacked accuracy"],
    )
    compare: tuple[_MetricName, ...] = Field(
        default=(),
        max_length=64,
        description=(
            "Names of further metrics by which the arms are compared too, with p-values corrected for all "
            "their pairs together. Every metric of the workload is recorded and shown, named here or not."
        ),
        examples=[["clean accuracy"]],
    )

    at: Literal["last", "best"] = Field(
        default="last",
        description=(
            "Which epoch's validation value counts: the last, or the best of all epochs (optimistic, as "
            "early stopping is)."
        ),
    )

    @field_validator("compare")
    @classmethod
    def _different(cls, compare: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        twice = sorted({name for name in compare if compare.count(name) > 1})
        if twice:
            raise ValueError(f"expected each metric once, got {', '.join(map(repr, twice))} more than once")
        if info.data.get("metric") in compare:
            raise ValueError(
                f"expected metrics beside the objective, got {info.data['metric']!r}, by which the arms are "
                "compared anyway; leave it out"
            )
        return compare


def metric_problems(objective: Objective, workload: WorkloadCard) -> list[SpecProblem]:
    """Return the names of metrics that the workload does not have, and a comparison by its own objective."""
    asked = {"/objective/metric": objective.metric} if objective.metric is not None else {}
    asked |= {f"/objective/compare/{n}": name for n, name in enumerate(objective.compare)}
    names = workload.metric_names
    problems = [
        SpecProblem(
            pointer,
            f"{workload.name} has no metric {shown(name)}; it has {', '.join(names)}"
            + (f"; did you mean {close!r}?" if (close := closest_name(name, names)) else ""),
        )
        for pointer, name in asked.items()
        if name not in names
    ]
    if objective.metric is None and workload.metric in objective.compare:
        problems.append(
            SpecProblem(
                f"/objective/compare/{objective.compare.index(workload.metric)}",
                f"expected metrics beside the objective, got {workload.metric!r}, by which the arms are "
                "compared anyway; leave it out",
            )
        )
    return problems
