"""What readers get: immutable views of studies, arms, trials, measurements and events.

They are the same for REST, CLI, client and page.
"""

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
    "TrialView",
]

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from studies.catalog import OptimizerCard, WorkloadCard
from studies.space import Parameters, Space
from studies.spec import StudySpec
from studies.states import StudyState, TrialFilter, TrialState
from studies.trials import Measurement, Phase

EventKind = Literal[
    "study.submitted",
    "study.state",
    "study.extended",
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


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(_View):
    """How far a study, or one arm of it, has come.

    Its search, and apart from it the runs that confirm what was found.
    """

    trials: int = Field(description="Trials of the search to be run in all, replicates together.")
    finished: int = Field(description="Trials that ended in any way.")
    completed: int = Field(description="Trials trained to their last epoch.")
    diverged: int = Field(description="Trials whose loss or weights stopped being finite.")
    pruned: int = Field(description="Trials stopped early by the pruner.")
    failed: int = Field(description="Trials lost to a fault of machinery or workload.")
    cancelled: int = Field(description="Trials ended by a stop or a cancel.")
    running: int = Field(description="Trials being trained now.")
    waiting: int = Field(
        description="Trials that came to a rung and wait to be promoted or pruned; their state is `queued`."
    )
    epochs_done: int = Field(
        description="Epochs trained so far, over all trials; what was lost and trained again counts once."
    )
    epochs: int = Field(
        description=(
            "Epochs to be trained in all, when no trial ends early; with the pruner "
            "`median` the most that it can be."
        )
    )
    confirmations: int = Field(
        default=0,
        description="Confirmation runs in all: while some are still to come, the most that it can be.",
    )
    confirmations_finished: int = Field(default=0, description="Confirmation runs that ended in any way.")
    confirmations_running: int = Field(default=0, description="Confirmation runs being trained now.")


class Best(_View):
    """The best completed trial of an arm's search, by validation, over all its replicates."""

    trial_id: str = Field(description="Id of the trial.")
    number: int = Field(description="The trial's number in its arm, from 0.")
    value: float = Field(description="Validation metric at the objective's epoch.")
    test_value: float | None = Field(
        description="Test metric at the same epoch; for reporting, never for choosing."
    )
    epoch: int | None = Field(description="The epoch both were measured at.")
    parameters: Parameters = Field(description="The configuration.")
    python: str = Field(description="Python that builds this optimizer for `model`, ready to paste.")
    call: str = Field(description="The constructor's call alone, on one line.")


class BestValue(_View):
    """The best validation value of an arm's search, whichever way its metric runs."""

    arm: str = Field(description="Name of the arm.")
    optimizer: str = Field(description="Name of its optimizer.")
    highest: float = Field(description="Highest value of a completed trial.")
    lowest: float = Field(description="Lowest value of one.")


class StackWidthView(_View):
    """How trials of an optimizer fit on a device when they are trained together: what a worker measured."""

    workload: str = Field(description="Name of the workload.")
    optimizer: str = Field(description="Name of the optimizer.")
    batch_size: int = Field(description="Examples per step.")
    device: str = Field(description="'cpu', or the GPU's name.")
    width: int = Field(description="Trials stacked at once, as many as were fastest.")
    reason: str | None = Field(
        default=None, description="Why the width is 1, or was lowered; none where stacking pays."
    )
    bytes_per_member: int | None = Field(
        default=None, description="Memory that one more trial takes; none where it was not measured."
    )
    trial_steps_per_s: dict[int, float] = Field(
        default_factory=dict[int, float], description="Steps of all trials together in a second, by width."
    )
    measured_at: datetime = Field(description="When it was measured.")


class ArmView(_View):
    """One arm: an optimizer, its space, how far it is and its best configuration."""

    name: str = Field(description="Name of the arm, unlike any other in its study.")
    position: int = Field(description="Place in the study, from 0; fixes its colour on the page.")
    optimizer: OptimizerCard = Field(
        description="The optimizer's card, as it stood when the study was submitted."
    )
    space: Space = Field(description="Every hyperparameter's dimension.")
    defaults: Parameters = Field(description="Configuration of the arm's first trial.")
    progress: Progress = Field(description="How far this arm has come.")
    best: Best | None = Field(description="None until a trial has completed.")
    fit: StackWidthView | None = Field(
        description="How its trials fit on the device that measured last; none while no worker has measured."
    )

    @property
    def label(self) -> str:
        """The name to show: the optimizer's title, or the arm's own name if the study gave it one."""
        return self.optimizer.title if self.name == self.optimizer.name else self.name


class StudySummary(_View):
    """A study in a list."""

    id: str = Field(description="Its id, made when it was submitted.")
    name: str = Field(description="A title for people.")
    state: StudyState = Field(description="Where it stands.")
    state_reason: str | None = Field(
        description="Why the study is in this state, when there is something to say."
    )
    workload: str = Field(description="Name of its workload.")
    suite: str | None = Field(default=None, description="Label of the suite that it belongs to.")
    arms: tuple[str, ...] = Field(description="Names of its arms.")
    owner: str | None = Field(description="Name of the token it was submitted with; none on an open service.")
    progress: Progress = Field(description="How far it has come, all arms together.")
    created_at: datetime = Field(description="When it was submitted.")
    started_at: datetime | None = Field(
        description="When a run first began to work on it; none while it waits."
    )
    ended_at: datetime | None = Field(
        description="When it was closed; none while it is open, again or still."
    )


class StudyView(StudySummary):
    """A study in full, its arms apart."""

    version: int = Field(description="Counts the changes of state; the ETag.")
    verbs: tuple[str, ...] = Field(
        description="What may be done with it now: pause, resume, stop, cancel, confirm, extend."
    )
    workload_card: WorkloadCard = Field(
        description="The workload's card, as it stood when the study was submitted."
    )
    epochs: int = Field(description="Epochs of each trial.")
    batch_size: int = Field(description="Examples per step.")
    spec: StudySpec = Field(description="What was submitted, shorthands spelled out and extensions added.")
    environment: dict[str, str] = Field(
        default_factory=dict[str, str],
        description=(
            "What trained it: versions, processors; of each all that were seen, in "
            "that order. Empty while unknown."
        ),
    )


class TrialView(_View):
    """One configuration trained once."""

    id: str = Field(
        description=(
            "Its id: the study's, the arm's name and the number, with dots between; a `c` "
            "precedes a confirmation's number."
        )
    )
    study_id: str = Field(description="Id of its study.")
    arm: str = Field(description="Name of its arm.")
    phase: Phase = Field(
        default="search",
        description="Whether it belongs to the search, or confirms on a fresh seed what that has found.",
    )
    number: int = Field(description="Number in its arm and phase, from 0.")
    confirms: int | None = Field(
        default=None,
        description="Number of the search's trial that it trains again; none in the search itself.",
    )
    state: TrialState = Field(description="Where it stands; diverged is a result, failed is not.")
    origin: Literal["default", "sampled"] = Field(
        description="The optimizer's defaults, or chosen by the sampler."
    )
    parameters: Parameters = Field(description="The configuration that was trained.")
    replicate: int = Field(description="Which independent repetition of the search it belongs to, from 0.")
    seed: int = Field(description="Seed of initialisation and data order; the same in every arm.")
    attempt: int = Field(description="Which try this is, from 1.")
    retries: int = Field(description="How many tries were lost to a fault of the machinery.")
    value: float | None = Field(
        description="Validation metric at the objective's epoch; none unless completed."
    )
    best_epoch: int | None = Field(description="The epoch that value was measured at.")
    test_value: float | None = Field(description="Test metric at that epoch.")
    epochs_done: int = Field(description="Epochs trained so far.")
    to_epoch: int = Field(
        description="Epoch that it is to be trained to next: a rung of the pruner, or its last."
    )
    bracket: int = Field(
        description="Hyperband's bracket, from 0, the one with the most rungs; 0 with every other pruner."
    )
    pack_size: int | None = Field(
        description=(
            "Trials that were trained together in its last pack, itself counted; none before its first epoch."
        )
    )
    cost_s: float = Field(
        description="Training seconds of the trial, its share where it was packed with others."
    )
    reason: str | None = Field(description="Why it diverged, failed or was cancelled.")
    worker: str | None = Field(description="Where it ran: host and process.")
    created_at: datetime = Field(description="When its configuration was chosen.")
    started_at: datetime | None = Field(
        description="When its present attempt began; none while it waits for it."
    )
    ended_at: datetime | None = Field(description="When it ended; none while it has not.")

    @property
    def is_waiting(self) -> bool:
        """Whether it has come to a rung, at `epochs_done`, and waits to be promoted or pruned."""
        return self.state is TrialState.QUEUED and 0 < self.epochs_done == self.to_epoch

    def is_among(self, asked: TrialFilter) -> bool:
        """Return whether it is one of those that are asked for."""
        return self.is_waiting if asked is TrialFilter.WAITING else self.state.value == asked.value


class CurvePoint(_View):
    """Best value so far, after one more trial has finished."""

    trials: int = Field(
        description="Trials of the arm finished so far, from 1: the diverged counted, the pruned not."
    )
    elapsed_s: float = Field(
        description="Training seconds that the arm had spent by then, those of pruned trials among them."
    )
    value: float | None = Field(description="Best validation value among them; none while all have diverged.")


class Curve(_View):
    """Best so far of one arm, in the order in which its trials finished."""

    arm: str = Field(description="Name of the arm.")
    points: tuple[CurvePoint, ...] = Field(
        description="One point for each trial that finished, in that order."
    )


class StudyRecord(_View):
    """All that an analysis of a study rests on, as it stood at one moment."""

    study: StudyView = Field(description="The study.")
    arms: tuple[ArmView, ...] = Field(description="Its arms in order.")
    trials: tuple[TrialView, ...] = Field(description="Trials of the search, oldest first.")
    confirmations: tuple[TrialView, ...] = Field(description="Confirmation trials, oldest first.")
    measurements: dict[str, tuple[Measurement, ...]] = Field(
        description=(
            "Epoch by epoch, by trial id: of every confirmation trial, and of the "
            "best trial of each arm's search."
        )
    )


class SuiteSummary(_View):
    """A suite in a list: studies that share a label."""

    name: str = Field(description="The label.")
    studies: int = Field(description="How many studies have it.")
    workloads: tuple[str, ...] = Field(description="Their workloads, in alphabetical order.")
    last_at: datetime = Field(description="When the newest of them was submitted.")


class EventView(_View):
    """Something that happened to a study."""

    id: int = Field(
        description="Number in its study, from 1 without gaps; the `Last-Event-ID` of the stream."
    )
    kind: EventKind = Field(description="What happened.")
    at: datetime = Field(description="When it happened.")
    data: dict[str, object] = Field(
        description="Details; for `progress` the study's and each arm's progress."
    )


class Quotas(_View):
    """How much a token may have; none sets no bound."""

    max_studies: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Studies that are not closed, at once; a paused one counts.",
    )
    max_trials: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Trials of one study, its confirmation runs among them.",
    )
    max_gpu_hours: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="GPU-hours of all its studies; once they are used, no study that needs a GPU begins.",
    )


class AuditView(_View):
    """Something that somebody did."""

    id: int = Field(description="Number of the entry; later ones are larger.")
    at: datetime = Field(description="When it was done.")
    actor: str | None = Field(
        description="Name of the token; none on an open service and at the database itself."
    )
    verb: AuditVerb = Field(description="What was done; confirming is `extend`, cloning is `submit`.")
    study_id: str | None = Field(description="To which study; none where it was no study's.")
    subject: str | None = Field(
        description="To which token, or to which webhook by its id; none where it was neither's."
    )
    address: str | None = Field(
        description=(
            "Where the request came from: an IP address, or the account at the database's own machine."
        )
    )


class TokenView(_View):
    """An API token, without its secret."""

    name: str = Field(description="Who or what it is for.")
    role: Role = Field(description="What it permits.")
    created_at: datetime = Field(description="When it was made.")
    revoked_at: datetime | None = Field(description="When it was made worthless; none while it is valid.")
    last_used_at: datetime | None = Field(description="When it was last used, to the minute; none if never.")
    quotas: Quotas = Field(default=Quotas(), description="How much it may have.")
    open_studies: int | None = Field(
        default=None, description="Its studies that are not closed; none where it was not asked for."
    )
    gpu_hours: float | None = Field(
        default=None, description="GPU-hours that its studies have used; none where it was not asked for."
    )


class Page(_View, Generic[T]):
    """One page of a list."""

    items: tuple[T, ...] = Field(description="The items of this page.")
    next_page_token: str | None = Field(
        description="Give it back as `page_token` to go on; none on the last page."
    )
    total: int = Field(description="How many there are on all pages.")
