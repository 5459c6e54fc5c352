"""Extensions of a completed study: more arms, trials, replicates or fresh seeds, never fewer."""

__all__ = [
    "Extension",
    "extended",
    "more_seeds",
    "most_search_trials",
    "parse_extension",
    "with_actual_budget",
    "with_judged_pairs",
]

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studies.catalog import Catalog
from studies.errors import SpecInvalid, SpecProblem, json_kind
from studies.resolve import ResolvedArm, ResolvedStudy, resolve_arms
from studies.spec import ArmEntry, Confirmation, StudySpec, title_of
from studies.training_problems import training_problems
from studies.validation_errors import problems_of

_MORE_SEEDS = 5
_MAX_SEEDS = 1000
_MAX_ARMS = 64
_FIELDS = "arms, trials_per_arm, replicates and seeds"


class Extension(BaseModel):
    """New totals for a study; the fields that are left out stay as they are."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"arms": ["sgdp"], "trials_per_arm": 24, "seeds": 10}]},
    )

    arms: Annotated[tuple[ArmEntry, ...], Field(max_length=_MAX_ARMS)] = Field(
        default=(),
        description=(
            "Arms to add, written as in a study; each needs a name that the study does not have yet."
        ),
    )
    trials_per_arm: int | None = Field(
        default=None,
        gt=0,
        le=100_000,
        strict=True,
        description="New total of trials per arm in each replicate, including those it has.",
    )
    replicates: int | None = Field(
        default=None, ge=1, le=1000, strict=True, description="New total of replicates of every arm's search."
    )
    seeds: int | None = Field(
        default=None,
        ge=0,
        le=_MAX_SEEDS,
        strict=True,
        description="New total of fresh seeds of the confirmation.",
    )


def parse_extension(data: Any) -> Extension:
    """Parse plain data (from JSON or YAML) into an extension, with all shorthands expanded.

    Raises:
        SpecInvalid: the data is not an extension; carries every fault with its JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise SpecInvalid(
            [SpecProblem("", f"expected an object with any of {_FIELDS}, got {json_kind(data)}")]
        )
    try:
        return Extension.model_validate(data)
    except ValidationError as error:
        raise SpecInvalid(
            problems_of(error, data, of=Extension), draft=cast("Mapping[str, Any]", data)
        ) from None


def more_seeds(spec: StudySpec, *, seeds: int | None = None) -> Extension:
    """Return the extension of a study to `seeds` fresh seeds in all, by default five more than it has."""
    return Extension(seeds=min(spec.confirmation.seeds + _MORE_SEEDS, _MAX_SEEDS) if seeds is None else seeds)


def with_actual_budget(
    spec: StudySpec, plan: ResolvedStudy, begun: Mapping[str, int], added: Mapping[str, int]
) -> tuple[StudySpec, ResolvedStudy]:
    """Return a completed study with its budget reduced to the trials that were started.

    This makes a difference if the study was stopped: adding seeds to it then does not restart its search. If
    replicates started different numbers of trials, the others are filled up to the largest number.

    Args:
        spec: the study.
        plan: the same study, resolved.
        begun: by arm, the trials started in the replicate that started the most.
        added: by arm, the pairs among them that were added until the arms were decided, which come on top of
            the budget.
    """
    arms = tuple(
        arm.model_copy(update={"trials": min(arm.trials, max(1, begun.get(arm.name, 0)))})
        for arm in plan.arms
    )
    if arms == plan.arms:
        return spec, plan
    spent = max(max(1, arm.trials - added.get(arm.name, 0) - arm.beyond_budget(spec.sampler)) for arm in arms)
    budget = spec.budget.model_copy(update={"trials_per_arm": spent})
    return spec.model_copy(update={"budget": budget}), plan.model_copy(update={"arms": arms})


def with_judged_pairs(spec: StudySpec, begun: Mapping[str, int], paired: Mapping[str, int]) -> StudySpec:
    """Return a completed study whose words later pairs do not change if it was stopped among its pairs.

    A stopped study has words on what has ended. Pairs that an extension adds would be another look at them.
    With `until` its looks are planned, and allow for that.

    Args:
        spec: the study.
        begun: by arm, the trials of its search, over all replicates.
        paired: by arm, those among them that are pairs and count for the verdict.
    """
    search = spec.search
    known = dict(search.stopped_at)
    waiting = [arm.name for arm in spec.arms if arm.name not in known]
    if search.until is not None or all(paired.get(name, 0) >= search.pairs for name in waiting):
        return spec
    stopped_at = (*search.stopped_at, *((name, begun.get(name, 0)) for name in waiting))
    return spec.model_copy(update={"search": search.model_copy(update={"stopped_at": stopped_at})})


def most_search_trials(spec: StudySpec, plan: ResolvedStudy) -> int:
    """Return the largest number of trials that the searches of a study can have, all arms together.

    Args:
        spec: the study.
        plan: the same study, resolved; it holds the pairs that were added so far.
    """
    search, budget = spec.search, spec.budget
    if search.until is None or not plan.adds_pairs:
        return budget.replicates * sum(arm.trials for arm in plan.arms)
    without_added = sum(
        arm.trials_for(budget.trials_per_arm, spec.sampler, paired=search.paired) for arm in plan.arms
    )
    return budget.replicates * without_added + len(plan.arms) * search.most_added


def extended(
    spec: StudySpec, plan: ResolvedStudy, extension: Extension, catalog: Catalog
) -> tuple[StudySpec, ResolvedStudy]:
    """Return a study and its plan with an extension applied.

    The existing arms keep the cards and spaces with which they were submitted.

    Args:
        spec: the study.
        plan: the same study, resolved.
        extension: the new totals.
        catalog: where new arms are looked up.

    Raises:
        CatalogEmpty: the extension adds arms, and no dispatcher has announced a catalog yet.
        SpecInvalid: the extension is not possible; carries every fault with its JSON pointer.
    """
    if extension == Extension():
        raise SpecInvalid([SpecProblem("", f"the extension adds nothing; expected any of {_FIELDS}")])
    budget = spec.budget
    now = {
        "trials_per_arm": budget.trials_per_arm,
        "replicates": budget.replicates,
        "seeds": spec.confirmation.seeds,
    }
    requested = {name: total for name in now if (total := getattr(extension, name)) is not None}
    problems = [
        SpecProblem(
            f"/{name}",
            f"expected at least {now[name]}, which the study has already, got {total}; "
            "give the new total, not what to add",
        )
        for name, total in requested.items()
        if total < now[name]
    ]
    problems += _arm_problems(spec, extension)
    totals = now | requested
    trials = totals["trials_per_arm"]
    new, new_problems = (
        resolve_arms(
            extension.arms,
            catalog,
            workload=plan.workload,
            sampler=spec.sampler,
            trials_per_arm=trials,
            paired=spec.search.paired,
            space=spec.space,
            training=spec.training,
        )
        if extension.arms
        else ((), [])
    )
    problems += new_problems
    added = spec.model_copy(update={"arms": extension.arms})
    problems += training_problems(added, plan.workload, {arm.name: arm.space for arm in new}, catalog)
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
        # Validated, not copied, so that the limits on the whole study are checked again.
        longer = StudySpec.model_validate(spec.model_copy(update=changed).model_dump())
    except ValidationError as error:
        raise SpecInvalid(
            [_point_into_extension(problem, requested) for problem in problems_of(error, {}, of=StudySpec)]
        ) from None
    old = plan.arms
    if "trials_per_arm" in requested:
        paired = spec.search.paired

        def longer_search(arm: ResolvedArm) -> ResolvedArm:
            # Pairs that were added until the arms were decided come on top of the budget.
            before = arm.trials_for(budget.trials_per_arm, spec.sampler, paired=paired)
            added = max(0, arm.trials - before)
            after = arm.trials_for(trials, spec.sampler, paired=paired) + added
            return arm.model_copy(update={"trials": max(arm.trials, after)})

        old = tuple(longer_search(arm) for arm in old)
    longer_plan = plan.model_copy(update={"arms": (*old, *new)})
    if (longer, longer_plan) == (spec, plan):
        present = ", ".join(f"{name} {total}" for name, total in requested.items())
        raise SpecInvalid([SpecProblem("", f"the study already has {present}; give larger totals")])
    # Who asks for fresh seeds does not ask for more of the search.
    adds_pairs = spec.search.until is None or bool(extension.arms) or trials > budget.trials_per_arm
    return longer, longer_plan.model_copy(update={"adds_pairs": adds_pairs})


def _arm_problems(spec: StudySpec, extension: Extension) -> list[SpecProblem]:
    """Return the problems with the names of new arms, and with their number."""
    taken = [arm.name for arm in spec.arms]
    problems: list[SpecProblem] = []
    for n, arm in enumerate(extension.arms):
        if arm.name in taken:
            message = (
                f"the study already has an arm {arm.name!r}, whose space cannot change; give the new arm "
                "another `name`"
            )
            problems.append(SpecProblem(f"/arms/{n}/name", message))
        taken.append(arm.name)
    if len(taken) > _MAX_ARMS:
        problems.append(
            SpecProblem(
                "/arms",
                f"expected at most {_MAX_ARMS} arms in all, got {len(spec.arms)} existing and "
                f"{len(extension.arms)} new; add fewer",
            )
        )
    return problems


def _point_into_extension(problem: SpecProblem, requested: Mapping[str, int]) -> SpecProblem:
    """Return a problem of the extended study with a pointer to a field of the extension."""
    return SpecProblem(f"/{next(iter(requested))}", problem.message)
