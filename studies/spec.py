"""What a user submits: one frozen `StudySpec`, the same JSON over REST, CLI (YAML too) and Python.

Shorthands are expanded while parsing (an arm may be just `"adamp"`, a dimension just `0.9`), so that every
stored study has the same form. `studies.resolve` checks whether its optimizers, workloads and hyperparameters
exist in the catalog.
"""

__all__ = [
    "ADAPTIVE_SAMPLERS",
    "ArmEntry",
    "ArmSpec",
    "Confirmation",
    "Keep",
    "Objective",
    "SamplerName",
    "StudySpec",
    "Training",
    "as_written",
    "parse_spec",
    "title_of",
    "to_copy",
]

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from studies.budget import MAX_TRIALS, Budget
from studies.confirmation import most_runs
from studies.errors import SpecInvalid, SpecProblem, json_kind, json_pointer, shown
from studies.frozen_model import FrozenModel
from studies.objective import Objective
from studies.paired_search import PairedSearch, default_budget, default_pairs
from studies.pruner import NoPruner, Pruner
from studies.resources import Resources
from studies.space_entries import SpaceEntry, is_dimension
from studies.training_settings import PREFIX, TrainingOptions, TrainingSettings
from studies.validation_errors import problems_of

SamplerName = Literal["tpe", "random", "qmc", "gp", "cmaes", "grid"]
ADAPTIVE_SAMPLERS: Final[frozenset[SamplerName]] = frozenset({"tpe", "gp", "cmaes"})
"""Samplers that learn from earlier trials of the same search."""

_SLUG = r"^[a-z0-9][a-z0-9-]{0,63}$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"


class ArmSpec(FrozenModel):
    """One optimizer with its search space."""

    hint_for_unknown: ClassVar[str] = "write hyperparameters under `space`, such as lr or training.batch_size"

    optimizer: str = Field(
        pattern=_SLUG, description="Name of an optimizer in the catalogue.", examples=["adamp"]
    )
    name: str = Field(
        default="",
        pattern=r"^$|" + _SLUG,
        description="Name of the arm in this study; by default the optimizer's name.",
        examples=["adamp-wide"],
    )
    space: dict[Annotated[str, Field(max_length=64)], SpaceEntry] = Field(
        default_factory=dict,
        max_length=64,
        description=(
            "Hyperparameters that this study sets: a number fixes one, `{low, high, log}` searches a range, "
            '`{choices}` searches a few values and `"tune"` searches the range on its card. The optimizer\'s '
            "card decides the rest. Names with a dot, such as `training.batch_size`, replace those of the "
            "study's `space` for this arm alone."
        ),
        examples=[
            {
                "lr": {"low": 1e-4, "high": 1e-1, "log": True},
                "weight_decay": {"choices": [0.0, 0.01, 0.1]},
                "beta1": 0.9,
            }
        ],
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.name:
            # The model is frozen for callers; here it is still being built.
            object.__setattr__(self, "name", self.optimizer)
        return self


def _expand_arm(value: Any) -> Any:
    return {"optimizer": value} if isinstance(value, str) else value


ArmEntry = Annotated[ArmSpec, BeforeValidator(_expand_arm, json_schema_input_type=str | ArmSpec)]
"""An arm as users may write it: an object, or just the optimizer's name."""


class Confirmation(FrozenModel):
    """How the result of a search is checked: by training the best and the defaults again on fresh seeds."""

    seeds: int = Field(
        default=5,
        ge=0,
        le=1000,
        strict=True,
        description="Fresh seeds, the same for every arm; with 0 there is no confirmation and no verdict.",
    )
    solo: bool = Field(
        default=False,
        strict=True,
        description=(
            "True trains each of these runs alone: slower, but its training time is not shared with other "
            "trials, as claims about time require."
        ),
    )


class Training(TrainingOptions):
    """How every trial of every arm is trained."""

    batch_size: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        strict=True,
        description="Examples per step; by default the workload's.",
    )

    def settings(self, *, batch_size: int) -> TrainingSettings:
        """Return the settings of a trial whose configuration sets none of them.

        Args:
            batch_size: the study's, which is the workload's if this is None here.
        """
        return TrainingSettings.model_validate({**self.model_dump(), "batch_size": batch_size})


class Keep(FrozenModel):
    """Which files of its trials a study keeps, and for how long."""

    weights: Literal["none", "best", "best-and-defaults"] = Field(
        default="none",
        description=(
            "Whose final model weights are kept: of the best configuration of each arm, or of its defaults "
            "too. They come from the confirmation: from the first fresh seed whose run completes."
        ),
    )
    max_weights_mb: float = Field(
        default=4096.0,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Most megabytes (10^6 bytes) of one file of weights; larger ones are not kept.",
    )
    files: bool = Field(
        default=False,
        strict=True,
        description=(
            "Whether the files in the folders of all trials are kept: what `trial.log` writes, pictures, "
            "TensorBoard's events."
        ),
    )
    max_files_mb: float = Field(
        default=64.0,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Most megabytes of one trial's files; those beyond are not kept.",
    )
    days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        strict=True,
        description="Days after the study's end when they are deleted; by default they stay.",
    )


class StudySpec(FrozenModel):
    """One workload, several arms, one budget, one sampler, one pruner, one objective."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "AdamP against AdamW on digits",
                    "workload": "digits-mlp",
                    "arms": [
                        "adamp",
                        {"optimizer": "adamw", "space": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}}},
                    ],
                    "budget": {"trials_per_arm": 8, "epochs": 5},
                }
            ]
        },
    )

    name: str = Field(
        default="",
        max_length=200,
        pattern=r"^$|" + _PRINTABLE,
        description="A title; by default made from the arms and the workload.",
    )
    suite: str | None = Field(
        default=None,
        pattern=_SLUG,
        description="A label shared by studies of several workloads that are judged together.",
        examples=["small-vision"],
    )
    tags: tuple[Annotated[str, Field(pattern=_SLUG)], ...] = Field(
        default=(),
        max_length=16,
        description="Labels by which lists of studies are searched and filtered.",
        examples=[["thesis", "chapter-3"]],
    )
    workload: str = Field(
        pattern=_SLUG, description="Name of a workload in the catalogue.", examples=["digits-cnn"]
    )
    arms: tuple[ArmEntry, ...] = Field(
        min_length=1,
        max_length=64,
        description="The optimizers to compare; a name alone searches the space on its card.",
    )
    budget: Budget = Field(description="How much work each arm may spend.")
    sampler: SamplerName = Field(
        default="tpe", description="How configurations are chosen: one of Optuna's samplers."
    )
    pruner: Pruner = Field(
        default=NoPruner(),
        description=(
            "How hopeless trials are stopped early: a name, or an object with `kind` and its settings. "
            "'none' trains every trial to its last epoch."
        ),
        examples=["asha", {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}],
    )
    search: PairedSearch = Field(
        default_factory=PairedSearch,
        validate_default=True,
        description=(
            "How the search begins: with random trials that are paired across arms, from which the budget "
            "verdict is computed. They are never pruned, and the sampler learns from them."
        ),
        examples=[{"paired": 32}],
    )
    objective: Objective = Field(
        default=Objective(), description="The validation value that counts as a trial's result."
    )
    confirmation: Confirmation = Field(
        default=Confirmation(), description="How the result of the search is checked on fresh seeds."
    )
    training: Training = Field(
        default=Training(),
        description=(
            "How all trials are trained. A dimension here, such as `batch_size: {choices: [32, 64]}`, is "
            "short for one in `space`."
        ),
    )
    space: dict[Annotated[str, Field(max_length=64)], SpaceEntry] = Field(
        default_factory=dict,
        max_length=64,
        description=(
            "What every arm searches beside its optimizer's hyperparameters, from the same ranges: "
            "`training.NAME` for a setting of the training, `workload.NAME` for a hyperparameter of the "
            "workload, and `groups.GROUP.lr`, or another number that the optimizer has for each group, for "
            "one of its parameter groups. "
            "Each arm tunes it for itself. A searched batch size changes the number of steps in an epoch; "
            "with a budget of steps it changes how many examples a trial sees."
        ),
        examples=[{"training.batch_size": {"choices": [32, 64, 128]}}],
    )
    keep: Keep = Field(default=Keep(), description="Which files of its trials are kept.")
    resources: Resources = Field(default=Resources(), description="What each pack occupies.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, strict=True, description="Fixes initialisation, data order and sampling."
    )
    check_workload: bool = Field(
        default=True,
        strict=True,
        description=(
            "Whether a workload of a package is checked before the first trial as by `tangent check`, once "
            "for each version of it; an error of the check fails the study. False skips the check, if it is "
            "mistaken."
        ),
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        strict=True,
        description="How often a trial is retried after its worker or machine was lost.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_dimensions_in_space(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        study = cast("Mapping[str, Any]", data)
        training, space = study.get("training"), study.get("space", {})
        if not isinstance(training, Mapping) or not isinstance(space, Mapping):
            return study
        settings = cast("Mapping[Any, Any]", training)
        searched = {name: value for name, value in settings.items() if is_dimension(value)}
        moved = {f"{PREFIX}{name}": value for name, value in searched.items()}
        given = cast("Mapping[Any, Any]", space)
        twice = next((name for name in moved if name in given), None)
        if twice is not None:
            raise ValueError(f"{twice} is set twice, under `training` and under `space`; remove one of them")
        if not moved:
            return study
        rest = {name: value for name, value in settings.items() if name not in searched}
        return {**study, "training": rest, "space": {**given, **moved}}

    @field_validator("objective", "keep", mode="before")
    @classmethod
    def _not_just_a_name(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            field = "metric" if info.field_name == "objective" else "weights"
            raise ValueError(f"expected an object, got {shown(value)}; write {{{field}: {value}}}")
        return value

    @field_validator("search", mode="before")
    @classmethod
    def _with_defaults(cls, search: Any, info: ValidationInfo) -> Any:
        if isinstance(search, PairedSearch):
            search = search.model_dump(exclude_unset=True)
        budget: Budget | None = info.data.get("budget")
        if budget is None or not isinstance(search, Mapping):
            return search
        pairs = default_pairs(
            info.data.get("sampler", "tpe"),
            budget.trials_per_arm,
            is_pruned=not isinstance(info.data.get("pruner"), NoPruner),
        )
        return {"paired": pairs, "replicates": budget.replicates, **cast("Mapping[str, Any]", search)}

    @field_validator("arms")
    @classmethod
    def _arms_differ(cls, arms: tuple[ArmSpec, ...]) -> tuple[ArmSpec, ...]:
        names = [arm.name for arm in arms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"expected a different name for each arm, but {', '.join(map(repr, twice))} "
                f"{'appears' if len(twice) == 1 else 'appear'} more than once; give each arm its own `name`"
            )
        return arms

    @field_validator("confirmation")
    @classmethod
    def _not_too_many_runs(cls, confirmation: Confirmation, info: ValidationInfo) -> Confirmation:
        budget: Budget | None = info.data.get("budget")
        runs = 0 if budget is None else most_runs(replicates=budget.replicates, seeds=confirmation.seeds)
        if runs > MAX_TRIALS:
            raise ValueError(
                f"expected at most {MAX_TRIALS} confirmation runs per arm, got {runs}: "
                f"{confirmation.seeds} seeds for the defaults and for the best of each of "
                f"{info.data['budget'].replicates} replicates; lower `seeds` or `replicates`"
            )
        return confirmation

    @field_validator("keep")
    @classmethod
    def _is_confirmed(cls, keep: Keep, info: ValidationInfo) -> Keep:
        confirmation: Confirmation | None = info.data.get("confirmation")
        if keep.weights != "none" and confirmation is not None and not confirmation.seeds:
            raise ValueError(
                "weights are those of confirmation runs, and `confirmation.seeds` is 0: expected at least 1 "
                "seed, or weights: none"
            )
        return keep

    @model_validator(mode="after")
    def _titled(self) -> Self:
        if not self.name:
            # See ArmSpec.
            object.__setattr__(self, "name", title_of(self.workload, self.arms))
        return self


def to_copy(spec: StudySpec) -> dict[str, Any]:
    """Return a study as JSON data to change and submit again: without numbers of its search that it derived.

    With another budget, a study that did not say how many trials are paired gets another default.
    """
    pairs = default_pairs(
        spec.sampler, spec.budget.trials_per_arm, is_pruned=not isinstance(spec.pruner, NoPruner)
    )
    search = spec.search
    derived = {
        "paired": pairs,
        "replicates": search.replicates,
        "verdict_at": default_budget(search.pairs),
    }
    data = spec.model_dump(mode="json")
    if search.paired >= spec.budget.trials_per_arm:
        # The study was stopped among its pairs and then extended: its budget no longer holds them.
        del data["search"]
        return data
    # A copy trains all of its pairs.
    del data["search"]["stopped_at"]
    data["search"] = {name: value for name, value in data["search"].items() if value != derived.get(name)}
    if not data["search"]:
        del data["search"]
    return data


def title_of(workload: str, arms: Sequence[ArmSpec]) -> str:
    """Return the title of a study that the user did not name, at most 200 characters."""
    return f"{', '.join(arm.name for arm in arms[:4])}{' …' if len(arms) > 4 else ''} on {workload}"[:200]


def _as_written(location: tuple[int | str, ...], data: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the place in a study as written of a fault at a location in the study with its expansions."""
    if len(location) > 1 and location[0] == "space" and isinstance(name := location[1], str):
        training = data.get("training")
        setting = name.removeprefix(PREFIX)
        if isinstance(training, Mapping) and name.startswith(PREFIX) and setting in training:
            return ("training", setting, *location[2:])
    return location


def as_written(error: SpecInvalid, data: Any) -> SpecInvalid:
    """Return an error whose pointers lead to where a study's dimensions are written.

    Args:
        error: what `studies.resolve` finds wrong with the study.
        data: what the study was parsed from, in which dimensions may be under `training`.
    """
    prefix = f"/space/{PREFIX}"
    training = cast("Mapping[str, Any]", data).get("training") if isinstance(data, Mapping) else None
    if not isinstance(training, Mapping):
        return error
    names = {json_pointer(name) for name in cast("Mapping[Any, Any]", training)}
    problems = [
        SpecProblem(f"/training/{rest}", problem.message)
        if (rest := problem.pointer.removeprefix(prefix)) != problem.pointer
        and f"/{rest.partition('/')[0]}" in names
        else problem
        for problem in error.problems
    ]
    return error if problems == list(error.problems) else error.with_problems(problems)


def parse_spec(data: Any) -> StudySpec:
    """Parse plain data (from JSON or YAML) into a study, with all shorthands expanded.

    Raises:
        SpecInvalid: the data is not a study; carries every fault with its JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise SpecInvalid(
            [SpecProblem("", f"expected an object with workload, arms and budget, got {json_kind(data)}")]
        )
    try:
        return StudySpec.model_validate(data)
    except ValidationError as error:
        raise SpecInvalid(
            problems_of(error, data, of=StudySpec, as_written=_as_written),
            draft=cast("Mapping[str, Any]", data),
        ) from None
