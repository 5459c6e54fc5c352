"""The pack protocol: what a run hands to a trainable and what comes back, as plain values that travel as JSON.

A pack is one or more trials of one arm trained together on one device. The run builds a `Pack`; `workers.training` turns it into a stream of
`EpochReport`, one per epoch, and a member's last measurement comes with its `Outcome`.
"""

__all__ = ["EpochReport", "Measurement", "Member", "MemberReport", "Outcome", "Pack"]

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from studies.space import Parameters
from studies.spec import ScheduleName


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Member(_Message):
    """One trial inside a pack."""

    trial_id: str
    attempt: int = Field(ge=1, description="Which try of the trial this is; reports of an older attempt are refused.")
    parameters: Parameters = Field(description="The optimizer's full configuration: every hyperparameter of its card.")
    seed: int = Field(ge=0, description="Fixes initialisation and data order; the same for every arm of a replicate.")


class Pack(_Message):
    """Trials of one arm to be trained together from one epoch to another."""

    pack_id: str
    workload: str
    optimizer: str
    members: tuple[Member, ...] = Field(min_length=1)
    from_epoch: int = Field(ge=0, description="Epochs already done.")
    to_epoch: int = Field(gt=0, description="Epoch after which the pack ends.")
    epochs: int = Field(gt=0, description="Epochs of a whole trial; the schedule spans them.")
    batch_size: int = Field(gt=0)
    schedule: ScheduleName = "constant"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1, description="Share of all steps that warm up, for 'warmup-cosine'.")
    decay_1d: bool = Field(default=True, description="False: weight decay is 0 for parameters of fewer than two dimensions (biases, norms).")
    objective_at: Literal["last", "best"] = Field(default="last", description="Which epoch's validation value is the trial's.")
    maximize: bool = Field(description="Direction of the workload's metric.")


class Measurement(_Message):
    """What one member measured at the end of one epoch. None stands for a value that is not finite or does not apply."""

    epoch: int = Field(ge=1, description="Epochs done.")
    elapsed_s: float = Field(ge=0, description="Training seconds of this trial so far, evaluation not counted.")
    lr: float | None = Field(default=None, description="Learning rate at the epoch's last step.")
    train_loss: float | None = Field(default=None, description="Mean training loss over the epoch's steps.")
    validation_loss: float | None = None
    validation_metric: float | None = Field(default=None, description="The workload's metric on the validation split.")
    weight_norm: float | None = Field(default=None, description="L2 norm of all weights of two or more dimensions.")
    effective_step: float | None = Field(
        default=None, description="Mean over probed steps and weights of two or more dimensions of norm(w'/|w'| - w/|w|)."
    )
    projected_fraction: float | None = Field(
        default=None, description="Share of (step, weight) pairs that were projected; None where the optimizer never projects."
    )
    gradient_cosine: float | None = Field(default=None, description="Mean over probed steps and weights of |cos(gradient, weight)|, whole tensor.")


class Outcome(_Message):
    """How a member's training ended."""

    state: Literal["completed", "diverged"]
    value: float | None = Field(default=None, description="Validation metric at the objective's epoch; None when diverged.")
    best_epoch: int | None = Field(default=None, description="The epoch that `value` was measured at.")
    test_value: float | None = Field(default=None, description="Test metric at that epoch.")
    reason: str | None = Field(default=None, description="Why it diverged: which quantity stopped being finite, at which epoch and step.")


class MemberReport(_Message):
    """One member's part of an epoch report."""

    trial_id: str
    attempt: int
    measurement: Measurement
    outcome: Outcome | None = None


class EpochReport(_Message):
    """What a pack says at the end of an epoch: a report for each member still alive when the epoch began."""

    pack_id: str
    epoch: int
    members: tuple[MemberReport, ...]
