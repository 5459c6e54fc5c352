"""What is added to a study that has completed: arms, trials, replicates, fresh seeds.

What is there stays as it is.
"""

__all__ = ["Extension", "extended", "more_seeds", "parse_extension", "with_actual_budget"]

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studies.catalog import Catalog
from studies.errors import SpecInvalid, SpecProblem
from studies.resolve import ResolvedStudy, resolve_arms
from studies.spec import ArmEntry, Confirmation, StudySpec, problems_of, title_of

_MORE_SEEDS = 5
_MOST_SEEDS = 1000
_MOST_ARMS = 64
_FIELDS = "arms, trials_per_arm, replicates and seeds"


class Extension(BaseModel):
    """What a study is to have from now on, as new totals; what is left out stays as it is."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"arms": ["sgdp"], "trials_per_arm": 24, "seeds": 10}]},
    )

    arms: Annotated[tuple[ArmEntry, ...], Field(max_length=_MOST_ARMS)] = Field(
        default=(),
        description=(
            "Arms to be added, written as in a study; each needs a name that the study does not have yet."
        ),
    )
    trials_per_arm: int | None = Field(
        default=None,
        gt=0,
        le=100_000,
        strict=True,
        description="Trials of every arm in each replicate from now on, those it has had among them.",
    )
    replicates: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="Replicates of every arm's search from now on."
    )
    seeds: int | None = Field(
        default=None,
        ge=0,
        le=_MOST_SEEDS,
        strict=True,
        description="Fresh seeds of the confirmation from now on.",
    )


def parse_extension(data: Any) -> Extension:
    """Return the extension that plain data (parsed JSON or YAML) describes, shorthands spelled out.

    Raises:
        SpecInvalid: with every fault found, each with a JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise SpecInvalid(
            [SpecProblem("", f"expected an object with any of {_FIELDS}, got {type(data).__name__}")]
        )
    try:
        return Extension.model_validate(data)
    except ValidationError as error:
        raise SpecInvalid(problems_of(error, data, of=Extension)) from None


def more_seeds(spec: StudySpec, *, seeds: int | None = None) -> Extension:
    """Return the extension of a study to so many fresh seeds in all, by default five more than now."""
    return Extension(
        seeds=min(spec.confirmation.seeds + _MORE_SEEDS, _MOST_SEEDS) if seeds is None else seeds
    )


def with_actual_budget(
    spec: StudySpec, plan: ResolvedStudy, begun: Mapping[str, int]
) -> tuple[StudySpec, ResolvedStudy]:
    """Return a completed study as it was run.

    Where its search ended before the budget was spent, the budget is what was begun.

    So whoever adds seeds to a study that was stopped does not start its search again. Replicates that are
    behind are filled up to the first.

    Args:
        spec: the study.
        plan: the same, resolved.
        begun: trials that each arm has begun, in that of its replicates which has begun most.
    """
    arms = tuple(
        arm.model_copy(update={"trials": min(arm.trials, max(1, begun.get(arm.name, 0)))})
        for arm in plan.arms
    )
    if arms == plan.arms:
        return spec, plan
    budget = spec.budget.model_copy(update={"trials_per_arm": max(arm.trials for arm in arms)})
    return spec.model_copy(update={"budget": budget}), plan.model_copy(update={"arms": arms})


def extended(
    spec: StudySpec, plan: ResolvedStudy, extension: Extension, catalog: Catalog
) -> tuple[StudySpec, ResolvedStudy]:
    """Return a study and its plan with the extension added.

    Its arms keep the cards and spaces that they were submitted with.

    Args:
        spec: the study.
        plan: the same, resolved.
        extension: what it is to have from now on.
        catalog: where new arms are looked up.

    Raises:
        CatalogEmpty: arms are to be added, and nothing has been announced yet.
        SpecInvalid: with every fault found, each with a JSON pointer into the extension.
    """
    if extension == Extension():
        raise SpecInvalid([SpecProblem("", f"nothing is to be added; expected any of {_FIELDS}")])
    budget = spec.budget
    now = {
        "trials_per_arm": budget.trials_per_arm,
        "replicates": budget.replicates,
        "seeds": spec.confirmation.seeds,
    }
    asked = {name: total for name in now if (total := getattr(extension, name)) is not None}
    problems = [
        SpecProblem(
            f"/{name}",
            f"expected at least the {now[name]} that the study has, for nothing can be taken away, "
            f"got {total}; it is the new total",
        )
        for name, total in asked.items()
        if total < now[name]
    ]
    problems += _faults_of_names(spec, extension)
    totals = now | asked
    trials = totals["trials_per_arm"]
    new, of_arms = (
        resolve_arms(extension.arms, catalog, sampler=spec.sampler, trials_per_arm=trials)
        if extension.arms
        else ((), [])
    )
    problems += of_arms
    if problems:
        raise SpecInvalid(problems)
    arms = (*spec.arms, *extension.arms)
    changed = {
        "arms": arms,
        "name": title_of(spec.workload, arms)
        if spec.name == title_of(spec.workload, spec.arms)
        else spec.name,
        "budget": budget.model_copy(update={"trials_per_arm": trials, "replicates": totals["replicates"]}),
        "confirmation": Confirmation(seeds=totals["seeds"], solo=spec.confirmation.solo),
    }
    try:
        # Not a copy: what holds of the whole is checked again.
        longer = StudySpec.model_validate(spec.model_copy(update=changed).model_dump())
    except ValidationError as error:
        raise SpecInvalid([_as_of_extension(problem, asked) for problem in problems_of(error, {})]) from None
    old = plan.arms
    if "trials_per_arm" in asked:
        old = tuple(
            arm.model_copy(update={"trials": max(arm.trials, int(min(trials, arm.configurations())))})
            for arm in old
        )
    longer_plan = plan.model_copy(update={"arms": (*old, *new)})
    if (longer, longer_plan) == (spec, plan):
        said = ", ".join(f"{name} {total}" for name, total in asked.items())
        raise SpecInvalid([SpecProblem("", f"the study has all of that already: {said}; ask for more")])
    return longer, longer_plan


def _faults_of_names(spec: StudySpec, extension: Extension) -> list[SpecProblem]:
    """Return what is wrong with the names of new arms, and with how many there are."""
    taken = [arm.name for arm in spec.arms]
    problems: list[SpecProblem] = []
    for n, arm in enumerate(extension.arms):
        if arm.name in taken:
            said = (
                f"the study has an arm {arm.name!r} already, and its space stays as it "
                "is; give the new one another `name`"
            )
            problems.append(SpecProblem(f"/arms/{n}/name", said))
        taken.append(arm.name)
    if len(taken) > _MOST_ARMS:
        problems.append(
            SpecProblem(
                "/arms",
                f"expected at most {_MOST_ARMS} arms in all, got {len(extension.arms)} "
                f"for the {len(spec.arms)} there are",
            )
        )
    return problems


def _as_of_extension(problem: SpecProblem, asked: Mapping[str, int]) -> SpecProblem:
    """Return a fault of the whole study, pointing to what was asked for."""
    return SpecProblem(f"/{next(iter(asked))}", problem.message)
