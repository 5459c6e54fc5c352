"""What a run and the store pass to each other: claims, new and pending trials, and reports. No SQL."""

__all__ = [
    "CardDifference",
    "CheckResult",
    "CheckStatus",
    "Claim",
    "FiniteNumber",
    "Measurement",
    "NewTrial",
    "PendingTrial",
    "Phase",
    "Report",
    "WorkloadVersion",
]

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from studies.artifacts import NewArtifact
from studies.space import Parameters

if TYPE_CHECKING:
    # It imports this module.
    from studies.layers import MeasuredLayers

Phase = Literal["search", "confirmation"]
"""Whether a trial belongs to an arm's search or to the confirmation of what the search found."""


def _none_unless_finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


FiniteNumber = Annotated[float | None, BeforeValidator(_none_unless_finite)]
"""A number; one that is not finite becomes none."""


class Measurement(BaseModel):
    """What a trial measured at the end of one epoch; none stands for not finite or not applicable."""

    # In the API's schema every field is always present, as none of them is left out of an answer.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    epoch: int = Field(ge=1, description="Number of the epoch, from 1.")
    elapsed_s: float = Field(
        ge=0,
        description=(
            "Training seconds of the trial so far, without evaluation; its share of the seconds of a pack."
        ),
    )
    lr: FiniteNumber = Field(default=None, description="Learning rate at the epoch's last step.")
    train_loss: FiniteNumber = Field(default=None, description="Mean training loss over the epoch's steps.")
    validation_loss: FiniteNumber = Field(default=None, description="Loss on the validation split.")
    validation_metric: FiniteNumber = Field(
        default=None, description="The study's objective on the validation split."
    )
    metrics: dict[str, FiniteNumber] = Field(
        default_factory=dict[str, float | None],
        description="The workload's other metrics on the validation split, by name.",
    )
    weight_norm: FiniteNumber = Field(
        default=None, description="Probe: L2 norm of all weights of two or more dimensions together."
    )
    effective_step: FiniteNumber = Field(
        default=None,
        description=(
            "Probe: how far a step moves the direction of a weight, norm(w'/|w'| - w/|w|), mean over probed "
            "steps and weights of two or more dimensions."
        ),
    )
    projected_fraction: FiniteNumber = Field(
        default=None,
        description=(
            "Probe: share of probed (step, weight) pairs whose update was projected; none for optimizers "
            "that never project."
        ),
    )
    gradient_cosine: FiniteNumber = Field(
        default=None,
        description=(
            "Probe: absolute cosine between gradient and weight, whole tensors, mean over probed steps and "
            "weights."
        ),
    )


class CardDifference(BaseModel):
    """One thing in which a workload's data is not what its card says, or splits that share inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)

    kind: Literal["examples", "overlap"] = Field(
        description="`examples`: another number of examples; `overlap`: inputs that another split has too."
    )
    split: str = Field(description="The split.")
    other: str | None = Field(
        default=None, description="The split that shares inputs with it; none for `examples`."
    )
    expected: int = Field(description="Examples of the split: on the card or, for `overlap`, in the data.")
    found: int = Field(description="Examples in the data or, for `overlap`, different inputs in both splits.")


CheckStatus = Literal["ok", "note", "warning", "error"]
"""`note` is information, `warning` may be intended, `error` makes a study's results wrong or impossible."""


@validated(frozen=True, config=ConfigDict(extra="forbid"))
class CheckResult:
    """What one check of a workload found."""

    check: Annotated[str, Field(description="What was checked, in a few words.")]
    status: Annotated[
        CheckStatus,
        Field(description="An error fails a study before its first trial; anything else does not."),
    ]
    sentence: Annotated[
        str, Field(description="What was found; of an error, what was expected, what came and what to do.")
    ]
    where: Annotated[
        str | None,
        Field(description="File and line of the workload's code that it is about, if there is one."),
    ] = None

    def __str__(self) -> str:
        """Return the check, the sentence and the place, e.g. `loss: … (train.py:12)`."""
        return f"{self.check}: {self.sentence}" + (f" ({self.where})" if self.where else "")


@dataclass(frozen=True)
class WorkloadVersion:
    """What a check of a workload depends on.

    Attributes:
        workload: its name.
        package: the version of its package as text.
        batch_size: examples in a batch.
        device: `cpu` or `gpu`.
        optimizer: what the check trains with.
        budget: whether a script is trained for a number of epochs or of steps.
    """

    workload: str
    package: str
    batch_size: int
    device: Literal["cpu", "gpu"]
    optimizer: str
    budget: Literal["epochs", "steps"] = "epochs"


@dataclass(frozen=True)
class Claim:
    """A study that a dispatcher has claimed.

    Attributes:
        study_id: the study.
        attempt: number of this attempt to run it.
        finished_trials: trials of its search and its confirmation that had ended when it was claimed.
    """

    study_id: str
    attempt: int
    finished_trials: int = field(default=0, compare=False)


@dataclass(frozen=True)
class NewTrial:
    """A trial to be: its place in its arm, its configuration and its seed.

    Attributes:
        number: its number in its arm and phase.
        origin, parameters, replicate: of a confirmation, those of the trial that it confirms.
        to_epoch: the epoch it is trained to first; None stands for the study's last.
        bracket: Hyperband's bracket; 0 with every other pruner.
        phase: whether it belongs to the search, or confirms what that has found.
        confirms: number of the search's trial that a confirmation trains again; None in the search.
        pair_index: number of its pair in its replicate, from 0; None if it is not paired.
    """

    arm: str
    number: int
    origin: Literal["default", "sampled"]
    parameters: Parameters
    seed: int
    replicate: int = 0
    to_epoch: int | None = None
    bracket: int = 0
    phase: Phase = "search"
    confirms: int | None = None
    pair_index: int | None = None


@dataclass(frozen=True)
class PendingTrial:
    """A trial that is queued: for a worker or, at a rung, for a decision.

    Attributes:
        number: its number in its arm and phase.
        to_epoch: the epoch it is to be trained to next.
        epochs_done: epochs that the next worker finds done.
        bracket: Hyperband's bracket; 0 with every other pruner.
        checkpoint: URL of its state after `epochs_done` epochs; None when there are none.
        replicate: which repetition of its arm's search it belongs to.
        phase: whether it belongs to the search, or confirms what that has found.
        confirms: number of the search's trial that a confirmation trains again.
        pair_index: number of its pair in its replicate, from 0; None if it is not paired.
    """

    id: str
    arm: str
    number: int
    attempt: int
    parameters: Parameters
    seed: int
    to_epoch: int
    epochs_done: int = 0
    bracket: int = 0
    checkpoint: str | None = None
    replicate: int = 0
    phase: Phase = "search"
    confirms: int | None = None
    pair_index: int | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it has come to a rung and waits to be promoted or pruned."""
        return 0 < self.epochs_done == self.to_epoch


@dataclass(frozen=True)
class Report:
    """What one trial says after an epoch.

    Attributes:
        trial_id: the trial.
        attempt: which try of it speaks.
        measurement: what it measured at the end of the epoch.
        ended: the state it ended in with this epoch; None while it goes on.
        value, best_epoch, test_value, test_metrics, reason: its outcome, where it ended.
        worker: host and process that trained it.
        checkpoint: URL of its state after this epoch, where it was left: at a rung, and now and then.
        pack_size: how many trials were trained together with it, itself counted.
        charged_s: its share of the pack's wall time since the pack's last report.
        memory_bytes, device_memory_bytes: its share of the pack's peak memory so far; None: not measured.
        artifacts: files that its worker has kept, or could not keep.
        layers: what its layers measured; None unless that was asked for.
    """

    trial_id: str
    attempt: int
    measurement: Measurement
    ended: Literal["completed", "pruned", "diverged", "failed"] | None = None
    value: float | None = None
    best_epoch: int | None = None
    test_value: float | None = None
    test_metrics: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    reason: str | None = None
    worker: str | None = None
    checkpoint: str | None = None
    pack_size: int | None = None
    charged_s: float = 0.0
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    artifacts: tuple[NewArtifact, ...] = ()
    layers: "MeasuredLayers | None" = None
