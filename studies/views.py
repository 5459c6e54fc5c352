"""Immutable views of studies, arms, trials and events, shared by REST, CLI, client and dashboard."""

__all__ = [
    "ArmView",
    "AuditVerb",
    "AuditView",
    "Best",
    "BestValue",
    "Curve",
    "CurvePoint",
    "EventKind",
    "EventView",
    "Page",
    "Progress",
    "Quotas",
    "Role",
    "StackWidthView",
    "StudyRecord",
    "StudySummary",
    "StudyView",
    "SuiteSummary",
    "TokenView",
    "TrialList",
    "TrialOutput",
    "TrialView",
]

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import Field

from studies.catalog import Hyperparameter, OptimizerCard, WorkloadCard
from studies.frozen_model import FrozenModel
from studies.searchable import conditions_of
from studies.space import Condition, Parameters, Space
from studies.spec import StudySpec
from studies.states import StudyState, TrialFilter, TrialState
from studies.trials import CardDifference, CheckResult, Measurement, Phase

EventKind = Literal[
    "study.submitted",
    "study.state",
    "study.extended",
    "study.noted",
    "trial.started",
    "trial.requeued",
    "trial.promoted",
    "trial.finished",
    "progress",
]
Role = Literal["viewer", "submitter", "admin"]
AuditVerb = Literal[
    "submit",
    "pause",
    "resume",
    "stop",
    "cancel",
    "extend",
    "label",
    "archive",
    "unarchive",
    "note",
    "delete",
    "token.create",
    "token.change",
    "token.revoke",
    "login",
    "login.refused",
    "logout",
    "webhook.create",
    "webhook.test",
    "webhook.enable",
    "webhook.remove",
]
T = TypeVar("T")


class Progress(FrozenModel):
    """The progress of a study or of one arm: of its search and, separately, of its confirmation."""

    trials: int = Field(description="Planned trials of the search, over all replicates.")
    finished: int = Field(description="Trials that ended, in any state.")
    completed: int = Field(description="Trials trained to their last epoch.")
    diverged: int = Field(description="Trials whose loss or weights stopped being finite.")
    pruned: int = Field(description="Trials stopped early by the pruner.")
    failed: int = Field(description="Trials lost to a fault of the infrastructure or the workload.")
    cancelled: int = Field(description="Trials ended by a stop or a cancel.")
    running: int = Field(description="Trials being trained now.")
    waiting: int = Field(
        description="Trials that wait at a rung to be promoted or pruned; their state is `queued`."
    )
    epochs_done: int = Field(
        description="Epochs trained so far, over all trials; epochs that were trained again count once."
    )
    epochs: int = Field(
        description=(
            "Planned epochs if no trial diverges or fails; with the pruner `median`, the most that are "
            "possible."
        )
    )
    confirmations: int = Field(
        default=0,
        description="Planned confirmation runs: an upper bound until the search has ended.",
    )
    confirmations_finished: int = Field(default=0, description="Confirmation runs that ended, in any state.")
    confirmations_running: int = Field(default=0, description="Confirmation runs being trained now.")


class Best(FrozenModel):
    """The best completed trial of an arm's search by validation value, over all replicates."""

    trial_id: str = Field(description="Id of the trial.")
    number: int = Field(description="The trial's number in its arm, from 0.")
    value: float = Field(description="Validation metric at the objective's epoch.")
    test_value: float | None = Field(
        description="Test metric at the same epoch; only for reporting, never for choosing."
    )
    test_metrics: dict[str, float | None] = Field(
        default_factory=dict[str, float | None],
        description="The workload's other metrics on the test split at the same epoch, by name.",
    )
    epoch: int | None = Field(description="The epoch at which both were measured.")
    parameters: Parameters = Field(description="The configuration.")
    python: str = Field(
        description="Python code that builds the optimizer and its schedule for `model`, ready to paste."
    )
    call: str = Field(description="Only the constructor call, on one line.")


class BestValue(FrozenModel):
    """The extreme validation values of an arm's search; which is the best depends on the metric."""

    arm: str = Field(description="Name of the arm.")
    optimizer: str = Field(description="Name of its optimizer.")
    highest: float = Field(description="Highest value of a completed trial.")
    lowest: float = Field(description="Lowest value of a completed trial.")


class StackWidthView(FrozenModel):
    """The number of trials that a worker found fastest to train together on a device."""

    workload: str = Field(description="Name of the workload.")
    optimizer: str = Field(description="Name of the optimizer.")
    batch_size: int = Field(description="Examples per step.")
    device: str = Field(description="'cpu', or the GPU's name.")
    width: int = Field(description="Trials that are stacked: the fastest number.")
    reason: str | None = Field(
        default=None, description="Why the width is 1 or was lowered; none if stacking is faster."
    )
    bytes_per_member: int | None = Field(
        default=None, description="Memory for each additional trial; none if not measured."
    )
    trial_steps_per_s: dict[int, float] = Field(
        default_factory=dict[int, float], description="Steps per second of all trials together, by width."
    )
    measured_at: datetime = Field(description="When it was measured.")


class ArmView(FrozenModel):
    """One arm: an optimizer, its space, its progress and its best configuration."""

    name: str = Field(description="Name of the arm, unique in its study.")
    position: int = Field(description="Place in the study, from 0.")
    style: int = Field(
        default=0,
        description=(
            "Number of its colour, dash and marker on every page. The colour, this modulo 8, belongs to its "
            "optimizer; if two optimizers of a study want the same, the later one has the next free colour."
        ),
    )
    optimizer: OptimizerCard = Field(description="The optimizer's card when the study was submitted.")
    further_hyperparameters: tuple[Hyperparameter, ...] = Field(
        default=(),
        description=(
            "What the study sets or searches beside the optimizer's hyperparameters, with names such as "
            "`training.batch_size`."
        ),
    )
    overrides: tuple[str, ...] = Field(
        default=(), description="Those of them that this arm's own space sets, for this arm alone."
    )
    space: Space = Field(description="The dimension of every hyperparameter.")
    defaults: Parameters = Field(description="Configuration of the arm's first trial.")
    progress: Progress = Field(description="Progress of this arm.")
    best: Best | None = Field(description="The best completed trial; none until one has completed.")
    memory_bytes: int | None = Field(
        default=None, description="Most memory that one of its trials has needed; none before it is measured."
    )
    device_memory_bytes: int | None = Field(
        default=None, description="The same of a GPU's memory; none on CPUs."
    )
    fit: StackWidthView | None = Field(
        description="How its trials fit on the device that measured last; none while no worker has measured."
    )

    @property
    def label(self) -> str:
        """The name to show: the optimizer's title, or the arm's own name if the study gave it one."""
        return self.optimizer.title if self.name == self.optimizer.name else self.name

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The optimizer's hyperparameters, then those with dotted names."""
        return *self.optimizer.hyperparameters, *self.further_hyperparameters

    @property
    def conditions(self) -> dict[str, Condition]:
        """The condition of each hyperparameter that has one."""
        return conditions_of(self.hyperparameters)


class StudySummary(FrozenModel):
    """A study in a list."""

    id: str = Field(description="Id of the study.")
    name: str = Field(description="Title of the study.")
    state: StudyState = Field(description="State of the study.")
    state_reason: str | None = Field(description="Why the study is in this state, if there is a reason.")
    workload: str = Field(description="Name of its workload.")
    suite: str | None = Field(default=None, description="Label of its suite.")
    arms: tuple[str, ...] = Field(description="Names of its arms.")
    tags: tuple[str, ...] = Field(default=(), description="Its tags.")
    owner: str | None = Field(description="Name of the token that submitted it; none on an open service.")
    progress: Progress = Field(description="Progress of all arms together.")
    created_at: datetime = Field(description="When it was submitted.")
    started_at: datetime | None = Field(description="When its first run started; none before that.")
    ended_at: datetime | None = Field(description="When it was closed; none while it is open.")
    archived_at: datetime | None = Field(
        default=None, description="When it was archived; none if it is in the list of studies."
    )


class StudyView(StudySummary):
    """A study in full, without its arms."""

    version: int = Field(description="Counts changes of the state, and of the archive; used as the ETag.")
    notes_version: int = Field(
        default=0,
        description="Number of its newest notes; 0 if it never had notes. Notes change no other field.",
    )
    verbs: tuple[str, ...] = Field(
        description="The verbs that are allowed now, of pause, resume, stop, cancel, confirm and extend."
    )
    workload_card: WorkloadCard = Field(
        description=(
            "The workload's card when the study was submitted. Its metric is the study's objective, and its "
            "`metrics` are all others."
        )
    )
    epochs: int = Field(description="Epochs of each trial; with a budget of steps, its intervals.")
    interval_steps: int | None = Field(
        default=None, description="Steps of the interval that replaces an epoch; null for epochs."
    )
    batch_size: int = Field(description="Examples per step.")
    spec: StudySpec = Field(
        description="The study as submitted, with shorthands expanded and extensions applied."
    )
    environment: dict[str, str] = Field(
        default_factory=dict[str, str],
        description=(
            "Software versions and processors that trained it; if several were used, all of them in order. "
            "Empty until the first run starts."
        ),
    )
    card_differences: tuple[CardDifference, ...] = Field(
        default=(),
        description="In what the workload's data differs from its card, as found when it was first loaded.",
    )
    check_results: tuple[CheckResult, ...] = Field(
        default=(),
        description=(
            "What the check of the workload found before the first trial; empty before it has ended, and if "
            "there is none: of a built-in workload, and with `check_workload` false."
        ),
    )


class TrialOutput(FrozenModel):
    """The end of what a trial's worker printed, on both standard output and standard error."""

    trial_id: str = Field(description="Id of the trial.")
    attempt: int = Field(
        description="The attempt that printed it: the last one that printed anything, if there were several."
    )
    trials: int = Field(
        description="Number of trials that its worker trained meanwhile, with this one; the output is of all."
    )
    text: str = Field(
        description="The last lines, without control characters; empty if it printed nothing else."
    )
    size: int = Field(description="Bytes that it printed in all; the text may be only their end.")
    written_at: datetime | None = Field(description="When it was stored; none if it printed nothing.")


class TrialView(FrozenModel):
    """A trial: one configuration, trained once."""

    id: str = Field(
        description=(
            "Its id: the study's id, the arm's name and the number, joined by dots; the number of a "
            "confirmation run starts with a `c`."
        )
    )
    study_id: str = Field(description="Id of its study.")
    arm: str = Field(description="Name of its arm.")
    phase: Phase = Field(
        default="search",
        description="Whether it belongs to the search or is a confirmation run on a fresh seed.",
    )
    number: int = Field(description="Number in its arm and phase, from 0.")
    confirms: int | None = Field(
        default=None,
        description="Number of the trial of the search that it trains again; none in the search.",
    )
    state: TrialState = Field(description="State of the trial; diverged is a result, failed is not.")
    origin: Literal["default", "sampled"] = Field(
        description="Whether its configuration is the optimizer's default or was sampled."
    )
    pair_index: int | None = Field(
        default=None,
        description="Number of its pair in its replicate, from 0; none if it is not paired with other arms.",
    )
    parameters: Parameters = Field(description="The configuration that was trained.")
    replicate: int = Field(description="Replicate of the search, from 0.")
    seed: int = Field(description="Seed of initialisation and data order, the same in every arm.")
    attempt: int = Field(description="Number of the current attempt, from 1.")
    retries: int = Field(description="How many attempts were lost to a fault of the infrastructure.")
    value: float | None = Field(
        description="Validation metric at the objective's epoch; none unless completed."
    )
    best_epoch: int | None = Field(description="The epoch at which `value` was measured.")
    test_value: float | None = Field(description="Test metric at that epoch.")
    test_metrics: dict[str, float | None] = Field(
        default_factory=dict[str, float | None],
        description="The workload's other metrics on the test split at that epoch, by name.",
    )
    epochs_done: int = Field(description="Epochs trained so far.")
    to_epoch: int = Field(description="The epoch at which it stops next: a rung of the pruner, or its last.")
    bracket: int = Field(
        description="Hyperband's bracket, where 0 has the most rungs; 0 with every other pruner."
    )
    pack_size: int | None = Field(
        description=("Number of trials in its last pack, including itself; none before its first epoch.")
    )
    memory_bytes: int | None = Field(
        default=None,
        description=(
            "Peak memory of its worker and the processes below it, divided by the trials of the pack; the "
            "highest of its packs. None: not measured."
        ),
    )
    device_memory_bytes: int | None = Field(
        default=None,
        description="The same of what torch allocated on a GPU; none of a trial on CPUs.",
    )
    cost_s: float = Field(
        description="Training seconds of the trial: its part of the pack's time if it shared a pack."
    )
    reason: str | None = Field(description="Why it diverged, failed or was cancelled.")
    traceback: str | None = Field(
        default=None,
        description="The workload's own frames of the error that failed it; none without an error.",
    )
    worker: str | None = Field(description="Host and process that trained it.")
    heard_at: datetime | None = Field(
        default=None, description="When its worker last said that it goes on; none before its first start."
    )
    step: int | None = Field(
        default=None,
        description="Steps since its last epoch, as its worker said then; none if that is not known.",
    )
    created_at: datetime = Field(description="When its configuration was chosen.")
    started_at: datetime | None = Field(description="When its current attempt started; none while it waits.")
    ended_at: datetime | None = Field(description="When it ended; none before that.")

    @property
    def is_waiting(self) -> bool:
        """Whether it waits at a rung to be promoted or pruned."""
        return self.state is TrialState.QUEUED and 0 < self.epochs_done == self.to_epoch

    def matches(self, trial_filter: TrialFilter) -> bool:
        """Return whether the trial passes a filter."""
        if trial_filter is TrialFilter.WAITING:
            return self.is_waiting
        return self.state.value == trial_filter.value


@dataclass(frozen=True)
class TrialList:
    """The trials of a study by id, and what they have.

    Attributes:
        ids: the ids in order.
        metrics: names of the further metrics of any of them.
        parameters: names of the hyperparameters of any of them.
    """

    ids: tuple[str, ...]
    metrics: tuple[str, ...]
    parameters: tuple[str, ...]


class CurvePoint(FrozenModel):
    """The best value so far after one more trial has finished."""

    trials: int = Field(
        description="Finished trials of the arm so far, from 1, including diverged but not pruned ones."
    )
    elapsed_s: float = Field(
        description="Training seconds of the arm so far, including those of pruned trials."
    )
    value: float | None = Field(description="Best validation value so far; none while all have diverged.")


class Curve(FrozenModel):
    """The best value so far of one arm, in the order in which its trials finished."""

    arm: str = Field(description="Name of the arm.")
    points: tuple[CurvePoint, ...] = Field(description="One point for each finished trial, in order.")


class StudyRecord(FrozenModel):
    """The data that an analysis of a study uses, all read at one moment."""

    study: StudyView = Field(description="The study.")
    arms: tuple[ArmView, ...] = Field(description="Its arms in order.")
    trials: tuple[TrialView, ...] = Field(description="Trials of the search, oldest first.")
    confirmations: tuple[TrialView, ...] = Field(description="Confirmation trials, oldest first.")
    measurements: dict[str, tuple[Measurement, ...]] = Field(
        description=(
            "Measurements by trial id, in order of epochs: of every confirmation run, and of the best trial "
            "of each arm's search."
        )
    )


class SuiteSummary(FrozenModel):
    """A suite in a list: the studies that share a label."""

    name: str = Field(description="The label.")
    studies: int = Field(description="Number of studies.")
    workloads: tuple[str, ...] = Field(description="Their workloads, in alphabetical order.")
    last_at: datetime = Field(description="When the newest of them was submitted.")


class EventView(FrozenModel):
    """An event of a study."""

    id: int = Field(
        description="Number in its study, from 1 without gaps; the `Last-Event-ID` of the event stream."
    )
    kind: EventKind = Field(description="What happened.")
    at: datetime = Field(description="When it happened.")
    data: dict[str, object] = Field(
        description="Details; for `progress`, the progress of the study and of each arm."
    )


class Quotas(FrozenModel):
    """Limits of a token; none means no limit."""

    max_studies: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Studies that may be open at once; paused ones count.",
    )
    max_trials: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Trials of one study, including its confirmation runs.",
    )
    max_gpu_hours: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="GPU-hours of all its studies; when they are used up, no study that needs a GPU starts.",
    )


class AuditView(FrozenModel):
    """An entry of the audit log."""

    id: int = Field(description="Number of the entry; later ones are larger.")
    at: datetime = Field(description="When it was done.")
    actor: str | None = Field(
        description="Name of the token; none on an open service and for direct access to the database."
    )
    verb: AuditVerb = Field(description="The action; confirming is `extend`, cloning is `submit`.")
    study_id: str | None = Field(
        description="Id of the study concerned; none if the action concerns no study."
    )
    subject: str | None = Field(
        description="Name of the token or of the deleted study, or id of the webhook; none otherwise."
    )
    address: str | None = Field(
        description=(
            "Where the request came from: an IP address, or the operating system account for direct access "
            "to the database."
        )
    )


class TokenView(FrozenModel):
    """An API token, without its secret."""

    name: str = Field(description="Name of the token's user or purpose.")
    role: Role = Field(description="What it permits.")
    created_at: datetime = Field(description="When it was made.")
    revoked_at: datetime | None = Field(description="When it was revoked; none while it is valid.")
    last_used_at: datetime | None = Field(description="When it was last used, to the minute; none if never.")
    quotas: Quotas = Field(default=Quotas(), description="Its limits.")
    open_studies: int | None = Field(
        default=None, description="Number of its open studies; none if not requested."
    )
    gpu_hours: float | None = Field(
        default=None, description="GPU-hours that its studies have used; none if not requested."
    )


class Page(FrozenModel, Generic[T]):
    """One page of a list."""

    items: tuple[T, ...] = Field(description="The items of this page.")
    next_page_token: str | None = Field(
        description="Pass it as `page_token` to get the next page; none on the last page."
    )
    total: int = Field(description="Number of items on all pages.")
