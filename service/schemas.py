"""Response models of the API besides the views of `studies`."""

__all__ = [
    "Account",
    "ArmBest",
    "EventList",
    "Health",
    "ProblemKindView",
    "Readiness",
    "StudyPhrase",
    "StudyPlan",
]

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from service.decision_costs import DecisionCost, decision_costs, visible_gap
from service.placement import Placement, placement
from studies.catalog import BrokenPackage
from studies.cluster_views import ClusterView
from studies.confirmation import most_runs
from studies.extension import most_search_trials
from studies.frozen_model import FrozenModel
from studies.promotion import planned_epochs
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.views import Best, EventView, Role, TokenView


class StudyPlan(FrozenModel):
    """What a study would do; nothing is stored."""

    spec: StudySpec = Field(description="The submitted spec, shorthands expanded.")
    study: ResolvedStudy = Field(
        description="Every arm's complete space and defaults, and the cards that they come from."
    )
    trials: int = Field(description="Total number of trials of the search, all replicates together.")
    paired: int = Field(description="How many of these trials are paired across arms.")
    most_trials: int = Field(
        description="The same as `trials` with all pairs that may be added until the arms are decided."
    )
    decision_costs: tuple[DecisionCost, ...] = Field(
        description=(
            "If pairs are added until the arms are decided: the average cost for some true gaps between "
            "them. Empty if the metric is not a fraction, or there are more than 16 arms."
        )
    )
    visible_gap: float | None = Field(
        default=None,
        description=(
            "True difference of two arms, in percentage points, that the budget verdict detects in 80 % of "
            "such studies; with added pairs, if all of them are needed. Null without a budget verdict, or if "
            "the metric is not a fraction."
        ),
    )
    confirmations: int = Field(description="Most confirmation runs on fresh seeds.")
    epochs: int = Field(
        description=(
            "Total epochs of the search and the confirmation if no trial ends early, without pairs that are "
            "added; with the pruner `median`, the maximum."
        )
    )
    estimate_cpu_s: float | None = Field(
        description=(
            "Estimated training seconds on one CPU thread, from the workload's card; packs need less. "
            "Null if the card has no time."
        )
    )
    placement: Placement | None = Field(
        default=None,
        description="How it would fit on the machines that there are now; null if none are known.",
    )

    @classmethod
    def of(cls, spec: StudySpec, study: ResolvedStudy, *, machines: ClusterView | None = None) -> Self:
        """Return the plan of a resolved study.

        Args:
            spec: the study.
            study: the same study, resolved.
            machines: the state of the cluster, if the plan is to say how the study fits on it.
        """
        replicates = spec.budget.replicates
        trials = replicates * sum(arm.trials for arm in study.arms)
        confirmations = len(study.arms) * most_runs(replicates=replicates, seeds=spec.confirmation.seeds)
        paired = spec.search.paired
        in_pairs = replicates * sum(min(paired, arm.trials - 1) for arm in study.arms)
        searched = replicates * sum(
            planned_epochs(spec.pruner, study.epochs, trials=arm.trials, paired=paired) for arm in study.arms
        )
        epochs = searched + confirmations * study.epochs
        epoch_s = study.epoch_s(spec.training)
        cpu_s = None if epoch_s is None else epochs * epoch_s
        # A run of the confirmation begins after the search of its arm.
        one_after_another = study.epochs * (2 if confirmations else 1)
        return cls(
            spec=spec,
            study=study,
            trials=trials,
            paired=in_pairs,
            most_trials=most_search_trials(spec, study),
            decision_costs=decision_costs(spec, study, unpaired=trials - in_pairs),
            visible_gap=visible_gap(spec, study),
            confirmations=confirmations,
            epochs=epochs,
            estimate_cpu_s=cpu_s,
            placement=None
            if machines is None
            else placement(
                spec.resources,
                machines,
                runs=trials + confirmations,
                cpu_s=cpu_s,
                longest_s=None if epoch_s is None else epoch_s * one_after_another,
            ),
        )


class ArmBest(FrozenModel):
    """The best configuration of one arm."""

    arm: str = Field(description="Name of the arm.")
    optimizer: str = Field(description="Name of its optimizer.")
    best: Best | None = Field(
        description="Its best completed trial by validation value; null until a trial has completed."
    )


class StudyPhrase(FrozenModel):
    """The verdict on a study in a phrase."""

    study_id: str = Field(description="Id of the study.")
    verdict: str = Field(description="The verdict; empty before there is one.")


class EventList(FrozenModel):
    """Some of a study's events, oldest first."""

    items: tuple[EventView, ...] = Field(description="The events numbered above `after`.")
    after: int = Field(description="Number of the last event in the list; send it as `after` to continue.")
    is_last: bool = Field(description="True if the study is closed: no events follow unless it is extended.")


class Account(FrozenModel):
    """The caller."""

    role: Role = Field(description="The caller's role; on an open service every caller is an admin.")
    token: TokenView | None = Field(
        description="The caller's token, with its quotas and their use; null on an open service."
    )


class Health(FrozenModel):
    """The process is up."""

    status: Literal["up"] = Field(
        default="up", description="Always `up`: a process that is down cannot respond."
    )
    version: str = Field(description="Version of the service.")


class Readiness(FrozenModel):
    """Studies can be submitted, and will be run."""

    status: Literal["ready"] = Field(
        default="ready", description="Always `ready`; otherwise the response is the problem `not-ready`."
    )
    optimizers: int = Field(description="Number of optimizers in the catalogue.")
    workloads: int = Field(description="Number of workloads in the catalogue.")
    dispatchers: int = Field(description="Number of dispatchers with a heartbeat in the last 30 seconds.")
    dispatcher_problems: tuple[str, ...] = Field(
        default=(), description="Why some of these dispatchers can start no run, each reason once."
    )
    broken_packages: tuple[BrokenPackage, ...] = Field(
        default=(), description="Installed packages whose optimizers or workloads could not be loaded."
    )
    dispatcher_seen_at: datetime = Field(description="Time of the last heartbeat of any dispatcher.")
    revision: str = Field(description="Revision of the database, which is the one that this version needs.")


class ProblemKindView(FrozenModel):
    """A kind of problem, explained."""

    type: str = Field(description="The `type` of such problems.", examples=["/problems/study-not-found"])
    title: str = Field(description="A short name.")
    status: int = Field(description="The HTTP status.")
    advice: str = Field(description="What causes it and what to do.")
    example: str = Field(description="The detail of one occurrence.")
