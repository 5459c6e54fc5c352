"""The pack protocol: what a run hands to a trainable and what comes back.

Both are plain values that travel as JSON.

A pack is one or more trials of one arm trained together on one device. The run builds a `Pack`;
`workers.training` turns it into a stream of `EpochReport`, one per epoch. A member's last measurement comes
with its `Outcome` or, where the pack ends at a rung, with the place of its checkpoint. Others may come with
one too: who loses its worker goes on from the last.
"""

__all__ = ["EpochReport", "Member", "MemberReport", "Outcome", "Pack", "StackWidth"]

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studies.space import Parameters
from studies.spec import ScheduleName
from studies.trials import Measurement

_START_S = 120.0


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Member(_Message):
    """One trial inside a pack."""

    trial_id: str
    attempt: int = Field(
        ge=1, description="Which try of the trial this is; reports of an older attempt are refused."
    )
    parameters: Parameters = Field(
        description="The optimizer's full configuration: every hyperparameter of its card."
    )
    seed: int = Field(
        ge=0, description="Fixes initialisation and data order; the same for every arm of a replicate."
    )
    checkpoint: str | None = Field(
        default=None,
        description="Where its state after the epochs already done lies; None when there are none.",
    )


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
    warmup_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of all steps that warm up, for 'warmup-cosine'."
    )
    decay_1d: bool = Field(
        default=True,
        description="False: weight decay is 0 for parameters of fewer than two dimensions (biases, norms).",
    )
    objective_at: Literal["last", "best"] = Field(
        default="last", description="Which epoch's validation value is the trial's."
    )
    maximize: bool = Field(description="Direction of the workload's metric.")
    checkpoints: str | None = Field(
        default=None,
        description=(
            "Folder (any fsspec URL) where members' states are left: at a rung, "
            "and now and then. None leaves none."
        ),
    )
    width: int | None = Field(
        default=None,
        ge=1,
        description="Members stacked at once; None: the worker measures what is fastest, and reports it.",
    )
    steps_ahead: int = Field(
        default=0,
        ge=0,
        description=(
            "Steps that trials of this arm still have to take, this pack's included: whether compiling pays."
        ),
    )

    epoch_timeout_s: float = Field(
        default=3600.0, gt=0, description="Seconds without a finished epoch after which it counts as hung."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.from_epoch < self.to_epoch <= self.epochs:
            raise ValueError(
                f"a pack trains forward, to its trials' last epoch at most: got {self.from_epoch} to "
                f"{self.to_epoch} of {self.epochs}"
            )
        if any((member.checkpoint is None) != (self.from_epoch == 0) for member in self.members):
            raise ValueError(
                "members need a checkpoint exactly when epochs are done already; this pack "
                f"begins at epoch {self.from_epoch}"
            )
        if self.to_epoch < self.epochs and self.checkpoints is None:
            raise ValueError(
                f"a pack that ends at epoch {self.to_epoch} of {self.epochs} needs a "
                "folder for its members' checkpoints"
            )
        return self

    @property
    def start_timeout_s(self) -> float:
        """Seconds within which its first epoch must begin.

        Imports, data, and measuring what fits take their time on a busy machine.
        """
        return self.epoch_timeout_s + _START_S


class Outcome(_Message):
    """How a member's training ended."""

    state: Literal["completed", "diverged"]
    value: float | None = Field(
        default=None, description="Validation metric at the objective's epoch; None when diverged."
    )
    best_epoch: int | None = Field(default=None, description="The epoch that `value` was measured at.")
    test_value: float | None = Field(default=None, description="Test metric at that epoch.")
    reason: str | None = Field(
        default=None,
        description="Why it diverged: which quantity stopped being finite, at which epoch and step.",
    )


class MemberReport(_Message):
    """One member's part of an epoch report."""

    trial_id: str
    attempt: int
    measurement: Measurement
    outcome: Outcome | None = None
    checkpoint: str | None = Field(
        default=None, description="Where its state after this epoch was left, if it was."
    )


class StackWidth(_Message):
    """How a workload and an optimizer fit on a device.

    What a worker measured before it chose how many members to stack.
    """

    workload: str
    optimizer: str
    batch_size: int = Field(gt=0)
    device: str = Field(description="'cpu', or the GPU's name.")
    width: int = Field(ge=1, description="Members stacked at once.")
    reason: str | None = Field(
        default=None, description="Why the width is 1, or was lowered; None where stacking pays."
    )
    bytes_per_member: int | None = Field(
        default=None, ge=0, description="Memory that one more member takes; None where it was not measured."
    )
    trial_steps_per_s: dict[int, float] = Field(
        default_factory=dict[int, float], description="Steps of all members together in a second, by width."
    )


class EpochReport(_Message):
    """What a pack says at the end of an epoch: a report for each member still alive when the epoch began."""

    pack_id: str
    epoch: int
    members: tuple[MemberReport, ...]
    fit: StackWidth | None = Field(
        default=None, description="What the worker measured or had to change, where it did."
    )
