"""What the API answers with besides the views of `studies`.

Plans, bests, lists of events, health, kinds of problems.
"""

__all__ = ["Account", "ArmBest", "EventList", "Health", "ProblemKindView", "Readiness", "StudyPlan"]

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from studies.confirmation import most_runs
from studies.promotion import planned_epochs
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.views import Best, EventView, Role, TokenView


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudyPlan(_Answer):
    """What a study would do, worked out without storing anything."""

    spec: StudySpec = Field(description="What was sent, shorthands spelled out.")
    study: ResolvedStudy = Field(
        description="Every arm's whole space and defaults, and the cards they come from."
    )
    trials: int = Field(description="Trials that its search would run in all, replicates together.")
    confirmations: int = Field(
        description="Runs on fresh seeds that would confirm what the search finds: at most so many."
    )
    epochs: int = Field(
        description=(
            "Epochs that both would train in all, when no trial ends early; with the pruner "
            "`median` the most that it can be."
        )
    )
    estimate_cpu_s: float = Field(
        description="Rough seconds of training on one CPU thread, from the workload's card; packs take less."
    )

    @classmethod
    def of(cls, spec: StudySpec, study: ResolvedStudy) -> Self:
        """Return the plan of a resolved study."""
        replicates = spec.budget.replicates
        trials = replicates * sum(arm.trials for arm in study.arms)
        confirmations = len(study.arms) * most_runs(replicates=replicates, seeds=spec.confirmation.seeds)
        searched = replicates * sum(
            planned_epochs(spec.pruner, study.epochs, trials=arm.trials) for arm in study.arms
        )
        epochs = searched + confirmations * study.epochs
        return cls(
            spec=spec,
            study=study,
            trials=trials,
            confirmations=confirmations,
            epochs=epochs,
            estimate_cpu_s=epochs * study.workload.epoch_s,
        )


class ArmBest(_Answer):
    """The best configuration of one arm."""

    arm: str = Field(description="Name of the arm.")
    optimizer: str = Field(description="Name of its optimizer.")
    best: Best | None = Field(
        description="Its best completed trial by validation; none until one has completed."
    )


class EventList(_Answer):
    """Some of a study's events, oldest first."""

    items: tuple[EventView, ...] = Field(description="The events numbered above `after`.")
    after: int = Field(description="Number of the last one here: give it back as `after` to go on.")
    is_last: bool = Field(
        description="True when the study is closed: nothing follows these unless it is extended."
    )


class Account(_Answer):
    """Whoever asks."""

    role: Role = Field(description="What they may do; on an open service everybody is an admin.")
    token: TokenView | None = Field(
        description="Their token, with its quotas and what it has used of them; none on an open service."
    )


class Health(_Answer):
    """The process is up."""

    status: Literal["up"] = Field(
        default="up", description="Always `up`: a process that is not cannot answer."
    )
    version: str = Field(description="Version of the service.")


class Readiness(_Answer):
    """Studies can be submitted, and will be run."""

    status: Literal["ready"] = Field(
        default="ready", description="Always `ready`; anything else is the problem `not-ready`."
    )
    optimizers: int = Field(description="How many optimizers are on offer.")
    workloads: int = Field(description="How many workloads are on offer.")
    dispatchers: int = Field(description="How many dispatchers were heard of in the last 30 seconds.")
    dispatcher_seen_at: datetime = Field(description="When a dispatcher was heard of last.")
    revision: str = Field(
        description="The revision that the database is at: the one that this version needs."
    )


class ProblemKindView(_Answer):
    """A kind of problem, explained."""

    type: str = Field(
        description="The `type` that problems of this kind carry.", examples=["/problems/study-not-found"]
    )
    title: str = Field(description="What it is, in a few words.")
    status: int = Field(description="The HTTP status that comes with it.")
    advice: str = Field(description="What causes it and what to do.")
    example: str = Field(description="The detail of one occurrence.")
