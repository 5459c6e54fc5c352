"""How one trial is trained besides its optimizer: the settings, and what a study may search of them."""

__all__ = [
    "PREFIX",
    "TRAINING_HYPERPARAMETERS",
    "ScheduleName",
    "TrainingSettings",
    "must_share",
    "settings_of",
    "training_hyperparameters",
]

from typing import Final, Literal, get_args

from pydantic import Field

from studies.catalog import Bounds, Hyperparameter, WorkloadCard
from studies.frozen_model import FrozenModel
from studies.space import Choices, Parameters, Range

PREFIX: Final = "training."
"""How the name of a training setting begins in a configuration: `training.batch_size`."""
ScheduleName = Literal["constant", "cosine", "warmup-cosine"]
_SHARED: Final = frozenset(f"{PREFIX}{name}" for name in ("batch_size", "decay_1d"))


class TrainingSettings(FrozenModel):
    """How one trial is trained."""

    batch_size: int = Field(gt=0, description="Examples per step.")
    schedule: ScheduleName = Field(default="constant", description="Learning rate schedule.")
    warmup_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of all steps that warm up, for 'warmup-cosine'."
    )
    decay_1d: bool = Field(
        default=True,
        description="False: weight decay is 0 for parameters of fewer than two dimensions (biases, norms).",
    )


def settings_of(shared: TrainingSettings, parameters: Parameters) -> TrainingSettings:
    """Return a trial's settings: the shared ones, with those that its configuration sets.

    Args:
        shared: the settings of all trials of a pack.
        parameters: the trial's configuration; names that begin with `training.` set one of the settings.

    Raises:
        ValidationError: a setting does not exist or a value is not valid.
    """
    own = {name.removeprefix(PREFIX): value for name, value in parameters.items() if name.startswith(PREFIX)}
    return TrainingSettings.model_validate({**shared.model_dump(), **own}) if own else shared


def must_share(parameters: Parameters) -> Parameters:
    """Return the training settings in a configuration that all trials of a pack must have in common.

    The members of a stack take their steps together, so they need batches of one size and one division of
    the parameters by weight decay. Each may have a learning rate schedule of its own.

    Args:
        parameters: a trial's configuration; names without `training.` are left out.
    """
    return {name: value for name, value in parameters.items() if name in _SHARED}


_BATCH_SIZE = 32

TRAINING_HYPERPARAMETERS: Final[tuple[Hyperparameter, ...]] = (
    Hyperparameter(
        name=f"{PREFIX}batch_size",
        description="Examples per step; the default is the workload's.",
        unit="examples",
        default=_BATCH_SIZE,
        search=Choices(choices=tuple(_BATCH_SIZE * 2**power // 4 for power in range(5))),
        source="powers of two around the workload's own batch size",
        tuned=False,
        bounds=Bounds(low=1),
    ),
    Hyperparameter(
        name=f"{PREFIX}schedule",
        description="How the learning rate changes over a trial.",
        unit="none",
        default="cosine",
        search=Choices(choices=get_args(ScheduleName)),
        source="every schedule",
        tuned=False,
    ),
    Hyperparameter(
        name=f"{PREFIX}warmup_fraction",
        description="Share of all steps in which the learning rate rises to its full value.",
        unit="fraction of the steps",
        default=0.05,
        search=Range(low=0.0, high=0.2),
        source="Goyal et al. 2017 warm up for 5 of 90 epochs; Ma and Yarats 2021 for up to a fifth",
        tuned=False,
        bounds=Bounds(low=0.0, high=1.0, high_open=True),
    ),
    Hyperparameter(
        name=f"{PREFIX}decay_1d",
        description="Whether parameters of fewer than two dimensions (biases, norms) have weight decay.",
        unit="none",
        default=True,
        search=Choices(choices=(True, False)),
        source="both values",
        tuned=False,
    ),
)
"""What a study may search of the training settings, named as in a configuration; no study tunes them unasked.

`training_hyperparameters` has them for one workload.
"""


def training_hyperparameters(workload: WorkloadCard) -> tuple[Hyperparameter, ...]:
    """Return the training settings that a study of a workload may search.

    The batch size has the workload's default, a range around it, and at most its training examples.

    Args:
        workload: the workload's card.
    """
    examples = workload.examples.get("train")
    sizes = [workload.batch_size * 2**power // 4 for power in range(5)]
    fitting = sorted({size for size in sizes if 1 <= size <= (examples or size)} | {workload.batch_size})
    batch_size = TRAINING_HYPERPARAMETERS[0].model_copy(
        update={
            "default": workload.batch_size,
            "search": Choices(choices=tuple(fitting)),
            "bounds": Bounds(low=1, high=max(examples, workload.batch_size) if examples else None),
        }
    )
    return batch_size, *TRAINING_HYPERPARAMETERS[1:]
