"""A study checked against a catalog.

Every arm's whole search space, its defaults and how many trials it will run.
"""

__all__ = ["ResolvedArm", "ResolvedStudy", "resolve", "resolve_arms"]

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from studies.catalog import Catalog, Hyperparameter, OptimizerCard, WorkloadCard, suggest_name
from studies.errors import CatalogEmpty, SpecInvalid, SpecProblem, json_pointer
from studies.promotion import rungs
from studies.pruner import NoPruner
from studies.space import (
    AnyDimension,
    Choices,
    Fixed,
    Parameters,
    Range,
    Scalar,
    Space,
    configuration_key,
    every_point,
    size,
    without_inert,
)
from studies.spec import ArmSpec, Pair, SamplerName, SpaceEntry, StudySpec, Tune

# A grid is written out, point by point, before its first trial.
_MAX_GRID = 100_000


class ResolvedArm(BaseModel):
    """One arm with nothing left to look up: what its run needs and what its page shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the arm in its study.")
    card: OptimizerCard = Field(description="The optimizer's card, as it stood when the study was submitted.")
    space: Space = Field(description="Every hyperparameter's dimension, in the card's order.")
    defaults: Parameters = Field(
        description="The first trial: the optimizer's defaults, with what the study fixes."
    )
    trials: int = Field(
        gt=0,
        description=(
            "Trials this arm runs in each replicate; fewer than the budget only when its "
            "space holds fewer configurations."
        ),
    )

    def admits(self, parameters: Parameters) -> bool:
        """Return whether parameters lie in the arm's space."""
        return all(dimension.contains(parameters[name]) for name, dimension in self.space.items())

    def configurations(self) -> float:
        """Return how many configurations train differently, the defaults among them.

        An upper bound where there are too many to go through.
        """
        return _configurations(self.card, self.space, self.defaults) + (
            0 if self.admits(self.defaults) else 1
        )


def _configurations(card: OptimizerCard, space: Space, defaults: Parameters) -> float:
    conditions = {
        name: condition
        for name, condition in card.conditions.items()
        if name in space and condition.parameter in space
    }
    others = {condition.parameter for condition in conditions.values()}
    total = size(space)
    if not conditions or any(size({name: space[name]}) > _MAX_GRID for name in others):
        return total
    if others & set(conditions):
        # What a condition hangs on hangs on another itself: then each point is looked at.
        if total > _MAX_GRID:
            return total
        points = (without_inert(point, conditions, defaults) for point in every_point(space))
        return len({configuration_key(point) for point in points})
    found = size(
        {
            name: dimension
            for name, dimension in space.items()
            if name not in others and name not in conditions
        }
    )
    for other in others:
        # For each of its values: whatever it leaves without effect is one configuration, at the default.
        hanging = [
            (name, size({name: space[name]}))
            for name, condition in conditions.items()
            if condition.parameter == other
        ]
        found *= sum(
            math.prod(width if conditions[name].holds(point) else 1.0 for name, width in hanging)
            for point in every_point({other: space[other]})
        )
    return found


class ResolvedStudy(BaseModel):
    """A study that can be run as it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workload: WorkloadCard = Field(
        description="The workload's card, as it stood when the study was submitted."
    )
    arms: tuple[ResolvedArm, ...] = Field(description="The arms in the study's order.")
    epochs: int = Field(gt=0, description="Epochs of each trial.")
    batch_size: int = Field(gt=0, description="Examples per step.")


class _ArmResolver:
    """Resolves one arm; collects every problem on the way."""

    def __init__(self, arm: ArmSpec, card: OptimizerCard, *, pointer: str, sampler: SamplerName) -> None:
        self._arm = arm
        self._card = card
        self._pointer = pointer
        self._sampler: SamplerName = sampler
        # The study's own entry that each hyperparameter comes from: its name, or that of its pair.
        self._entry_of: dict[str, str] = {}
        self.problems: list[SpecProblem] = []

    def resolve(self, trials_per_arm: int) -> ResolvedArm | None:
        """Return the arm, or None when problems were found."""
        given = self._given()
        space: Space = {h.name: self._dimension(h, given.get(h.name)) for h in self._card.hyperparameters}
        self._fix_inert(space, set(given))
        self._check_constraints(space)
        if self._sampler == "grid":
            self._check_grid(space)
        if self.problems:
            return None
        defaults: Parameters = {
            h.name: d.value if isinstance(d := space[h.name], Fixed) else h.default
            for h in self._card.hyperparameters
        }
        arm = ResolvedArm(name=self._arm.name, card=self._card, space=space, defaults=defaults, trials=1)
        return arm.model_copy(update={"trials": int(min(trials_per_arm, arm.configurations()))})

    def _problem(self, message: str, *, entry: str | None = None) -> None:
        """Note a problem with one entry of the space, or with the space as a whole."""
        steps = ("space",) if entry is None else ("space", entry)
        self.problems.append(SpecProblem(self._pointer + json_pointer(*steps), message))

    def _given(self) -> dict[str, SpaceEntry]:
        """Return the study's own entries, pairs taken apart, unknown names reported."""
        given: dict[str, SpaceEntry] = {}
        for name, entry in self._arm.space.items():
            parts = self._card.pairs.get(name)
            if parts is None and self._card.hyperparameter(name) is None:
                known = [h.name for h in self._card.hyperparameters]
                hint = suggest_name(name, [*known, *self._card.pairs])
                self._problem(
                    f"{self._card.name} has no hyperparameter {name!r}; it has {', '.join(known)}; {hint}",
                    entry=name,
                )
            elif parts is None and isinstance(entry, Pair):
                self._problem(
                    f"{name} takes one value; to choose between several write "
                    f"{{'choices': {list(entry.values)}}}",
                    entry=name,
                )
            elif parts is None:
                self._give(given, name, entry, entry_name=name)
            elif isinstance(entry, Pair):
                for part, value in zip(parts, entry.values, strict=True):
                    self._give(given, part, Fixed(value=value), entry_name=name)
            else:
                self._problem(
                    f"{name} takes two numbers, as in [0.9, 0.99]; to search them set {' and '.join(parts)}",
                    entry=name,
                )
        return given

    def _give(self, given: dict[str, SpaceEntry], name: str, entry: SpaceEntry, *, entry_name: str) -> None:
        if name in given:
            self._problem(
                f"{name} is set twice, by {self._entry_of[name]} and by {entry_name}; leave one of them out",
                entry=entry_name,
            )
        given[name] = entry
        self._entry_of[name] = entry_name

    def _dimension(self, hyperparameter: Hyperparameter, entry: SpaceEntry | None) -> AnyDimension:
        if entry is None:
            # A grid searches only what it was given: the cards' ranges are continuous.
            is_searched = hyperparameter.tuned and self._sampler != "grid"
            return hyperparameter.search if is_searched else Fixed(value=hyperparameter.default)
        if isinstance(entry, Tune):
            return hyperparameter.search
        assert not isinstance(entry, Pair), "pairs are taken apart before"
        values: tuple[Scalar, ...]
        match entry:
            case Range():
                values = (int(entry.low), int(entry.high)) if entry.integer else (entry.low, entry.high)
                if (
                    isinstance(hyperparameter.default, int)
                    and not isinstance(hyperparameter.default, bool)
                    and not entry.integer
                ):
                    entry = entry.model_copy(update={"integer": True})
            case Choices():
                values = entry.choices
            case Fixed():
                values = (entry.value,)
        for value in values:
            wrong = hyperparameter.fault(value)
            if wrong is not None:
                self._problem(wrong, entry=self._entry_of[hyperparameter.name])
                break
        return entry

    def _fix_inert(self, space: Space, given: set[str]) -> None:
        """Fix hyperparameters that can never matter here, so that no trial is spent on them."""
        for name, condition in self._card.conditions.items():
            other = condition.parameter
            if isinstance(space[name], Fixed) or condition.can_hold(space[other]):
                continue
            if name in given:
                self._problem(
                    (
                        f"{name} has an effect only where {other} is above {condition.above:g}; "
                        f"raise {other}, or leave {name} out"
                    ),
                    entry=name,
                )
            hyperparameter = self._card.hyperparameter(name)
            assert hyperparameter is not None, "conditions come from the card's own hyperparameters"
            space[name] = Fixed(value=hyperparameter.default)

    def _check_constraints(self, space: Space) -> None:
        """Report a constraint that no configuration of the space can meet."""

        def smallest(dimension: AnyDimension) -> Scalar:
            match dimension:
                case Range():
                    return dimension.low
                case Choices():
                    return min(dimension.choices, key=lambda c: float(c) if not isinstance(c, str) else 0.0)
                case Fixed():
                    return dimension.value

        if self.problems:
            return
        for constraint in self._card.constraints:
            if not constraint.holds(
                {
                    name: smallest(space[name])
                    for name in (*constraint.product, constraint.below_one_minus)
                    if name in space
                }
            ):
                self._problem(
                    f"{self._card.name} needs {constraint}, which no configuration of this "
                    f"space meets: {constraint.reason}"
                )

    def _check_grid(self, space: Space) -> None:
        """Report a space that no grid can cover."""
        continuous = [
            name
            for name, dimension in space.items()
            if isinstance(dimension, Range) and not dimension.integer
        ]
        if continuous:
            ranges = (
                f"{', '.join(continuous)} "
                f"{'is a continuous range' if len(continuous) == 1 else 'are continuous ranges'}"
            )
            self._problem(
                f"the grid sampler needs choices or whole numbers, but {ranges}; write {{'choices': [...]}}"
            )
        elif size(space) > _MAX_GRID:
            self._problem(
                f"a grid has at most {_MAX_GRID} points, this one has {size(space):.0f}; choose from "
                "fewer values, or sample otherwise"
            )


def resolve_arms(
    arms: Sequence[ArmSpec], catalog: Catalog, *, sampler: SamplerName, trials_per_arm: int
) -> tuple[tuple[ResolvedArm, ...], list[SpecProblem]]:
    """Return those arms that can be run, and what is wrong with the others.

    Pointers begin with `/arms/` and the place among these arms.

    Raises:
        CatalogEmpty: nothing has been announced yet.
    """
    if not catalog.workloads or not catalog.optimizers:
        raise CatalogEmpty
    found: list[ResolvedArm] = []
    problems: list[SpecProblem] = []
    for n, arm in enumerate(arms):
        card = catalog.optimizers.get(arm.optimizer)
        if card is None:
            hint = suggest_name(arm.optimizer, catalog.optimizers)
            problems.append(
                SpecProblem(f"/arms/{n}/optimizer", f"there is no optimizer {arm.optimizer!r}; {hint}")
            )
            continue
        resolver = _ArmResolver(arm, card, pointer=f"/arms/{n}", sampler=sampler)
        resolved = resolver.resolve(trials_per_arm)
        problems += resolver.problems
        found += [resolved] if resolved is not None else []
    return tuple(found), problems


def resolve(spec: StudySpec, catalog: Catalog) -> ResolvedStudy:
    """Return the study with every name looked up and every arm's space complete.

    Raises:
        CatalogEmpty: nothing has been announced yet.
        SpecInvalid: with every fault found, each with a JSON pointer.
    """
    arms, of_arms = resolve_arms(
        spec.arms, catalog, sampler=spec.sampler, trials_per_arm=spec.budget.trials_per_arm
    )
    problems: list[SpecProblem] = []
    workload = catalog.workloads.get(spec.workload)
    if workload is None:
        problems.append(
            SpecProblem(
                "/workload",
                f"there is no workload {spec.workload!r}; {suggest_name(spec.workload, catalog.workloads)}",
            )
        )
    problems += of_arms
    batch_size, limit = (
        spec.training.batch_size,
        workload.examples.get("train") if workload is not None else None,
    )
    if batch_size is not None and limit is not None and batch_size > limit:
        problems.append(
            SpecProblem(
                "/training/batch_size",
                f"expected at most the {limit} examples that {spec.workload} trains on, got {batch_size}",
            )
        )
    epochs = spec.budget.epochs or (workload.epochs if workload is not None else None)
    if epochs is not None and not isinstance(spec.pruner, NoPruner) and not rungs(spec.pruner, epochs):
        problems.append(
            SpecProblem(
                "/pruner/min_epochs",
                f"expected fewer than the {epochs} epochs of a trial, so that something is "
                f"left to save, got {spec.pruner.min_epochs}; lower it, give the budget more "
                "epochs, or use the pruner 'none'",
            )
        )
    gpus = spec.resources.gpus_per_pack
    if gpus > 1:
        problems.append(
            SpecProblem(
                "/resources/gpus_per_pack",
                f"expected at most 1 GPU, got {gpus:g}: a pack trains on one GPU, so the others would be "
                "reserved and stay idle; set gpus_per_pack to 1 or less",
            )
        )
    if problems or workload is None:
        raise SpecInvalid(problems)
    return ResolvedStudy(
        workload=workload,
        arms=arms,
        epochs=spec.budget.epochs or workload.epochs,
        batch_size=spec.training.batch_size or workload.batch_size,
    )
