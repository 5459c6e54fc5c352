"""How one trial is trained besides its optimizer: the settings, and what a study may search of them."""

__all__ = [
    "PREFIX",
    "TRAINING_HYPERPARAMETERS",
    "EmaEvaluation",
    "PrecisionName",
    "ScheduleName",
    "TrainingOptions",
    "TrainingSettings",
    "must_share",
    "settings_of",
    "training_hyperparameters",
    "training_parameters",
]

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field
from pydantic.fields import FieldInfo

from studies.catalog import Bounds, Hyperparameter, WorkloadCard
from studies.frozen_model import FrozenModel
from studies.space import AnyDimension, Choices, Condition, Parameters, Range, Scalar

PREFIX: Final = "training."
"""How the name of a training setting begins in a configuration: `training.batch_size`."""
ScheduleName = Literal[
    "constant", "cosine", "warmup-cosine", "linear", "step", "one-cycle", "wsd", "warm-restarts"
]
EmaEvaluation = Literal["instead", "beside"]
PrecisionName = Literal["float32", "bf16", "fp16"]
_WARMUPS: Final[dict[ScheduleName, float]] = {"warmup-cosine": 0.05, "one-cycle": 0.3}
_SHARED: Final = frozenset(
    f"{PREFIX}{name}"
    for name in ("batch_size", "decay_1d", "accumulation_steps", "label_smoothing", "precision")
)


class TrainingOptions(FrozenModel):
    """The settings that a study and a trial have alike."""

    schedule: ScheduleName = Field(
        default="cosine",
        description=(
            "Learning rate schedule after the warm-up: constant, cosine to 0, 'warmup-cosine' (the same with "
            "a warm-up by default), linear to 0, step (drops at equal distances), one-cycle, wsd (constant, "
            "then linear to 0) or warm-restarts (several cosines)."
        ),
    )
    warmup_fraction: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description=(
            "Fraction of the steps in which the learning rate rises linearly; by default 0.05 for "
            "'warmup-cosine', 0.3 for 'one-cycle', whose rise is a cosine, and 0 for the others."
        ),
    )
    step_drops: int = Field(
        default=2,
        ge=1,
        le=100,
        strict=True,
        description="How often 'step' lowers the learning rate.",
    )
    step_factor: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="By what 'step' multiplies the learning rate at each drop.",
    )
    decay_fraction: float = Field(
        default=0.2,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of the steps, the last ones, in which 'wsd' lowers the learning rate to 0.",
    )
    cycles: int = Field(
        default=3, ge=1, le=100, strict=True, description="How many cosines 'warm-restarts' has."
    )
    cycle_growth: float = Field(
        default=2.0,
        ge=1,
        le=10,
        allow_inf_nan=False,
        description="How many times as long as the one before each cosine of 'warm-restarts' is.",
    )
    decay_1d: bool = Field(
        default=True,
        strict=True,
        description="False: no weight decay for parameters of fewer than two dimensions (biases, norms).",
    )
    clip_norm: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Largest norm of all gradients together, to which they are scaled down; 0 does not clip.",
    )
    clip_value: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Largest absolute value of a gradient's element; 0 does not clip.",
    )
    accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=1024,
        strict=True,
        description="Batches whose gradients are averaged for one step of the optimizer.",
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description=(
            "Above 0, an exponential moving average of the weights with this decay per step is evaluated "
            "instead of the weights, or beside them."
        ),
    )
    ema_evaluation: EmaEvaluation = Field(
        default="instead",
        description=(
            "Whether the average weights are evaluated instead of the weights, or 'beside' them: as further "
            "metrics with ' (EMA)' after their names, one of which may be the objective."
        ),
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        allow_inf_nan=False,
        description="Label smoothing of the training loss, where the workload's loss takes it.",
    )
    precision: PrecisionName = Field(
        default="float32",
        description=(
            "In which precision the model runs forward: float32 (its own dtype), or autocast to bf16, or to "
            "fp16 with scaled gradients."
        ),
    )

    @property
    def warmup(self) -> float:
        """The fraction of the steps that warm up, as given or as the schedule's default."""
        return _WARMUPS.get(self.schedule, 0.0) if self.warmup_fraction is None else self.warmup_fraction


class TrainingSettings(TrainingOptions):
    """How one trial is trained."""

    batch_size: int = Field(ge=1, description="Examples per step; a study's default is the workload's.")
    schedule: ScheduleName = Field(default="constant", description="Learning rate schedule.")


def training_parameters(parameters: Parameters) -> Parameters:
    """Return the training settings in a configuration, named as in it."""
    return {name: value for name, value in parameters.items() if name.startswith(PREFIX)}


def settings_of(shared: TrainingSettings, parameters: Parameters) -> TrainingSettings:
    """Return a trial's settings: the shared ones, with those that its configuration sets.

    Args:
        shared: the settings of all trials of a pack.
        parameters: the trial's configuration; names that begin with `training.` set one of the settings.

    Raises:
        ValidationError: a setting does not exist or a value is not valid.
    """
    own = {name.removeprefix(PREFIX): value for name, value in training_parameters(parameters).items()}
    return TrainingSettings.model_validate({**shared.model_dump(), **own}) if own else shared


def must_share(parameters: Parameters) -> Parameters:
    """Return the training settings in a configuration that all trials of a pack must have in common.

    The members of a stack take their steps together, so they need batches of one size and one division of
    the parameters by weight decay. Each may have a learning rate schedule of its own.

    Args:
        parameters: a trial's configuration; names without `training.` are left out.
    """
    return {name: value for name, value in parameters.items() if name in _SHARED}


@dataclass(frozen=True)
class _Searched:
    """What a study searches of a setting, and why; its meaning, default and legal values are the field's."""

    unit: str
    search: AnyDimension
    source: str
    only_in: ScheduleName | None = None
    default: Scalar | None = None


_BATCH_SIZE = 32
_SEARCHED: Final[dict[str, _Searched]] = {
    "batch_size": _Searched(
        "examples",
        Choices(choices=tuple(_BATCH_SIZE * 2**power // 4 for power in range(5))),
        "powers of two around the workload's own batch size",
        default=_BATCH_SIZE,
    ),
    "schedule": _Searched("none", Choices(choices=get_args(ScheduleName)), "every schedule"),
    "warmup_fraction": _Searched(
        "fraction of the steps",
        Range(low=0.0, high=0.2),
        "Goyal et al. 2017 warm up for 5 of 90 epochs; Ma and Yarats 2021 for up to a fifth",
        default=_WARMUPS["warmup-cosine"],
    ),
    "step_drops": _Searched(
        "drops",
        Range(low=1, high=4, integer=True),
        "He et al. 2016 drop two or three times",
        only_in="step",
    ),
    "step_factor": _Searched(
        "none",
        Range(low=0.05, high=0.5, log=True),
        "0.1 in He et al. 2016, 0.2 in Zagoruyko and Komodakis 2016",
        only_in="step",
    ),
    "decay_fraction": _Searched(
        "fraction of the steps",
        Range(low=0.05, high=0.5),
        "Hägele et al. 2024 compare 5 to 50 percent",
        only_in="wsd",
    ),
    "cycles": _Searched(
        "cycles",
        Range(low=1, high=5, integer=True),
        "Loshchilov and Hutter 2017",
        only_in="warm-restarts",
    ),
    "cycle_growth": _Searched(
        "none",
        Choices(choices=(1.0, 1.5, 2.0, 3.0)),
        "Loshchilov and Hutter 2017 use 1 and 2",
        only_in="warm-restarts",
    ),
    "decay_1d": _Searched("none", Choices(choices=(True, False)), "both values"),
    "clip_norm": _Searched(
        "none", Range(low=0.1, high=10.0, log=True), "Pascanu et al. 2013; language models use 0.25 to 5"
    ),
    "clip_value": _Searched("none", Range(low=0.01, high=1.0, log=True), "Mikolov 2012, section 3.2.2"),
    "accumulation_steps": _Searched("batches", Choices(choices=(1, 2, 4)), "powers of two"),
    "ema_decay": _Searched("none", Choices(choices=(0.0, 0.9, 0.99, 0.999)), "from about 10 to 1,000 steps"),
    "label_smoothing": _Searched("none", Range(low=0.0, high=0.2), "0.1 in Szegedy et al. 2016"),
    "precision": _Searched("none", Choices(choices=get_args(PrecisionName)), "every precision"),
}


def _card(name: str, searched: _Searched) -> Hyperparameter:
    """Return the card of a setting, from its field and what a study searches of it."""
    field = {**TrainingSettings.model_fields, **TrainingOptions.model_fields}[name]
    default: Scalar = field.default if searched.default is None else searched.default
    schedule = searched.only_in
    return Hyperparameter(
        name=f"{PREFIX}{name}",
        description=field.description or "",
        unit=searched.unit,
        default=default,
        search=searched.search,
        source=searched.source,
        bounds=None if isinstance(default, bool | str) else _bounds(field),
        active_when=None if schedule is None else Condition(parameter=f"{PREFIX}schedule", among=(schedule,)),
    )


def _bounds(field: FieldInfo) -> Bounds:
    """Return the legal values of a field that is a number."""
    found: dict[str, Any] = {}
    for limit in field.metadata:
        match limit:
            case Ge():
                found |= {"low": limit.ge}
            case Gt():
                found |= {"low": limit.gt, "low_open": True}
            case Le():
                found |= {"high": limit.le}
            case Lt():
                found |= {"high": limit.lt, "high_open": True}
            case _:
                pass
    return Bounds(**found)


TRAINING_HYPERPARAMETERS: Final = tuple(_card(name, searched) for name, searched in _SEARCHED.items())
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
