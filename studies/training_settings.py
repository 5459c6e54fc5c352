"""How one trial is trained besides its optimizer: batch size, schedule and weight decay, all fixed."""

__all__ = ["PREFIX", "ScheduleName", "TrainingSettings", "settings_of"]

from typing import Final, Literal

from pydantic import Field

from studies.frozen_model import FrozenModel
from studies.space import Parameters

PREFIX: Final = "training."
"""How the name of a training setting begins in a configuration: `training.batch_size`."""
ScheduleName = Literal["constant", "cosine", "warmup-cosine"]


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
