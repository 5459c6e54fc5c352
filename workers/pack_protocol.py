"""The pack protocol: what a run sends to a worker, and what the worker reports, as plain JSON values.

A pack is one or more trials of one arm that are trained together on one device. The run builds a `Pack`, and
`workers.training` turns it into a stream of `EpochReport`s, one per epoch. A member's last report comes with
its `Outcome` or, if the pack ends at a rung, with the URL of its checkpoint. Earlier reports may come with a
checkpoint too: a trial that loses its worker resumes from the latest.
"""

__all__ = ["EpochReport", "Keeping", "KeptFile", "Member", "MemberReport", "Outcome", "Pack", "StackWidth"]

from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from studies.artifacts import ArtifactKind, WeightsOf
from studies.layers import MeasuredLayers
from studies.searchable import must_share
from studies.space import Parameters
from studies.training_settings import PREFIX, TrainingSettings, settings_of
from studies.trials import CardDifference, Measurement

_START_S = 120.0


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Member(_Message):
    """One trial inside a pack."""

    trial_id: str
    attempt: int = Field(
        ge=1, description="Number of this attempt; reports from superseded attempts are rejected."
    )
    parameters: Parameters = Field(
        description=(
            "Its full configuration: every hyperparameter of the optimizer's card, and what else the study "
            "searches, with dotted names."
        )
    )
    seed: int = Field(
        ge=0, description="Fixes initialisation and data order; the same for every arm of a replicate."
    )
    checkpoint: str | None = Field(
        default=None,
        description="URL of the checkpoint to resume from; None before the first epoch.",
    )
    keep_weights: WeightsOf | None = Field(
        default=None,
        description=(
            "Which configuration's weights are kept at its last epoch; of several members with the same, "
            "those of the first that completes. None: it keeps none."
        ),
    )
    measures_layers: bool = Field(
        default=False, description="Whether its probes are reported for each layer too."
    )


class Keeping(_Message):
    """Where a study's workers keep files, and how large these may be."""

    folder: str = Field(description="Folder (any fsspec URL) of the study's kept files.")
    max_weights_bytes: int = Field(gt=0, description="Most bytes of one file of weights.")
    files: bool = Field(default=False, description="Whether the files in each trial's folder are kept.")
    max_files_bytes: int = Field(default=1, gt=0, description="Most bytes of one trial's files.")


class Pack(_Message):
    """Trials of one arm to train together, from one epoch to another."""

    pack_id: str
    workload: str
    optimizer: str
    members: tuple[Member, ...] = Field(min_length=1)
    from_epoch: int = Field(ge=0, description="Epochs already trained.")
    to_epoch: int = Field(gt=0, description="Epoch after which the pack ends.")
    epochs: int = Field(gt=0, description="Epochs of a whole trial, which the schedule spans.")
    interval_steps: int | None = Field(
        default=None,
        gt=0,
        description="Steps of the interval that replaces an epoch; None for passes over the data.",
    )
    training: TrainingSettings = Field(
        description="Settings of all members, except for those that a member's parameters set."
    )
    objective_at: Literal["last", "best"] = Field(
        default="last", description="Which epoch's validation value is the trial's."
    )
    objective_metric: str | None = Field(
        default=None, description="Name of the metric that is the objective; None: the workload's own."
    )
    maximize: bool = Field(description="Direction of the objective's metric.")
    checkpoints: str | None = Field(
        default=None,
        description=(
            "Folder (any fsspec URL) for the members' checkpoints, saved at rungs and every few seconds. "
            "None saves none."
        ),
    )
    keeping: Keeping | None = Field(default=None, description="None: the study keeps no files.")
    width: int | None = Field(
        default=None,
        ge=1,
        description="Stack width; None: the worker measures the fastest one and reports it.",
    )
    processes: int = Field(default=1, ge=1, description="Processes that train each trial.")
    shard_optimizer: bool = Field(
        default=False,
        description="Whether each process keeps the optimizer's state of a part of the parameters only.",
    )
    steps_ahead: int = Field(
        default=0,
        ge=0,
        description=(
            "Steps left to train in this arm, including this pack; tells a worker whether compiling pays."
        ),
    )

    finds_scale_invariance: bool = Field(
        default=False, description="Whether the worker is to find which layers are scale-invariant."
    )
    not_on: tuple[str, ...] = Field(
        default=(),
        description="Machines that lack a file or a package that a member needs; they hand the pack back.",
    )
    epoch_timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds without a finished epoch after which the pack counts as hung.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.from_epoch < self.to_epoch <= self.epochs:
            raise ValueError(
                f"expected from_epoch < to_epoch <= epochs, got from_epoch={self.from_epoch}, "
                f"to_epoch={self.to_epoch}, epochs={self.epochs}"
            )
        if any((member.checkpoint is None) != (self.from_epoch == 0) for member in self.members):
            raise ValueError(
                "expected a checkpoint for each member if from_epoch > 0 and for none otherwise; "
                f"from_epoch is {self.from_epoch}"
            )
        if self.to_epoch < self.epochs and self.checkpoints is None:
            raise ValueError(
                f"a pack that ends at epoch {self.to_epoch} of {self.epochs} needs a folder for its members' "
                "checkpoints; set checkpoints"
            )
        if self.processes > 1 < len(self.members):
            raise ValueError(
                f"expected one trial in a pack of {self.processes} processes, got {len(self.members)}"
            )
        return self

    @model_validator(mode="after")
    def _members_share_settings(self) -> Self:
        for member in self.members:
            for name, value in must_share(member.parameters).items():
                own = (
                    getattr(self.training, name.removeprefix(PREFIX))
                    if name.startswith(PREFIX)
                    else self.members[0].parameters.get(name)
                )
                if value != own:
                    raise ValueError(f"expected {name} = {own!r} for all members of a pack, got {value!r}")
        return self

    def settings_of(self, member: Member) -> TrainingSettings:
        """Return how a member is trained."""
        return settings_of(self.training, member.parameters)

    @property
    def start_timeout_s(self) -> float:
        """Seconds within which the first epoch must begin.

        Imports, loading data and measuring stack widths take a while on a busy machine.
        """
        return self.epoch_timeout_s + _START_S


class Outcome(_Message):
    """How a member's training ended."""

    state: Literal["completed", "diverged", "failed"]
    value: float | None = Field(
        default=None, description="Validation metric at the objective's epoch; None unless completed."
    )
    best_epoch: int | None = Field(default=None, description="Epoch at which `value` was measured.")
    test_value: float | None = Field(default=None, description="Test metric at that epoch.")
    test_metrics: dict[str, float | None] = Field(
        default_factory=dict[str, float | None],
        description="The other metrics on the test split at that epoch, by name; None: not finite.",
    )
    reason: str | None = Field(
        default=None,
        description="Why it has no value: which quantity stopped being finite, at which epoch and step.",
    )


class KeptFile(_Message):
    """A file that a worker has kept in the study's folder under its id, or could not keep."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    kind: ArtifactKind
    name: str = Field(min_length=1, max_length=255)
    size: int = Field(ge=0, description="In bytes.")
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="None: the file was not kept."
    )
    weights_of: WeightsOf | None = None
    reason: str | None = Field(default=None, description="Why it was not kept.")


class MemberReport(_Message):
    """One member's part of an epoch report."""

    trial_id: str
    attempt: int
    measurement: Measurement
    outcome: Outcome | None = None
    checkpoint: str | None = Field(
        default=None, description="URL of the checkpoint saved after this epoch, if any."
    )
    kept: tuple[KeptFile, ...] = Field(default=(), description="Files that were kept, or could not be.")
    layers: MeasuredLayers | None = Field(
        default=None, description="What its layers measured; None unless that was asked for."
    )


class StackWidth(_Message):
    """The stack width that a worker chose for a workload and an optimizer, and what it measured."""

    workload: str
    optimizer: str
    batch_size: int = Field(gt=0)
    device: str = Field(description="'cpu', or the GPU's name.")
    width: int = Field(ge=1, description="Number of trials in a stack.")
    reason: str | None = Field(
        default=None, description="Why the width is 1 or was lowered; None if stacking pays."
    )
    is_for_own_seeds: bool = Field(
        default=False, description="Whether the reason holds only for trials that differ in their seeds."
    )
    bytes_per_member: int | None = Field(
        default=None, ge=0, description="Memory per trial; None if it was not measured."
    )
    trial_steps_per_s: dict[int, float] = Field(
        default_factory=dict[int, float], description="Steps of all trials together in a second, by width."
    )


class EpochReport(_Message):
    """A pack's report after an epoch, with one part for each member that was alive when the epoch began."""

    pack_id: str
    epoch: int
    members: tuple[MemberReport, ...]
    memory_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Peak memory of the pack's processes so far, with what they have loaded before.",
    )
    device_memory_bytes: int | None = Field(
        default=None, ge=0, description="Peak of what torch allocated on their GPUs; None on CPUs."
    )
    stack_width: StackWidth | None = Field(
        default=None,
        # Workers of earlier versions call it `fit`.
        validation_alias=AliasChoices("stack_width", "fit"),
        description="The stack width that the worker measured or had to change, if it did.",
    )
    card_differences: tuple[CardDifference, ...] = Field(
        default=(), description="In what the worker's data differs from the card; with a pack's first report."
    )
    scale_invariance: dict[str, bool] | None = Field(
        default=None,
        description=(
            "Whether each tested layer of the model is scale-invariant, by name; with a pack's first report, "
            "if that was asked for."
        ),
    )
